"""A book's database in a file (SQLite)."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hub.headend.database import SqlAnswer, UnfitValue, Values


class SqliteDatabase:
    """A file. One process writes at a time: that is what its lock is for. Raises sqlite3.Error."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        self._in_transaction = False

    def execute(self, sql: str, parameters: Values = (), /) -> SqlAnswer:
        try:
            return self._db.execute(sql, parameters)
        except (OverflowError, UnicodeEncodeError) as error:
            raise UnfitValue(str(error)) from None

    def executemany(self, sql: str, rows: Iterable[Values], /) -> SqlAnswer:
        try:
            return self._db.executemany(sql, rows)
        except (OverflowError, UnicodeEncodeError) as error:
            raise UnfitValue(str(error)) from None

    def make(self, schema: str) -> None:
        self._db.executescript(schema)

    def begin(self) -> None:
        if not self._in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._in_transaction = True

    def commit(self) -> None:
        if self._in_transaction:
            self._db.execute("COMMIT")
            self._in_transaction = False

    def undo(self) -> None:
        if self._in_transaction:
            self._db.execute("ROLLBACK")
            self._in_transaction = False

    def lock(self, names: Iterable[str]) -> None:
        """BEGIN IMMEDIATE has it all."""

    def reserve(self, name: str) -> bool:
        """A second one that writes waits for this one's transactions; nothing is done twice by that."""
        return True

    def add(self, table: str, rows: Sequence[Values], key: tuple[str, ...]) -> set[tuple[Any, ...]]:
        if not rows:
            return set()
        sql = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))}) ON CONFLICT DO NOTHING"
        return {tuple(row[: len(key)]) for row in rows if self.execute(sql, row).rowcount}

    def add_counted(self, table: str, rows: Sequence[Values]) -> Counter[int]:
        added: Counter[int] = Counter()
        if rows:
            sql = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))}) ON CONFLICT DO NOTHING"
            for first, its_rows in groupby(rows, lambda row: row[0]):
                added[first] += self.executemany(sql, its_rows).rowcount
        return added

    def put(self, table: str, rows: Sequence[Values], key: tuple[str, ...]) -> None:
        if rows:
            self.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def close(self) -> None:
        self._db.close()
