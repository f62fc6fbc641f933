"""What gives way when space runs out, and in which order (P3). Each act frees one slice, in one transaction.

    1  rows of the log that are sealed and whose duplicate window is over       nothing is lost
    2  old rows of the log, merged into dense ones (store/compaction.py)          nothing is lost
    3  messages that the control point has booked, oldest first                 history
    4  1 and 2 again with the shortest duplicate window                         what only a very late DUP would need
       delivered readings that nobody booked yet                                what a broker that forgot would need
    5  raw forwards, oldest first                                               told by a gap record
    6  readings, oldest first, on a grid of a minute, of 15, of 30              told by a gap record (store/gaps.py)

Events and receipts that are not booked never give way (where the control point never books: that are not delivered),
nor does what is sealed and not delivered; after the sixth, adapters are told to wait.
"""

from collections.abc import Callable, Collection
from typing import Any

from store.compaction import Compaction
from store.downsampling import RESOLUTIONS_S
from store.last_seen import last_marks
from store.log_owner import LogOwner
from store.outbox import time_of
from store.queries import LANES
from store.space import DUP_WINDOW_PRESSED_S, DUP_WINDOW_S, choose_lane, log_pruning_pays

# What happened, and what the hub obeyed: custody of these ends in the book, however little room there is.
_NEVER_LOST = ("events", "receipts")
_PRUNE_ROWS_AT_ONCE = 2000
_PRUNE_MESSAGES_AT_ONCE = 64
_FORWARDS_AT_ONCE = 64
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
        # Forwards given up: in all, and of those not told yet how many, since when and until when.
        self.forwards = {name: engine.marks.get(name, 0) for name in ("forwards_dropped", *_UNTOLD)}

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
            lambda: self._prune_oldest(t_ms=1 << 62, booked_alone=_NEVER_LOST),
        ]

    def _losses(self) -> list[Callable[[], bool]]:
        def on_grid(resolution_s: int) -> Callable[[], bool]:
            return lambda: self.compaction.thin(resolution_s)

        return [self._give_up_forwards, *map(on_grid, RESOLUTIONS_S)]

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
            found = engine.db.run(f"sealed_prune/{oldest}", (upto[oldest], t_ms, _PRUNE_MESSAGES_AT_ONCE))
            if oldest == "readings":
                engine.db.run("present_prune", engine.db.one("sealed_next_id/readings", (0,)) or (0,))
        engine.db.note_written(0, 4)
        return found.rowcount > 0

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
            before = self.forwards
            after = {name: before[name] + count for name in ("forwards_dropped", "gap_forwards")}
            after["gap_forwards_from_ms"] = before["gap_forwards_from_ms"] or now_ms
            after["gap_forwards_to_ms"] = now_ms
            engine.write_marks(after)
        engine.db.note_written(0, 8)
        self.forwards = after
        return True

    def untold(self) -> dict[str, Any] | None:
        """Fields of the gap record of forwards; None when there is nothing to tell."""
        if not self.forwards["gap_forwards"]:
            return None
        count, from_ms, to_ms = (self.forwards[name] for name in _UNTOLD)
        return {"what": "forwards", "from_ms": from_ms, "to_ms": to_ms, "dropped": count}

    def told(self) -> dict[str, int]:
        """The marks that say it is told (to be written in the transaction that seals the event)."""
        return dict.fromkeys(_UNTOLD, 0)


_UNTOLD = ("gap_forwards", "gap_forwards_from_ms", "gap_forwards_to_ms")
