"""The control point's book: durable, what of each hub arrived, and what is missing. Where custody ends (promise P1).

One SQLite file. Every message is kept with the SHA-256 of its bytes; numbers as ranges per (hub, epoch, lane). What is
entered counts once `commit` returns, and only then may the broker be told that it was taken.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hub.headend.ledger import Altered, Announcements, Lane
from hub.wire.uplink.envelope import Envelope

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  hub TEXT NOT NULL, epoch INTEGER NOT NULL, lane TEXT NOT NULL, n INTEGER NOT NULL,
  digest BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (hub, epoch, lane, n)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS range (
  hub TEXT NOT NULL, epoch INTEGER NOT NULL, lane TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  is_given_up INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (hub, epoch, lane, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS certificate (der BLOB PRIMARY KEY, hub TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (kid TEXT PRIMARY KEY, ctr INTEGER NOT NULL) WITHOUT ROWID;
"""


class Gap(NamedTuple):
    """Numbers that are not there, both ends included."""

    lane: Lane
    first: int
    last: int


class Book:
    """Open for one process. Raises sqlite3.Error where the file cannot be used. `db`: where other tables of a control
    point lie too; what is written to them between `begin` and `commit` is durable with the book, or not at all."""

    def __init__(self, file: Path) -> None:
        self.db = self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
        self._announced = Announcements()
        self._in_transaction = False

    def begin(self) -> None:
        """Open a transaction, unless one is open."""
        if not self._in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._in_transaction = True

    def commit(self) -> None:
        """Make durable what was entered."""
        if self._in_transaction:
            self._db.execute("COMMIT")
            self._in_transaction = False

    def undo(self) -> None:
        """Forget what was entered since `begin`."""
        if self._in_transaction:
            self._db.execute("ROLLBACK")
            self._in_transaction = False

    def close(self) -> None:
        self.commit()
        self._db.close()

    def enter(self, envelope: Envelope, message: bytes) -> bool:
        """Take a verified message; True when it is new. Raises Altered when its number came with other bytes."""
        self.begin()
        lane = Lane(envelope.hub, envelope.epoch, envelope.lane)
        digest = hashlib.sha256(message).digest()
        known = self._db.execute(
            "SELECT digest FROM message WHERE hub = ? AND epoch = ? AND lane = ? AND n = ?", (*lane, envelope.number)
        ).fetchone()
        if known is not None:
            if known[0] != digest:
                raise Altered(
                    f"{lane.hub} epoch {lane.epoch} {lane.lane} {envelope.number}: came again with other bytes"
                )
            return False
        self._db.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", (*lane, envelope.number, digest, message))
        self._add_range(lane, envelope.number, envelope.number, given_up=False)
        return True

    def keep_certificate(self, hub: str, certificate: bytes) -> None:
        """A hub's renewed certificate (DER): with it the book reads on after a start anew."""
        self.begin()
        self._db.execute("INSERT OR IGNORE INTO certificate VALUES (?, ?)", (certificate, hub))

    def certificates(self) -> list[tuple[str, bytes]]:
        """What `keep_certificate` kept, as (hub, DER)."""
        return self._db.execute("SELECT hub, der FROM certificate").fetchall()

    def give_up(self, gap: Gap) -> None:
        """The hub does not keep these any more: they are waited for no longer, and stay visible as lost."""
        self.begin()
        for first, last in list(self._missing(gap.lane, gap.last + 1)):
            low, high = max(first, gap.first), min(last, gap.last)
            if low <= high:
                self._add_range(gap.lane, low, high, given_up=True)

    def _add_range(self, lane: Lane, first: int, last: int, *, given_up: bool) -> None:
        """Keep ranges of one kind joined: of a lane that arrives in order there is one row."""
        below = self._db.execute(
            "SELECT first FROM range WHERE hub = ? AND epoch = ? AND lane = ? AND last = ? AND is_given_up = ?",
            (*lane, first - 1, given_up),
        ).fetchone()
        above = self._db.execute(
            "SELECT last FROM range WHERE hub = ? AND epoch = ? AND lane = ? AND first = ? AND is_given_up = ?",
            (*lane, last + 1, given_up),
        ).fetchone()
        if above is not None:
            self._db.execute(
                "DELETE FROM range WHERE hub = ? AND epoch = ? AND lane = ? AND first = ?", (*lane, last + 1)
            )
            last = above[0]
        if below is not None:
            first = below[0]
        self._db.execute("INSERT OR REPLACE INTO range VALUES (?, ?, ?, ?, ?, ?)", (*lane, first, last, given_up))

    def announce(self, lane: Lane, next_number: int) -> None:
        """A heartbeat says which number is next: what is below it exists."""
        self._announced.note(lane, next_number)

    def lanes(self, hub: str = "") -> list[Lane]:
        """Every numbering that is known, or those of one hub; in order."""
        where, values = (" WHERE hub = ?", (hub,)) if hub else ("", ())
        rows = self._db.execute("SELECT DISTINCT hub, epoch, lane FROM range" + where, values).fetchall()
        announced = (lane for lane in self._announced.lanes(hub) if self._announced.next_of(lane) > 1)
        return sorted({*(Lane(*row) for row in rows), *announced})

    def _missing(self, lane: Lane, below: int = 0) -> Iterator[tuple[int, int]]:
        expected = 1
        for first, last in self._db.execute(
            "SELECT first, last FROM range WHERE hub = ? AND epoch = ? AND lane = ? ORDER BY first", lane
        ).fetchall():
            if first > expected:
                yield expected, first - 1
            expected = last + 1
        below = max(below, self._announced.next_of(lane))
        if expected < below:
            yield expected, below - 1

    def gaps(self, hub: str = "") -> list[Gap]:
        """Everything that is missing now, of all hubs or one; a few are normal while messages are on their way."""
        return [Gap(lane, first, last) for lane in self.lanes(hub) for first, last in self._missing(lane)]

    def lost(self) -> list[Gap]:
        """What was given up."""
        rows = self._db.execute("SELECT hub, epoch, lane, first, last FROM range WHERE is_given_up ORDER BY 1, 2, 3, 4")
        return [Gap(Lane(*row[:3]), row[3], row[4]) for row in rows]

    def complete_to(self, lane: Lane) -> int:
        """Up to which number nothing is missing."""
        first = next(self._missing(lane), None)
        if first is not None:
            return first[0] - 1
        row = self._db.execute("SELECT max(last) FROM range WHERE hub = ? AND epoch = ? AND lane = ?", lane).fetchone()
        return int(row[0] or 0)

    def booked(self, hub: str) -> dict[str, list[int]]:
        """The arguments of `booked` for a hub: for each lane the place up to which all of it is here. A gap in an old
        epoch holds the place back, since what is booked covers all that came before it."""
        places: dict[str, list[int]] = {}
        for lane in self.lanes(hub):  # by epoch
            if lane.lane in places and next(self._missing(Lane(hub, places[lane.lane][0], lane.lane)), None):
                continue
            upto = self.complete_to(lane)
            if upto:
                places[lane.lane] = [lane.epoch, upto]
        return places

    def hubs(self) -> list[str]:
        return sorted({lane.hub for lane in self.lanes()})

    def count(self) -> int:
        """Messages in the book."""
        return int(self._db.execute("SELECT count(*) FROM message").fetchone()[0])

    def next_ctr(self, kid: str, least: int) -> int:
        """A counter for the operator's next command, above any before."""
        self.begin()
        row = self._db.execute("SELECT ctr FROM counter WHERE kid = ?", (kid,)).fetchone()
        ctr = max(least, (row[0] if row else 0) + 1)
        self._db.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", (kid, ctr))
        return ctr
