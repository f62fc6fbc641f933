"""Questions about what was taken: readings of a time span, the newest events. Shared by the hub and the offline view.

Each is a generator that yields None between slices, so that the writer can serve adapters in between, and returns its
answer at the end. Packs are opened without verifying them: they are our own.
"""

import heapq
import logging
from collections.abc import Generator, Iterable
from typing import Any, Protocol, TypedDict, Unpack

from hub.wire.uplink.event import decode_event
from hub.wire.uplink.pack import BadPack, decode_pack
from hub.wire.uplink.reading import Reading
from store.database import Database
from store.envelopes import pack_of, payload_of
from store.errors import StoreCorrupt
from store.logbody import LogRow
from store.outbox import RUN_PACKS, read_sealed

log = logging.getLogger(__name__)

_FOREVER_MS = 1 << 62
_BEHIND_PACKS = 1 << 62  # the log's rows came after those of any pack
_MOST_BEGINNINGS = 8  # a store that thins with every slice of ours is worth an answer that misses some of it


class View(Protocol):
    """A database with the names and clocks that its log needs."""

    db: Database
    position: tuple[int, int]
    rewrites: int

    def row_readings(self, boot: int, mono_ms: int, body: bytes) -> LogRow:
        """A row of the log as readings."""


class ReadingsQuery(TypedDict, total=False):
    """Which readings are asked for; what is not named is not narrowed. `from_ms`, `to_ms`: UTC epoch milliseconds, both
    included. The newest `limit` (else 1000), newest first, with `newest_first`; else the oldest, in time order."""

    client: str | None
    quantity: str | None
    from_ms: int | None
    to_ms: int | None
    limit: int
    newest_first: bool


class Wanted:
    """Which readings are asked for, and the best `limit` of them so far."""

    def __init__(self, **query: Unpack[ReadingsQuery]) -> None:
        self._query = query
        self.client, self.quantity = query.get("client"), query.get("quantity")
        from_ms, to_ms = query.get("from_ms"), query.get("to_ms")
        self.from_ms = -_FOREVER_MS if from_ms is None else from_ms
        self.to_ms = _FOREVER_MS if to_ms is None else to_ms
        self.limit = max(0, query.get("limit", 1000))
        self.newest_first = query.get("newest_first", False)
        # A heap whose root is the worst kept: its key is the time, then the place in custody, negated where early is
        # good: a register's two readings of one millisecond stay in the order in which they came.
        self._kept: list[tuple[int, int, int, Reading]] = []
        self._sign = 1 if self.newest_first else -1

    def afresh(self) -> "Wanted":
        """The same question, nothing found yet."""
        return Wanted(**self._query)

    def may_hold(self, from_ms: int, to_ms: int) -> bool:
        """Whether readings of that span could still be among the best."""
        if self.limit == 0 or len(self._kept) < self.limit:
            return self.limit > 0
        best = to_ms if self.newest_first else -from_ms
        return best >= self._kept[0][0]

    def take(self, readings: Iterable[Reading], row: int) -> None:
        """Look at the readings of a row; `row`: its place among all rows, later ones higher."""
        for index, reading in enumerate(readings):
            if self.client is not None and reading.client_id != self.client:
                continue
            if self.quantity is not None and reading.quantity != self.quantity:
                continue
            if self.from_ms <= reading.t_ms <= self.to_ms:
                self._keep(reading, row, index)

    def _keep(self, reading: Reading, row: int, index: int) -> None:
        sign = self._sign
        entry = (sign * reading.t_ms, sign * row, sign * index, reading)
        if len(self._kept) < self.limit:
            heapq.heappush(self._kept, entry)
        elif self._kept:
            heapq.heappushpop(self._kept, entry)

    def result(self) -> list[Reading]:
        """What was found, in time order (newest first if so asked)."""
        return [entry[-1] for entry in sorted(self._kept, reverse=True)]


def find_readings(view: View, wanted: Wanted) -> Generator[None, None, list[Reading]]:
    """Look through the sealed packs and the log behind them. `to_ms` is included.

    When rows of the log become others meanwhile (pressed for space; otherwise that waits for us) it begins again.
    """
    for _ in range(_MOST_BEGINNINGS):
        fresh, rewrites = wanted.afresh(), view.rewrites
        yield from _search_all(view, fresh, rewrites)
        if view.rewrites == rewrites:
            break
    return fresh.result()


def _search_all(view: View, wanted: Wanted, rewrites: int) -> Generator[None, None, None]:
    position = view.position
    last_id = (view.db.one("sealed_last/readings") or (None,))[0] or 0
    last_seq = (view.db.one("log_ends") or (None, None))[1] or 0
    # Ends taken first: a pack sealed meanwhile holds samples that the log shows as well, and is not looked at.
    yield from _search_packs(view.db, wanted, last_id)
    seq, index = position
    while view.rewrites == rewrites and (rows := view.db.run("log_from_some", (seq, last_seq + 1)).fetchall()):
        for row_seq, boot, mono_ms, _, body in rows:
            readings = view.row_readings(boot, mono_ms, body).readings
            wanted.take(readings[index:] if row_seq == position[0] else readings, _BEHIND_PACKS + row_seq)
        seq = rows[-1][0] + 1
        yield


def _search_packs(db: Database, wanted: Wanted, last_id: int) -> Generator[None, None, None]:
    for low, high in _spans(db, wanted, last_id):
        yield from _search_span(db, wanted, low, high)


def _spans(db: Database, wanted: Wanted, last_id: int) -> list[tuple[int, int]]:
    """Where to look, in the order asked for: packs beyond the first id of a pair, up to the second."""
    if wanted.client is None and wanted.quantity is None:
        return [(0, last_id)]
    since = (db.one("present_since") or (last_id,))[0]
    spans = [(0, min(since, last_id))] if since else []
    for (bucket,) in db.run("present_where", (wanted.client, wanted.quantity)).fetchall():
        low, high = max(bucket * RUN_PACKS - 1, since), min((bucket + 1) * RUN_PACKS - 1, last_id)
        if low < high:
            spans.append((low, high))
    return spans[::-1] if wanted.newest_first else spans


def _search_span(db: Database, wanted: Wanted, low: int, high: int) -> Generator[None, None, None]:
    query = "packs_down" if wanted.newest_first else "packs_up"
    while rows := db.run(query, (low, high, wanted.from_ms, wanted.to_ms)).fetchall():
        for count, (pack_id, from_ms, to_ms) in enumerate(rows):
            if wanted.may_hold(from_ms, to_ms):
                wanted.take(_open_pack(db, pack_id), pack_id)
                if count % 8 == 7:
                    yield
        if wanted.newest_first:
            high = rows[-1][0] - 1
        else:
            low = rows[-1][0]
        yield


def _open_pack(db: Database, pack_id: int) -> list[Reading]:
    found = read_sealed("readings", db.run("pack_body", (pack_id,)), skip=True)
    try:
        return [reading for sealed in found for reading in decode_pack(pack_of(sealed.body))]
    except (BadPack, StoreCorrupt) as error:
        # It is what was sealed, so no salvage would make it better.
        log.warning("a pack of ours does not read: %s: left out", error)
        return []


def newest_events(db: Database, limit: int) -> list[dict[str, Any]]:
    """The newest events, oldest of them first, each with the epoch and number under which it went up; bytes in
    hexadecimal, as what asks for them speaks JSON."""
    found = read_sealed("events", db.run("events_newest", (max(0, limit),)), skip=True)
    return [
        {**_in_hex(decode_event(payload_of(s.body))), "epoch": s.epoch, "number": s.number} for s in reversed(found)
    ]


def _in_hex(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_in_hex(each) for each in value]
    return {key: _in_hex(each) for key, each in value.items()} if isinstance(value, dict) else value


def finish(search: Generator[None, None, list[Reading]]) -> list[Reading]:
    """Run a search to its end at once, where nobody waits."""
    while True:
        try:
            next(search)
        except StopIteration as done:
            found: list[Reading] = done.value
            return found
