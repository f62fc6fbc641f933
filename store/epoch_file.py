"""The side file `epoch`: which epoch was the last, and whether the database is open, should the database be lost.

One line, `epoch N open`, `epoch N closed` or `epoch N new`, replaced atomically. A number is never given twice: a
database that is missing, damaged, or older than this file (a restored copy) starts the next epoch. `open` says that a
WAL must be there; without it, acknowledged rows are gone and numbers may have been given that the database does not
know. `new`: the very first database is being made; that there is none yet is no loss.
"""

import os
import re
import secrets
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "epoch"
MAX_EPOCH = (1 << 32) - 1  # what the ids of messages (store/outbox.py) have room for
_LINE = re.compile(r"epoch (\d{1,10}) (open|closed|new)\n")


class EpochNote(NamedTuple):
    """What the side file says."""

    epoch: int
    is_open: bool
    is_new: bool = False


def read_note(data_dir: Path) -> EpochNote | None:
    """Read the side file; None when it is not there or not whole."""
    try:
        match = _LINE.fullmatch((data_dir / FILE_NAME).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None
    if match is None or int(match[1]) > MAX_EPOCH:
        return None
    return EpochNote(int(match[1]), match[2] == "open", match[2] == "new")


def write_note(data_dir: Path, note: EpochNote) -> None:
    """Replace the side file, durably. Raises OSError."""
    path, fresh = data_dir / FILE_NAME, data_dir / f"{FILE_NAME}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        word = "open" if note.is_open else "new" if note.is_new else "closed"
        file.write(f"epoch {note.epoch} {word}\n")
        file.flush()
        os.fsync(descriptor)
    os.replace(fresh, path)
    sync_folder(data_dir)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_epoch(utc_s: float | None) -> int:
    """The epoch of a hub that remembers none: one that cannot have been before, for the folder may have been lost.

    The UTC seconds of a trusted clock; without one a random number above any of those, so that a folder lost twice
    does not begin twice with the same (design 3.3).
    """
    if utc_s is not None:
        return min(int(utc_s), MAX_EPOCH // 2)
    return MAX_EPOCH // 2 + 1 + secrets.randbits(31) // 2


def next_epoch(note: EpochNote | None, known: int | None, first: int) -> int:
    """The epoch of a database that has to start over. `known`: the highest epoch its predecessor still shows; `first`:
    what a hub that remembers none would begin with."""
    last = max(note.epoch if note else 0, known or 0)
    return max(last + 1, first if first <= MAX_EPOCH // 2 else 0) if last else first
