"""Files that a power cut leaves whole: the old one or the new one, never a part of either.

The store has its own (store/epoch_file.py): drivers and store never meet.
"""

import os
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file, durably: its bytes first, then its name. Blocks for two flash writes: for a thread. `mode`: its
    permissions, whatever the umask says. Raises OSError; then the old file is as it was."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def write_whole(descriptor: int, data: bytes) -> None:
    """All of it, however little of it a write takes. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
