"""Keeps the book: enters what hubs send, asks for what is missing, tells hubs what is booked. A machine: no socket, no
clock; `hub/cli/headend_keep.py` drives it."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from hub.headend.book import Book, Gap
from hub.headend.command_signer import CommandSigner, topic_for
from hub.headend.inbox import Inbox, Received
from hub.headend.intake import BookIntake
from hub.headend.ledger import Lane
from hub.wire.uplink.command import CTI_BYTES
from hub.wire.uplink.receipt import FINAL

_VALID_S = 600
_MAX_ASKED = 10_000  # numbers in one `resend`
# A question that was lost is asked again: after so long, then twice as long, up to so long.
_FIRST_AGAIN_S, _MOST_AGAIN_S = 30.0, 300.0
_MOST_OPEN = 10_000  # questions that nobody has answered


class CommandToSend(NamedTuple):
    """A command to publish."""

    topic: str
    message: bytes
    op: str
    hub: str


class Bookkeeper:
    """`signer`: of an operator with the role `read`. What is missing is asked for once it was missing `gap_after_s`."""

    def __init__(self, inbox: Inbox, book: Book, signer: CommandSigner, *, gap_after_s: float) -> None:
        self._inbox = inbox
        self.book = book
        self._intake = BookIntake(inbox, book)
        self._signer = signer
        self._gap_after_s = gap_after_s
        self._gap_since: dict[Gap, float] = {}
        self._asked: dict[Gap, tuple[float, float]] = {}  # when it may be asked again, and the wait after that
        self._questions: dict[bytes, Gap] = {}  # cti of a resend -> what it asked for
        self.missing = 0  # numbers that were missing for so long when `questions` looked last
        self._told: dict[str, dict[str, list[int]]] = {}

    def take(self, topic: str, payload: bytes) -> Received:
        """One message. It is in the book once that was committed."""
        return self.take_all([(topic, payload)])[0]

    def take_all(self, messages: Sequence[tuple[str, bytes]]) -> list[Received]:
        """Some messages, in the order in which they came."""
        taken = self._intake.take_all(messages)
        for received in taken:
            if received.fault:
                continue
            if received.kind == "receipts":
                self._heard_receipt(received)
            # Of a hub of whom nothing could be read nothing is asked.
            elif received.kind == "heartbeat" and self._inbox.knows(received.hub):
                epoch = received.fields["epoch"]
                for lane, number in received.fields["n"].items():
                    self.book.announce(Lane(received.hub, epoch, lane), number)
        return taken

    def _heard_receipt(self, received: Received) -> None:
        if received.fields.get("status") not in FINAL:
            return
        gap = self._questions.pop(received.fields.get("re", b""), None)
        if gap is not None and received.fields.get("reason") == "not-kept":
            self.book.give_up(gap)

    def questions(self, now: float, t: int) -> list[CommandToSend]:
        """`resend` for what has been missing for a while. `t`: UTC epoch seconds."""
        gaps = self.book.gaps()
        self._gap_since = {gap: self._gap_since.get(gap, now) for gap in gaps}
        self.missing = sum(
            gap.last - gap.first + 1 for gap, since in self._gap_since.items() if now - since >= self._gap_after_s
        )
        found = []
        for gap, since in self._gap_since.items():
            at, wait_s = self._asked.get(gap, (now, _FIRST_AGAIN_S))
            if now - since < self._gap_after_s or now < at:
                continue
            self._asked[gap] = (now + wait_s, min(2 * wait_s, _MOST_AGAIN_S))
            last = min(gap.last, gap.first + _MAX_ASKED - 1)
            args = {"lane": gap.lane.lane, "epoch": gap.lane.epoch, "from": gap.first, "to": last}
            cti = os.urandom(CTI_BYTES)
            self._questions[cti] = Gap(gap.lane, gap.first, last)
            if len(self._questions) > _MOST_OPEN:
                del self._questions[next(iter(self._questions))]
            found.append(self._command(gap.lane.hub, "resend", args, cti, t))
        self._asked = {gap: times for gap, times in self._asked.items() if gap in self._gap_since}
        return found

    def bookings(self, t: int) -> list[CommandToSend]:
        """`booked` for every hub of whom more is booked than it was told."""
        found = []
        for hub, places in self.book.booked().items():
            if places != self._told.get(hub):
                self._told[hub] = places
                found.append(self._command(hub, "booked", dict(places), os.urandom(CTI_BYTES), t))
        return found

    def _command(self, hub: str, op: str, args: dict[str, object], cti: bytes, t: int) -> CommandToSend:
        return CommandToSend(topic_for(hub), self._signer.sign(hub, op, args, cti=cti, t=t, valid_s=_VALID_S), op, hub)
