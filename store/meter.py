"""How many bytes the hub made the kernel write to storage: the honest figure for wear.

Linux counts the pages that a process dirties (`/proc/self/io`, write_bytes), so checkpoints, merging, salvage and the
two blocks that one WAL frame can fall on are all in it, whichever thread committed, and what the radio keeps as well.
Where the kernel does not count, an estimate of two blocks a commit and the body twice (WAL and checkpoint) stands in.
"""

from pathlib import Path

BLOCK_BYTES = 4096
_IO = Path("/proc/self/io")


class WriteMeter:
    """Bytes written by this process since then."""

    def __init__(self) -> None:
        self._estimate = 0
        self._last = 0
        start = self._read()
        self._start = 0 if start is None else start
        self.source = "estimate" if start is None else "proc"

    def _read(self) -> int | None:
        try:
            for line in _IO.read_text().splitlines():
                name, _, value = line.partition(": ")
                if name == "write_bytes":
                    return int(value)
        except (OSError, ValueError):
            pass
        return None

    def note(self, body_bytes: int) -> None:
        """A commit of so many bytes was made."""
        self._estimate += 2 * BLOCK_BYTES + 2 * body_bytes

    def total(self) -> int:
        """Bytes so far, from any thread."""
        if self.source == "estimate":
            return self._estimate
        now = self._read()
        if now is not None:
            self._last = now - self._start
        return self._last
