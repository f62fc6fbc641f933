"""A controller with its clock in our hands: what it is told, what it wants."""

from typing import Any

from hub.core.control.controller import Controller, ControlSettings
from hub.core.control.records import OPERATORS, Journal, Step, answered_name
from hub.core.order import Order
from hub.core.records import Change, RetainedSet, Sample, SubscriptionAdded
from hub.wire.keys.operators import Operators, parse_operators
from hub.wire.uplink.receipt import Receipt
from tests.harness.operator import Operator, cti_of, dumps

UTC = 1_800_000_000.0
BOILER = b'{"class":"water-heater","nominal_w":2000}'
CAR = b'{"class":"ev-charger","nominal_w":7200}'


class Book:
    """operators.toml, and a list in its place as the store would keep it."""

    def __init__(self, toml: str) -> None:
        self._toml = toml

    def item_of(self, text: str) -> bytes:
        return text.encode()

    def read(self, item: bytes | None) -> Operators:
        return parse_operators(self._toml if item is None else item.decode())


class Desk:
    """Everything durable at once; `orders` and `receipts` gather what comes out."""

    def __init__(
        self,
        *,
        failsafe_w: float | None = None,
        floor_w: float = 0.0,
        roles: tuple[str, ...] = (),
        trusted: bool = True,
        others: tuple[Operator, ...] = (),
        toml: str | None = None,
    ) -> None:
        self.operator = Operator("grid", *roles)
        self._floor_w = floor_w
        self.booked: dict[str, tuple[int, int]] = {}
        self.toml = toml or "\n".join(operator.toml for operator in (self.operator, *others))
        self.now = 0.0
        self.receipts: list[Receipt] = []
        self.kept: dict[str, bytes] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.orders: list[tuple[float, str, str]] = []
        self.notices: list[tuple[str, bytes]] = []
        self.asleep: set[str] = set()
        self.waiting: list[tuple[str, Order]] = []  # orders for those
        self._failsafe_w = failsafe_w
        self._begin(trusted)

    def _begin(self, trusted: bool) -> None:
        settings = ControlSettings(failsafe_w=self._failsafe_w, floor_w=self._floor_w, groups=("north",))
        book = Book(self.toml)
        kept = dict(self.kept)
        item = kept.pop(OPERATORS, None)
        self.control = Controller("MTR-1", book.read(item), self.now, settings=settings, random=lambda: 0.5, book=book)
        self.control.trial.kept = item
        assert self.control.restore(kept, self.now) == []
        if trusted:
            self.control.set_clock(UTC, True, self.now)
        self.settle()

    def restart(self, *, off_s: float = 0.0, trusted: bool = True) -> None:
        """The hub is killed, and starts again after a while."""
        self.now += off_s
        self._begin(trusted)

    def add(self, client: str, about: bytes, power_w: float) -> None:
        """An appliance that has told what it is and listens."""
        self.observe(RetainedSet(f"about/{client}", about, 1), SubscriptionAdded(client, f"control/{client}", 1))
        self.power(client, power_w)

    def wake(self, client: str) -> None:
        """A sleeper is there, and hears what waited for it."""
        self.asleep.discard(client)
        heard = [order for order in self.waiting if order[0] == client]
        self.waiting = [order for order in self.waiting if order[0] != client]
        self.control.orders_sent(heard, self.now)

    def observe(self, *changes: Change) -> None:
        self.control.observe([], changes, self.now)
        self.settle()

    def power(self, client: str, watts: float, quantity: str = "power") -> None:
        self.control.observe([Sample(client, quantity, self.now, round(watts), 0)], [], self.now)
        self.settle()

    def send(self, op: str, args: dict[str, Any] | None = None, *, by: Operator | None = None, **claims: Any) -> bytes:
        """A command, carried out; its cti."""
        now = int(UTC + self.now)
        message = (by or self.operator).command(op, args, **{"iat": now, "exp": now + 600, **claims})
        self.take(message)
        return cti_of(message)

    def take(self, message: bytes) -> Step:
        step = self.control.command(message, self.now)
        self._commit(step.journal)
        step.apply(self.now)
        self.settle()
        return step

    def run(self, seconds: float, step_s: float = 1.0) -> None:
        ends = self.now + seconds
        while self.now < ends:
            self.now = min(ends, self.now + step_s)
            self.control.handle_timer(self.now)
            self.settle()

    def settle(self) -> None:
        while (journal := self.control.take_journal()) is not None:
            self._commit(journal)
        orders = self.control.take_orders()
        self.control.orders_sent([(client, order) for client, order in orders if client not in self.asleep], self.now)
        for client, order in orders:
            if client in self.asleep:
                self.waiting.append((client, order))
            text = (order.render(self.now) or b"").decode()
            self.orders.append((self.now, client, text))
        self.notices += [(n.topic, n.payload) for n in self.control.bulletin.take_notices()]

    def _commit(self, journal: Journal) -> None:
        for receipt in journal.receipts:
            self.receipts.append(receipt)
            if receipt.re in journal.answered:
                kid = journal.answered[receipt.re]
                self.control.answered.put(receipt.re, 1, len(self.receipts), kid)
                self.kept[answered_name(receipt.re)] = dumps([1, len(self.receipts), kid])
        for name, value in journal.kept.items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value
        self.events += journal.events
        self.booked.update(journal.booked)

    def story(self, cti: bytes) -> list[str]:
        """The statuses of a command's receipts."""
        return [receipt.status for receipt in self.receipts if receipt.re == cti]

    def reason(self, cti: bytes) -> str:
        """The reason of a command's last receipt."""
        return [receipt.reason for receipt in self.receipts if receipt.re == cti][-1]

    def told(self, client: str) -> list[str]:
        """What an appliance was told so far, without the seconds."""
        return [" ".join(text.split()[:2]) for _, name, text in self.orders if name == client]
