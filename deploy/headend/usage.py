"""Usage: readings as they came, and half-hours made of registers. Originals are never changed; a half-hour that turns
out otherwise gets a new version."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from deploy.headend.intervals import STEP_S, STILL_S, Interval, MeterExchange, RegisterPoint, settle
from hub.headend.database import BookDatabase, BookReader
from hub.wire.uplink.event import CONSUMPTION
from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED, IMPLAUSIBLE, Reading, parse_decimal

METER = "meter"
_REGISTERS = ("energy", "reactive_energy")
_BEYOND = 3  # points on either side: enough to see that one of them was a slip
_ASKED_AT_ONCE = 200
_MOST_KEPT = 50_000  # some 20 MB
_LOOK_BACK_MS = 2 * STILL_S * 1000
_NEAREST = 2  # readings on either side that one between them changes half-hours up to: the nearer may have been a slip
# A hole that is longer is not bridged: a hub keeps its readings as long, so this is a clock that was wrong.
_LONGEST_HOLE_MS = 400 * 86_400_000
_CLOCKS_APART_MS = 3_600_000  # a reading that is later than that is of a clock that is wrong


class Row(NamedTuple):
    """A reading with its name."""

    client: str
    quantity: str
    t_ms: int
    mantissa: int
    exponent: int
    flags: int


def is_register(client: str, quantity: str) -> bool:
    """Whether half-hours are made of it: the meter's own energy registers."""
    return client == METER and quantity.partition(".")[0] in _REGISTERS


def to_mwh(mantissa: int, exponent: int) -> int:
    """Wh to whole milliwatt-hours. What is finer than that is cut."""
    scale = exponent + 3
    return int(mantissa * 10**scale) if scale >= 0 else int(mantissa // 10**-scale)


class SeriesGone(OSError):
    """A household was forgotten while a pack of it came: what is written is undone, and taken again."""


class HouseholdUsage:
    """Tables `series`, `reading`, `interval`, `exchange`, `unsettled`. The caller opens and ends transactions.
    `most_kept`: series whose numbers are kept in memory."""

    def __init__(self, db: BookDatabase, max_power_w: int, most_kept: int = _MOST_KEPT) -> None:
        self._db = db
        self._most_kept = most_kept
        self._max_power_w = max_power_w
        self._series: dict[tuple[str, str, str], int] = {}
        self._added: Counter[int] = Counter()  # readings by series, to be counted yet

    def enter(self, hub: str, readings: Sequence[Reading]) -> None:
        """What a pack held."""
        self.enter_all([(hub, readings)])
        self.count_added()

    def enter_all(self, packs: Sequence[tuple[str, Sequence[Reading]]]) -> None:
        """What some packs held. `count_added` before the transaction ends."""
        ids = self._ids_of({(hub, its.client_id, its.quantity) for hub, readings in packs for its in readings})
        rows = []
        spans: dict[int, tuple[int, int]] = {}
        for hub, readings in packs:
            for client, quantity, t_ms, mantissa, exponent, flags in readings:
                series = ids[hub, client, quantity]
                rows.append((series, t_ms, mantissa, exponent, flags))
                if is_register(client, quantity):
                    low, high = spans.get(series, (t_ms, t_ms))
                    spans[series] = min(low, t_ms), max(high, t_ms)
        rows.sort()
        self._added.update(self._db.add_counted("reading", rows))
        self._mark((series, *span) for series, span in spans.items())

    def count_added(self) -> None:
        """Write down how many came. At the end of a transaction: nobody else writes of these hubs (Book.lock). Raises
        SeriesGone."""
        added = sorted(self._added.items())
        for at in range(0, len(added), _ASKED_AT_ONCE):
            part = added[at : at + _ASKED_AT_ONCE]
            counted = self._db.execute(
                "UPDATE series SET readings = readings + said.column2"
                f" FROM (VALUES {', '.join(['(?, ?)'] * len(part))}) AS said WHERE id = said.column1",
                [value for row in part for value in row],
            ).rowcount
            if counted != len(part):
                raise SeriesGone("a household was forgotten meanwhile: its pack is taken once more")
        self._added.clear()

    def enter_exchange(self, hub: str, t_ms: int, last: dict[str, Any], first: dict[str, Any]) -> None:
        """The event `meter.replaced`: registers of the old and the new meter, quantity -> decimal text."""
        for quantity in sorted(name for name in set(last) & set(first) if isinstance(name, str)):
            if not is_register(METER, quantity):
                continue
            try:
                before, after = (to_mwh(*parse_decimal(str(said[quantity]).encode())) for said in (last, first))
            except ValueError:
                continue
            self._db.execute(
                "INSERT INTO exchange VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (hub, quantity, t_ms, before, after),
            )
            self._mark([(self._series_of(hub, METER, quantity), t_ms, t_ms)])

    def _mark(self, spans: Iterable[tuple[int, int, int]]) -> None:
        """Half-hours have to be made anew there; durable with what changed them, and any process may make them."""
        rows = list(spans)
        for at in range(0, len(rows), _ASKED_AT_ONCE):
            part = rows[at : at + _ASKED_AT_ONCE]
            self._db.execute(
                f"INSERT INTO unsettled (series, from_ms, to_ms) VALUES {', '.join(['(?, ?, ?)'] * len(part))}",
                [value for row in part for value in row],
            )

    def _ids_of(self, keys: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """The number of each series; what is new gets one."""
        found = {key: self._series[key] for key in keys if key in self._series}
        # In one order, so that two processes that make the same series wait for each other in one direction.
        unknown = sorted(keys - found.keys())
        for at in range(0, len(unknown), _ASKED_AT_ONCE):
            part = unknown[at : at + _ASKED_AT_ONCE]
            known = self._known_ids(part)
            if new := [key for key in part if key not in known]:
                self._db.execute(
                    f"INSERT INTO series (hub, client, quantity) VALUES {', '.join(['(?, ?, ?)'] * len(new))}"
                    " ON CONFLICT DO NOTHING",
                    [value for key in new for value in key],
                )
                known |= self._known_ids(new)
            self._remember(known, found)
        return found

    def _known_ids(self, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        rows = self._db.execute(
            f"WITH said (hub, client, quantity) AS (VALUES {', '.join(['(?, ?, ?)'] * len(keys))})"
            " SELECT s.hub, s.client, s.quantity, s.id FROM said JOIN series s"
            " ON s.hub = said.hub AND s.client = said.client AND s.quantity = said.quantity",
            [value for key in keys for value in key],
        )
        return {(hub, client, quantity): number for hub, client, quantity, number in rows}

    def _remember(self, ids: dict[tuple[str, str, str], int], found: dict[tuple[str, str, str], int]) -> None:
        found |= ids
        if len(self._series) + len(ids) > self._most_kept:
            # Packs come from all hubs in turn: whichever were kept, they would be others' when they are needed.
            self._series.clear()
        self._series |= ids

    @property
    def series_kept(self) -> int:
        """How many series' numbers are in memory now."""
        return len(self._series)

    def _series_of(self, hub: str, client: str, quantity: str) -> int:
        key = (hub, client, quantity)
        self._db.execute("INSERT INTO series (hub, client, quantity) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key)
        sql = "SELECT id FROM series WHERE hub = ? AND client = ? AND quantity = ?"
        return int(self._db.execute(sql, key).fetchone()[0])

    def forget_cache(self) -> None:
        """After a transaction that was undone: the ids that it gave are none."""
        self._series.clear()
        self._added.clear()

    def settle_stale(self, t_ms: int, most: int = 200) -> int:
        """Make half-hours of what came since; how many series were worked on. `t_ms`: UTC now."""
        rows = self._db.execute(
            "SELECT DISTINCT u.series, s.hub FROM unsettled u JOIN series s ON s.id = u.series ORDER BY 1 LIMIT ?",
            (most,),
        ).fetchall()
        self._db.lock({hub for _, hub in rows})
        floor_ms = self._settled_for_good_ms() if rows else 0
        done = 0
        for series, _ in rows:
            spans = self._db.execute(
                "DELETE FROM unsettled WHERE series = ? RETURNING from_ms, to_ms", (series,)
            ).fetchall()
            if spans:  # else another process was here first
                low, high = max(min(low for low, _ in spans), floor_ms), max(high for _, high in spans)
                if low <= high:
                    self._settle(series, low, high, floor_ms, t_ms)
                done += 1
        return done

    def _settled_for_good_ms(self) -> int:
        """Half-hours that begin before are not made anew: readings around them were cleared (clearing.py), and what
        comes so late would make less of them than was known."""
        row = self._db.execute("SELECT before_ms FROM cleared WHERE what = 'readings'").fetchone()
        return row[0] + _LOOK_BACK_MS if row and row[0] else 0

    def _settle(self, series: int, from_ms: int, to_ms: int, floor_ms: int, t_ms: int) -> None:
        # A point changes its own half-hour and, as the nearest to a boundary, the one on the other side; one that ends
        # a hole, or stands in it, changes all of that hole.
        step_ms = STEP_S * 1000
        begin_ms, end_ms = self._reaches_to(series, from_ms, to_ms, t_ms)
        low = min(from_ms // step_ms - 1, begin_ms // step_ms) * step_ms
        high = max(to_ms // step_ms + 2, -(-end_ms // step_ms)) * step_ms
        first = self._edge(series, low, "<=", "DESC", low)
        points = [
            RegisterPoint(t, to_mwh(mantissa, exponent), bool(flags & (CLOCK_UNSYNCHRONISED | IMPLAUSIBLE)))
            for t, mantissa, exponent, flags in self._db.execute(
                "SELECT t_ms, mantissa, exponent, flags FROM reading WHERE series = ? AND t_ms BETWEEN ? AND ?"
                " ORDER BY t_ms",
                (series, first, self._edge(series, high, ">=", "ASC", high)),
            )
        ]
        if len(points) < 2:
            return
        hub, quantity = self._db.execute("SELECT hub, quantity FROM series WHERE id = ?", (series,)).fetchone()
        exchanges = [
            MeterExchange(*row)
            for row in self._db.execute(
                "SELECT t_ms, last_mwh, first_mwh FROM exchange WHERE hub = ? AND quantity = ? ORDER BY t_ms",
                (hub, quantity),
            )
        ]
        still_ms = self._still_since(series, points[0].t_ms)
        if still_ms < points[0].t_ms:
            points.insert(0, points[0]._replace(t_ms=still_ms))
        low = max(low, -(-floor_ms // step_ms) * step_ms)
        # Beyond what is known there is nothing to say yet.
        for run in _runs(points):
            # Only whole half-hours of a run: across what parts it from the next nothing is known.
            begin_ms = max(low, -(-run[0].t_ms // step_ms) * step_ms)
            end_ms = min(high, run[-1].t_ms // step_ms * step_ms)
            self._keep(series, settle(run, exchanges, begin_ms // 1000, end_ms // 1000, self._max_power_w), t_ms)

    def _reaches_to(self, series: int, from_ms: int, to_ms: int, t_ms: int) -> tuple[int, int]:
        """How far on either side half-hours follow from what came. What is of a clock that is ahead would make all
        half-hours up to itself, again and again."""
        before, after, latest_ms = from_ms, to_ms, t_ms + _CLOCKS_APART_MS
        if from_ms <= latest_ms:
            before = min([from_ms, *self._nearest(series, from_ms, "<", "DESC", from_ms - _LONGEST_HOLE_MS)])
        for nearest_ms in self._nearest(series, to_ms, ">", "ASC", to_ms + _LONGEST_HOLE_MS):
            after = nearest_ms if nearest_ms <= latest_ms else after
        return before, after

    def _nearest(self, series: int, t_ms: int, sign: str, order: str, bound_ms: int) -> list[int]:
        low, high = sorted((t_ms, bound_ms))
        rows = self._db.execute(
            f"SELECT t_ms FROM reading WHERE series = ? AND t_ms {sign} ? AND t_ms BETWEEN ? AND ?"
            f" ORDER BY t_ms {order} LIMIT ?",
            (series, t_ms, low, high, _NEAREST),
        )
        return [row[0] for row in rows.fetchall()]

    def _edge(self, series: int, t_ms: int, sign: str, order: str, otherwise: int) -> int:
        """The time of a reading some way beyond `t_ms`, or of the last that there is on that side."""
        rows = self._db.execute(
            f"SELECT t_ms FROM reading WHERE series = ? AND t_ms {sign} ? ORDER BY t_ms {order} LIMIT ?",
            (series, t_ms, _BEYOND),
        ).fetchall()
        return int(rows[-1][0]) if rows else otherwise

    def _still_since(self, series: int, t_ms: int) -> int:
        """Since when the register shows what it shows at `t_ms`; looked for as far back as it matters."""
        row = self._db.execute(
            "SELECT min(r.t_ms) FROM reading r WHERE r.series = ? AND r.t_ms BETWEEN ? AND ? AND r.t_ms > coalesce(("
            " SELECT o.t_ms FROM reading o JOIN reading n ON n.series = o.series AND n.t_ms = ? WHERE o.series = ?"
            " AND o.t_ms BETWEEN ? AND ? AND (o.mantissa, o.exponent) <> (n.mantissa, n.exponent)"
            " ORDER BY o.t_ms DESC LIMIT 1), -1)",
            (series, t_ms - _LOOK_BACK_MS, t_ms, t_ms, series, t_ms - _LOOK_BACK_MS, t_ms),
        ).fetchone()
        return t_ms if row[0] is None else int(row[0])

    def _keep(self, series: int, intervals: list[Interval], t_ms: int) -> None:
        for interval in intervals:
            newest = self._db.execute(
                "SELECT version, energy_mwh, quality FROM interval WHERE series = ? AND start_s = ?"
                " ORDER BY version DESC LIMIT 1",
                (series, interval.start_s),
            ).fetchone()
            if newest is not None and newest[1:] == (interval.energy_mwh, interval.quality):
                continue
            version = 1 if newest is None else newest[0] + 1
            row = (series, interval.start_s, version, interval.energy_mwh, interval.quality, t_ms)
            self._db.execute("INSERT INTO interval VALUES (?, ?, ?, ?, ?, ?)", row)

    def erase(self, hub: str) -> int:
        """A household's data goes on its request: readings, half-hours, and the packs that were their evidence. Numbers
        and digests stay, so that the book is complete and a repeat is known. How many readings went."""
        self._db.lock([hub])
        ids = [row[0] for row in self._db.execute("SELECT id FROM series WHERE hub = ?", (hub,)).fetchall()]
        gone = 0
        for series in ids:
            gone += self._db.execute("DELETE FROM reading WHERE series = ?", (series,)).rowcount
            self._db.execute("DELETE FROM interval WHERE series = ?", (series,))
            self._db.execute("DELETE FROM unsettled WHERE series = ?", (series,))
        self._erase_from_events(hub)
        self._db.execute("INSERT INTO column_erasure VALUES (?) ON CONFLICT DO NOTHING", (hub,))
        self._db.execute("DELETE FROM exchange WHERE hub = ?", (hub,))
        self._db.execute("DELETE FROM series WHERE hub = ?", (hub,))
        self._db.execute("UPDATE message SET body = ? WHERE hub = ? AND lane IN ('readings', 'answers')", (b"", hub))
        self._series = {key: number for key, number in self._series.items() if key[0] != hub}
        return gone

    def _erase_from_events(self, hub: str) -> None:
        """An exchange stays an event, and peaks do; what they were of goes, with the message that was its evidence."""
        rows = self._db.execute("SELECT epoch, n, fields FROM event WHERE hub = ?", (hub,)).fetchall()
        for epoch, n, text in rows:
            fields = json.loads(text)
            left = {name: value for name, value in fields.items() if name not in CONSUMPTION}
            if len(left) < len(fields):
                key = (hub, epoch, n)
                sql = "UPDATE event SET fields = ? WHERE hub = ? AND epoch = ? AND n = ?"
                self._db.execute(sql, (json.dumps(left), *key))
                sql = "UPDATE message SET body = ? WHERE hub = ? AND epoch = ? AND lane = 'events' AND n = ?"
                self._db.execute(sql, (b"", *key))


def _runs(points: list[RegisterPoint]) -> Iterator[list[RegisterPoint]]:
    """Parted where a hole is too long to be bridged."""
    begin = 0
    for at in range(1, len(points)):
        if points[at].t_ms - points[at - 1].t_ms > _LONGEST_HOLE_MS:
            yield points[begin:at]
            begin = at
    yield points[begin:]


def readings_of(
    db: BookReader, hub: str, client: str, quantity: str, from_ms: int, to_ms: int, most: int
) -> Iterator[Row]:
    """Readings in order of time; an empty `client` or `quantity` is any."""
    where, values = ["hub = ?", "t_ms >= ?", "t_ms < ?"], [hub, from_ms, to_ms]
    for column, value in (("client", client), ("quantity", quantity)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    sql = (
        "SELECT client, quantity, t_ms, mantissa, exponent, flags FROM series JOIN reading ON series = id WHERE "
        + " AND ".join(where)
        + " ORDER BY t_ms LIMIT ?"
    )
    return (Row(*row) for row in db.execute(sql, (*values, most)))


def intervals_of(
    db: BookReader, hub: str, quantity: str, from_s: int, to_s: int
) -> list[tuple[int, int, int | None, str, int]]:
    """`(start_s, version, energy_mwh, quality, made_ms)`: the newest version of each half-hour."""
    return db.execute(
        "SELECT i.start_s, i.version, i.energy_mwh, i.quality, i.made_ms FROM interval i JOIN series ON i.series = id"
        " WHERE hub = ? AND client = ? AND quantity = ? AND i.start_s >= ? AND i.start_s < ? AND NOT EXISTS ("
        " SELECT 1 FROM interval n WHERE n.series = i.series AND n.start_s = i.start_s AND n.version > i.version)"
        " ORDER BY i.start_s",
        (hub, METER, quantity, from_s, to_s),
    ).fetchall()
