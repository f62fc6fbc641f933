"""Two kinds of machine on one wire: adapters (client.py) and the gateway, over a wire and a store that fail.

What the wire does, and so what the invariants cover:

* every datagram may be lost;
* adapter to hub: delayed by up to `max_delay_s` each on its own, so they overtake each other; `max_delay_s` is below
  T_retry / 2, so an original never arrives after the answer to its retransmission;
* adapter to hub: a datagram may be repeated on the spot (the link's own repeat). With `late_repeats` a copy may arrive
  at any later time: then the adapter must count its MsgIds, see INTERPRETATION.md;
* hub to adapter: delayed, but in order; what is in the air when the hub dies is lost with it.

What the store does: commits after a while, refuses while it is full; the hub may be killed at any moment, and then the
oldest of the batches under way are durable and the others are not.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.core.adapter.client import Client, LocalProtocolError
from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig
from hub.core.records import Batch
from tests.hub.core.gateway.playbook import ModelStore

TOPIC = "readings/flow"


@dataclass(frozen=True)
class Faults:
    """Probabilities are per datagram or batch; the mean times are in seconds, 0 = never."""

    loss: float = 0.0
    repeat: float = 0.0
    late_repeats: bool = False
    max_delay_s: float = 4.0
    refuse: float = 0.0
    restart_every_s: float = 0.0


@dataclass
class Adapter:
    """An application on client.py: it comes back whatever happens."""

    name: str
    client: Client
    sleeps: bool = False
    offered: deque[int] = field(default_factory=deque)  # values whose outcome is not known yet
    acknowledged: list[int] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)
    last_arrival: float = 0.0


class Home:
    """The simulation: one heap of things that happen."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self.store = ModelStore()
        self.adapters: dict[str, Adapter] = {}
        self.under_way: deque[Batch] = deque()
        self.life = 0  # counts the hub's lives: what is scheduled for an earlier one does not happen
        self._happenings: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.start_hub()

    # Time

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._happenings, (when, self._count, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            dues = [self._happenings[0][0]] if self._happenings else []
            dues += [due for due in self._timers() if due is not None]
            if not dues or min(dues) > end:
                self.now = end
                return
            self.now = max(self.now, min(dues))
            while self._happenings and self._happenings[0][0] <= self.now:
                heapq.heappop(self._happenings)[2]()
            self._fire_timers()

    def _timers(self) -> list[float | None]:
        return [self.gateway.get_timer(), *(adapter.client.get_timer() for adapter in self.adapters.values())]

    def _fire_timers(self) -> None:
        due = self.gateway.get_timer()
        if due is not None and due <= self.now:
            self.gateway.handle_timer(self.now)
            self.hub_settles()
        for adapter in self.adapters.values():
            due = adapter.client.get_timer()
            if due is not None and due <= self.now:
                adapter.client.handle_timer(self.now)
                self.adapter_settles(adapter)

    # The hub

    def start_hub(self) -> None:
        self.life += 1
        self.under_way.clear()
        self.gateway = Gateway(GatewayConfig(), self.now)
        self.gateway.restore(self.store.restored(), self.now)
        self.hub_settles()

    def kill_hub(self) -> None:
        for _ in range(self.rng.randrange(len(self.under_way) + 1)):
            self.store.commit(self.under_way.popleft())  # durable, but nobody was told
        self.start_hub()
        if self.faults.restart_every_s:
            self.at(self.now + self.rng.expovariate(1 / self.faults.restart_every_s), self.kill_hub)

    def hub_settles(self) -> None:
        batch = self.gateway.take_batch()
        if batch is not None:
            self.under_way.append(batch)
            self.at(self.now + self.rng.uniform(0.001, 0.3), lambda life=self.life: self._store_answers(life))  # type: ignore[misc]
        for peer, data in self.gateway.datagrams_to_send():
            self._to_adapter(peer[1], data)

    def _store_answers(self, life: int) -> None:
        if life != self.life or not self.under_way:
            return
        batch = self.under_way.popleft()
        if self.rng.random() < self.faults.refuse:
            self.gateway.refused(batch.id, self.now)
        else:
            self.store.commit(batch)
            self.gateway.committed(batch.id, self.now)
        self.hub_settles()

    # The wire

    def _to_adapter(self, name: str, data: bytes) -> None:
        adapter = self.adapters.get(name)
        if adapter is None or self.rng.random() < self.faults.loss:
            return
        arrival = max(adapter.last_arrival, self.now + self.rng.uniform(0.0, self.faults.max_delay_s))
        adapter.last_arrival = arrival
        self.at(arrival, lambda life=self.life: self._arrives_at_adapter(adapter, data, life))  # type: ignore[misc]

    def _arrives_at_adapter(self, adapter: Adapter, data: bytes, life: int) -> None:
        if life == self.life:
            adapter.client.receive_datagram(data, self.now)
            self.adapter_settles(adapter)

    def _to_hub(self, adapter: Adapter, data: bytes) -> None:
        delay = self.rng.uniform(0.0, self.faults.max_delay_s)
        if self.rng.random() >= self.faults.loss:
            self.at(self.now + delay, lambda: self._arrives_at_hub(adapter, data))
        if self.rng.random() < self.faults.repeat:
            later = self.rng.uniform(0.0, 60.0) if self.faults.late_repeats and data[1] == 0x0C else 0.0
            self.at(self.now + delay + later, lambda: self._arrives_at_hub(adapter, data))

    def _arrives_at_hub(self, adapter: Adapter, data: bytes) -> None:
        self.gateway.receive_datagram(("udp", adapter.name, 1), data, self.now)
        self.hub_settles()

    # The adapters

    def add(self, name: str, *, sleeps: bool = False, keepalive_s: int = 60) -> Adapter:
        adapter = Adapter(name, Client(name, clean=False, keepalive_s=keepalive_s, max_queue=16), sleeps)
        self.adapters[name] = adapter
        self._connect(adapter)
        return adapter

    def _connect(self, adapter: Adapter) -> None:
        if adapter.client.state in ("disconnected", "lost"):
            adapter.client.connect(self.now)
            self.adapter_settles(adapter)

    def adapter_settles(self, adapter: Adapter) -> None:
        for data in adapter.client.datagrams_to_send():
            self._to_hub(adapter, data)
        while (event := adapter.client.next_event()) is not None:
            kind = event[0]
            if kind in ("lost", "disconnected", "refused"):
                self.at(self.now + self.rng.uniform(0.1, 5.0), lambda: self._connect(adapter))
            elif kind == "published":
                value = adapter.offered.popleft()
                if event[2] == 0:
                    adapter.acknowledged.append(value)
            elif kind == "message":
                assert isinstance(event[2], bytes)
                self.hears(adapter, event[1], event[2])

    def hears(self, adapter: Adapter, topic: object, payload: bytes) -> None:
        """What an adapter does with a message."""
        adapter.heard.append(int(payload))

    def publish(self, adapter: Adapter, value: int, qos: int) -> bool:
        try:
            adapter.client.publish(TOPIC, b"%d" % value, qos, self.now)
        except LocalProtocolError:
            return False  # not connected, or its queue is full: the application asks again later
        adapter.offered.append(value)
        self.adapter_settles(adapter)
        return True

    def publishes_all(self, adapter: Adapter, values: deque[int], qos: int, mean_s: float) -> None:
        """Publish one value after the other, at random moments, until all were offered."""
        if values and self.publish(adapter, values[0], qos):
            values.popleft()
        if values:
            self.at(
                self.now + self.rng.expovariate(1 / mean_s), lambda: self.publishes_all(adapter, values, qos, mean_s)
            )

    def naps(self, adapter: Adapter) -> None:
        """A sleeper's life: asleep, awake for its messages, now and then back for good."""
        client = adapter.client
        try:
            if client.state == "active":
                client.disconnect(self.now, 120)
            elif client.state == "asleep" and self.rng.random() < 0.8:
                client.ping(self.now)
            elif client.state == "asleep":
                client.connect(self.now)
        except LocalProtocolError:
            pass  # it still waits for an answer
        self.adapter_settles(adapter)
        if adapter.sleeps:
            self.at(self.now + self.rng.uniform(5.0, 60.0), lambda: self.naps(adapter))
