"""What a control point's book asks of a database: an embedded one (sqlite.py), or a server's (postgres.py).

The statements are the same for both, with `?` for a value. What the two say differently is a method here, and nowhere
else: `add` and `add_counted` (rows that are new), `put` (rows that are new or changed), `lock` (others wait), a
schema's words (SQLite's; PostgreSQL's are made of them). Failures are sqlite3.Error or OSError: nothing was written,
and it can be tried again. A value that no table can hold is UnfitValue: trying again is no use.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

ROWS_AT_ONCE = 200  # of a statement: SQLite takes 32,766 values in one

Values = Sequence[Any]
FAILURES = (sqlite3.Error, OSError)


class UnfitValue(ValueError):
    """A value that no table can hold: a number of more than 64 bits, a text that is none."""


class SqlAnswer(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class BookReader(Protocol):
    """Somebody who reads. A row is a tuple; one that was opened to read knows its columns' names too."""

    def execute(self, sql: str, parameters: Values = ..., /) -> SqlAnswer: ...

    def close(self) -> None: ...


def found_by(
    db: BookReader, name: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], select: str
) -> Iterator[Any]:
    """What `select` finds where `name` is a table of these rows, so many of them in a statement as a database takes."""
    marks = f"({', '.join('?' * len(columns))})"
    for at in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[at : at + ROWS_AT_ONCE]
        table = f"WITH {name} ({', '.join(columns)}) AS (VALUES {', '.join([marks] * len(part))})"
        yield from db.execute(f"{table} {select}", [value for row in part for value in row])


class BookDatabase(BookReader, Protocol):
    """Somebody who writes: one transaction after another."""

    def executemany(self, sql: str, rows: Iterable[Values], /) -> SqlAnswer: ...

    def make(self, schema: str) -> None:
        """Make the tables that are not there."""

    def begin(self) -> None:
        """Open a transaction, unless one is open."""

    def commit(self) -> None:
        """Make durable what was written since."""

    def undo(self) -> None:
        """Forget it."""

    def lock(self, names: Iterable[str]) -> None:
        """Until the transaction ends no other process has these names. Always all at once: who holds some asks for no
        more, so nobody waits for one who waits for him."""

    def reserve(self, name: str) -> bool:
        """Until this is closed no other process has this name; False where one has it."""

    def add(self, table: str, rows: Sequence[Values], key: tuple[str, ...]) -> set[tuple[Any, ...]]:
        """Insert the rows that are new; their keys. `key`: the first columns, which are the table's primary key. Rows
        are in its order, so that two that insert the same wait for each other in one direction."""

    def add_counted(self, table: str, rows: Sequence[Values]) -> Counter[int]:
        """Insert the rows that are new; how many, by their first column. Rows are in the order of the key."""

    def put(self, table: str, rows: Sequence[Values], key: tuple[str, ...]) -> None:
        """Insert rows; one whose key is there takes its place. No key is given twice, and rows are in its order."""
