"""What gives way when space runs out, and in which order (P3). Each act frees one slice, in one transaction.

    1  rows of the log that are sealed and whose duplicate window is over       nothing is lost
    2  old rows of the log, merged into dense ones (store/compaction.py)          nothing is lost
    3  messages that the control point has booked, oldest first                 history
    4  1 and 2 again with the shortest duplicate window                         what only a very late DUP would need
    5  delivered readings that nobody booked yet, oldest first                  told by a gap record (P1)
    6  raw forwards, oldest first                                               told by a gap record
    7  readings, oldest first, on a grid of a minute, of 15, of 30              told by a gap record (store/gaps.py)

Events and receipts that are not booked never give way (where the control point never books: that are not delivered),
nor does what is sealed and not delivered; after the seventh, adapters are told to wait.
"""

from collections.abc import Callable, Collection
from typing import Any

from store.compaction import Compaction
from store.downsampling import RESOLUTIONS_S
from store.last_seen import last_marks
from store.log_owner import LogOwner
from store.outbox import split_id, time_of
from store.queries import LANES
from store.space import DUP_WINDOW_PRESSED_S, DUP_WINDOW_S, choose_lane, log_pruning_pays

# What happened, and what the hub obeyed: custody of these ends in the book, however little room there is.
_NEVER_LOST = ("events", "receipts")
_PRUNE_ROWS_AT_ONCE = 2000
_PRUNE_MESSAGES_AT_ONCE = 64
_FORWARDS_AT_ONCE = 64
_UNBOOKED_AT_ONCE = 16
# What costs readings is done for about this commit and a few more, not for a whole slice of the budget.
_LOSS_PAGES = 8
# An adapter waits for the commit that asks; what more there is to thin is done at the next.
_LOSSES_AT_ONCE = 8


class Retention:
    """Belongs to the engine and its thread."""

    def __init__(self, engine: LogOwner) -> None:
        self._engine = engine
        self.compaction = Compaction(engine)
        self._look_at_log = True
        # What was given up: in all, and of that which is not told yet how much, since when and until when, and which.
        self.given_up = {name: engine.marks.get(name, 0) for name in (*_COUNTED, *_UNTOLD)}

    def look_at_log(self) -> None:
        """Something changed that may let the log forget or be merged."""
        self._look_at_log = True

    def tend(self) -> None:
        """Prune or merge one slice of the log if something changed since the last look."""
        if self._look_at_log:
            self._look_at_log = self.prune_log() or self.compaction.compact()

    def prune_log(self, *, pressed: bool = False) -> bool:
        """Forget rows that are sealed and older than the duplicate window, when there are enough to be worth it."""
        engine, floor = self._engine, self._log_floor(pressed)
        rows = floor[0] - engine.first_seq
        if not (log_pruning_pays(rows, floor[1]) or (pressed and rows > 0)):
            return False
        with engine.transaction():
            self.prune_rows(pressed=pressed)
        return True

    def _log_floor(self, pressed: bool) -> tuple[int, int]:
        engine, window_s = self._engine, DUP_WINDOW_PRESSED_S if pressed else DUP_WINDOW_S
        seq, size = engine.window.floor(engine.now_ms(), window_s)
        return min(seq, engine.position[0]), size

    def prune_rows(self, *, pressed: bool) -> None:
        """Forget a slice of rows (inside a transaction)."""
        engine = self._engine
        upto = min(self._log_floor(pressed)[0], engine.first_seq + _PRUNE_ROWS_AT_ONCE)
        if upto <= engine.first_seq:
            return
        pruned = engine.pruned_samples + int((engine.db.one("log_count_before", (upto,)) or (0,))[0])
        bodies = (row[4] for row in engine.db.run("log_span", (engine.first_seq, upto)))
        engine.write_marks({**last_marks(engine.names, bodies), "pruned_samples": pruned})
        engine.db.run("log_prune", (upto,))
        engine.db.note_written(0, 8)
        engine.first_seq, engine.pruned_samples = upto, pruned
        engine.rewrites += 1
        engine.window.pruned(upto)

    def make_room(self, goal_pages: int) -> bool:
        """Give way until fewer than `goal_pages` are used; whether that was reached."""
        db, slice_pages, losses = self._engine.db, self._engine.budget.slice_pages, _LOSSES_AT_ONCE
        for act in self._harmless():
            while db.used_pages() > goal_pages - slice_pages and act():
                pass
        for act in self._losses():
            while losses and db.used_pages() > goal_pages - _LOSS_PAGES and act():
                losses -= 1
        return db.used_pages() < goal_pages

    def _harmless(self) -> list[Callable[[], bool]]:
        return [
            self.prune_log,
            self.compaction.compact,
            lambda: self._prune_oldest(t_ms=1 << 62, booked_alone=LANES),
            lambda: self.prune_log(pressed=True),
            lambda: self.compaction.compact(pressed=True),
        ]

    def _losses(self) -> list[Callable[[], bool]]:
        def on_grid(resolution_s: int) -> Callable[[], bool]:
            return lambda: self.compaction.thin(resolution_s)

        return [self._give_up_unbooked, self._give_up_forwards, *map(on_grid, RESOLUTIONS_S)]

    def _prune_oldest(self, t_ms: int, *, booked_alone: Collection[str] = ()) -> bool:
        """Drop a slice of delivered messages. `booked_alone`: of these lanes only what the control point has in its
        book, where it ever said so."""
        engine = self._engine
        outbox = engine.outbox
        keeps_book = any(outbox.booked.values())
        upto = {
            lane: (outbox.booked if keeps_book and lane in booked_alone else outbox.delivered)[lane] for lane in LANES
        }
        heads: dict[str, int | None] = {}
        for lane in LANES:
            head = engine.db.one(f"sealed_head/{lane}", (upto[lane],))
            heads[lane] = head[1] if head is not None and time_of(head[1]) <= t_ms else None
        oldest = choose_lane(heads)
        if oldest is None:
            return False
        with engine.transaction():
            found = self._drop(oldest, upto[oldest], t_ms, _PRUNE_MESSAGES_AT_ONCE)
        engine.db.note_written(0, 4)
        return bool(found)

    def _drop(self, lane: str, upto: int, t_ms: int, limit: int) -> list[tuple[int, int]]:
        """Drop the oldest messages of a lane (inside a transaction): `(row, t_ms)` of each."""
        db = self._engine.db
        found: list[tuple[int, int]] = db.run(f"sealed_prune/{lane}", (upto, t_ms, limit)).fetchall()
        if lane == "readings":
            db.run("present_prune", db.one("sealed_next_id/readings", (0,)) or (0,))
        return found

    def prune_history(self, retention_ms: int) -> bool:
        """Drop one slice of delivered messages older than the retention; False when there is none. Only a trusted
        clock may decide that something is old."""
        engine = self._engine
        return engine.boots[engine.boot][1] and self._prune_oldest(engine.utc_ms() - retention_ms)

    def _give_up_forwards(self) -> bool:
        engine, now_ms = self._engine, self._engine.utc_ms()
        if engine.forwards.has_done and engine.drop_done_forwards():
            return True  # those are no loss
        if not engine.forwards.has_any():
            return False
        with engine.transaction():
            count = engine.forwards.give_up(_FORWARDS_AT_ONCE)
            after = self._with_lost("forwards", "forwards_dropped", count, now_ms, now_ms)
            engine.write_marks(after)
        engine.db.note_written(0, 8)
        self.given_up.update(after)
        return True

    def _with_lost(self, what: str, counted: str, count: int, from_ms: int, to_ms: int) -> dict[str, int]:
        """The marks when so many more have gone."""
        before, gap = self.given_up, f"gap_{what}"
        return {
            counted: before[counted] + count,
            gap: before[gap] + count,
            f"{gap}_from_ms": before[f"{gap}_from_ms"] or from_ms,
            f"{gap}_to_ms": to_ms,
        }

    def _give_up_unbooked(self) -> bool:
        """Packs that the broker acknowledged and nobody booked, where the control point keeps a book: most likely it
        has them, but a broker may forget, and what went is told (design, P1 and P3)."""
        engine, outbox = self._engine, self._engine.outbox
        booked, upto = outbox.booked["readings"], outbox.delivered["readings"]
        if not any(outbox.booked.values()) or engine.db.one("sealed_head/readings", (upto,)) is None:
            return False
        after: dict[str, int] = {}
        with engine.transaction():
            found = self._drop("readings", upto, 1 << 62, _UNBOOKED_AT_ONCE)
            lost = sorted(row for row in found if row[0] > booked)
            if lost:
                after = self._with_lost("packs", "packs_given_up", len(lost), lost[0][1], lost[-1][1])
                after["gap_packs_first"] = self.given_up["gap_packs_first"] or lost[0][0]
                after["gap_packs_last"] = lost[-1][0]
                engine.write_marks(after)
        engine.db.note_written(0, 8)
        self.given_up.update(after)
        return bool(found)

    def untold(self) -> list[dict[str, Any]]:
        """Fields of the gap records of forwards and of packs; none when there is nothing to tell."""
        lost = self.given_up
        ends = split_id(lost["gap_packs_first"]), split_id(lost["gap_packs_last"])
        more = {"forwards": {}, "packs": {"numbers": [*ends[0], *ends[1]]}}
        return [
            {
                "what": what,
                "from_ms": lost[f"gap_{what}_from_ms"],
                "to_ms": lost[f"gap_{what}_to_ms"],
                "dropped": lost[f"gap_{what}"],
                **fields,
            }
            for what, fields in more.items()
            if lost[f"gap_{what}"]
        ]

    def told(self) -> dict[str, int]:
        """The marks that say it is told (to be written in the transaction that seals the events)."""
        return dict.fromkeys(_UNTOLD, 0)


_COUNTED = ("forwards_dropped", "packs_given_up")
_UNTOLD = (
    "gap_forwards", "gap_forwards_from_ms", "gap_forwards_to_ms",
    "gap_packs", "gap_packs_first", "gap_packs_last", "gap_packs_from_ms", "gap_packs_to_ms",
)  # fmt: skip
