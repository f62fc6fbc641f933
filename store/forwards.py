"""Raw forwards that wait for the broker: the table that makes them durable, and the newest of them in memory beside it,
so that whoever sends them as they come need not ask a thread for each.

What one commit brings is one row: its topic is empty, its payload CBOR `[topic, payload, topic, payload, ...]`, its id
that of the first; one alone stands as it is. A long row goes without its pages being written once more, and goes when
all of it was delivered, many rows at a time. A hub that dies sends what it had not dropped once more.
"""

import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cbor2

from hub.core.records import ForwardQueued
from store.cbor import load_own
from store.database import Database
from store.errors import StoreCorrupt

log = logging.getLogger(__name__)

# In memory: so many, and none that is larger than most adapters can send.
_MOST_FRESH, _FRESH_BYTES = 512, 1024
_MOST_IN_A_ROW = 256
# The uplink has 256 under way, tells of 256 together, and finds the rest in memory. Who has not been told of one for so
# long has a broker that takes none.
_FOLLOW_AT, _FOLLOWS_WITHIN_S = 768, 0.5
# Delivered ones are dropped when there are so many, or when so long has passed.
_DROPPED_AT_ONCE, _DROPPED_AFTER_MS = 512, 2000


class RawForward(NamedTuple):
    """One message, unchanged. `id`: where it is in the order of all of them."""

    id: int
    topic: str
    payload: bytes


class Forwards:
    """Belongs to the writer thread, but for `fresh` and `newest_id`, which one other thread may take from and read."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._sizes: dict[int, int] = {}  # of the rows that hold several: how many, by id
        self._rows: list[int] = []  # their ids, in order
        self._done: set[int] = set()
        self._done_since_ms = 0
        self.newest_heard_id = 0  # that the broker took, in this run; and when, on the monotonic clock
        self.heard_at = float("-inf")
        self._coming: list[RawForward] = []
        self._coming_rows: dict[int, int] = {}
        self.fresh: deque[RawForward] = deque()
        self.newest_id = 0  # committed
        newest = db.one("forward_newest")
        if newest is not None:  # one that does not read may have held as many as there may be
            found = self._read((newest[0], newest[1], newest[2]))
            self.newest_id = found[-1].id if found else int(newest[0]) + _MOST_IN_A_ROW

    def put(self, changes: Iterable[ForwardQueued]) -> None:
        """Write some down (inside a transaction). An id is never used twice in one run, unlike SQLite's own choice: the
        uplink's cursor would pass over a reused one."""
        queued = list(changes)
        for at in range(0, len(queued), _MOST_IN_A_ROW):
            first = self.newest_id + 1 + len(self._coming)
            coming = [RawForward(first + n, *change) for n, change in enumerate(queued[at : at + _MOST_IN_A_ROW])]
            self._write(coming)
            if len(coming) > 1:
                self._coming_rows[first] = len(coming)
            self._coming += coming

    def _write(self, forwards: Sequence[RawForward]) -> None:
        if len(forwards) == 1:
            self._db.do("forward_put", forwards[0])
        else:
            together = [part for forward in forwards for part in forward[1:]]
            self._db.do("forward_put", (forwards[0].id, "", cbor2.dumps(together)))

    def committed(self, is_durable: bool) -> None:
        """The transaction is over."""
        coming, self._coming = self._coming, []
        rows, self._coming_rows = self._coming_rows, {}
        if not is_durable or not coming:
            return
        self._sizes |= rows
        self._rows += rows
        for forward in coming:
            if len(self.fresh) < _MOST_FRESH and len(forward.payload) <= _FRESH_BYTES:
                self.fresh.append(forward)
        self.newest_id = coming[-1].id

    def heard(self, ids: Sequence[int]) -> None:
        """The broker has these: said at once, by the thread that hears it; `done` comes when this thread has time."""
        self.newest_heard_id = max(self.newest_heard_id, max(ids, default=0))
        self.heard_at = time.monotonic()

    def is_followed(self) -> bool:
        """Whether the broker takes them, and is not so far behind that they have to be read from the table."""
        if self.newest_id - self.newest_heard_id <= _FOLLOW_AT:
            return True
        return time.monotonic() - self.heard_at > _FOLLOWS_WITHIN_S

    def done(self, ids: Iterable[int], now_ms: int) -> None:
        """The broker has these."""
        if not self._done:
            self._done_since_ms = now_ms
        self._done.update(ids)

    @property
    def has_done(self) -> bool:
        """Whether some are to be dropped."""
        return bool(self._done)

    def drop_done(self, now_ms: int, *, all_of_them: bool = False) -> list[int]:
        """Drop delivered ones, if it is worth a write (inside a transaction); which, for `dropped`. Rows of which a
        part was delivered stay for a while, and are taken apart then."""
        is_late = all_of_them or now_ms - self._done_since_ms >= _DROPPED_AFTER_MS
        if not self._done or not (is_late or len(self._done) >= _DROPPED_AT_ONCE):
            return []
        gone: list[int] = []
        drop: list[int] = []
        parts: dict[int, list[int]] = {}
        for forward_id in sorted(self._done):
            parts.setdefault(self._row_of(forward_id), []).append(forward_id)
        for row, ids in parts.items():
            if len(ids) < self._sizes.get(row, 1):
                if not is_late:
                    continue
                left = [forward for forward in self._from(row, 1) if forward.id not in self._done]
                self._db.do("forward_drop", (row,))
                for forward in left:
                    self._write([forward])
            else:
                drop.append(row)
            gone += ids
        self._db.many("forward_drop", [(row,) for row in drop])
        return gone

    def _row_of(self, forward_id: int) -> int:
        """The id of the row that holds a message."""
        at = bisect_right(self._rows, forward_id)
        row = self._rows[at - 1] if at else 0
        return row if forward_id < row + self._sizes.get(row, 0) else forward_id

    def dropped(self, gone: Sequence[int], now_ms: int) -> None:
        """It is durable."""
        for row in {self._row_of(forward_id) for forward_id in gone} & self._sizes.keys():
            self._forget(row)
        self._done.difference_update(gone)
        self._done_since_ms = now_ms

    def _forget(self, row: int) -> None:
        del self._sizes[row]
        del self._rows[bisect_right(self._rows, row) - 1]

    def beyond(self, after_id: int, limit: int) -> list[RawForward]:
        """Those that wait, beyond an id, from the table."""
        found: list[RawForward] = []
        rows = self._db.run("forward_from", (after_id, after_id))
        for row in rows:
            waiting = (forward for forward in self._read(row) if forward.id > after_id and forward.id not in self._done)
            found += waiting
            if len(found) >= limit:
                break
        rows.close()
        return found[:limit]

    def _from(self, row: int, count: int) -> list[RawForward]:
        """What so many rows hold, from one on."""
        rows = self._db.run("forward_rows", (row, count))
        return [forward for found in rows for forward in self._read(found)]

    def _read(self, row: tuple[Any, ...]) -> list[RawForward]:
        """What a row holds; nothing where it does not read: the hub must not stand still for it."""
        first, topic, payload = row
        if topic:
            return [RawForward(*row)]
        try:
            together = load_own(payload, "a row of raw forwards")
            pairs = list(zip(together[::2], together[1::2], strict=True))
            if not all(isinstance(topic, str) and isinstance(payload, bytes) for topic, payload in pairs):
                raise StoreCorrupt("a row of raw forwards holds what it cannot")
        except (StoreCorrupt, TypeError, ValueError) as error:
            log.warning("%s: left out", error)
            return []
        if first not in self._sizes and len(pairs) > 1:
            at = bisect_right(self._rows, first)
            self._rows.insert(at, first)
            self._sizes[first] = len(pairs)
        return [RawForward(first + n, *pair) for n, pair in enumerate(pairs)]

    def has_any(self) -> bool:
        """Whether there is anything to give up."""
        return self._db.one("forward_rows", (0, 1)) is not None

    def give_up(self, count: int) -> int:
        """Give up the oldest that wait, about so many, for want of space (inside a transaction); how many they were."""
        self.fresh.clear()
        given_up = 0
        rows = self._db.run("forward_from", (0, 0))
        drop: list[int] = []
        for row in rows:
            drop.append(row[0])
            given_up += sum(forward.id not in self._done for forward in self._read(row))
            if given_up >= count:
                break
        rows.close()
        self._db.many("forward_drop", [(row,) for row in drop])
        for row in self._sizes.keys() & set(drop):
            self._forget(row)
        return given_up


def take_fresh(fresh: deque[RawForward], after_id: int, limit: int) -> list[RawForward]:
    """Of what is in memory, what follows right after an id; nothing where that has to be asked of the table. Called by
    whoever sends, while the writer appends or clears."""
    taken: list[RawForward] = []
    try:
        while fresh[0].id <= after_id:
            fresh.popleft()
        while len(taken) < limit and fresh[0].id == after_id + 1:
            taken.append(fresh.popleft())
            after_id += 1
    except IndexError:
        pass
    return taken
