"""What an operation is, and what it may ask of control."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hub.core.control.appliance_orders import ApplianceOrder
from hub.core.control.authority import Accepted, Authority
from hub.core.control.bulletin import Bulletin
from hub.core.control.household import Household
from hub.core.control.limits import Limit, LimitTable
from hub.core.control.records import JobRequest, Journal
from hub.core.control.trial import ListTrial
from hub.core.order import Order
from hub.wire.keys.operators import Operators
from hub.wire.uplink.receipt import Receipt


class Unable(Exception):
    """The command is genuine and cannot be carried out. `reason` is a word for tables, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Desk(Protocol):
    """Control, as an operation sees it. Times are the machine's `now`, but where `utc` is said."""

    hub_id: str
    limits: LimitTable
    orders: dict[bytes, ApplianceOrder]
    jobs: dict[bytes, JobRequest]
    household: Household
    bulletin: Bulletin
    authority: Authority
    trial: ListTrial
    floor_w: float

    def random(self) -> float:
        """A number in [0, 1)."""

    def utc(self, now: float) -> float | None:
        """UTC epoch seconds, or None while there is no trustworthy clock."""

    def receipt(
        self, cti: bytes | None, digest: bytes, status: str, now: float, reason: str = "", detail: Any = None
    ) -> Receipt:
        """A receipt that the store will chain."""

    def journal_end(
        self, item: Limit | ApplianceOrder, status: str, now: float, journal: Journal, reason: str = ""
    ) -> None:
        """Put into `journal` that a command ends this; nothing more is told of it meanwhile."""

    def drop_order(self, order: ApplianceOrder, now: float, *, release: bool) -> None:
        """Forget an order to an appliance. `release`: it has not ended by itself, so its appliance is told."""

    def tell_order(self, order: ApplianceOrder, now: float) -> None:
        """Give an appliance what it is held to, for five minutes at most."""

    def give(self, client_id: str, order: Order) -> None:
        """Give one order, now."""

    def heard(self, kid: str, now: float, *, heartbeat: bool = False, decision: bool = False) -> None:
        """An operator is alive; `decision`: it said what the household is held to (EEBUS LPC)."""

    def use_operators(self, operators: Operators, now: float) -> None:
        """Other operators from now on: what a removed one had commanded ends."""

    def is_new_beat(self, kid: str) -> bool:
        """Whether this operator has never sent a heartbeat before."""


class Operation(Protocol):
    """One command. It changes nothing before `apply`, which comes once what `journal` gave is durable."""

    request: JobRequest | None

    def journal(self) -> Journal:
        """What becomes durable."""

    def apply(self, now: float) -> None:
        """What follows once it is."""


# Makes an operation. Raises Unable.
OperationClass = Callable[[Desk, Accepted, Mapping[str, Any], float], Operation]


class CommandedOperation:
    """What the operations have in common: they know who asked, when, and how to say so."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        self.desk = desk
        self.verdict = verdict
        self.command = verdict.command
        self.args = args
        self.now = now
        self.request: JobRequest | None = None

    def journal(self) -> Journal:
        """What becomes durable."""
        raise NotImplementedError

    def apply(self, now: float) -> None:
        """What follows once it is."""
        raise NotImplementedError

    @property
    def kid(self) -> str:
        return self.command.kid

    def t(self) -> float:
        """UTC epoch seconds, as of when it was judged."""
        t = self.desk.utc(self.now)
        assert t is not None  # authority refuses everything while there is no clock
        return t

    def tell(self, journal: Journal, status: str, detail: dict[str, Any] | None = None) -> None:
        """A receipt of this command."""
        receipt = self.desk.receipt(self.command.cti, self.verdict.digest, status, self.now, detail=detail)
        journal.tell(receipt, self.kid)

    def complete(self, journal: Journal, detail: dict[str, Any] | None = None) -> None:
        """What is done as soon as it is durable has two receipts at once."""
        self.tell(journal, "accepted")
        self.tell(journal, "completed", detail)
