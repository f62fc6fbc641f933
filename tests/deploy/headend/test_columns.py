"""Readings in the columnar store: a real VictoriaMetrics, once each, whatever is written twice or dies."""

import json
import math
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.headend.columns import ColumnWriter, import_lines
from deploy.headend.control_point import reader
from deploy.headend.intake import book_in
from deploy.waiting import free_port, wait_for
from hub.headend.database import FAILURES
from hub.headend.engines import open_database
from hub.wire.uplink.reading import Reading, decimal_to_float
from tests.deploy.headend.home import Fleet


class Store:
    """VictoriaMetrics in a folder."""

    def __init__(self, folder: Path, program: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._words = [program, "-storageDataPath", str(folder / "data"), "-httpListenAddr", f"127.0.0.1:{self.port}",
                       "-retentionPeriod", "100y", "-dedup.minScrapeInterval", "1ms"]  # fmt: skip
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Store":
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._words, stdout=log, stderr=log)
        wait_for("the store", self._is_there)
        return self

    def _is_there(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """As a machine that dies: what was in memory alone is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def all(self) -> list[tuple[str, str, str, int, float]]:
        """(hub, client, quantity, t_ms, value) of every reading, in order."""
        with urllib.request.urlopen(f"{self.url}/internal/force_flush"):  # what was imported is found from now on
            pass
        what = urllib.parse.urlencode({"match[]": '{__name__=~"meterhub_.*"}', "start": "0", "reduce_mem_usage": "0"})
        with urllib.request.urlopen(f"{self.url}/api/v1/export?{what}") as answer:
            lines = [json.loads(line) for line in answer]
        return sorted(
            (line["metric"]["hub"], line["metric"]["client"], line["metric"]["quantity"], t, float(value))
            for line in lines
            for t, value in zip(line["timestamps"], line["values"])
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("VictoriaMetrics is not installed")
    folder = tmp_path / "store"
    folder.mkdir()
    store = Store(folder, program).start()
    yield store
    store.stop()


def in_book(place: Path | str) -> list[tuple[str, str, str, int, float]]:
    with closing(reader(place)) as db:
        rows = db.execute(
            "SELECT hub, client, quantity, t_ms, mantissa, exponent FROM series JOIN reading ON series = id"
        ).fetchall()
    return sorted((*tuple(row)[:4], decimal_to_float(row[4], row[5])) for row in rows)


def test_what_is_in_the_book_is_there_once(tmp_path: Path, place: Path | str, store: Store) -> None:
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"], place, has_columns=True)
    fleet.start()
    fleet.run(130)
    writer = ColumnWriter(place, store.url)
    with closing(open_database(book_in(place))) as db:
        assert writer.write_some(db) >= 4
        wait_for("the readings", lambda: store.all() == in_book(place) != [])
        fleet.run(61)
        store.stop()
        with pytest.raises(FAILURES):
            writer.write_some(db)
        store.start()
        # As after a death between writing and noting: everything once more.
        db.begin()
        db.execute("INSERT INTO uncolumned (hub, epoch, lane, n) SELECT hub, epoch, lane, n FROM message"
                   " WHERE lane = 'readings'")  # fmt: skip
        db.commit()
        while writer.write_some(db):
            pass
        wait_for("the readings, once each", lambda: store.all() == in_book(place))
        fleet.point.book.begin()
        fleet.point.usage.erase("SIM-1")
        fleet.point.commit()
        writer.write_some(db)
        wait_for("a household to be forgotten", lambda: {row[0] for row in store.all()} == {"SIM-2"})
        fleet.run(61)
        while writer.write_some(db):
            pass
        wait_for("what it says from now on", lambda: store.all() == in_book(place))
        assert {row[0] for row in store.all()} == {"SIM-1", "SIM-2"}
    fleet.close()


def test_what_a_killed_store_had_in_memory_alone_is_written_again(
    tmp_path: Path, place: Path | str, store: Store
) -> None:
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"], place, has_columns=True)
    fleet.start()
    fleet.run(130)
    with closing(open_database(book_in(place))) as db:
        writer = ColumnWriter(place, store.url)
        while writer.write_some(db):
            pass
        store.kill()
        store.start()
        assert store.all() != in_book(place), "it has not forgotten what it had in memory: this test shows nothing"
        writer = ColumnWriter(place, store.url)
        while writer.write_some(db):
            pass
        wait_for("the readings", lambda: store.all() == in_book(place) != [])
        # A household that was forgotten there stays forgotten, and the other is not.
        fleet.point.book.begin()
        fleet.point.usage.erase("SIM-1")
        fleet.point.commit()
        writer.write_some(db)
        store.kill()
        store.start()
        ColumnWriter(place, store.url).write_some(db)
        wait_for("a household to be forgotten", lambda: store.all() == in_book(place) != [])
        assert {row[0] for row in store.all()} == {"SIM-2"}
        watched = "SELECT count(*) FROM column_written"
        assert db.execute(watched).fetchone()[0] > 0
        ColumnWriter(place, store.url, settled_s=0).write_some(db)
        assert db.execute(watched).fetchone()[0] == 0, "what is on its disk is watched no longer"
    fleet.close()


class _Guarded(BaseHTTPRequestHandler):
    """A proxy before the store that answers each import with `answer`."""

    answer = 401

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("answer", "waits"), [(401, True), (404, True), (429, True), (503, True), (400, False)])
def test_only_what_the_store_will_never_have_is_given_up(tmp_path: Path, answer: int, waits: bool) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], tmp_path / "headend", has_columns=True)
    fleet.run(130)
    server = HTTPServer(("127.0.0.1", 0), type("_Answering", (_Guarded,), {"answer": answer}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        writer = ColumnWriter(tmp_path / "headend", f"http://127.0.0.1:{server.server_port}")
        with closing(open_database(book_in(tmp_path / "headend"))) as db:
            if waits:
                with pytest.raises(FAILURES):
                    writer.write_some(db)
            else:
                assert writer.write_some(db) and writer.counts["column_failures"]
            assert bool(db.execute("SELECT count(*) FROM uncolumned").fetchone()[0]) is waits
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    fleet.close()


def test_a_store_that_is_away_holds_nothing_up_and_gets_all(tmp_path: Path, store: Store) -> None:
    place = tmp_path / "headend"
    fleet = Fleet(tmp_path, ["SIM-1"], place, has_columns=True)
    fleet.start()
    store.stop()
    writer = ColumnWriter(place, store.url + "/")
    writer.start()
    try:
        fleet.run(130)
        wait_for("a try in vain", lambda: writer.counts["column_failures"])
        store.start()
        wait_for("the readings", lambda: store.all() == in_book(place) != [])
        assert writer.counts["column_readings"] == len(in_book(place))
    finally:
        writer.stop()
    fleet.close()


def test_without_a_store_nothing_waits_for_one(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], place)
    fleet.run(130)
    with closing(reader(place)) as db:
        assert db.execute("SELECT count(*) FROM uncolumned").fetchone()[0] == 0
    fleet.close()


def test_a_line_a_series_and_doubt_has_a_name_of_its_own() -> None:
    meter = ("meter", "power")
    readings = [
        Reading(*meter, 1000, 15, 0), Reading(*meter, 2000, 155, -1, 0), Reading('a"b', "power", 1000, 1, 0, 1),
        Reading(*meter, 1, 1, 400), Reading(*meter, -5, 1, 0), Reading(*meter, 1 << 62, 1, 0),
    ]  # fmt: skip
    lines = [json.loads(line) for line in import_lines("H", readings)]
    assert [(line["metric"]["__name__"], line["timestamps"], line["values"]) for line in lines] == [
        ("meterhub_reading", [1000, 2000], [15.0, 15.5]), ("meterhub_doubtful_reading", [1000], [1.0])]  # fmt: skip
    assert all(math.isfinite(value) for line in lines for value in line["values"])
