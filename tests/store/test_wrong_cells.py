"""P9: a flipped bit can turn a number into a text, which neither SQLite nor its check minds. No cell of any table, of
whatever kind it comes to be, may keep the hub from starting, sealing, sending and answering."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.core import records as r
from hub.core.control.records import Journal
from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig
from store import Store
from store.queries import LANES
from tests.store.helpers import WAIT_S, batch, commit, payload_of, sample, seal_all, started, take
from tests.store.home import Home
from tests.store.test_custody import SESSION

CLIENT = SESSION.client_id
HOME = [
    SESSION,
    r.RetainedSet("price", b"{}", 1),
    r.TopicRegistered(CLIENT, 5, "a/b"),
    r.SubscriptionAdded(CLIENT, "x/#", 1),
    r.MessageQueued(CLIENT, 1, "t", b"p", 1, False),
    r.ForwardQueued("alarm/x", b"1"),
    r.EventRecorded("adapter.lost", {"client": CLIENT}),
]
EVIL: tuple[object, ...] = ("x", b"\xff", 1.5, 1 << 62)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub that was stopped in order, so that nothing is looked through at its next start, with rows in each table."""
    data_dir = tmp_path_factory.mktemp("victim") / "data"
    home = Home([1000.0])
    store = started(data_dir, monotonic=home.monotonic)
    home.report(store, 2100, 20)
    store.close()
    store = started(data_dir)
    assert commit(store, batch(0, changes=HOME)) is None
    take(store, *range(1, 60))
    seal_all(store, 30)
    store.delivered("readings", 1, 1).result(WAIT_S)
    for lane in ("receipts", "answers"):
        store.append(lane, 60, b"message").result(WAIT_S)
    store.commit_control(Journal(kept={"ctr/grid": b"\x05", "limit/aa": b"?"})).result(WAIT_S)
    take(store, *range(60, 90))
    store.close()
    return data_dir


def columns(db: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(db) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = [
            (table, row[1])
            for table in tables
            if not table.startswith(("sqlite", "_sqlite"))
            for row in connection.execute(f"PRAGMA table_info({table})")
        ]
    connection.close()
    return found


def harm(db: Path, table: str, column: str, value: object) -> bool:
    """Put it into the last row; False where SQLite's schema does not let it in."""
    connection = sqlite3.connect(db)
    try:
        last = f" WHERE rowid = (SELECT max(rowid) FROM {table})" if _has_rowid(connection, table) else ""
        with connection:
            connection.execute(f"UPDATE {table} SET {column} = ?{last}", (value,))
        return True
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _has_rowid(connection: sqlite3.Connection, table: str) -> bool:
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    return "WITHOUT ROWID" not in sql


def live(data_dir: Path) -> None:
    """Everything that a hub does with its store."""
    store = started(data_dir)
    try:
        now = time.monotonic()
        gateway = Gateway(GatewayConfig(), now)
        gateway.restore(store.restored, now)
        gateway.handle_timer(now + 1)
        store.control_state().result(WAIT_S)
        assert commit(store, batch(1, sample(value=424242), seen=1)) is None
        seal_all(store)
        for lane in LANES:
            for message in store.unsent(lane, 0, 0, 1000).result(WAIT_S):
                payload_of(message)
                store.delivered(lane, message.epoch, message.number).result(WAIT_S)
        store.forwards(0, 10).result(WAIT_S)
        assert 424242 in [reading.mantissa for reading in store.readings(limit=1 << 20).result(WAIT_S)]
        store.events(100).result(WAIT_S)
        store.queue_status().result(WAIT_S)
        assert store.append("receipts", 61, b"q").result(WAIT_S).epoch == store.epoch
        assert commit(store, batch(2, sample(value=424243), seen=1)) is None
        status = store.status()
        assert status["salvaged"] <= 1 and (status["salvaged"] or not status["errors"]), status["last_error"]
    finally:
        store.close()


def try_all(victim: Path, place: Path, cells: list[tuple[str, str]], evil: Callable[[int], object]) -> int:
    """Harm one cell after the other; how many could be."""
    tried = 0
    for number, (table, column) in enumerate(cells):
        data_dir = place / f"{table}.{column}"
        shutil.copytree(victim, data_dir)
        if harm(data_dir / "hub.db", table, column, evil(number)):
            tried += 1
            try:
                live(data_dir)
            except Exception as error:
                raise AssertionError(f"{table}.{column} = {evil(number)!r}: {error!r}") from error
        shutil.rmtree(data_dir)
    return tried


# One of each table, and each of those that decide about numbers: every other one in the long form.
WORST = [
    ("hub", "epoch"), ("boots", "offset_ms"), ("series", "exponent"), ("client", "client_id"), ("mark", "value"),
    ("log", "mono_ms"), ("sealed_readings", "id"), ("sealed_readings", "upto_seq"), ("sealed_readings", "upto_index"),
    ("sealed_events", "t_ms"), ("sealed_receipts", "t_ms"), ("session", "duration_s"), ("topic", "topic_id"),
    ("subscription", "topic_filter"), ("retained", "payload"), ("inbox", "seq"), ("forward", "topic"),
    ("control", "value"),
]  # fmt: skip


def test_no_cell_of_the_wrong_kind_keeps_the_hub_from_working(victim: Path, tmp_path: Path) -> None:
    assert set(WORST) <= set(columns(victim / "hub.db"))
    tried = try_all(victim, tmp_path, WORST, lambda number: 1 << 62 if WORST[number][1] == "id" else EVIL[number % 2])
    assert tried == len(WORST)


@pytest.mark.slow
@pytest.mark.parametrize("evil", EVIL, ids=lambda value: type(value).__name__)
def test_no_cell_of_any_wrong_kind_does(victim: Path, tmp_path: Path, evil: object) -> None:
    cells = columns(victim / "hub.db")
    assert len(cells) > 60
    assert try_all(victim, tmp_path, cells, lambda _number: evil) > 30


def test_what_no_salvage_could_make_sound_is_left_behind(victim: Path, tmp_path: Path) -> None:
    """The hub then starts with nothing rather than not at all, and the first ruin is kept whole."""
    data_dir = tmp_path / "data"
    shutil.copytree(victim, data_dir)
    # A session of a kind that is sound in each column, and whose peer is not what a peer is.
    assert harm(data_dir / "hub.db", "session", "peer", b"\xa0")
    live(data_dir)
    store = Store(data_dir, seal=lambda *_: b"")
    store.start()
    assert SESSION not in store.restored and store.epoch == 2
    store.close()
