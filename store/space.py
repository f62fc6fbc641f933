"""Decisions about space: what each part may take, what is pruned next, when the log may forget. No I/O, no clock."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1024 * 1024

# A retransmission comes within a minute (T_retry x N_retry); ten minutes leave room for an adapter that lost its radio.
DUP_WINDOW_S = 600
# When there is no space, what a client can still be retransmitting is kept, and no more.
DUP_WINDOW_PRESSED_S = 90
PRUNE_ROWS = 512
PRUNE_BYTES = 256 * 1024
_ENTRY_EVERY_MS = 10_000


@dataclass(frozen=True)
class SpaceBudget:
    """How `store.max_mb` is shared out. `bulk_pages`: readings and forwards stop there; `hard_pages`: all stops."""

    max_bytes: int
    wal_bytes: int
    ballast_bytes: int
    hard_pages: int
    bulk_pages: int
    slice_pages: int  # how much one pruning frees at least, so that it is not done for each commit


def make_budget(max_mb: float, page_size: int) -> SpaceBudget:
    """Share out `max_mb`: a WAL (twice its bound: a large transaction may pass it), a ballast, a reserve of 5 % and at
    least 256 KiB for events, receipts and sealing, and the rest for readings."""
    max_bytes = int(max_mb * MIB)
    wal_bytes = min(MIB, max_bytes // 16)
    ballast_bytes = min(MIB // 4, max_bytes // 16)
    hard = max_bytes - 2 * wal_bytes - ballast_bytes
    reserve = max(max_bytes // 20, MIB // 4)
    return SpaceBudget(
        max_bytes=max_bytes,
        wal_bytes=wal_bytes,
        ballast_bytes=ballast_bytes,
        hard_pages=hard // page_size,
        bulk_pages=max(hard - reserve, hard // 4) // page_size,
        slice_pages=max(8, max_bytes // 128 // page_size),
    )


def choose_lane(heads: Mapping[str, int | None]) -> str | None:
    """Which lane gives up its oldest delivered message: the oldest of all. `heads`: lane -> t_ms, None = nothing."""
    candidates = [(t_ms, lane) for lane, t_ms in heads.items() if t_ms is not None]
    return min(candidates)[1] if candidates else None


class DupWindow:
    """Since when which row is in the log, coarsely: what pruning needs to keep the window of duplicates."""

    def __init__(self, opened_ms: int, next_seq: int) -> None:
        # Rows of earlier boots count as of the opening: how long the hub was off is not known for certain.
        self._entries: deque[tuple[int, int, int]] = deque([(opened_ms, next_seq, 0)])
        self._bytes = 0

    def note(self, now_ms: int, seq: int, size: int) -> bool:
        """A row was committed. True every ten seconds or so: the moment to look whether pruning pays."""
        self._bytes += size
        if now_ms - self._entries[-1][0] < _ENTRY_EVERY_MS:
            return False
        self._entries.append((now_ms, seq + 1, self._bytes))
        # While the uplink is down for days nothing is pruned: one entry is enough for all that is older.
        while len(self._entries) > 1 and self._entries[1][0] <= now_ms - DUP_WINDOW_S * 1000:
            self._entries.popleft()
        return True

    def floor(self, now_ms: int, window_s: float) -> tuple[int, int]:
        """`(seq, bytes)`: rows before seq are older than the window, and about how many bytes of this boot they are."""
        limit_ms = now_ms - int(window_s * 1000)
        best = (0, 0)
        for entry_ms, seq, size in self._entries:
            if entry_ms > limit_ms:
                break
            best = (seq, size)
        return best

    def pruned(self, seq: int) -> None:
        """Rows before seq are gone."""
        while len(self._entries) > 1 and self._entries[1][1] <= seq:
            self._entries.popleft()
        gone = self._entries[0][2] if self._entries[0][1] <= seq else 0
        self._entries = deque((ms, first, size - gone) for ms, first, size in self._entries)
        self._bytes -= gone


def log_pruning_pays(rows: int, size: int) -> bool:
    """Whether deleting so many rows is worth the handful of pages that a deletion writes."""
    return rows >= PRUNE_ROWS or (rows > 0 and size >= PRUNE_BYTES)
