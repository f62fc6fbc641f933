"""Readings into a columnar store (VictoriaMetrics, its import API), once they are in the book: for questions over
months and thousands of households, which rows answer slowly. The book has the values exactly, and what may be asked of
it for a bill.

What is to be written stands in the database (`uncolumned`) with the pack itself: a store that is away, or a death in
between, costs nothing but time. It may be written twice; a reading is its series and its time stamp there, so it is
there once (start the store with `-dedup.minScrapeInterval=1ms`).

The store says that it has what it holds in memory alone, for some seconds; one that is killed then has forgotten it.
So what was written stands in the database (`column_written`, `column_erased`) until that time is over, and is written
again where the store has started anew meanwhile."""

import json
import logging
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path

from deploy.headend.background import Background
from deploy.headend.intake import book_in
from hub.headend.database import FAILURES, BookDatabase
from hub.headend.engines import open_database
from hub.wire.printable import plain, why
from hub.wire.uplink import pack
from hub.wire.uplink.envelope import split_sign1
from hub.wire.uplink.reading import Reading, decimal_to_float

_LOG = logging.getLogger("headend")
READING, DOUBTFUL = "meterhub_reading", "meterhub_doubtful_reading"
_AT_ONCE = 500
_IDLE_S, _FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 1.0, 60.0
_ANSWER_S = 30.0
_LATEST_MS = 1 << 43
# The store's disk has what it was given after five seconds (its -inmemoryDataFlushInterval); so long it is not trusted.
_SETTLED_S = 30.0
_LOOK_S = 5.0  # between looks at whether it started anew
_OLD_ENOUGH_S = 2
# Bad, too large, not to be understood: it will not have this, whenever it is asked. Any other answer (a proxy that
# knows us no more, a quota) may be another one tomorrow.
_NEVER = (400, 413, 422)


def import_lines(hub: str, readings: list[Reading]) -> Iterator[str]:
    """A line a series: JSON as VictoriaMetrics imports it. What the hub doubts (flags) has a name of its own."""
    columns: dict[tuple[str, str, bool], tuple[list[int], list[float]]] = {}
    for client, quantity, t_ms, mantissa, exponent, flags in readings:
        try:
            value = decimal_to_float(mantissa, exponent)
        except OverflowError:
            continue  # the book has it; no store of floats can
        if math.isfinite(value) and 0 <= t_ms < _LATEST_MS:
            times, values = columns.setdefault((client, quantity, bool(flags)), ([], []))
            times.append(t_ms)
            values.append(value)
    for (client, quantity, is_doubtful), (times, values) in columns.items():
        name = DOUBTFUL if is_doubtful else READING
        labels = {"__name__": name, "hub": hub, "client": client, "quantity": quantity}
        yield json.dumps({"metric": labels, "values": values, "timestamps": times})


class ColumnWriter(Background):
    """A thread with a database connection of its own. `url`: of the store; `settled_s`: how long what it took may be
    on none of its disks."""

    def __init__(self, place: Path | str, url: str, settled_s: float = _SETTLED_S) -> None:
        super().__init__("columns")
        self._place, self._url, self._settled_s = place, url.rstrip("/"), settled_s
        self._look_at = 0.0
        self._start = ""  # when the store began, in its own words
        self.counts = {"column_readings": 0, "column_failures": 0}

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                with closing(open_database(book_in(self._place))) as db:
                    while not self._stopping.is_set():
                        if not self.write_some(db):
                            self._stopping.wait(_IDLE_S)
                        pause_s = _FIRST_PAUSE_S
            except FAILURES as error:
                self.counts["column_failures"] += 1
                _LOG.error("readings wait for the columnar store: %s", why(error))
                self._stopping.wait(pause_s)
                pause_s = min(pause_s * 2, _MOST_PAUSE_S)

    def write_some(self, db: BookDatabase) -> int:
        """Some of what waits; how many packs and erasures. Raises one of FAILURES: what was not written waits."""
        if time.monotonic() >= self._look_at:
            self._start = self._started()
            self._settle(db)
            self._look_at = time.monotonic() + _LOOK_S
        # Should it start anew from here on, what is written goes under a start that is no more, and is written again.
        erased = db.execute("SELECT hub FROM column_erasure ORDER BY hub").fetchall()
        for (hub,) in erased:
            # json.dumps quotes as PromQL does.
            self._post("/api/v1/admin/tsdb/delete_series?" + urllib.parse.urlencode(
                {"match[]": f'{{__name__=~"{READING}|{DOUBTFUL}",hub={json.dumps(hub)}}}'}), b"")  # fmt: skip
            with _transaction(db):
                db.execute("DELETE FROM column_erasure WHERE hub = ?", (hub,))
                db.execute(
                    "INSERT INTO column_erased VALUES (?, ?, ?) ON CONFLICT (hub) DO UPDATE SET"
                    " written_ms = excluded.written_ms, start = excluded.start", (hub, _now_ms(), self._start),
                )  # fmt: skip
        rows = db.execute(
            "SELECT u.id, u.hub, m.body, u.epoch, u.lane, u.n FROM uncolumned u LEFT JOIN message m ON m.hub = u.hub"
            " AND m.epoch = u.epoch AND m.lane = u.lane AND m.n = u.n ORDER BY u.id LIMIT ?",
            (_AT_ONCE,),
        ).fetchall()
        self._import([(row[1], bytes(row[2] or b"")) for row in rows])
        if rows:
            with _transaction(db):
                db.executemany("DELETE FROM uncolumned WHERE id = ?", [(row[0],) for row in rows])
                db.executemany(
                    "INSERT INTO column_written (hub, epoch, lane, n, written_ms, start) VALUES (?, ?, ?, ?, ?, ?)",
                    [(row[1], *row[3:], _now_ms(), self._start) for row in rows],
                )
        return len(rows) + len(erased)

    def _started(self) -> str:
        """When the store began, in its own words; empty where it does not say. They are whole seconds: who began in
        this one, and died, and began again would be taken for one, so a store is let grow older than that first."""
        while True:
            try:
                with urllib.request.urlopen(self._url + "/metrics", timeout=_ANSWER_S) as answer:
                    said = dict(line.rsplit(b" ", 1) for line in answer.read().splitlines() if b" " in line)
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.NOT_FOUND:
                    return ""
                raise
            try:
                age_s = float(said.get(b"vm_app_uptime_seconds", _OLD_ENOUGH_S))
            except ValueError as error:
                raise OSError(f"what answers there is no such store: {error}") from None
            if age_s >= _OLD_ENOUGH_S:
                return plain(said.get(b"vm_app_start_timestamp", b"").decode("ascii", "replace"))
            if self._stopping.wait(0.2):
                raise InterruptedError("the service ends")

    def _settle(self, db: BookDatabase) -> None:
        """What the store has on its disk by now needs no watching; what it had in memory before it began anew waits
        once more."""
        with _transaction(db):
            db.execute(
                "INSERT INTO uncolumned (hub, epoch, lane, n) SELECT hub, epoch, lane, n FROM column_written"
                " WHERE start <> ? ORDER BY id", (self._start,),
            )  # fmt: skip
            db.execute(
                "INSERT INTO column_erasure SELECT hub FROM column_erased WHERE start <> ? ON CONFLICT DO NOTHING",
                (self._start,),
            )
            for table in ("column_written", "column_erased"):
                db.execute(
                    f"DELETE FROM {table} WHERE start <> ? OR written_ms <= ?",
                    (self._start, _now_ms() - int(self._settled_s * 1000)),
                )

    def _import(self, packs: list[tuple[str, bytes]]) -> None:
        lines: list[str] = []
        count = 0
        for hub, body in packs:
            if body:  # else the household was forgotten since, or the pack was cleared
                message = split_sign1(body)
                readings = pack.decode_pack(pack.inflate_pack(message.header, message.payload))
                lines += import_lines(hub, readings)
                count += len(readings)
        if not lines:
            return
        try:
            self._post("/api/v1/import", "\n".join(lines).encode())
        except urllib.error.HTTPError as error:
            if error.code not in _NEVER:
                raise
            # The others must not wait behind one for ever.
            if len(packs) > 1:
                for one in packs:
                    self._import([one])
                return
            self.counts["column_failures"] += 1
            _LOG.error("the columnar store refused a pack of %s: %s", packs[0][0], why(error))
            return
        self.counts["column_readings"] += count

    def _post(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(self._url + path, body, method="POST")
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            answer.read()


@contextmanager
def _transaction(db: BookDatabase) -> Iterator[None]:
    db.begin()
    try:
        yield
        db.commit()
    except FAILURES:
        db.undo()
        raise


def _now_ms() -> int:
    return int(time.time() * 1000)
