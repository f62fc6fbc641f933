"""The lanes: what is sealed, its numbers, what of it was delivered.

A number is given in the transaction that stores its message; after a restart the next one follows from the newest row,
which pruning therefore leaves. Delivery marks live in memory and ride along with the next row of the log: losing one
means sending the same bytes again, which is harmless.
"""

import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import cbor2

from store.cbor import load_own
from store.database import Database
from store.envelopes import place_in
from store.errors import StoreCorrupt, StoreError
from store.queries import LANES

if TYPE_CHECKING:
    from hub.wire.admin import LaneFigures

log = logging.getLogger(__name__)

NUMBER_BITS = 31
# Custody ends in the control point's book (design 3.3, `booked`): a broker may acknowledge and forget.
BOOKED = "booked/"
_NUMBER_MASK = (1 << NUMBER_BITS) - 1

SealFunction = Callable[[str, int, int, int | str, bytes, dict[Any, Any] | None], bytes]


class Sealed(NamedTuple):
    """One sealed message. `t_ms`: UTC epoch milliseconds when it was sealed; `body`: the envelope's bytes."""

    lane: str
    epoch: int
    number: int
    t_ms: int
    body: bytes


class Span(NamedTuple):
    """What a pack covers: times of its readings, and the first sample of the log that it does not hold."""

    from_ms: int
    to_ms: int
    upto_seq: int
    upto_index: int


def row_id(epoch: int, number: int) -> int:
    """Where a message is kept; ids of a lane grow with (epoch, number)."""
    return epoch << NUMBER_BITS | min(max(number, 0), _NUMBER_MASK)


def split_id(key: int) -> tuple[int, int]:
    """`(epoch, number)` of a row."""
    return key >> NUMBER_BITS, key & _NUMBER_MASK


def check_lane(lane: str) -> str:
    """Raises StoreError for a lane that there is not."""
    if lane not in LANES:
        raise StoreError(f"there is no lane {lane!r}; the lanes are {', '.join(LANES)}")
    return lane


def read_sealed(lane: str, rows: Iterable[tuple[int, int, int, bytes]], *, skip: bool = False) -> list[Sealed]:
    """Rows `(id, t_ms, crc, body)` as messages. One that is not what was written raises StoreCorrupt; with `skip`,
    where history is asked for, it is left out: setting the whole history aside for one message would help nobody."""
    found = []
    for key, t_ms, crc, body in rows:
        if isinstance(body, bytes) and zlib.crc32(body) == crc and type(t_ms) is int:
            found.append(Sealed(lane, *split_id(key), t_ms, body))
            continue
        text = f"{lane} {key & _NUMBER_MASK} of epoch {key >> NUMBER_BITS} fails its checksum"
        if not skip:
            raise StoreCorrupt(text)
        log.warning("%s: left out", text)
    return found


# How many packs share one note of what they hold (store/sql/schema_004.sql).
RUN_PACKS = 1024


def time_of(t_ms: Any) -> int:
    """When a message was sealed, as its row says. Raises StoreCorrupt."""
    if type(t_ms) is not int:
        raise StoreCorrupt("a sealed message has no time")
    return t_ms


class Outbox:
    """The lanes of one database. All methods run on the writer thread; those that seal, inside a transaction."""

    def __init__(self, db: Database, seal: SealFunction, epoch: int, marks: dict[str, int]) -> None:
        self._db = db
        self._seal = seal
        self.epoch = epoch
        self.next: dict[str, int] = {}
        self.delivered: dict[str, int] = {}
        self._beyond: dict[str, set[int]] = {lane: set() for lane in LANES}
        self.booked: dict[str, int] = {}  # up to where the control point's book goes; 0: nobody ever said
        self._acknowledged: dict[str, int] = {}  # up to where the broker acknowledged before what `_lately` knows
        self._lately: deque[tuple[int, str, int]] = deque()  # when which mark advanced to where
        self.marks_dirty = False
        for lane in LANES:
            newest = self._newest(lane)
            newest_epoch, number = split_id(newest)
            self.next[lane] = number + 1 if newest_epoch == epoch else 1
            self.delivered[lane] = min(marks.get(lane, 0), newest)
            self.booked[lane] = min(marks.get(BOOKED + lane, 0), newest)
            self._acknowledged[lane] = self.delivered[lane]

    def _newest(self, lane: str) -> int:
        """The id of a lane's newest message, 0 = none: the next number follows from it, so it must be where it belongs
        (a flipped bit in an id passes for a leap of numbers)."""
        for message in read_sealed(lane, self._db.run(f"sealed_newest/{lane}")):
            here = (message.epoch, message.number)
            if message.epoch > self.epoch or place_in(message.body) != here:
                raise StoreCorrupt(f"the newest message of {lane} is not where it belongs")
            return row_id(*here)
        return 0

    def has_delivered(self) -> bool:
        """Whether the broker has taken anything of this epoch."""
        first = row_id(self.epoch, 1)
        return any(key >= first for key in self.delivered.values()) or any(self._beyond.values())

    def take_back(self, lane: str) -> list[Sealed]:
        """Everything of this epoch in a lane, taken out of it (inside a transaction): only where nobody was sent any
        of it."""
        span = (row_id(self.epoch, 1), row_id(self.epoch, _NUMBER_MASK))
        taken = read_sealed(lane, self._db.run(f"sealed_between/{check_lane(lane)}", span))
        self._db.run(f"sealed_take_back/{lane}", span)
        return taken

    def enter(self, epoch: int) -> None:
        """Number from 1 on in another epoch."""
        self.epoch = epoch
        self.next = dict.fromkeys(self.next, 1)

    def add(
        self, lane: str, t_ms: int, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None = None
    ) -> Sealed:
        """Seal one message with the lane's next number (inside a transaction)."""
        sealed = self._sealed(lane, t_ms, content_type, payload, extra)
        key = row_id(sealed.epoch, sealed.number)
        self._db.run(f"sealed_add/{lane}", (key, t_ms, zlib.crc32(sealed.body), sealed.body))
        return sealed

    def seal_pack(self, t_ms: int, content_type: int | str, payload: bytes, extra: dict[Any, Any]) -> Sealed:
        """Seal a pack without storing it yet: that takes the span of its readings as well."""
        return self._sealed("readings", t_ms, content_type, payload, extra)

    def add_pack(self, pack: Sealed, span: Span, series: Iterable[tuple[str, str]]) -> None:
        """Store a pack (inside a transaction). `series`: client and quantity of what it holds."""
        key = row_id(pack.epoch, pack.number)
        for client_id, quantity in series:
            self._db.run("present_add", (key // RUN_PACKS, client_id, quantity))
        self._db.run("pack_add", (key, pack.t_ms, zlib.crc32(pack.body), pack.body, *span))
        self.next["readings"] = pack.number + 1

    def _sealed(
        self, lane: str, t_ms: int, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None
    ) -> Sealed:
        number = self.next[lane]
        body = self._seal(lane, self.epoch, number, content_type, payload, extra)
        if lane != "readings":
            self.next[lane] = number + 1
        return Sealed(lane, self.epoch, number, t_ms, body)

    def unsent(self, lane: str, epoch: int, after_number: int, limit: int) -> list[Sealed]:
        """Undelivered messages strictly after (epoch, number), in order."""
        beyond = self._beyond[check_lane(lane)]
        after = max(self.delivered[lane], row_id(epoch, after_number))
        rows = self._db.run(f"sealed_after/{lane}", (after, limit + len(beyond)))
        return read_sealed(lane, (row for row in rows if row[0] not in beyond))[:limit]

    def between(self, lane: str, epoch: int, first: int, last: int) -> list[Sealed]:
        """Messages of a range of numbers, delivered or not, as far as they are still kept."""
        rows = self._db.run(f"sealed_between/{check_lane(lane)}", (row_id(epoch, first), row_id(epoch, last)))
        return read_sealed(lane, rows, skip=True)

    def mark(self, lane: str, epoch: int, number: int, now_ms: int) -> None:
        """A message was delivered; the mark advances over what is contiguous."""
        beyond = self._beyond[check_lane(lane)]
        key = row_id(epoch, number)
        if key <= self.delivered[lane] or (epoch, number) >= (self.epoch, self.next[lane]):
            return
        beyond.add(key)
        while beyond:
            following = (self._db.one(f"sealed_next_id/{lane}", (self.delivered[lane],)) or (None,))[0]
            if following not in beyond:
                # A mark for what is not there (pruned, or lost with a page) must not be waited for.
                self._beyond[lane] = {kept for kept in beyond if following is not None and kept > following}
                return
            beyond.discard(following)
            self.delivered[lane] = following
            self._lately.append((now_ms, lane, following))
            self.marks_dirty = True

    def marks(self) -> dict[str, int]:
        """The delivery marks as they are to be kept, and how far the book goes."""
        return {**self.delivered, **{BOOKED + lane: key for lane, key in self.booked.items()}}

    def book(self, places: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """What the control point says it has booked up to, as far as it can be so: marks to be kept, by lane. What it
        has in its book was delivered, whatever the broker said of it."""
        moved = {}
        for lane, (epoch, number) in places.items():
            number = min(number, self.next[check_lane(lane)] - 1) if epoch == self.epoch else number
            key = min(row_id(epoch, number), self._highest(lane))
            if epoch <= self.epoch and number >= 0 and key > self.booked[lane]:
                moved[lane] = key
        return moved

    def _highest(self, lane: str) -> int:
        return row_id(self.epoch, self.next[lane] - 1)

    def booked_up_to(self, moved: Mapping[str, int]) -> None:
        """It is durable."""
        for lane, key in moved.items():
            self.booked[lane] = key
            if key > self.delivered[lane]:
                self.delivered[lane] = key
                self._beyond[lane] = {kept for kept in self._beyond[lane] if kept > key}
                self.marks_dirty = True

    def unbooked(self, lane: str, after: int, within_ms: int, now_ms: int, utc_ms: int, limit: int) -> list[Sealed]:
        """Messages beyond row `after` that the broker acknowledged, and nobody booked, at least `within_ms` ago. Of
        what was acknowledged before this start only the time of its seal is known."""
        while self._lately and self._lately[0][0] <= now_ms - within_ms:
            _, acknowledged_lane, key = self._lately.popleft()
            self._acknowledged[acknowledged_lane] = key
        start = max(after, self.booked[check_lane(lane)])
        rows = self._db.run(f"sealed_between/{lane}", (start + 1, self._acknowledged[lane]))
        found: list[tuple[int, int, int, bytes]] = []
        for row in rows:
            # Sealed in what is now the future: the clock was set back since, and says nothing of how long ago that was.
            if len(found) >= limit or utc_ms - within_ms < time_of(row[1]) <= utc_ms:
                break
            found.append(row)
        rows.close()
        return read_sealed(lane, found, skip=True)

    def encode_marks(self) -> bytes:
        """The same, to ride along with a row of the log."""
        encoded: bytes = cbor2.dumps(self.marks())
        return encoded

    def pending(self, lane: str) -> tuple[int, int | None]:
        """`(number of undelivered messages, t_ms of the oldest or None)`."""
        mark = self.delivered[lane]
        first = row_id(self.epoch, 1)
        if mark >= first:
            count = self.next[lane] - 1 - split_id(mark)[1]
        else:
            older = self._db.one(f"sealed_count/{lane}", (mark, first))
            count = (older[0] if older else 0) + self.next[lane] - 1
        oldest = self._db.one("pack_oldest" if lane == "readings" else f"sealed_oldest/{lane}", (mark,))
        return count - len(self._beyond[lane]), time_of(oldest[0]) if oldest else None

    def status(self, lane: str, utc_ms: int) -> "LaneFigures":
        """`{"pending": messages, "oldest_s": age of the oldest or 0, "next": number, "acknowledged", "booked": up to
        which number of this epoch the broker acknowledged, and the control point booked}`."""
        pending, oldest_ms = self.pending(lane)
        age_s = 0.0 if oldest_ms is None else max(0.0, (utc_ms - oldest_ms) / 1000)
        return {
            "pending": pending,
            "oldest_s": age_s,
            "next": self.next[lane],
            "acknowledged": self._number_here(self.delivered[lane]),
            "booked": self._number_here(self.booked[lane]),
        }

    def _number_here(self, key: int) -> int:
        """The number of a mark in this epoch; 0 where it is of an earlier one."""
        epoch, number = split_id(key)
        return number if epoch == self.epoch else 0


def read_marks(data: bytes) -> dict[str, int]:
    """The delivery marks of a row of the log. Raises StoreCorrupt."""
    marks = load_own(data, "a row of delivery marks")
    if not isinstance(marks, dict) or not all(isinstance(key, int) for key in marks.values()):
        raise StoreCorrupt("delivery marks are a map of lanes")
    return marks


def load_marks(db: Database) -> dict[str, int]:
    """Marks as of the last pruning, overtaken by those in the log. Keys: lanes, and names of store/engine.py."""
    marks = {name: int(value) for name, value in db.run("marks_all")}
    newest = db.one("log_marks")
    if newest is not None:
        for lane, key in read_marks(newest[0]).items():
            marks[lane] = max(marks.get(lane, 0), key)
    return marks
