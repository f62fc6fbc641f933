"""Is every number there? The control point's book of what a hub sent (promise P2).

Every message has (hub, epoch, lane, number), gap-free from 1 in an epoch and lane, and a resend is byte-identical. The
ledger says of each message whether it is new or a repeat, and at any time which numbers are missing. No I/O.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from hub.wire.uplink.envelope import Envelope

# Digests kept per lane to compare repeats with; older repeats are recognised by number alone.
_REMEMBERED = 8192


class Lane(NamedTuple):
    """One numbering: what is gap-free."""

    hub: str
    epoch: int
    lane: str


MAX_EPOCHS_ANNOUNCED = 16  # of one hub: its heartbeats are not signed, and an epoch is only a number


class Announcements:
    """What heartbeats say: which number is next in a lane, so what is below it exists."""

    def __init__(self) -> None:
        self._next: dict[Lane, int] = {}
        self._epochs: dict[str, list[int]] = {}  # in order of appearance

    def note(self, lane: Lane, next_number: int) -> None:
        """The newest word counts. Of a hub that goes through epochs the oldest are forgotten."""
        epochs = self._epochs.setdefault(lane.hub, [])
        if lane.epoch not in epochs:
            epochs.append(lane.epoch)
            if len(epochs) > MAX_EPOCHS_ANNOUNCED:
                old = epochs.pop(0)
                self._next = {known: n for known, n in self._next.items() if known[:2] != (lane.hub, old)}
        self._next[lane] = next_number

    def next_of(self, lane: Lane, otherwise: int = 0) -> int:
        """The number that comes next, or `otherwise` where nothing was said."""
        return self._next.get(lane, otherwise)

    def lanes(self, hub: str = "") -> Iterator[Lane]:
        """The lanes that were spoken of, of every hub or of this one."""
        return (lane for lane in self._next if not hub or lane.hub == hub)


class Altered(ValueError):
    """A message came again under its number with other bytes: the hub, or somebody on the way, rewrote history."""


class _Book:
    def __init__(self, first: int) -> None:
        self.next = first  # every number below is there, from where the book begins
        self.beyond: set[int] = set()
        self.digests: dict[int, bytes] = {}
        self.repeats = 0


class Ledger:
    """Books for any number of hubs. `from_start`: books begin at 1; else at the first number that is seen."""

    def __init__(self, *, from_start: bool = True) -> None:
        self._from_start = from_start
        self._books: dict[Lane, _Book] = {}
        self.was_compared = False  # whether the last repeat was held against what came before

    def enter(self, envelope: Envelope, message: bytes) -> bool:
        """Book a verified message; True when it is new. Raises Altered when its number came with other bytes."""
        key = Lane(envelope.hub, envelope.epoch, envelope.lane)
        number = envelope.number
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = _Book(1 if self._from_start else number)
        digest = hashlib.sha256(message).digest()
        known = book.digests.get(number)
        self.was_compared = known is not None
        if known is not None and known != digest:
            raise Altered(f"{key.hub} epoch {key.epoch} {key.lane} {number}: came again with other bytes")
        if number < book.next or number in book.beyond:
            book.repeats += 1
            return False
        book.digests[number] = digest
        if len(book.digests) > _REMEMBERED:
            del book.digests[next(iter(book.digests))]
        book.beyond.add(number)
        while book.next in book.beyond:
            book.beyond.remove(book.next)
            book.next += 1
        return True

    def missing(self, key: Lane) -> list[tuple[int, int]]:
        """The missing numbers of a lane below the highest seen, as inclusive ranges; a few are normal in flight."""
        book = self._books.get(key)
        if book is None or not book.beyond:
            return []
        ranges, low = [], book.next
        for number in sorted(book.beyond):
            if number > low:
                ranges.append((low, number - 1))
            low = number + 1
        return ranges

    def missing_up_to(self, key: Lane, next_number: int) -> list[tuple[int, int]]:
        """As `missing`, against the next number that the hub itself announced (its heartbeat, or its status)."""
        ranges = self.missing(key)
        book = self._books.get(key)
        highest = 0 if book is None else max(book.beyond, default=book.next - 1)
        if highest + 1 < next_number:
            ranges.append((highest + 1, next_number - 1))
        return ranges

    def lanes(self) -> Iterator[tuple[Lane, int, int]]:
        """`(lane, messages booked without a gap up to this number, repeats)` of every book."""
        for key, book in self._books.items():
            yield key, book.next - 1, book.repeats
