"""Readings into a columnar store (VictoriaMetrics, its import API), once they are in the book: for questions over
months and thousands of households, which rows answer slowly. The book has the values exactly, and what may be asked of
it for a bill.

What is to be written stands in the database (`uncolumned`) with the pack itself: a store that is away, or a death in
between, costs nothing but time. It may be written twice; a reading is its series and its time stamp there, so it is
there once (start the store with `-dedup.minScrapeInterval=1ms`)."""

import json
import logging
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from deploy.headend.background import Background
from deploy.headend.intake import book_in
from hub.headend.database import FAILURES, BookDatabase
from hub.headend.engines import open_database
from hub.wire.printable import why
from hub.wire.uplink import pack
from hub.wire.uplink.envelope import split_sign1
from hub.wire.uplink.reading import Reading, decimal_to_float

_LOG = logging.getLogger("headend")
READING, DOUBTFUL = "meterhub_reading", "meterhub_doubtful_reading"
_AT_ONCE = 500
_IDLE_S, _FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 1.0, 60.0
_ANSWER_S = 30.0
_LATEST_MS = 1 << 43


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
    """A thread with a database connection of its own. `url`: of the store."""

    def __init__(self, place: Path | str, url: str) -> None:
        super().__init__("columns")
        self._place, self._url = place, url.rstrip("/")
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
        erased = db.execute("SELECT hub FROM column_erasure ORDER BY hub").fetchall()
        for (hub,) in erased:
            # json.dumps quotes as PromQL does.
            self._post("/api/v1/admin/tsdb/delete_series?" + urllib.parse.urlencode(
                {"match[]": f'{{__name__=~"{READING}|{DOUBTFUL}",hub={json.dumps(hub)}}}'}), b"")  # fmt: skip
            _once(db, "DELETE FROM column_erasure WHERE hub = ?", [(hub,)])
        rows = db.execute(
            "SELECT u.id, m.hub, m.body FROM uncolumned u JOIN message m ON m.hub = u.hub AND m.epoch = u.epoch"
            " AND m.lane = u.lane AND m.n = u.n ORDER BY u.id LIMIT ?",
            (_AT_ONCE,),
        ).fetchall()
        self._import([(hub, bytes(body)) for _, hub, body in rows])
        if rows:
            _once(db, "DELETE FROM uncolumned WHERE id = ?", [(row[0],) for row in rows])
        return len(rows) + len(erased)

    def _import(self, packs: list[tuple[str, bytes]]) -> None:
        lines: list[str] = []
        count = 0
        for hub, body in packs:
            if body:  # empty: the household was forgotten since
                message = split_sign1(body)
                readings = pack.decode_pack(pack.inflate_pack(message.header, message.payload))
                lines += import_lines(hub, readings)
                count += len(readings)
        if not lines:
            return
        try:
            self._post("/api/v1/import", "\n".join(lines).encode())
        except urllib.error.HTTPError as error:
            if not 400 <= error.code < 500:
                raise
            # It will not have this, whenever it is asked: the others must not wait behind one for ever.
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


def _once(db: BookDatabase, sql: str, rows: list[tuple[object, ...]]) -> None:
    db.begin()
    try:
        db.executemany(sql, rows)
        db.commit()
    except FAILURES:
        db.undo()
        raise
