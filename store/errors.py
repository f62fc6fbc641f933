"""What can go wrong in the store.

StoreError              nothing of the batch was stored; the text says why
├── StoreFull           no space: the same batch may pass later
├── StoreBusy           another process has the database
├── TooManyNames        it names more series or clients than any home has
└── StoreCorrupt        the database, or a row of it, is not what was written (never leaves the store)
"""

import errno
import sqlite3


class StoreError(Exception):
    """The store could not do it; nothing of it was stored."""


class StoreFull(StoreError):
    """No space is left within `store.max_mb` or on the file system."""


class StoreBusy(StoreError):
    """Another process has the database open: a running hub."""


class TooManyNames(StoreError):
    """More series or clients than any home has: a device invents them."""


class StoreCorrupt(StoreError):
    """What was read is not what was written."""


_CORRUPT = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_TOOBIG,  # a damaged length; the largest batch is a thousand times smaller
}
# A page that cannot be read is lost whatever the reason; a write that fails may pass when there is space again.
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# How sqlite3 says that a text column does not hold text, and SQLite that a table or column of our fixed schema is gone:
# damage, though it has no error code of its own.
_DAMAGED_TEXTS = ("Could not decode to UTF-8", "no such column", "no such table")
_DAMAGED_SCHEMA = "has no column named"
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


def translate(error: BaseException) -> StoreError:
    """Say in our words what sqlite3 or the operating system said."""
    if isinstance(error, StoreError):
        return error
    text = f"{error}" or type(error).__name__
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(error, text)
    if isinstance(error, UnicodeDecodeError):
        return StoreCorrupt(text)  # sqlite3 could not even read SQLite's message: it quotes a damaged schema
    if isinstance(error, OSError) and error.errno in _FULL_ERRNO:
        return StoreFull(text)
    return StoreError(f"{type(error).__name__}: {text}")


def _translate_sqlite(error: sqlite3.Error, text: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    if text.startswith(_DAMAGED_TEXTS) or _DAMAGED_SCHEMA in text:
        return StoreCorrupt(text)
    if code is None:
        return StoreError(text)
    primary = code & 0xFF
    if primary in _CORRUPT or code in _UNREADABLE:
        return StoreCorrupt(text)
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreFull(text)
    if primary in _BUSY:
        return StoreBusy(text)
    return StoreError(text)
