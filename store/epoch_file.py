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
# Marks of a database: an epoch that was begun without a memory of the one before, in which nothing was sent yet (else
# 0); the same where nothing says that there ever was another database.
EPOCH_NEW, EPOCH_FIRST = "epoch_new", "epoch_first"
MAX_EPOCH = (1 << 32) - 1  # what the ids of messages (store/outbox.py) have room for
# Epochs below are UTC seconds (until 2072), from here on random ones of hubs that knew neither time nor past.
FIRST_RANDOM = 3 << 30
_RANDOM_BITS = 29
# The broker's word is not signed: what it makes a hub believe leaves room for epochs to come.
MAX_TOLD = MAX_EPOCH - (1 << 28)
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
    does not begin twice with the same (design 3.3). What the broker knows of the hub may move it: `settled_epoch`.
    """
    if utc_s is not None:
        return min(int(utc_s), FIRST_RANDOM - 1)
    return FIRST_RANDOM + secrets.randbits(_RANDOM_BITS)


def next_epoch(note: EpochNote | None, known: int | None, first: int) -> int:
    """The epoch of a database that has to start over. `known`: the highest epoch its predecessor still shows; `first`:
    what a hub that remembers none would begin with."""
    last = max(note.epoch if note else 0, known or 0)
    return max(last + 1, first if first < FIRST_RANDOM else 0) if last else first


def settled_epoch(
    epoch: int, boot: int, told: tuple[int, int] | None, *, is_first: bool, utc_s: float | None
) -> tuple[int, bool]:
    """Where to number on, and whether there was a database that is lost, once the broker was asked what it knows of a
    hub that has numbered in no epoch yet but did not remember the one before.

    `told`: epoch and boot of the hub's own retained `state`, None where there is none or it is not to be had.
    `is_first`: nothing says that there ever was a database. `utc_s`: of a trusted clock, which may be one only now.
    """
    last, last_boot = told or (0, 0)
    if not 0 < last <= MAX_TOLD or (last == epoch and last_boot < boot):  # the latter this database's own, its will
        last = 0
    is_lost = last > 0 and (is_first or last >= epoch)
    if is_first and epoch >= FIRST_RANDOM and (last or utc_s is not None):
        return max(last + 1 if last else 0, first_epoch(utc_s) if utc_s is not None else 0), is_lost
    return (last + 1 if last >= epoch else epoch), is_lost
