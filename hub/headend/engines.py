"""Which database a book lies in: a file, or a server."""

import sqlite3
from importlib.util import find_spec
from pathlib import Path

from hub.headend.database import BookDatabase, BookReader
from hub.headend.sqlite import SqliteDatabase


def is_server(place: Path | str) -> bool:
    """Whether a place is PostgreSQL's (`postgresql://...`), and no file."""
    return isinstance(place, str) and place.startswith(("postgresql://", "postgres://"))


def _need_psycopg() -> None:
    if find_spec("psycopg") is None:
        raise OSError("a book on PostgreSQL needs psycopg 3: pip install 'meterhub[headend]'")


def open_database(place: Path | str) -> BookDatabase:
    """A file of SQLite, or `postgresql://...`. Raises one of FAILURES."""
    if not is_server(place):
        return SqliteDatabase(Path(place))
    _need_psycopg()
    from hub.headend.postgres import PostgresDatabase

    return PostgresDatabase(str(place))


def open_to_read(place: Path | str) -> BookReader:
    """The same, only to read: any number of these beside those that write. Rows know their columns' names. Raises one
    of FAILURES."""
    if is_server(place):
        _need_psycopg()
        from hub.headend.postgres import reading_connection

        return reading_connection(str(place))
    # Opened by one of a server's threads and used by another, never by two at once.
    db = sqlite3.connect(f"file:{place}?mode=ro", uri=True, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db
