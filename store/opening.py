"""Opening the database of a data_dir, whatever state it is in, and starting a new epoch where numbering must restart.

                      hub.db           side file       then
    first start       missing          missing         an epoch of the time, or random; moved once the broker was asked
    database lost     missing          epoch N         new database, epoch N+1
    sound             epoch N          epoch N         go on
    restored copy     epoch M < N      epoch N         go on in epoch N+1
    WAL lost          sound            open, no WAL    go on in the next epoch, an event says so
    damaged           does not open, fails its check, is of a newer schema: set aside, salvaged, next epoch, an event

A new database is built as `hub.db.new` and renamed when it is whole, so a power cut in between starts this over.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.wire.uplink.pack_form import PackForm
from store.control import write_loss
from store.database import Database, check_header
from store.engine import Engine
from store.epoch_file import (
    EPOCH_FIRST,
    EPOCH_NEW,
    EpochNote,
    first_epoch,
    next_epoch,
    read_note,
    sync_folder,
    write_note,
)
from store.errors import StoreCorrupt, StoreError, StoreUnwritable, translate
from store.migrate import create_in_child
from store.outbox import SealFunction
from store.salvage import Salvaged, highest_epoch, open_damaged, salvage
from store.space import SpaceBudget
from store.walcheck import WalHeader, commits_beyond, read_header

DB_NAME = "hub.db"
# A full check reads the whole file: worth it while that takes about a second on the hub's flash; beyond that what every
# commit and every restart depends on is checked, and damage in old packs is found when they are read.
_FULL_CHECK_BYTES = 32 * 1024 * 1024
_ESSENTIAL_TABLES = ("hub", "boots", "log", "series", "client", "mark", "session", "sealed_events", "sealed_receipts")


@dataclass
class StorePlace:
    """Where the database is and what opening it needs."""

    data_dir: Path
    seal: SealFunction
    budget: SpaceBudget
    now_ms: Callable[[], int]
    utc_ms: Callable[[], int]
    pack_form: PackForm = field(default_factory=PackForm)
    trusted_utc_s: Callable[[], float | None] = lambda: None
    untold: list[dict[str, Any]] = field(default_factory=list)  # fields of store.salvaged events, this opening's

    def first_epoch(self) -> int:
        """What a hub begins with that remembers no epoch."""
        return first_epoch(self.trusted_utc_s())

    @property
    def db_path(self) -> Path:
        return self.data_dir / DB_NAME

    @property
    def wal_path(self) -> Path:
        return self.data_dir / f"{DB_NAME}-wal"

    def connect(self, path: Path) -> Database:
        """Open a connection. Raises StoreError of a kind."""
        try:
            return Database(path, wal_bytes=self.budget.wal_bytes, max_pages=self.budget.hard_pages)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error) from error


def check_folder(data_dir: Path) -> None:
    """Raise StoreError, one clear line, when data_dir cannot be used: the operator's matter, not the hub's."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise StoreError(f"data_dir {data_dir} cannot be created: {error.strerror}") from None
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"data_dir {data_dir} is not writable")


def open_engine(place: StorePlace) -> Engine:
    """Open what is there, or start anew. Raises StoreBusy, StoreUnwritable, or StoreError for what only a
    human can cure."""
    _finish_renames(place)
    try:
        if not place.db_path.exists():
            note = read_note(place.data_dir)
            evidence = note is not None or any(place.data_dir.glob(f"{DB_NAME}.corrupt-*"))
            if evidence and not (note is not None and note.is_new):
                place.untold.append({"reason": "the database is lost", "kept": {}, "set_aside": ""})
            _build(place, next_epoch(note, None, place.first_epoch()), was_one=evidence)
        # What was salvaged could be damage that a salvage takes for sound: rather than stand still, the hub then goes
        # on without it.
        for salvaging in (True, False):
            try:
                return _open_sound(place)
            except StoreCorrupt as fault:
                set_aside(place, str(fault), salvaging=salvaging)
        return _open_sound(place)
    except (sqlite3.Error, OSError) as error:
        raise translate(error) from error


def _open_sound(place: StorePlace) -> Engine:
    note = read_note(place.data_dir)
    header = read_header(place.wal_path)
    was_unclean = place.wal_path.exists() or (note is not None and note.is_open)
    check_header(place.db_path)
    db = place.connect(place.db_path)
    try:
        db.identify()
        if (wrong := db.one("wrong_cell")) is not None:
            raise StoreCorrupt(f"a cell of table {wrong[0]} holds what it cannot")
        lost = _lost_wal(place, db, header, note)
        if was_unclean:
            is_small = place.db_path.stat().st_size <= _FULL_CHECK_BYTES
            db.check(() if is_small or lost else _ESSENTIAL_TABLES)
        engine = _start_engine(place, db, note, lost)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            raise translate(error) from error
        raise
    _write_note(place, EpochNote(engine.epoch, True))
    return engine


def _lost_wal(place: StorePlace, db: Database, header: WalHeader | None, note: EpochNote | None) -> str:
    """Why acknowledged transactions must be missing; "" when nothing says so."""
    if header is None:
        return "the WAL is lost" if note is not None and note.is_open else ""
    try:
        sound_frames = db.wal_frames()
    except sqlite3.Error as error:
        if isinstance(translate(error), StoreUnwritable):
            return ""  # counting checkpoints, which needs space; the hub must start without, too
        raise
    return "the WAL is damaged" if commits_beyond(place.wal_path, header, sound_frames) > 1 else ""


def _start_engine(place: StorePlace, db: Database, note: EpochNote | None, lost: str) -> Engine:
    epoch, boot = db.one("hub_get") or (0, 0)
    if not epoch:
        raise StoreCorrupt("the database has no epoch")
    if lost or (note is not None and note.epoch > epoch):
        fresh = next_epoch(note, epoch, place.first_epoch())
        _write_note(place, EpochNote(fresh, True))
        place.untold.append(
            {"reason": lost or "the database is older than its last epoch", "kept": {}, "set_aside": ""}
        )
        with db.transaction():
            db.run("hub_put", (fresh, boot))
            write_loss(db, place.untold)
    now_ms, utc_ms = place.now_ms(), place.utc_ms()
    return Engine(db, place.seal, place.budget, place.now_ms, utc_ms - now_ms, pack_form=lambda: place.pack_form)


def _write_note(place: StorePlace, note: EpochNote) -> None:
    # A full file system must not keep the hub from starting; the database holds the epoch too.
    with suppress(OSError):
        if read_note(place.data_dir) != note:
            write_note(place.data_dir, note)


def note_closed(place: StorePlace, epoch: int) -> None:
    """Say that from here on a missing WAL is no loss: it is about to be checkpointed and removed."""
    _write_note(place, EpochNote(epoch, False))


def note_moved(place: StorePlace, epoch: int) -> None:
    """Say that an open database is about to number on in another epoch."""
    _write_note(place, EpochNote(epoch, True))


def set_aside(place: StorePlace, reason: str, *, salvaging: bool = True) -> None:
    """Put the damaged database beside the new one that holds what could be salvaged, in a new epoch."""
    source = open_damaged(place.db_path, place.budget.wal_bytes)
    try:
        known = highest_epoch(source) if source is not None else 0
        epoch = next_epoch(read_note(place.data_dir), known, place.first_epoch())
        place.untold.append({"reason": reason, "kept": Salvaged().as_field(), "set_aside": f"{DB_NAME}.corrupt-1"})
        if source is not None and not salvaging:
            source.close()
            source = None
        _build(place, epoch, source, move_old=True)
    finally:
        if source is not None:
            with suppress(sqlite3.Error, UnicodeDecodeError):
                source.close()


def _build(
    place: StorePlace, epoch: int, source: Database | None = None, *, move_old: bool = False, was_one: bool = True
) -> None:
    is_remembered = read_note(place.data_dir) is not None
    _write_note(place, EpochNote(epoch, False, not place.untold))
    fresh = place.data_dir / f"{DB_NAME}.new"
    for leftover in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-journal")):
        leftover.unlink(missing_ok=True)
    created = create_in_child(fresh)
    target = place.connect(fresh)
    try:
        if not created:
            target.migrate()
        with target.transaction():
            target.run("hub_put", (epoch, 0))
            if not is_remembered:
                target.run("mark_put", (EPOCH_NEW, epoch))
                target.run("mark_put", (EPOCH_FIRST, 0 if was_one else epoch))
            if was_one:
                write_loss(target, place.untold)
        if source is not None:
            place.untold[-1]["kept"] = salvage(source, target).as_field()
            with suppress(sqlite3.OperationalError), target.transaction():  # no space: it stays what it was
                write_loss(target, place.untold)
    except sqlite3.Error as error:
        raise translate(error) from error
    finally:
        target.close()
    if source is not None:
        with suppress(sqlite3.Error, UnicodeDecodeError):
            source.close()
    if move_old:
        _move_aside(place)
    os.replace(fresh, place.db_path)
    sync_folder(place.data_dir)


def _move_aside(place: StorePlace) -> None:
    """hub.db becomes hub.db.corrupt-1. Two are kept, as each may be as large as max_mb: the latest, and as -2 the very
    first, which has the most in it where a failing medium ruins one salvage after the other."""
    latest, first = (place.data_dir / f"{DB_NAME}.corrupt-{n}" for n in (1, 2))
    if latest.exists() and not first.exists():
        os.replace(latest, first)
        _rename_if_there(Path(f"{latest}-wal"), Path(f"{first}-wal"))
    Path(f"{latest}-wal").unlink(missing_ok=True)
    _rename_if_there(place.db_path, latest)
    _rename_if_there(place.wal_path, Path(f"{latest}-wal"))


def _rename_if_there(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        os.replace(source, target)


def _finish_renames(place: StorePlace) -> None:
    """A power cut between setting the old database aside and renaming the new one leaves only the latter."""
    fresh = place.data_dir / f"{DB_NAME}.new"
    if place.db_path.exists():
        return
    _rename_if_there(place.wal_path, place.data_dir / f"{DB_NAME}.corrupt-1-wal")
    if fresh.exists() and (place.data_dir / f"{DB_NAME}.corrupt-1").exists():
        os.replace(fresh, place.db_path)
