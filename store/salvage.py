"""What still reads of a damaged database goes into a new one: each table on its own, from both ends of the damage.

Delivered history stays behind in the file that was set aside; it was delivered, and copying it could keep the home
waiting for minutes.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from store.control import NOT_SALVAGED
from store.database import PAGE_SIZE, Database, Row
from store.envelopes import place_in
from store.epoch_file import EPOCH_FIRST, EPOCH_NEW, MAX_EPOCH
from store.errors import StoreBusy, StoreCorrupt, StoreUnwritable, translate
from store.gateway_tables import read_peer
from store.logbody import Names, decode_row, decode_seen
from store.outbox import load_marks, read_marks, split_id
from store.queries import LANES

_ROWS_AT_ONCE = 500

# What each column of a table holds, by the query that puts a row back: whatever else is found in a damaged one would be
# damage to the new database, too.
_COLUMNS: dict[str, tuple[type, ...]] = {
    "boot_put": (int, int, int),
    "series_add": (int, str, str, int),
    "client_add": (int, str),
    "mark_put": (str, int),
    "session_put": (str, bytes, str, int, int, str, bytes, int, int, str),
    "topic_put": (str, int, str),
    "subscription_put": (str, str, int),
    "retained_put": (str, bytes, int),
    "inbox_put": (str, int, str, bytes, int, int),
    "forward_put": (int, str, bytes),
    "control_put": (str, bytes),
}


@dataclass
class Salvaged:
    """What was saved: samples not yet sealed, undelivered messages, and rows of the home's state."""

    samples: int = 0
    messages: int = 0
    records: int = 0
    epoch: int = 0  # the highest epoch seen, 0 = none

    def as_field(self) -> dict[str, int]:
        """For the event."""
        fields = asdict(self)
        del fields["epoch"]
        return fields


def open_damaged(path: Path, wal_bytes: int) -> Database | None:
    """Open a database that may be damaged; None when it does not open at all. Raises StoreBusy and StoreUnwritable:
    neither says anything about the data."""
    if not path.exists() or path.stat().st_size < PAGE_SIZE:
        return None  # SQLite would make a new database of it
    try:
        return Database(path, wal_bytes=wal_bytes, max_pages=1 << 30)
    except (sqlite3.Error, UnicodeDecodeError) as raised:
        error = translate(raised)
        if isinstance(error, StoreBusy | StoreUnwritable):
            raise error from raised
        return None


def highest_epoch(source: Database) -> int:
    """The highest epoch that a damaged database shows, 0 = none."""
    found = [0]
    for row in _both_ways(source, "hub_get", forward_only=True):
        found += [value for value in row[:1] if _is_epoch(value)]
    for lane in LANES:
        for row in _both_ways(source, f"sealed_last/{lane}", forward_only=True):
            found += [split_id(value)[0] for value in row if isinstance(value, int)]
    return max(epoch for epoch in found if epoch == 0 or _is_epoch(epoch))


def _is_epoch(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_EPOCH


def salvage(source: Database, target: Database) -> Salvaged:
    """Copy what reads. Stops early, keeping what it has, when the file system is full."""
    kept = Salvaged()
    marks = _marks(source)
    for of_the_old_epoch in (EPOCH_NEW, EPOCH_FIRST):
        marks.pop(of_the_old_epoch, None)
    try:
        _copy(target, "boot_put", _both_ways(source, "salvage_boots"))
        _copy(target, "series_add", _both_ways(source, "salvage_series"))
        _copy(target, "client_add", _both_ways(source, "salvage_client"))
        for lane in ("receipts", "events", "answers"):
            rows = (row for row in _both_ways(source, f"salvage_sealed/{lane}") if row[0] > marks.get(lane, 0))
            kept.messages += _copy(target, f"sealed_put_back/{lane}", rows, _is_sealed)
        kept.messages += _copy_packs(source, target, marks)
        target.run("present_since_all")
        # Before the log: rows whose pack is delivered, and so not copied, would otherwise pass for unsealed should the
        # space end here.
        _copy(target, "mark_put", marks.items())
        names = Names(target.run("series_all"), target.run("client_all"))
        _copy(target, "log_put_back", _sound_log(source, names))
        kept.records += _copy_home(source, target)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
    kept.samples = int((target.one("log_count", (marks.get("sealed_seq", 0),)) or (0,))[0])
    return kept


def _marks(source: Database) -> dict[str, int]:
    try:
        return load_marks(source)
    except (sqlite3.Error, StoreCorrupt, UnicodeDecodeError, ValueError, TypeError):
        marks = {str(name): value for name, value in _both_ways(source, "salvage_mark") if isinstance(value, int)}
        for row in _both_ways(source, "salvage_log"):
            for lane, key in _row_marks(row).items():
                marks[lane] = max(marks.get(lane, 0), key)
        return marks


def _row_marks(row: Row) -> dict[str, int]:
    try:
        return read_marks(row[5]) if row[5] is not None else {}
    except StoreCorrupt:
        return {}


def _copy_packs(source: Database, target: Database, marks: dict[str, int]) -> int:
    """Copy undelivered packs; the position that sealing had reached is taken from all of them."""

    def undelivered() -> Iterator[Row]:
        for row in _both_ways(source, "salvage_packs"):
            if type(row[6]) is int and type(row[7]) is int and _is_sealed(row):
                here = (row[6], row[7])
                if here > (marks.get("sealed_seq", 0), marks.get("sealed_index", 0)):
                    marks["sealed_seq"], marks["sealed_index"] = here
            if row[0] > marks.get("readings", 0):
                where = row[4:] if all(type(value) is int for value in row[4:]) else (None,) * 4
                yield (*row[:4], *where)

    return _copy(target, "pack_put_back", undelivered(), _is_sealed)


def _copy_home(source: Database, target: Database) -> int:
    sessions = "salvage_session_1" if _is_first_schema(source) else "salvage_session"
    count = _copy(target, "session_put", _both_ways(source, sessions), _is_session)
    count += _copy(target, "control_put", _both_ways(source, "salvage_control"), lambda row: row[0] not in NOT_SALVAGED)
    for query, table in (
        ("topic_put", "topic"),
        ("subscription_put", "subscription"),
        ("retained_put", "retained"),
        ("inbox_put", "inbox"),
        ("forward_put", "forward"),
    ):
        count += _copy(target, query, _both_ways(source, f"salvage_{table}"))
    return count


def _is_first_schema(source: Database) -> bool:
    """Whether damage was found before the database could be migrated."""
    try:
        return bool(source.pragma("user_version") == 1)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def _is_sealed(row: Row) -> bool:
    """Whether a message is what was sealed, and where it belongs: its bytes say so themselves."""
    try:
        is_whole = type(row[1]) is int and isinstance(row[3], bytes) and zlib.crc32(row[3]) == row[2]
        return is_whole and place_in(row[3]) == split_id(row[0])
    except StoreCorrupt:
        return False


def _sound_log(source: Database, names: Names) -> Iterator[Row]:
    """Rows that read, names and all; how many samples are in them is counted anew. Their delivery marks stay behind:
    they are among `marks` already, and may be what is damaged."""
    for seq, boot, mono_ms, _, body, _ in _both_ways(source, "salvage_log"):
        try:
            samples = decode_row(names, mono_ms, body).readings
            all(decode_seen(names, body))
        except (StoreCorrupt, TypeError, ValueError):
            continue
        if type(seq) is int and type(boot) is int:
            yield seq, boot, mono_ms, len(samples), body


def _is_session(row: Row) -> bool:
    try:
        return bool(read_peer(row[1]))
    except (StoreCorrupt, TypeError):
        return False


def _both_ways(source: Database, name: str, *, forward_only: bool = False) -> Iterator[Row]:
    """Rows from the start up to the damage, then from the end back to it; a table that is not there has none."""
    try:
        yield from source.run(name)
        return
    except (sqlite3.Error, UnicodeDecodeError):
        if forward_only:
            return
    try:
        yield from source.backward(name)
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _is_of_kinds(kinds: tuple[type, ...], row: Row) -> bool:
    return all(type(value) is kind for value, kind in zip(row, kinds))


def _copy(target: Database, query: str, rows: Iterable[Any], is_sound: Callable[[Row], bool] = lambda row: True) -> int:
    """Write sound rows in slices, so that a full file system costs one slice. A row that the new schema refuses is
    damaged too."""
    count = 0
    kinds = _COLUMNS.get(query, ())
    remaining = (row for row in rows if _is_of_kinds(kinds, row) and is_sound(row))
    while chunk := list(islice(remaining, _ROWS_AT_ONCE)):
        try:
            with target.transaction():
                target.many(query, chunk)
            count += len(chunk)
        except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
            count += _copy_singly(target, query, chunk)
        target.note_written(sum(len(part) for row in chunk for part in row if isinstance(part, bytes)), len(chunk))
        target.checkpoint()
    return count


def _copy_singly(target: Database, query: str, rows: Iterable[Row]) -> int:
    count = 0
    with target.transaction():
        for row in rows:
            try:
                target.run(query, row)
                count += 1
            except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
                continue
    return count
