"""What can go wrong in the store.

StoreError              nothing of the batch was stored; the text says why
├── StoreUnwritable     nothing can be written now: the same batch may pass later
│   ├── StoreFull       no space
│   ├── StoreReadOnly   the file system, or the file, lets nobody write
│   └── StoreFailing    the medium answers with an error
├── StoreBusy           another process has the database
├── TooManyNames        it names more series or clients than any home has
└── StoreCorrupt        the database, or a row of it, is not what was written (never leaves the store)
"""

import errno
import sqlite3


class StoreError(Exception):
    """The store could not do it; nothing of it was stored."""


class StoreUnwritable(StoreError):
    """Nothing can be written now; the same may pass later."""


class StoreFull(StoreUnwritable):
    """No space is left within `store.max_mb` or on the file system."""


class StoreReadOnly(StoreUnwritable):
    """The file system is mounted read-only, or the database is not this user's to write."""


class StoreFailing(StoreUnwritable):
    """The medium answers with an error. SQLite does not say which: a full or read-only file system can look so, too."""


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
_OF_THE_SYSTEM: dict[int, type[StoreUnwritable]] = {
    errno.ENOSPC: StoreFull, errno.EDQUOT: StoreFull, errno.EFBIG: StoreFull,
    errno.EROFS: StoreReadOnly, errno.EIO: StoreFailing,
}  # fmt: skip
_OF_SQLITE: dict[int, type[StoreUnwritable]] = {
    sqlite3.SQLITE_FULL: StoreFull, sqlite3.SQLITE_READONLY: StoreReadOnly, sqlite3.SQLITE_IOERR: StoreFailing,
}  # fmt: skip


def translate(error: BaseException) -> StoreError:
    """Say in our words what sqlite3 or the operating system said."""
    if isinstance(error, StoreError):
        return error
    text = f"{error}" or type(error).__name__
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(error, text)
    if isinstance(error, UnicodeDecodeError):
        return StoreCorrupt(text)  # sqlite3 could not even read SQLite's message: it quotes a damaged schema
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        return _OF_THE_SYSTEM[error.errno](text)
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
    if primary in _OF_SQLITE:
        return _OF_SQLITE[primary](text)
    if primary in _BUSY:
        return StoreBusy(text)
    return StoreError(text)
