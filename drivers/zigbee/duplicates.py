"""Frames that the network delivered twice: same source, same APS counter, same bytes, shortly after. No I/O.

An APS retransmission after a lost acknowledgement, or two routes, bring a frame again. MQTT-SN would sort most of it
out (a DUP flag is not set on these), but not QoS 0, and not without an answer that costs airtime.
"""

from collections import OrderedDict

WINDOW_S = 5.0  # three APS retries at 1.6 s (Zigbee R22, apscAckWaitDuration)
KEPT = 512


class Duplicates:
    """Remembers what came in the last WINDOW_S."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, int, bytes], float] = OrderedDict()
        self.count = 0

    def is_duplicate(self, source: str, aps_counter: int, data: bytes, now: float) -> bool:
        """Whether this frame came before; the first one opens the window."""
        self._forget(now)
        key = (source, aps_counter, data)
        if key in self._seen:
            self.count += 1
            return True
        self._seen[key] = now
        return False

    def _forget(self, now: float) -> None:
        while self._seen and (len(self._seen) >= KEPT or now - next(iter(self._seen.values())) > WINDOW_S):
            self._seen.popitem(last=False)
