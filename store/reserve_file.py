"""A file that is there to be removed: with its blocks, pruning can commit although the file system is full.

The WAL keeps its size once it has grown, so most commits need no new block; but after a clean start there is none yet,
and others can fill the file system before it has grown again.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

FILE_NAME = "ballast"
_RETRY_S = 60.0


class Ballast:
    """Belongs to the writer thread."""

    def __init__(self, data_dir: Path, size_bytes: int) -> None:
        self._path = data_dir / FILE_NAME
        self._size_bytes = size_bytes
        self._next_try_s = 0.0
        self._is_there = False

    def keep(self) -> bool:
        """Allocate it unless it is there, and say whether it is; without space that is tried again a minute later."""
        now_s = time.monotonic()
        if self._is_there or now_s < self._next_try_s:
            return self._is_there
        self._next_try_s = now_s + _RETRY_S
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
                self._is_there = True
            finally:
                os.close(descriptor)
        return self._is_there

    def fits(self) -> bool:
        """Whether the file system has room for it, and as much again."""
        try:
            state = os.statvfs(self._path.parent)
        except OSError:
            return False
        return state.f_bavail * state.f_frsize >= 2 * self._size_bytes

    def drop(self) -> None:
        """Give its blocks back."""
        with suppress(OSError):
            self._path.unlink()
        self._is_there = False
        self._next_try_s = time.monotonic() + _RETRY_S
