"""What waits to go on the air: first in first out per device, one under way per device, few overall. No I/O."""

from collections import OrderedDict, deque

QUEUE_LIMIT = 32  # frames of one device; more would be older than MQTT-SN's own retransmission when they arrive
IN_FLIGHT_LIMIT = 4  # half of what the radio takes: an interview or a command to an appliance finds the other half free
STALE_S = 10.0  # T_retry (MQTT-SN 1.2, 7.2): who still wants an answer by then has asked again


class AirQueue:
    """`put`, then `take` until it gives None; `done` for each frame taken. Devices take turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[tuple[float, bytes]]] = OrderedDict()
        self._in_flight: set[str] = set()
        self.dropped = 0

    def put(self, address: str, data: bytes, now: float) -> None:
        """Queue a frame; beyond QUEUE_LIMIT the oldest of that device goes, and is counted."""
        queue = self._queues.setdefault(address, deque())
        if len(queue) >= QUEUE_LIMIT:
            queue.popleft()
            self.dropped += 1
        queue.append((now, data))

    def take(self, now: float) -> tuple[str, bytes] | None:
        """The next frame that may go: `(address, data)`, or None."""
        if len(self._in_flight) >= IN_FLIGHT_LIMIT:
            return None
        for address in [address for address in self._queues if address not in self._in_flight]:
            data = self._take_fresh(address, now)
            if data is not None:
                self._in_flight.add(address)
                return address, data
        return None

    def _take_fresh(self, address: str, now: float) -> bytes | None:
        queue = self._queues[address]
        found = None
        while queue and found is None:
            since, data = queue.popleft()
            if now - since <= STALE_S:
                found = data
            else:
                self.dropped += 1
        if queue:
            self._queues.move_to_end(address)
        else:
            del self._queues[address]
        return found

    def done(self, address: str) -> None:
        """What was taken for this device has been sent, or not."""
        self._in_flight.discard(address)

    def oldest_s(self, now: float) -> float:
        """How long the frame that waits longest has waited."""
        return max((now - queue[0][0] for queue in self._queues.values() if queue), default=0.0)

    def kept_s(self, now: float) -> float:
        """The same of frames that wait for the radio alone, and not for an earlier frame of their own device."""
        waiting = (queue[0][0] for address, queue in self._queues.items() if queue and address not in self._in_flight)
        return max((now - since for since in waiting), default=0.0)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
