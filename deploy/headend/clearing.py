"""What is older than it has to be kept goes, a hub after another, some rows at a time.

`Clearing` is the machine: it has a database and is told the time. `Clearer` is its thread, with a connection of its
own: what hubs send waits for one piece of it at most, and on a server only what is of the same hub.

Each kind has its own period (`[keep]`). What is never cleared: the numbers (a repeat of a pack that has gone is known
by its number), certificates (what is kept is verified by them), households' series, and what is not settled yet:
half-hours to be made, packs that wait for the columnar store, orders that are not over, roll-outs that go on."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from deploy.headend.background import Background
from deploy.headend.config import KeepPeriods
from deploy.headend.intake import PACK_LANES, book_in
from deploy.headend.orders import SENT, WAITING
from deploy.headend.rollouts import PAUSED, RUNNING
from hub.headend.book import Book
from hub.headend.database import FAILURES, BookReader
from hub.wire.printable import why

_LOG = logging.getLogger("headend")
_DAY_MS = 86_400_000
PACKS, READINGS, HALF_HOURS, EVENTS = "packs", "readings", "half_hours", "events"
RECEIPTS, ORDERS, AUDIT = "receipts", "orders", "audit"
KINDS = (PACKS, READINGS, HALF_HOURS, EVENTS, RECEIPTS, ORDERS, AUDIT)
_HUBS_AT_ONCE = 20  # marked in one transaction, and looked at for what is old
_MOST_ROWS = 2000  # of one statement: some 10 ms
_MARKS_A_PERIOD = 16  # so a message stays at most a sixteenth longer than it has to
_WALK_EVERY_MS = _DAY_MS
_REST = 4.0  # it sleeps so many times as long as it worked: a fifth of one core at most
_LEAST_REST_S, _FAILED_S = 0.02, 30.0


class ClearedKind(NamedTuple):
    """Rows that went since ever; from when on all is here (UTC epoch milliseconds, 0: nothing went)."""

    rows: int
    before_ms: int


class Clearing:
    """`step` again and again. The caller ends no transaction: each step is one or several. Raises one of FAILURES."""

    def __init__(self, book: Book, keep: KeepPeriods) -> None:
        self._book, self._db, self._keep = book, book.db, keep
        self._waiting: list[str] = []  # hubs whose turn it is
        self._noted: dict[str, int] = {}  # what this walk clears: what was here before, by kind

    def step(self, t_ms: int) -> bool:
        """One piece of work; False where there is none now. `t_ms`: UTC now."""
        if self._waiting:
            if not self._clear_some_of(self._waiting[0], t_ms):
                self._waiting.pop(0)
            return True
        self._db.begin()
        row = self._db.execute("SELECT hub, began_ms, ended_ms FROM clearing_walk WHERE id = 1").fetchone()
        after, began_ms, ended_ms = row or ("", 0, 0)
        if began_ms == 0:
            if t_ms < ended_ms + _WALK_EVERY_MS:
                self._db.commit()
                return False
            began_ms = t_ms
            self._note_horizons(t_ms)
            self._noted = {}
        if not self._noted:
            self._noted = {what: its.before_ms for what, its in cleared(self._db).items()}
        sql = "SELECT DISTINCT hub FROM range WHERE hub > ? ORDER BY hub LIMIT ?"
        hubs = [str(found[0]) for found in self._db.execute(sql, (after, _HUBS_AT_ONCE)).fetchall()]
        if hubs:
            self._mark(hubs, t_ms)
            self._note_place(hubs[-1], began_ms, ended_ms)
            self._db.commit()
            self._waiting = hubs
            return True
        self._db.commit()
        if self._clear_of_all(t_ms):
            return True
        self._db.begin()
        self._note_place("", 0, t_ms)
        self._db.commit()
        return False

    def _note_place(self, hub: str, began_ms: int, ended_ms: int) -> None:
        self._db.execute(
            "INSERT INTO clearing_walk VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET hub = excluded.hub,"
            " began_ms = excluded.began_ms, ended_ms = excluded.ended_ms", (hub, began_ms, ended_ms),
        )  # fmt: skip

    def _days(self, kind: str) -> int:
        return int(getattr(self._keep, f"{RECEIPTS if kind == ORDERS else kind}_days"))

    def _before_ms(self, kind: str, t_ms: int) -> int:
        """What is older may go; 0: nothing may."""
        days = self._days(kind)
        return max(0, t_ms - days * _DAY_MS) if days else 0

    def _goes_before_ms(self, kind: str, t_ms: int) -> int:
        """What is older goes in this walk: no more than was noted as it began."""
        return min(self._before_ms(kind, t_ms), self._noted.get(kind, 0))

    def _note_horizons(self, t_ms: int) -> None:
        """Before anything goes: who makes half-hours has to know what is not there any more (usage.py). A period that
        is made longer brings nothing back."""
        for kind in KINDS:
            before_ms = self._before_ms(kind, t_ms)
            if kind == READINGS and self._is_unsettled(before_ms):
                before_ms = 0
            self._db.execute(
                "INSERT INTO cleared VALUES (?, 0, ?) ON CONFLICT (what) DO UPDATE SET before_ms ="
                " CASE WHEN cleared.before_ms > excluded.before_ms THEN cleared.before_ms ELSE excluded.before_ms END",
                (kind, before_ms),
            )

    def _is_unsettled(self, before_ms: int) -> bool:
        """Half-hours of that time have to be made yet, of a service that stood still for long perhaps: next walk."""
        sql = "SELECT 1 FROM unsettled WHERE from_ms < ? LIMIT 1"
        return self._db.execute(sql, (before_ms,)).fetchone() is not None

    def _mark(self, hubs: Sequence[str], t_ms: int) -> None:
        periods = [days for kind in (PACKS, EVENTS, RECEIPTS) if (days := self._days(kind))]
        if periods:
            self._book.mark(hubs, t_ms, min(periods) * _DAY_MS // _MARKS_A_PERIOD)

    def _clear_some_of(self, hub: str, t_ms: int) -> int:
        """A piece of each kind of one hub, in a transaction; how many rows went."""
        self._db.begin()
        self._db.lock([hub])
        gone = {
            PACKS: self._clear_packs(hub, t_ms),
            READINGS: self._clear_readings(hub, t_ms),
            HALF_HOURS: self._clear_half_hours(hub, t_ms),
            EVENTS: self._clear_events(hub, t_ms),
            RECEIPTS: self._clear_receipts(hub, t_ms),
        }
        self._count(gone)
        self._db.commit()
        return sum(gone.values())

    def _count(self, gone: dict[str, int]) -> None:
        sql = "UPDATE cleared SET rows_gone = rows_gone + ? WHERE what = ?"
        self._db.executemany(sql, [(rows, kind) for kind, rows in gone.items() if rows])

    def _clear_packs(self, hub: str, t_ms: int) -> int:
        before_ms = self._goes_before_ms(PACKS, t_ms)
        if not before_ms:
            return 0
        for table in ("uncolumned", "column_written"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE hub = ? LIMIT 1", (hub,)).fetchone() is not None:
                return 0
        return self._book.clear(hub, PACK_LANES, before_ms, _MOST_ROWS)

    def _clear_events(self, hub: str, t_ms: int) -> int:
        """By their numbers, which have a time of ours: a hub's own clock may have been wrong."""
        before_ms = self._goes_before_ms(EVENTS, t_ms)
        if not before_ms:
            return 0
        gone = self._book.clear(hub, ("events",), before_ms, _MOST_ROWS)
        gone += self._db.execute(
            "DELETE FROM event WHERE hub = ? AND n <= (SELECT max(m.n) FROM number_mark m WHERE m.hub = event.hub"
            " AND m.epoch = event.epoch AND m.lane = 'events' AND m.t_ms < ?) AND NOT EXISTS (SELECT 1 FROM message x"
            " WHERE x.hub = event.hub AND x.epoch = event.epoch AND x.lane = 'events' AND x.n = event.n)",
            (hub, before_ms),
        ).rowcount
        return gone

    def _clear_receipts(self, hub: str, t_ms: int) -> int:
        before_ms = self._goes_before_ms(RECEIPTS, t_ms)
        if not before_ms:
            return 0
        gone = self._book.clear(hub, ("receipts",), before_ms, _MOST_ROWS)
        # The chain is judged link by link, so it goes from its beginning on.
        first = self._db.execute(
            "SELECT epoch, min(i) FROM receipt WHERE hub = ? AND heard_ms < ? GROUP BY epoch", (hub, before_ms)
        ).fetchall()
        for epoch, i in first:
            sql = "DELETE FROM receipt WHERE hub = ? AND epoch = ? AND i BETWEEN ? AND ? AND heard_ms < ?"
            gone += self._db.execute(sql, (hub, epoch, i, i + _MOST_ROWS - 1, before_ms)).rowcount
        return gone

    def _clear_readings(self, hub: str, t_ms: int) -> int:
        before_ms = self._goes_before_ms(READINGS, t_ms)
        if not before_ms:
            return 0
        series = self._db.execute(
            "SELECT id FROM series s WHERE hub = ? AND NOT EXISTS (SELECT 1 FROM unsettled u WHERE u.series = s.id)"
            " ORDER BY id", (hub,),
        ).fetchall()  # fmt: skip
        gone = 0
        for (number,) in series:
            went = self._delete_some("reading", "series = ? AND t_ms < ?", (number, before_ms), "t_ms")
            if went:
                self._db.execute("UPDATE series SET readings = readings - ? WHERE id = ?", (went, number))
            gone += went
            if gone >= _MOST_ROWS:
                break
        return gone

    def _clear_half_hours(self, hub: str, t_ms: int) -> int:
        """All versions of one go together."""
        before_ms = self._goes_before_ms(HALF_HOURS, t_ms)
        if not before_ms:
            return 0
        gone = self._db.execute("DELETE FROM exchange WHERE hub = ? AND t_ms < ?", (hub, before_ms)).rowcount
        for (number,) in self._db.execute("SELECT id FROM series WHERE hub = ? ORDER BY id", (hub,)).fetchall():
            values = (number, before_ms // 1000)
            gone += self._delete_some("interval", "series = ? AND start_s < ?", values, "start_s")
            if gone >= _MOST_ROWS:
                break
        return gone

    def _delete_some(self, table: str, where: str, values: Sequence[Any], column: str) -> int:
        """The first rows in the order of this column, by a statement that both engines have."""
        sql = f"SELECT {column} FROM {table} WHERE {where} ORDER BY {column} LIMIT 1 OFFSET ?"
        last = self._db.execute(sql, (*values, _MOST_ROWS - 1)).fetchone()
        if last is None:
            return self._db.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount
        return self._db.execute(f"DELETE FROM {table} WHERE {where} AND {column} <= ?", (*values, last[0])).rowcount

    def _clear_of_all(self, t_ms: int) -> int:
        """What is no hub's own: a piece of it."""
        self._db.begin()
        gone = {AUDIT: self._clear_audit(t_ms), ORDERS: self._clear_orders(t_ms)}
        self._count(gone)
        self._db.commit()
        return sum(gone.values())

    def _clear_audit(self, t_ms: int) -> int:
        before_ms = self._goes_before_ms(AUDIT, t_ms)
        rows = self._db.execute("SELECT id, t_ms FROM audit ORDER BY id LIMIT ?", (_MOST_ROWS,)).fetchall()
        old = [(number,) for number, its_ms in rows if its_ms < before_ms]
        self._db.executemany("DELETE FROM audit WHERE id = ?", old)
        return len(old)

    def _clear_orders(self, t_ms: int) -> int:
        """Roll-outs first: who looks at one looks at its orders."""
        before_ms = self._goes_before_ms(ORDERS, t_ms)
        if not before_ms:
            return 0
        rollout = self._db.execute(
            "SELECT id FROM rollout WHERE made_ms < ? AND state NOT IN (?, ?, ?) ORDER BY made_ms LIMIT 1",
            (before_ms, WAITING, RUNNING, PAUSED),
        ).fetchone()
        if rollout is not None:
            gone = self._delete_some("rollout_hub", "rollout_id = ?", rollout, "hub")
            return gone or self._db.execute("DELETE FROM rollout WHERE id = ?", rollout).rowcount
        order = self._db.execute(
            "SELECT id FROM grid_order o WHERE made_ms < ? AND exp_s < ? AND NOT EXISTS (SELECT 1 FROM rollout_hub r"
            " WHERE r.order_id = o.id) AND NOT EXISTS (SELECT 1 FROM order_hub h WHERE h.order_id = o.id"
            " AND h.status = ?) ORDER BY made_ms LIMIT 1", (before_ms, t_ms // 1000, SENT),
        ).fetchone()  # fmt: skip
        if order is None:
            sql = "DELETE FROM openadr_event WHERE made_ms < ? AND id NOT IN (SELECT event_id FROM openadr_order)"
            return self._db.execute(sql, (before_ms,)).rowcount
        gone = self._delete_some("order_hub", "order_id = ?", order, "hub")
        if gone:
            return gone
        for table in ("order_message", "openadr_order"):
            self._db.execute(f"DELETE FROM {table} WHERE order_id = ?", order)
        return self._db.execute("DELETE FROM grid_order WHERE id = ?", order).rowcount


class Clearer(Background):
    """The thread. `counts`: told of transactions that could not be written (`clearing_failures`)."""

    def __init__(self, place: Path | str, keep: KeepPeriods, idle_s: float = 60.0) -> None:
        super().__init__("clearing")
        self._place, self._keep, self._idle_s = place, keep, idle_s
        self.counts = {"clearing_failures": 0}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with closing(Book(book_in(self._place))) as book:
                    try:
                        self._walk(Clearing(book, self._keep))
                    except FAILURES:
                        book.undo()
                        raise
            except FAILURES as error:
                self.counts["clearing_failures"] += 1
                _LOG.error("what is old is not cleared: %s", why(error))
                self._stopping.wait(_FAILED_S)

    def _walk(self, clearing: Clearing) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            is_more = clearing.step(int(time.time() * 1000))
            rest_s = max(_LEAST_REST_S, _REST * (time.monotonic() - began))
            self._stopping.wait(rest_s if is_more else self._idle_s)


def cleared(db: BookReader) -> dict[str, ClearedKind]:
    """What went, by kind."""
    rows = db.execute("SELECT what, rows_gone, before_ms FROM cleared ORDER BY what").fetchall()
    return {what: ClearedKind(rows_gone, before_ms) for what, rows_gone, before_ms in rows}


def last_walk_ms(db: BookReader) -> int:
    """When all hubs were last gone through (UTC epoch milliseconds); 0: not yet."""
    row = db.execute("SELECT ended_ms FROM clearing_walk WHERE id = 1").fetchone()
    return int(row[0]) if row else 0
