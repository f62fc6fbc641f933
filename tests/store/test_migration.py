"""A database of an older schema goes on: nothing in it is lost, and it is not taken for a damaged one."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.core import records as r
from store import Store, database
from store.database import SCHEMA
from tests.store.helpers import WAIT_S, batch, commit, sample

Opener = Callable[..., Store]

PLUG = r.SessionChanged("plug-1", ("udp", "192.0.2.1", 1883), "asleep", True, 300, "will", b"\x00gone", 1, True)
TOPIC = r.TopicRegistered("plug-1", 1, "plant/a")
WAITING = r.MessageQueued("plug-1", 3, "plant/a", b"on", 1, False)

# The table of the first schema, which schema_001.sql makes; the records of today have a column more.
_COLUMNS_1 = "client_id, peer, state, clean_session, duration_s, will_topic, will_message, will_qos, will_retain"


@pytest.fixture
def first_schema(open_store: Opener, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data_dir as version 1 left it: one reading, one session with what belongs to it."""
    store = open_store()
    assert commit(store, batch(1, sample(value=7), seen=1, changes=[PLUG, TOPIC, WAITING])) is None
    store.close()
    path = data_dir / "hub.db"
    fresh = data_dir / "first.db"
    with monkeypatch.context() as patched:
        patched.setattr(database, "SCHEMA", 1)
        made = database.Database(fresh, wal_bytes=1 << 20, max_pages=1 << 20)
        made.migrate()
        made.close()
    connection = sqlite3.connect(fresh, isolation_level=None)
    connection.execute("ATTACH ? AS now", (str(path),))
    connection.execute(f"INSERT INTO main.session SELECT {_COLUMNS_1} FROM now.session")
    for table in ("hub", "boots", "series", "client", "log", "mark", "topic", "inbox"):
        connection.execute(f"INSERT INTO main.{table} SELECT * FROM now.{table}")
    connection.close()
    fresh.replace(path)
    return path


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_it_is_brought_up_to_date_with_its_sessions(first_schema: Path, open_store: Opener) -> None:
    assert version_of(first_schema) == 1
    store = open_store()
    assert (store.epoch, store.boot, store.status()["salvaged"]) == (1, 2, 0)
    assert [record for record in store.restored if not isinstance(record, r.Seen)] == [PLUG, TOPIC, WAITING]
    assert store.status()["readings"] == 1
    spoken = PLUG._replace(v2_state="2 0 60 0 90")
    assert commit(store, batch(2, changes=[spoken])) is None
    store.close()
    assert version_of(first_schema) == SCHEMA
    store = open_store()
    assert spoken in store.restored


def test_a_failed_migration_is_none(first_schema: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step and the record of it are one transaction: a hub that dies in it starts it over."""

    def torn(version: int) -> list[str]:
        return [*real(version), "ALTER TABLE nowhere ADD COLUMN x"]

    real = database.schema_statements
    connection = database.Database(first_schema, wal_bytes=1 << 20, max_pages=1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(database, "schema_statements", torn)
        with pytest.raises(sqlite3.OperationalError):
            connection.identify()
    connection.close()
    assert version_of(first_schema) == 1
    assert PLUG in open_store().restored


def test_sessions_of_a_damaged_one_are_salvaged(first_schema: Path, open_store: Opener, data_dir: Path) -> None:
    with sqlite3.connect(first_schema) as connection:
        connection.execute("PRAGMA application_id = 1")  # found before anything is migrated
    connection.close()
    store = open_store()
    store.queue_status().result(WAIT_S)
    assert store.epoch == 2 and (data_dir / "hub.db.corrupt-1").exists()
    assert PLUG in store.restored and WAITING in store.restored
