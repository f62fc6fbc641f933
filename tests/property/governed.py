"""A home under control on a virtual clock: the real gateway, the real controller, adapters that obey, and everything
that can go wrong between them: loss, sleep, kills at any moment, uplink cuts, clocks that step, forged commands.

What is modelled: the broker (keeps a command until it is acknowledged, brings it again after a kill or a cut), the disk
(a step is durable after a while; a kill loses what is not), the hub's wall clock (untrusted for a while after a start).
"""

import random
from collections import deque
from dataclasses import replace
from typing import Any

from hub.core.adapter.exchange import LocalProtocolError
from hub.core.control.controller import Controller, ControlSettings
from hub.core.control.household import ORDER_S
from hub.core.control.records import Journal, Step, answered_name
from hub.core.records import RetainedSet
from hub.wire.keys.operators import parse_operators
from hub.wire.uplink.receipt import Receipt
from tests.emulators.appliances import create
from tests.emulators.ezsp.obedience import Obedience
from tests.harness.operator import Operator, dumps
from tests.hub.core.control.desk import Book
from tests.property.home import Adapter, Faults, Home

UTC = 1_800_000_000.0  # UTC at the simulation's zero
OPERATOR = Operator("grid", "limit")
TRADER = Operator("trader", "limit")
FORGER = Operator("grid", "limit")
HUB = "MTR-1"
# name: (kind of appliance, what its adapter says of it)
APPLIANCES = {
    "boiler": ("boiler", b'{"class":"water-heater","nominal_w":2000}'),
    "car": ("ev", b'{"class":"ev-charger","nominal_w":7200}'),
    "pump": ("heat-pump", b'{"class":"heat-pump","nominal_w":2500}'),
    "fridge": ("plain", b'{"class":"fridge","nominal_w":90}'),
    "aid": ("plain", b'{"class":"medical","sheddable":true}'),  # a wrong `sheddable` does not undo its class
    "radio": ("plain", b'{"class":"plug","sheddable":false}'),
}
MEDICAL = b'{"class":"medical"}'
PROTECTED = ("fridge", "aid", "radio")
WIRE = Faults(max_delay_s=0.4)


class Governed(Home):
    """`Home` with a controller, and with adapters whose appliances are held back."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.kept: dict[str, bytes] = {}
        self.receipts: list[Receipt] = []
        self.broker: deque[bytes] = deque()
        self.lasts_s: dict[bytes | None, float] = {}  # cti: how long what it asks for may last once it is taken
        self.forged: set[bytes] = set()
        self.clocks_step = False
        self.uplink_is_up = True
        self.clock_s = UTC
        self.is_trusted = False
        self.obedience: dict[str, Obedience] = {}
        self.about: dict[str, bytes] = {}
        self._journals: deque[tuple[Journal, Step | None]] = deque()
        self._is_judging = False
        self.protected_at: dict[str, float] = {}  # when an appliance said so, and the hub took it up
        self.latest_end = 0.0  # nothing may be restricted later than this
        super().__init__(seed, faults)
        self.at(self.now, self._tick)

    # The hub

    def start_hub(self) -> None:
        self._journals.clear()
        self._is_judging = False
        self.is_trusted = False
        dice = random.Random(self.rng.random())
        operators = parse_operators(OPERATOR.toml + TRADER.toml)
        self.controller = Controller(
            HUB,
            operators,
            self.now,
            settings=ControlSettings(groups=("region",)),
            random=dice.random,
            book=Book(""),
            machine_boot="the only one",
        )
        assert self.controller.restore(dict(self.kept), self.now) == []
        super().start_hub()
        changes = [record for record in self.store.restored() if type(record).__name__ not in ("Seen", "MessageQueued")]
        self.controller.observe([], changes, self.now)  # type: ignore[arg-type]
        self.at(self.now + self.rng.uniform(0.0, 20.0), lambda life=self.life: self._trust(life))  # type: ignore[misc]

    def _trust(self, life: int) -> None:
        if life == self.life:
            self.is_trusted = True
            self.controller.set_clock(self.clock_s, True, self.now)
            self._control_settles()

    def step_clock(self, step_s: float) -> None:
        """The hub's wall clock is set while it runs."""
        if self.is_trusted:
            self.clock_s += step_s
            self.controller.follow_clock(self.clock_s)
            self._control_settles()

    def _tick(self) -> None:
        self.controller.handle_timer(self.now)
        self._control_settles()
        self._bring()
        self.check()
        self.at(self.now + 1.0, self._tick)

    def hub_settles(self) -> None:
        batch = self.gateway.take_batch()
        if batch is not None:
            self.under_way.append(batch)
            self.at(self.now + self.rng.uniform(0.001, 0.3), lambda life=self.life: self._store_answers(life))  # type: ignore[misc]
            self.controller.observe(batch.samples, batch.changes, self.now)
            for change in batch.changes:
                if isinstance(change, RetainedSet) and change.payload == MEDICAL:
                    self.protected_at[change.topic.removeprefix("about/")] = self.now
            self._control_settles()
        self._send()

    def _send(self) -> None:
        self.controller.orders_sent(self.gateway.take_orders_sent(), self.now)
        for peer, data in self.gateway.datagrams_to_send():
            self._to_adapter(peer[1], data)

    def _control_settles(self) -> None:
        for client_id, order in self.controller.take_orders():
            self.gateway.give_order(client_id, order, self.now)
        self.controller.bulletin.take_notices()
        journal = self.controller.take_journal()
        if journal is not None:
            self._write(journal, None)
        self._send()

    # The disk: steps in their order, each after a while

    def _write(self, journal: Journal, step: Step | None) -> None:
        self._journals.append((journal, step))
        self.at(self.now + self.rng.uniform(0.001, 0.5), lambda life=self.life: self._durable(life))  # type: ignore[misc]

    def _durable(self, life: int) -> None:
        if life != self.life or not self._journals:
            return
        journal, step = self._journals.popleft()
        self._commit(journal)
        for receipt in journal.receipts:
            if receipt.re in journal.answered:
                self.controller.answered.put(receipt.re, 1, len(self.receipts), journal.answered[receipt.re])
        if step is not None:
            self._take_effect(step)
        self._control_settles()

    def _commit(self, journal: Journal) -> None:
        for receipt in journal.receipts:
            if receipt.status == "accepted":
                self.latest_end = max(self.latest_end, self.now + self.lasts_s.get(receipt.re, 0.0))
        for name, value in journal.kept.items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value
        for receipt in journal.receipts:
            self.receipts.append(replace(receipt, i=len(self.receipts) + 1))
            if receipt.re in journal.answered:
                self.kept[answered_name(receipt.re)] = dumps([1, len(self.receipts), journal.answered[receipt.re]])

    def kill_hub(self) -> None:
        for _ in range(self.rng.randrange(len(self._journals) + 1)):
            self._commit(self._journals.popleft()[0])  # durable, but nobody was told
        super().kill_hub()

    # The broker

    def send(self, message: bytes) -> None:
        self.broker.append(message)

    def _bring(self) -> None:
        if not self.uplink_is_up or self._is_judging or not self.broker:
            return
        before = self._essence()
        step = self.controller.command(self.broker[0], self.now)
        assert self._essence() == before, "judging a command changes nothing"
        self._is_judging = True
        if step.journal:
            self._write(step.journal, step)
        else:
            self._take_effect(step)
            self._control_settles()

    def _take_effect(self, step: Step) -> None:
        before = self._essence()
        step.apply(self.now)
        message = self.broker.popleft()  # acknowledged
        self._is_judging = False
        if message in self.forged:
            assert self._essence() == before, "what nobody signed changed something"

    def _essence(self) -> Any:
        control = self.controller
        return (list(control.limits), dict(control.orders), control.household.held, dict(control.ctr))

    # The home

    def add_appliance(self, name: str, *, sleeps: bool = False) -> Adapter:
        kind, about = APPLIANCES[name]
        self.about[name] = about
        self.obedience[name] = Obedience(create(kind, self.now))
        adapter = self.add(name, sleeps=sleeps)
        self.at(self.now + 5.0, lambda: self._introduce(adapter))
        self.at(self.now + 8.0, lambda: self._measure(adapter))
        return adapter

    def _introduce(self, adapter: Adapter) -> None:
        try:
            if adapter.client.state == "active":
                adapter.client.publish(0x0020, self.about[adapter.name], 1, self.now)
                adapter.offered.append(0)
                adapter.client.subscribe(0x0030, 1, self.now)
                self.adapter_settles(adapter)
                return
        except LocalProtocolError:
            self.adapter_settles(adapter)  # its queue is full
        self.at(self.now + 2.0, lambda: self._introduce(adapter))

    def _measure(self, adapter: Adapter) -> None:
        power_w = self.obedience[adapter.name].appliance.power_w(self.now)
        if adapter.client.state == "active":
            try:
                adapter.client.publish(0x0001, b"%d" % round(power_w), 1, self.now)
                adapter.offered.append(0)
            except Exception:
                pass  # its queue is full: the next one tells
            self.adapter_settles(adapter)
        self.at(self.now + 5.0, lambda: self._measure(adapter))

    def _timers(self) -> list[float | None]:
        return [*super()._timers(), *(obedience.get_timer() for obedience in self.obedience.values())]

    def _fire_timers(self) -> None:
        super()._fire_timers()
        for obedience in self.obedience.values():
            obedience.handle_timer(self.now)

    def hears(self, adapter: Adapter, topic: object, payload: bytes) -> None:
        assert topic == 0x0030, "it subscribed to nothing else"
        self.obedience[adapter.name].obey(payload, self.now)
        self.check()

    def becomes_protected(self, name: str) -> None:
        """Somebody plugs something else into the socket, and its adapter says so."""
        self.about[name] = MEDICAL
        self._introduce(self.adapters[name])

    # What must always hold

    def check(self) -> None:
        for name, obedience in self.obedience.items():
            ends = [end for end in (obedience.limit_until, obedience.off_until) if end is not None]
            if name in PROTECTED:
                assert not ends, f"{name} is protected and was restricted"
            for end in ends:
                assert end <= self.now + ORDER_S + 1.0, f"{name} was told for longer than a lease"
                if name in self.protected_at:
                    assert end <= self.protected_at[name] + ORDER_S + 1.0, (
                        f"{name} was told again once it was protected"
                    )
                assert end <= self.latest_end + 1.0, f"{name} is restricted {end - self.latest_end:.2f} s too long"
