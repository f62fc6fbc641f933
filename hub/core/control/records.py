"""What control asks the store to make durable, and what it gets back after a restart.

A `Journal` is one step: everything in it is durable together or not at all, so no crash can separate a command's
counter from its receipt, or a receipt from the state that it tells of (promise P5).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.wire.uplink.receipt import Receipt


class Answer(NamedTuple):
    """A message of lane `answers`: what a command asked for. `extra` goes into the envelope's header."""

    content_type: int | str
    payload: bytes
    extra: dict[Any, Any]


@dataclass(slots=True)
class Journal:
    """One step of control.

    `kept`: items by name, None = forget it. `receipts`: in order; their `prev` and `i` are the store's to fill in.
    `events`: name and fields. `answered`: the commands (cti) whose receipt in here is to be found again, should they
    come once more, and who commanded them. `booked`: lane -> (epoch, number) that the control point has booked up to.
    """

    kept: dict[str, bytes | None] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    answered: dict[bytes, str] = field(default_factory=dict)
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.kept or self.receipts or self.events or self.answers or self.booked)

    def tell(self, receipt: Receipt, kid: str) -> None:
        """Add a receipt that is to be found again by its command; `kid`: who commanded."""
        self.receipts.append(receipt)
        if receipt.re is not None:
            self.answered[receipt.re] = kid

    def add(self, other: "Journal") -> None:
        """Let what another step holds become durable with this one."""
        self.kept.update(other.kept)
        self.receipts += other.receipts
        self.events += other.events
        self.answers += other.answers
        self.answered.update(other.answered)
        self.booked.update(other.booked)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Something a command asks for that takes I/O: the governor does it and says `finished`."""

    cti: bytes
    kid: str
    digest: bytes
    op: str
    args: dict[str, Any]
    is_for_many: bool = False  # its audience is a group, or all


# What became of a request: the final receipt's status, reason and detail, and the answers that go with it.
Outcome = tuple[str, str, dict[str, Any], Journal | None]


def _nothing(now: float) -> None:
    """There is nothing to change."""


@dataclass(slots=True)
class Step:
    """What a command comes to. `journal` first; `apply(now)` when it is durable; then `resend` and `request`.

    `resend`: `(epoch, number)` of receipts to send again. `is_of_nobody`: a refusal of what no operator signed. It
    changes nothing, so that nobody need wait for it.
    """

    journal: Journal = field(default_factory=Journal)
    apply: Callable[[float], None] = _nothing
    resend: list[tuple[int, int]] = field(default_factory=list)
    request: JobRequest | None = None
    is_of_nobody: bool = False

    @property
    def is_nothing(self) -> bool:
        """It changes nothing and nobody is told."""
        return self.apply is _nothing and not self.journal and not self.resend and self.request is None


FAIRNESS = "fairness"
# The store writes it, as CBOR null, when it starts a new epoch for want of the old one's database or part of it:
# counters may be missing here, so what was commanded before could pass once more. Control makes of it the time (UTC,
# epoch seconds) from which on a command must have been issued, once it knows the time.
FORGOT = "forgot"
# UTC - monotonic by which limits and orders were reckoned, and in which life of the machine: `[boot, offset ms]`.
CLOCK = "clock"
# Items by kind; what follows is a cti in hexadecimal, or an operator's kid.
LIMIT, ORDER, CTR, JOB, BEAT = "limit/", "order/", "ctr/", "job/", "beat/"
# The list of operators that a `trust` command brought, and while that is on trial the one before.
OPERATORS, OPERATORS_BEFORE = "operators", "operators/before"
# The time (`iat`) of the last local recovery, as CBOR: the next one has to be newer.
RECOVERED = "operators/recovered"
# The item that says where a command's newest receipt is, as CBOR `[epoch, number, kid]`; the store keeps it.
ANSWERED = "cti/"


def answered_name(cti: bytes) -> str:
    """The item's name for a command."""
    return ANSWERED + cti.hex()
