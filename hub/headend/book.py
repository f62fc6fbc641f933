"""The control point's book: durable, what of each hub arrived, and what is missing. Where custody ends (promise P1).

A database (hub/headend/database.py). Every message is kept with the SHA-256 of its bytes; numbers as ranges per (hub,
epoch, lane). What is entered counts once `commit` returns, and only then may the broker be told that it was taken.
Messages may be cleared once they are old (`clear`); numbers are kept for good, so that a repeat stays a repeat.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from hub.headend.database import ROWS_AT_ONCE, found_by
from hub.headend.engines import open_database
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
CREATE INDEX IF NOT EXISTS certificate_hub ON certificate (hub);
CREATE TABLE IF NOT EXISTS number_mark (
  hub TEXT NOT NULL, epoch INTEGER NOT NULL, lane TEXT NOT NULL, t_ms INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (hub, epoch, lane, t_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (kid TEXT PRIMARY KEY, ctr INTEGER NOT NULL) WITHOUT ROWID;
"""
_Key = tuple[str, int, str, int]  # hub, epoch, lane, number


class Gap(NamedTuple):
    """Numbers that are not there, both ends included."""

    lane: Lane
    first: int
    last: int


class _Range(NamedTuple):
    first: int
    last: int
    is_given_up: int


class Book:
    """`place`: a file, or `postgresql://...`; there any number of processes may enter what arrives. Raises one of
    database.FAILURES where it cannot be used. `db`: where other tables of a control point lie too; what is written to
    them between `begin` and `commit` is durable with the book, or not at all."""

    def __init__(self, place: Path | str) -> None:
        self.db = self._db = open_database(place)
        self._db.make(_SCHEMA)
        self._announced = Announcements()
        self._arrived: dict[Lane, list[int]] = {}  # numbers whose ranges have to be written yet

    def begin(self) -> None:
        """Open a transaction, unless one is open."""
        self._db.begin()

    def commit(self) -> None:
        """Make durable what was entered."""
        self._write_ranges()
        self._db.commit()

    def undo(self) -> None:
        """Forget what was entered since `begin`."""
        self._arrived.clear()
        self._db.undo()

    def close(self) -> None:
        self.commit()
        self._db.close()

    def enter(self, envelope: Envelope, message: bytes) -> bool:
        """Take a verified message; True when it is new. Raises Altered when its number came with other bytes."""
        [found] = self.enter_all([(envelope, message)])
        if isinstance(found, Altered):
            raise found
        return found

    def enter_all(self, messages: Sequence[tuple[Envelope, bytes]]) -> list[bool | Altered]:
        """Take verified messages; of each whether it is new, or that its number came with other bytes."""
        self.begin()
        keys = [(envelope.hub, envelope.epoch, envelope.lane, envelope.number) for envelope, _ in messages]
        digests = [hashlib.sha256(message).digest() for _, message in messages]
        firsts: dict[_Key, int] = {}
        for at, key in enumerate(keys):
            firsts.setdefault(key, at)
        # What was cleared is in no row, and known by its number.
        here = self._in_ranges(firsts)
        rows = [(*key, digests[at], messages[at][1]) for key, at in sorted(firsts.items()) if key not in here]
        new = self._db.add("message", rows, ("hub", "epoch", "lane", "n"))
        for hub, epoch, lane, number in sorted(new):
            self._arrived.setdefault(Lane(hub, epoch, lane), []).append(number)
        found: list[bool | Altered] = []
        for at, key in enumerate(keys):
            is_new = key in new and firsts[key] == at
            known = digests[firsts[key]] if is_new or key in new else self._digest_of(key)
            found.append(is_new if known in (None, digests[at]) else _altered(key))
        return found

    def _digest_of(self, key: _Key) -> bytes | None:
        """None where the message was cleared."""
        sql = "SELECT digest FROM message WHERE hub = ? AND epoch = ? AND lane = ? AND n = ?"
        row = self._db.execute(sql, key).fetchone()
        return None if row is None else bytes(row[0])

    def _in_ranges(self, keys: Iterable[_Key]) -> set[_Key]:
        """Those whose numbers were here when a transaction ended last."""
        select = (
            "SELECT said.hub, said.epoch, said.lane, said.n FROM said JOIN range r ON r.hub = said.hub"
            " AND r.epoch = said.epoch AND r.lane = said.lane AND r.first <= said.n AND r.last >= said.n"
            " AND r.is_given_up = 0"
        )
        found = found_by(self._db, "said", ("hub", "epoch", "lane", "n"), list(keys), select)
        return {(hub, epoch, lane, number) for hub, epoch, lane, number in found}

    def mark(self, hubs: Sequence[str], t_ms: int, apart_ms: int) -> None:
        """Note up to which number each lane of these hubs has come by now, unless that was noted `apart_ms` ago or
        less: by these marks it is known later how old a number is, and no message needs a time of its own."""
        self.begin()
        self._db.execute(
            "INSERT INTO number_mark SELECT r.hub, r.epoch, r.lane, CAST(? AS BIGINT), r.n FROM (SELECT hub, epoch,"
            f" lane, max(last) AS n FROM range WHERE hub IN ({', '.join('?' * len(hubs))}) GROUP BY hub, epoch, lane) r"
            " WHERE NOT EXISTS (SELECT 1 FROM number_mark m WHERE m.hub = r.hub AND m.epoch = r.epoch"
            " AND m.lane = r.lane AND (m.t_ms > ? OR m.n >= r.n))",
            (t_ms, *hubs, t_ms - apart_ms),
        )

    def clear(self, hub: str, lanes: Sequence[str], before_ms: int, most: int) -> int:
        """Messages of one hub that were here before `before_ms` go, `most` numbers of a lane and epoch at once; how
        many went: none when there are no more. Their numbers stay. A message that came late is as old as its number."""
        self.begin()
        marks = self._db.execute(
            f"SELECT epoch, lane, max(n), max(t_ms) FROM number_mark WHERE hub = ? AND t_ms < ?"
            f" AND lane IN ({', '.join('?' * len(lanes))}) GROUP BY epoch, lane",
            (hub, before_ms, *lanes),
        ).fetchall()
        gone = 0
        for epoch, lane, last, t_ms in marks:
            of_lane = "hub = ? AND epoch = ? AND lane = ?"
            key = (hub, epoch, lane)
            sql = f"SELECT min(n) FROM message WHERE {of_lane} AND n <= ?"
            (first,) = self._db.execute(sql, (*key, last)).fetchone()
            if first is not None:
                upto = min(last, first + most - 1)
                sql = f"DELETE FROM message WHERE {of_lane} AND n BETWEEN ? AND ?"
                gone += self._db.execute(sql, (*key, first, upto)).rowcount
            else:
                # The newest of these marks says that all before it is gone.
                self._db.execute(f"DELETE FROM number_mark WHERE {of_lane} AND t_ms < ?", (*key, t_ms))
        return gone

    def keep_certificate(self, hub: str, certificate: bytes) -> None:
        """A hub's certificate (DER): with it the book reads on after a start anew, and others that enter read too."""
        self.begin()
        self._db.execute("INSERT INTO certificate VALUES (?, ?) ON CONFLICT DO NOTHING", (certificate, hub))

    def certificates_of(self, hub: str) -> list[bytes]:
        """What `keep_certificate` kept of one hub (DER)."""
        rows = self._db.execute("SELECT der FROM certificate WHERE hub = ?", (hub,)).fetchall()
        return [bytes(row[0]) for row in rows]

    def give_up(self, gap: Gap) -> None:
        """The hub does not keep these any more: they are waited for no longer, and stay visible as lost."""
        self.begin()
        self._write_ranges()
        self._db.lock([gap.lane.hub])
        missing = [
            (max(first, gap.first), min(last, gap.last)) for first, last in self._missing(gap.lane, gap.last + 1)
        ]
        self._join({gap.lane: [(low, high) for low, high in missing if low <= high]}, is_given_up=1)

    def lock(self, hubs: Iterable[str]) -> None:
        """Until the transaction ends nobody else writes of these hubs. What arrived is entered before: see
        BookDatabase.lock."""
        self._db.lock(hubs)

    def _write_ranges(self) -> None:
        """What arrived since. At the end of a transaction, as others that enter for the same hub wait from here on."""
        if self._arrived:
            arrived = {lane: _runs(numbers) for lane, numbers in self._arrived.items()}
            self._arrived = {}
            self._db.lock({lane.hub for lane in arrived})
            self._join(arrived, is_given_up=0)

    def _join(self, runs: dict[Lane, list[tuple[int, int]]], *, is_given_up: int) -> None:
        """Keep ranges of one kind joined: of a lane that arrives in order there is one row. What arrives though it was
        given up is lost no longer."""
        lanes = list(runs)
        for at in range(0, len(lanes), ROWS_AT_ONCE):
            part = {lane: [_Range(*run, is_given_up) for run in runs[lane]] for lane in lanes[at : at + ROWS_AT_ONCE]}
            gone, kept = [], []
            known = self._neighbours(part)
            for lane, its_runs in part.items():
                before = known.get(lane, set())
                after = _joined(before, its_runs)
                firsts = {row.first for row in after}
                gone += [(*lane, row.first) for row in before if row.first not in firsts]
                kept += [(*lane, *row) for row in after if row not in before]
            if gone:
                self._db.executemany("DELETE FROM range WHERE hub = ? AND epoch = ? AND lane = ? AND first = ?", gone)
            self._db.put("range", sorted(kept), ("hub", "epoch", "lane", "first"))

    def _neighbours(self, runs: dict[Lane, list[_Range]]) -> dict[Lane, set[_Range]]:
        """The ranges that these runs touch or lie in."""
        found: dict[Lane, set[_Range]] = {}
        rows = [(*lane, *run[:2]) for lane, its_runs in runs.items() for run in its_runs]
        select = (
            "SELECT r.hub, r.epoch, r.lane, r.first, r.last, r.is_given_up FROM run JOIN range r"
            " ON r.hub = run.hub AND r.epoch = run.epoch AND r.lane = run.lane"
            " AND r.first <= run.last + 1 AND r.last >= run.first - 1"
        )
        for row in found_by(self._db, "run", ("hub", "epoch", "lane", "first", "last"), rows, select):
            found.setdefault(Lane(*row[:3]), set()).add(_Range(*row[3:]))
        return found

    def announce(self, lane: Lane, next_number: int) -> None:
        """A heartbeat says which number is next: what is below it exists."""
        self._announced.note(lane, next_number)

    def lanes(self, hub: str = "") -> list[Lane]:
        """Every numbering that is known, or those of one hub; in order."""
        self._write_ranges()
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
        self._write_ranges()
        where, values = (" WHERE hub = ?", (hub,)) if hub else ("", ())
        rows = self._db.execute(
            f"SELECT hub, epoch, lane, min(first), max(last), count(*) FROM range{where} GROUP BY hub, epoch, lane",
            values,
        ).fetchall()
        ends = {Lane(*row[:3]): row[4] if row[3] == 1 and row[5] == 1 else 0 for row in rows}
        # Most lanes are one range from 1 on: only the others are looked at one by one.
        suspect = {lane for lane, end in ends.items() if not end or self._announced.next_of(lane) > end + 1}
        suspect |= {
            lane for lane in self._announced.lanes(hub) if lane not in ends and self._announced.next_of(lane) > 1
        }
        return [Gap(lane, first, last) for lane in sorted(suspect) for first, last in self._missing(lane)]

    def lost(self) -> list[Gap]:
        """What was given up."""
        self._write_ranges()
        rows = self._db.execute(
            "SELECT hub, epoch, lane, first, last FROM range WHERE is_given_up = 1 ORDER BY 1, 2, 3, 4"
        )
        return [Gap(Lane(*row[:3]), row[3], row[4]) for row in rows]

    def complete_to(self, lane: Lane) -> int:
        """Up to which number nothing is missing."""
        self._write_ranges()
        first = next(self._missing(lane), None)
        if first is not None:
            return first[0] - 1
        row = self._db.execute("SELECT max(last) FROM range WHERE hub = ? AND epoch = ? AND lane = ?", lane).fetchone()
        return int(row[0] or 0)

    def booked(self, hub: str = "") -> dict[str, dict[str, list[int]]]:
        """The arguments of `booked` for each hub, or one: for each lane the place up to which all of it is here. A gap
        in an old epoch holds the place back, since what is booked covers all that came before it."""
        self._write_ranges()
        where, values = (" WHERE hub = ?", (hub,)) if hub else ("", ())
        rows = self._db.execute(
            f"SELECT hub, epoch, lane, first, last FROM range{where} ORDER BY hub, lane, epoch, first", values
        ).fetchall()
        found: dict[str, dict[str, list[int]]] = {}
        for (its_hub, lane), its_rows in groupby(rows, lambda row: (row[0], row[2])):
            for epoch, ranges in groupby(its_rows, lambda row: row[1]):
                upto, last = 0, 0
                for row in ranges:
                    last = row[4]
                    upto = last if row[3] <= upto + 1 else upto
                if upto:
                    found.setdefault(its_hub, {})[lane] = [epoch, upto]
                if upto < max(last, self._announced.next_of(Lane(its_hub, epoch, lane)) - 1):
                    break
        return found

    def count(self) -> int:
        """Messages in the book."""
        return int(self._db.execute("SELECT count(*) FROM message").fetchone()[0])

    def next_ctr(self, kid: str, least: int) -> int:
        """A counter for the operator's next command, above any before."""
        self.begin()
        row = self._db.execute(
            "INSERT INTO counter VALUES (?, ?) ON CONFLICT (kid) DO UPDATE SET"
            " ctr = CASE WHEN counter.ctr >= excluded.ctr THEN counter.ctr + 1 ELSE excluded.ctr END RETURNING ctr",
            (kid, least),
        ).fetchone()
        return int(row[0])


def _altered(key: _Key) -> Altered:
    hub, epoch, lane, number = key
    return Altered(f"{hub} epoch {epoch} {lane} {number}: came again with other bytes")


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as inclusive ranges."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _joined(known: set[_Range], runs: list[_Range]) -> list[_Range]:
    """What the ranges are once these runs are among them: a run comes before what was given up there."""
    parts = list(runs)
    for row in known:
        if row.is_given_up and not runs[0].is_given_up:
            low = row.first
            for run in sorted(runs):
                if run.last < low or run.first > row.last:
                    continue
                if run.first > low:
                    parts.append(_Range(low, run.first - 1, 1))
                low = run.last + 1
            if low <= row.last:
                parts.append(_Range(low, row.last, 1))
        else:
            parts.append(row)
    found: list[_Range] = []
    for part in sorted(parts):
        if found and found[-1].is_given_up == part.is_given_up and found[-1].last + 1 >= part.first:
            found[-1] = found[-1]._replace(last=max(found[-1].last, part.last))
        else:
            found.append(part)
    return found
