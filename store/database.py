"""The one connection to the one database: how it is opened, its transactions, its checkpoints, its size.

WAL with synchronous=FULL on an exclusive connection survived every crash image tried; NORMAL loses acknowledged rows.
Exclusive locking is set before WAL so that SQLite keeps the wal-index in memory: no -shm file, no second connection.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from store.errors import StoreCorrupt
from store.queries import load_queries, schema_statements

APPLICATION_ID = 0x4D545248  # "MTRH"
SCHEMA = 4
# 2 KiB pages: a WAL frame of 2072 bytes falls on 1.5 blocks of 4 KiB on average (6.3 KB of flash a commit, measured);
# a frame of 4120 bytes always falls on two and a bit (8.4 KB).
PAGE_SIZE = 2048
_FRAME = PAGE_SIZE + 24

PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # first: the others already look into a WAL, and would do it through a -shm file
    f"page_size = {PAGE_SIZE}",
    "auto_vacuum = NONE",  # the file never outgrows max_mb, and free pages in it are space that nobody else can take
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = OFF",  # overwriting what is deleted would be wear; privacy at rest is the partition's matter
    "cache_size = -512",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)

# Between two looks at how full the database is: so many commits, each of so many pages at the most but for giants,
# which max_page_count stops.
_LOOK_EVERY = 32
_PAGES_PER_COMMIT = 8

Row = tuple[Any, ...]


class Transaction:
    """BEGIN IMMEDIATE ... COMMIT, durable when it ends; anything raised inside or by COMMIT rolls back.

    A class and not a generator: that alone is a tenth of what a lone commit costs besides its fsync.
    """

    __slots__ = ("_connection", "count")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.count = 0  # of those that became durable

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is not None:
            self._roll_back()
            return
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self.count += 1

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back already, and a failing rollback must not hide the reason.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


class Database:
    """One exclusive connection. Raises sqlite3 errors and StoreCorrupt; belongs to the thread that made it."""

    def __init__(self, path: Path, *, wal_bytes: int, max_pages: int, queries: dict[str, str] | None = None) -> None:
        self.path = path
        self._queries = queries if queries is not None else load_queries()
        self._wal_frames = max(16, wal_bytes // _FRAME)
        self._frames = 0.0  # about what is in the WAL since it was last started over
        self._used_estimate, self._looks_left = max_pages, 0  # see may_use
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        # Whoever has the writer's turn may use it (store/writer.py): one thread at a time, not always the same.
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=0.2, cached_statements=64, check_same_thread=False
        )
        self._transaction = Transaction(self._connection)
        try:
            self._prepare(wal_bytes, max_pages)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def around(cls, connection: sqlite3.Connection, path: Path) -> "Database":
        """A database over a connection that is open already (the offline view)."""
        self = cls.__new__(cls)
        self.path, self._queries, self._connection = path, load_queries(), connection
        self._wal_frames, self._frames = 0, 0.0
        self._used_estimate, self._looks_left = 0, 0
        self._cursors = WeakSet()
        self._transaction = Transaction(connection)
        return self

    def _prepare(self, wal_bytes: int, max_pages: int) -> None:
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        # SQLite's own checkpoints run inside COMMIT and would keep adapters waiting; ours run after the answers. Its
        # trigger stays as a backstop should our estimate be wrong.
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {4 * self._wal_frames}").fetchall()
        self._connection.execute(f"PRAGMA journal_size_limit = {2 * wal_bytes}").fetchall()
        self.limit_pages(max_pages)

    def do(self, name: str, parameters: Sequence[Any] = ()) -> None:
        """Execute a named query that returns no rows."""
        self._connection.execute(self._queries[name], parameters)

    def run(self, name: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a named query, for its rows; closed with the database if nobody did before."""
        cursor = self._connection.execute(self._queries[name], parameters)
        self._cursors.add(cursor)
        return cursor

    def one(self, name: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row of a named query."""
        row: Row | None = self._connection.execute(self._queries[name], parameters).fetchone()
        return row

    def many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a named query once for each row."""
        self._connection.executemany(self._queries[name], rows)

    def backward(self, name: str) -> sqlite3.Cursor:
        """Execute a named query that ends in ORDER BY, the other way round (salvage)."""
        cursor = self._connection.execute(self._queries[name].rstrip(";") + " DESC")
        self._cursors.add(cursor)
        return cursor

    def pragma(self, text: str) -> Any:
        """The first value of a pragma."""
        row = self._connection.execute(f"PRAGMA {text}").fetchone()
        return None if row is None else row[0]

    def transaction(self) -> Transaction:
        """What runs inside it is durable, all of it or nothing. Not to be nested."""
        return self._transaction

    def take_commits(self) -> int:
        """How many transactions became durable since the last call, whoever wanted them."""
        count, self._transaction.count = self._transaction.count, 0
        return count

    def note_written(self, payload_bytes: int, changes: int) -> None:
        """Tell about how much a transaction wrote: it decides when the next checkpoint is due."""
        self._frames += 1.5 + changes
        if payload_bytes > PAGE_SIZE // 8:  # takes new pages: the list of free ones, the parent, page 1 change as well
            self._frames += 3 + payload_bytes // (PAGE_SIZE - 4)

    @property
    def checkpoint_is_due(self) -> bool:
        """The WAL has grown to its bound."""
        return self._frames >= self._wal_frames

    def checkpoint(self, *, force: bool = False) -> None:
        """Copy the WAL into the database when it has grown to its bound; the next commit then starts it over."""
        if force or self.checkpoint_is_due:
            self._frames = 0.0
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def wal_frames(self) -> int:
        """How many frames SQLite found in the WAL (checkpoints them as it asks)."""
        row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(row[1])

    def used_pages(self) -> int:
        """Pages that hold something."""
        used = int(self.pragma("page_count")) - int(self.pragma("freelist_count"))
        self._used_estimate, self._looks_left = used, _LOOK_EVERY
        return used

    def may_use(self, limit: int) -> bool:
        """Whether `limit` pages may be in use. Asking SQLite costs a tenth of a lone commit: only when it is near."""
        self._looks_left -= 1
        near = self._used_estimate + _LOOK_EVERY * _PAGES_PER_COMMIT >= limit
        return (near or self._looks_left < 0) and self.used_pages() >= limit

    def limit_pages(self, max_pages: int) -> None:
        """Let the database grow to so many pages (never fewer than it has); beyond, SQLite answers FULL."""
        self._connection.execute(f"PRAGMA max_page_count = {max_pages}").fetchall()

    def stop_growing(self) -> None:
        """Let the database use what its file has and no more: a page that a checkpoint cannot place would keep the WAL
        from ever starting over."""
        self.limit_pages(self.path.stat().st_size // PAGE_SIZE)

    def free_pages(self) -> int:
        """Pages in the file that hold nothing."""
        return int(self.pragma("freelist_count"))

    def identify(self) -> None:
        """Raise StoreCorrupt unless this is a meterhub database of a schema we know; migrate an older one."""
        application_id, version = self.pragma("application_id"), self.pragma("user_version")
        if application_id != APPLICATION_ID:
            raise StoreCorrupt("not a meterhub database")
        if version > SCHEMA:
            raise StoreCorrupt(f"its schema {version} is newer than {SCHEMA}")
        if version < SCHEMA:
            self.migrate()

    def migrate(self) -> None:
        """Create the schema, or bring an older one up to date."""
        # Imported here only: it costs 11 MB that a hub whose schema is current need not spend (see store/migrate.py).
        import sqlite_utils
        from sqlite_utils.migrations import Migrations

        migrations = Migrations("store")
        for version in range(1, SCHEMA + 1):

            def step(db: Any, version: int = version) -> None:
                for statement in schema_statements(version):
                    db.conn.execute(statement)
                db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.conn.execute(f"PRAGMA user_version = {version}")

            migrations(name=f"schema_{version:03}")(step)
        migrations.apply(sqlite_utils.Database(self._connection))

    def check(self, tables: Sequence[str]) -> None:
        """Look through the b-trees of `tables` (all when empty); raise StoreCorrupt at the first fault."""
        for pragma in [f"quick_check({table})" for table in tables] or ["quick_check(1)"]:
            found = self.pragma(pragma)
            if found != "ok":
                raise StoreCorrupt(f"quick_check: {found}")

    def close(self) -> None:
        """Close; SQLite checkpoints and removes the WAL.

        Cursors first: one that an exception's traceback still refers to would keep the file locked.
        """
        for cursor in list(self._cursors):
            cursor.close()
        self._connection.close()


def check_header(path: Path) -> None:
    """Raise StoreCorrupt unless the file starts as our databases do; SQLite would start to change others by opening.

    Layout: https://www.sqlite.org/fileformat2.html#the_database_header
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise StoreCorrupt("not a database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreCorrupt("not a meterhub database")


def open_read_only(path: Path, *, immutable: bool) -> Database:
    """Open a database to look at it. `immutable`: nobody else has it, and there is no WAL. Raises sqlite3 errors."""
    uri = f"file:{quote(str(path))}?mode=ro" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.2)
    return Database.around(connection, path)
