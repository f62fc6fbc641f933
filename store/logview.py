"""What it takes to read the log: its names, the clocks of its boots, how far it is sealed. The hub's engine builds on
this, and so does the offline view of a stopped hub."""

from typing import TYPE_CHECKING

from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED
from store.database import Database
from store.errors import StoreCorrupt
from store.logbody import LogRow, Names, decode_row
from store.outbox import load_marks

if TYPE_CHECKING:
    from hub.wire.admin import LaneFigures


def note_unsealed(readings: "LaneFigures", view: "LogView", utc_ms: int) -> None:
    """Add to the status of lane readings what waits to be sealed: how many, and how old the oldest of all is."""
    readings["unsealed"] = view.unsealed
    oldest_ms = view.oldest_unsealed_ms()
    if oldest_ms is not None:
        readings["oldest_s"] = max(readings["oldest_s"], (utc_ms - oldest_ms) / 1000)


class LogView:
    """A database's log as it was when opened. Raises sqlite3 errors and StoreCorrupt."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.rewrites = 0  # how often rows were merged, thinned or pruned: who reads in slices must begin again
        try:
            self._load(db)
        except (TypeError, ValueError) as error:
            raise StoreCorrupt(f"a column holds what it cannot: {error}") from None

    def _load(self, db: Database) -> None:
        self.epoch, self.boot = (int(value) for value in db.one("hub_get") or (1, 0))
        self.marks = load_marks(db)
        first, last = db.one("log_ends") or (None, None)
        self.first_seq: int = first or self.marks.get("next_seq", 1)
        self.position = self._load_position()
        # Never at or below what is sealed, even if a damaged database lost rows in between: they would pass for sealed.
        beyond_sealed = self.position[0] + (1 if self.position[1] else 0)
        self._next_seq: int = max((last or 0) + 1, self.marks.get("next_seq", 1), beyond_sealed)
        self.boots: dict[int, tuple[int, bool]] = {b: (o, bool(t)) for b, o, t in db.run("boots_all")}
        self.log_is_empty = first is None
        self.names = Names([], []) if first is None else Names(db.run("series_all"), db.run("client_all"))
        self.unsealed: int = self.count_samples(self.position[0]) - self.position[1]

    def _load_position(self) -> tuple[int, int]:
        newest = self.db.one("pack_position") or (0, 0)
        if type(newest[0]) is not int or type(newest[1]) is not int:
            raise StoreCorrupt("a pack does not say how far into the log it goes")
        marked = (self.marks.get("sealed_seq", 0), self.marks.get("sealed_index", 0))
        return max(marked, (newest[0], newest[1]), (self.first_seq, 0))

    def count_samples(self, seq: int) -> int:
        """Samples in rows from `seq` on."""
        return int((self.db.one("log_count", (seq,)) or (0,))[0])

    def oldest_unsealed_ms(self) -> int | None:
        """When the oldest row that waits to be sealed was taken, in UTC epoch milliseconds; None where none does."""
        row = self.db.one("log_sampled_from", (self.position[0],)) if self.unsealed > 0 else None
        if row is None:
            return None
        offset_ms, _ = self.boots.get(row[0]) or self.boots.get(self.boot, (0, False))
        return int(row[1]) + offset_ms

    def row_readings(self, boot: int, mono_ms: int, body: bytes) -> LogRow:
        """A row of the log as readings, on the clock of its boot."""
        offset_ms, trusted = self.boots.get(boot) or (self.boots.get(self.boot, (0, False))[0], False)
        return decode_row(self.names, mono_ms, body, offset_ms, 0 if trusted else CLOCK_UNSYNCHRONISED)
