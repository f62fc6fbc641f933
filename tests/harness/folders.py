"""Folders that are gone when the process that asked for them ends, whatever it forgot to tidy."""

import atexit
import shutil
import tempfile
from pathlib import Path

# A Unix socket's path has room for 107 bytes, and pytest's own folders are long.
SHORT = Path("/tmp")


def folder_until_exit(prefix: str, place: Path | None = SHORT) -> Path:
    """A new folder under `place` (None: the usual temporary directory)."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
