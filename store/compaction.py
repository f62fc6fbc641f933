"""Rewriting old rows of the log: many rows become one dense row; and, when there is no space, dense rows are thinned.

Only rows from which nothing is sealed yet, and whose duplicate window is over, are touched; both happen a slice at a
time, in one transaction each, so a power cut finds the rows before or the rows after. The new row takes the place (seq)
of the first it replaces, so positions and their order stay what they were.

Where each of these stages has come to is kept as marks. Losing one costs another look at rows that are done: merging
and thinning again what is merged and thinned changes nothing.
"""

from typing import NamedTuple

from store.columns import UNTHINNED, Point, Thinned, encode_dense
from store.downsampling import RESOLUTIONS_S, thin
from store.last_seen import last_marks
from store.log_owner import LogOwner
from store.logbody import decode_points
from store.space import DUP_WINDOW_PRESSED_S, DUP_WINDOW_S

# A slice is what one transaction rewrites: few enough samples that adapters do not notice, enough for a row that
# compresses well and for a grid that is coarser than the row.
_MERGE_SAMPLES, _MERGE_ROWS, _MERGE_ROWS_PRESSED = 2048, 512, 64
_THIN_SAMPLES = 4096

COMPACT_MARK = "compact_seq"


def thin_mark(resolution_s: int) -> str:
    """The mark that says how far rows are on this grid."""
    return f"thin_{resolution_s}_seq"


class Slice(NamedTuple):
    """Neighbouring rows of one boot."""

    boot: int
    mono_ms: int  # of the newest
    first_seq: int
    last_seq: int
    rows: int
    points: list[Point]
    thinned: Thinned
    last_seen: dict[str, int]  # as marks


class Compaction:
    """Belongs to the engine and its thread."""

    def __init__(self, engine: LogOwner) -> None:
        self._engine = engine
        # stage -> rows before this seq have passed it; a later stage is never ahead of the one before.
        self.marks = {name: engine.marks.get(name, 0) for name in [COMPACT_MARK, *map(thin_mark, RESOLUTIONS_S)]}
        self.thinned_samples = engine.marks.get("thinned_samples", 0)

    @property
    def upto(self) -> int:
        """Rows before this seq are merged."""
        return self.marks[COMPACT_MARK]

    def compact(self, *, pressed: bool = False) -> bool:
        """Merge one slice of rows; False when there are not enough yet to be worth it (`pressed`: fewer)."""
        engine = self._engine
        window_s = DUP_WINDOW_PRESSED_S if pressed else DUP_WINDOW_S
        start, stop = self._start(COMPACT_MARK), engine.window.floor(engine.now_ms(), window_s)[0]
        rows, samples = engine.db.one("log_span_size", (start, stop)) or (0, 0)
        if rows < (_MERGE_ROWS_PRESSED if pressed else _MERGE_ROWS) and (samples < _MERGE_SAMPLES or rows < 2):
            return False
        found = self._slice(start, stop, _MERGE_SAMPLES)
        if found is None:
            return False
        self._rewrite(found, found.points, found.thinned, COMPACT_MARK)
        return True

    def thin(self, resolution_s: int) -> bool:
        """Thin one slice on this grid; False when all has been."""
        engine, name = self._engine, thin_mark(resolution_s)
        before = dict(zip(RESOLUTIONS_S, [COMPACT_MARK, *map(thin_mark, RESOLUTIONS_S)]))[resolution_s]
        found = self._slice(self._start(name), self.marks[before], _THIN_SAMPLES)
        if found is None:
            return False
        offset_ms = engine.boots.get(found.boot, (0, False))[0]
        points, thinned = thin(found.points, found.thinned, resolution_s, offset_ms, self._series_of)
        if len(points) < len(found.points):
            self._rewrite(found, points, thinned, name)
        else:
            self.marks[name] = found.last_seq + 1  # durable with the next mark; looking again costs nothing but time
        return True

    def _series_of(self, number: int) -> tuple[str, str] | int:
        key = self._engine.names.series_by_id.get(number)
        return key[:2] if key is not None else number

    def _start(self, name: str) -> int:
        """The first row that this stage may touch: a pack may end inside the row at the position."""
        seq, index = self._engine.position
        return max(self.marks[name], seq + (1 if index else 0))

    def _slice(self, start: int, stop: int, most_samples: int) -> Slice | None:
        """Rows from `start` on, below `stop`, of one boot, of about so many samples; None when there are none."""
        taken: list[tuple[int, int]] = []
        points: list[Point] = []
        bodies: list[bytes] = []
        boot, resolution_s, dropped = 0, 0, dict[int, int]()
        cursor = self._engine.db.run("log_span", (start, stop))
        for seq, row_boot, mono_ms, _, body in cursor:
            if taken and (row_boot != boot or len(points) >= most_samples):
                break
            boot = row_boot
            found, gone = decode_points(mono_ms, body)
            taken.append((seq, mono_ms))
            bodies.append(body)
            points += found
            resolution_s = max(resolution_s, gone.resolution_s)
            for series, count in gone.dropped.items():
                dropped[series] = dropped.get(series, 0) + count
        cursor.close()
        if not taken:
            return None
        thinned = Thinned(resolution_s, dropped) if dropped else UNTHINNED
        last_seen = last_marks(self._engine.names, bodies)
        return Slice(boot, taken[-1][1], taken[0][0], taken[-1][0], len(taken), points, thinned, last_seen)

    def _rewrite(self, old: Slice, points: list[Point], thinned: Thinned, stage: str) -> None:
        engine, gone = self._engine, len(old.points) - len(points)
        body = encode_dense(old.mono_ms, points, thinned)
        marks = {**self.marks, stage: old.last_seq + 1, "thinned_samples": self.thinned_samples + gone}
        with engine.transaction():
            # Dropped first: on a full file system the new row lives on the pages of the old ones.
            engine.db.run("log_drop_span", (old.first_seq, old.last_seq))
            if points:
                engine.db.run("log_add", (old.first_seq, old.boot, old.mono_ms, len(points), body, None))
            engine.write_marks({**marks, **old.last_seen, "pruned_samples": engine.pruned_samples + gone})
        self.marks = {name: marks[name] for name in self.marks}
        self.thinned_samples += gone
        engine.note_rewritten(gone)
        engine.db.note_written(len(body), 8)
