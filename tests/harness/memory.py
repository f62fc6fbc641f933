"""Where tests put their files: in memory where there is some.

A store syncs with each commit, and a test machine has one disk for everybody: hundreds of stores on it measure that.
What a sync is good for is shown by tests/powercut, what it costs by tests/bench/wear.py.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 256 << 20


def scratch() -> Path | None:
    """A folder in memory; None (the usual temporary directory) where there is none, or little."""
    try:
        state = os.statvfs(_MEMORY)
    except OSError:
        return None
    return _MEMORY if os.access(_MEMORY, os.W_OK) and state.f_bavail * state.f_frsize >= _ENOUGH_BYTES else None


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix="meterhub-test-", dir=scratch()))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
