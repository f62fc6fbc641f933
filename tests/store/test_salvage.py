"""P3 and P9: whatever happened to the files, the hub goes on by itself, says so, and never gives a number twice."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest

from hub.core import records as r
from store import Sealed, Store
from store.epoch_file import EpochNote, next_epoch, read_note
from store.opening import StorePlace
from store.recovery import SALVAGE_EVERY_S, DatabaseRecovery
from store.space import make_budget
from store.walcheck import commits_beyond, read_header
from tests.harness.newborn import newborn
from tests.store.helpers import (
    WAIT_S,
    batch,
    commit,
    every,
    power_cut,
    sample,
    seal,
    seal_all,
    started,
    take,
    until,
    values_of,
)
from tests.store.test_custody import SESSION

Opener = Callable[..., Store]


def salvaged(store: Store) -> dict[str, Any]:
    """The one store.salvaged event, which is in the outbox like any other."""
    until(lambda: bool(store.events(9).result(WAIT_S)))
    found = [e for e in store.events(9).result(WAIT_S) if e["event"] == "store.salvaged"]
    assert len(found) == 1
    return found[0]


def works(store: Store) -> None:
    take(store, 424242)
    assert values_of(seal_all(store))[-1:] != []


@pytest.fixture
def filled(open_store: Opener, data_dir: Path) -> list[Sealed]:
    """A hub that was stopped: packs 1-3 (1 delivered), a receipt, a session, 200 unsealed samples."""
    store = open_store()
    changes = [SESSION, r.RetainedSet("price", b"{}", 1)]
    assert commit(store, batch(0, changes=changes)) is None
    take(store, *range(30))
    packs = [store.seal_pack(10).result(WAIT_S) for _ in range(3)]
    store.append("receipts", 61, b"receipt").result(WAIT_S)
    store.delivered("readings", 1, 1).result(WAIT_S)
    for number in range(100, 300):
        assert commit(store, batch(number, sample(value=number), seen=1)) is None
    store.close()
    return [pack for pack in packs if pack is not None]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def zeros(db: Path) -> None:
    db.write_bytes(bytes(db.stat().st_size))


def truncated_to_nothing(db: Path) -> None:
    os.truncate(db, 0)


def truncated_in_a_page(db: Path) -> None:
    os.truncate(db, 5000)


def noise(db: Path) -> None:
    db.write_bytes(b"\xa5" * 40_000)


def another_program(db: Path) -> None:
    db.unlink()
    with sqlite3.connect(db) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()


@pytest.mark.parametrize("harm", [zeros, truncated_to_nothing, truncated_in_a_page, noise, another_program])
def test_a_ruined_database_is_set_aside(
    filled: list[Sealed], open_store: Opener, data_dir: Path, harm: Callable[[Path], None]
) -> None:
    harm(data_dir / "hub.db")
    ruin = (data_dir / "hub.db").read_bytes()
    store = open_store()
    assert store.epoch == 2
    assert salvaged(store)["set_aside"] == "hub.db.corrupt-1"
    assert store.status()["salvaged"] == 1
    works(store)
    assert (data_dir / "hub.db.corrupt-1").stat().st_size == len(ruin)
    store.close()
    store = open_store()
    assert (store.epoch, store.boot) == (2, 2)
    assert store.status()["salvaged"] == 0


def test_a_newer_schema_is_not_touched_and_what_we_know_is_taken_over(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    with sqlite3.connect(data_dir / "hub.db") as newer:
        newer.execute("PRAGMA user_version = 99")
        newer.execute("ALTER TABLE retained ADD COLUMN expires_ms INTEGER")
    newer.close()
    store = open_store()
    assert store.epoch == 2
    event = salvaged(store)
    assert "99" in event["reason"]
    assert event["kept"]["samples"] == 200 and event["kept"]["messages"] == 3
    assert SESSION in store.restored and r.RetainedSet("price", b"{}", 1) in store.restored
    # What was sealed in epoch 1 and not delivered still goes up, byte for byte; what was not sealed, in epoch 2.
    assert store.unsent("readings", 0, 0, 99).result(WAIT_S) == filled[1:]
    assert [int(v * 10) for v in values_of(seal_all(store))] == list(range(100, 300))
    sent = store.unsent("readings", 0, 0, 99).result(WAIT_S)
    assert [(s.epoch, s.number) for s in sent] == [(1, 2), (1, 3), (2, 1)]
    for s in sent:
        store.delivered("readings", s.epoch, s.number).result(WAIT_S)
    assert store.unsent("readings", 0, 0, 99).result(WAIT_S) == []
    assert store.queue_status().result(WAIT_S)["readings"]["pending"] == 0


def pages_of(db: Path, table: str) -> list[int]:
    with sqlite3.connect(db) as connection:
        rows = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)).fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_a_bad_page_costs_what_was_on_it(filled: list[Sealed], open_store: Opener, data_dir: Path) -> None:
    leaves = pages_of(data_dir / "hub.db", "log")
    assert len(leaves) > 3
    (data_dir / "epoch").write_text("epoch 1 open\n")  # not shut down: the essential tables are looked through
    wal = data_dir / "hub.db-wal"
    wal.write_bytes(b"")
    overwrite(data_dir / "hub.db", (leaves[2] - 1) * 2048, b"\xff" * 2048)
    store = open_store()
    assert store.epoch == 2
    assert salvaged(store)["kept"]["messages"] == 3
    values = [int(v * 10) for v in values_of(seal_all(store))]
    assert len(values) > 80
    assert values == sorted(set(values)) and set(values) <= set(range(100, 300))
    assert values[-1] == 299, "what lies behind the bad page is found from the other end"


def test_damage_found_while_running_is_cured_and_the_batch_is_taken(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    leaf = max(pages_of(data_dir / "hub.db", "log"))
    overwrite(data_dir / "hub.db", (leaf - 1) * 2048, b"\xff" * 2048)
    store = open_store(monotonic=lambda: 5.0)  # shut down in order: not looked through
    assert commit(store, batch(1, sample(value=1, at_s=5.0))) is None
    seal_all(store)
    assert store.epoch == 2
    assert values_of(every(store, "readings"))
    assert salvaged(store)["kept"]["messages"] == 3
    assert store.status()["salvaged"] == 1
    works(store)


def test_a_flipped_bit_in_the_log_is_noticed(filled: list[Sealed], open_store: Opener, data_dir: Path) -> None:
    """In the value itself, which stays good CBOR: only its checksum knows. This is billing data."""
    with sqlite3.connect(data_dir / "hub.db") as connection:
        (body,) = connection.execute("SELECT body FROM log WHERE seq = 150").fetchone()
        samples, seen = cbor2.loads(body[4:])
        altered = cbor2.dumps([[*samples[:2], samples[2] ^ 1], seen])
        assert len(altered) == len(body) - 4
        connection.execute("UPDATE log SET body = ? WHERE seq = 150", (body[:4] + altered,))
    connection.close()
    store = open_store()
    assert len(values_of(seal_all(store))) == 199
    assert store.epoch == 2
    assert store.unsent("readings", 1, 0, 99).result(WAIT_S)[:2] == filled[1:]


def test_a_flipped_bit_in_a_pack_is_noticed_while_running(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    with sqlite3.connect(data_dir / "hub.db") as connection:
        connection.execute(
            "UPDATE sealed_readings SET body = CAST(x'00' || substr(body, 2) AS BLOB) WHERE id & 1023 = 2"
        )
    connection.close()
    store = open_store()
    assert store.unsent("readings", 0, 0, 99).result(WAIT_S) == filled[2:]
    assert (store.epoch, salvaged(store)["kept"]) == (2, {"samples": 200, "messages": 2, "records": 2})
    assert len(values_of(seal_all(store))) == 200


def test_a_flipped_bit_in_delivered_history_costs_one_pack(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    with sqlite3.connect(data_dir / "hub.db") as connection:
        connection.execute("UPDATE sealed_readings SET body = CAST(substr(body, 1, 9) AS BLOB) WHERE id & 1023 = 1")
    connection.close()
    store = open_store()
    assert len(store.readings().result(WAIT_S)) == 220
    assert every(store, "readings") == filled[1:]
    assert store.epoch == 1


def test_a_log_that_lost_its_rows_does_not_take_new_ones_for_sealed(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    with sqlite3.connect(data_dir / "hub.db") as connection:
        connection.execute("DELETE FROM log")
        connection.execute("DELETE FROM mark")
    connection.close()
    store = open_store()
    take(store, 1, 2)
    assert len(values_of(seal_all(store))) == 2


def test_a_lost_database_starts_the_next_epoch(filled: list[Sealed], open_store: Opener, data_dir: Path) -> None:
    (data_dir / "hub.db").unlink()
    store = open_store()
    assert (store.epoch, store.boot) == (2, 1)
    assert "lost" in salvaged(store)["reason"]
    works(store)


def test_a_restored_copy_starts_the_next_epoch(
    filled: list[Sealed], open_store: Opener, data_dir: Path, tmp_path: Path
) -> None:
    copy = power_cut(data_dir, tmp_path / "copy")
    zeros(data_dir / "hub.db")
    open_store().close()
    shutil.copy(copy / "hub.db", data_dir / "hub.db")
    store = open_store()
    assert store.epoch == 3
    assert "older" in salvaged(store)["reason"]
    assert len(store.unsent("readings", 0, 0, 99).result(WAIT_S)) == 2


def test_both_lost_is_a_new_hub_and_a_nameless_ruin_takes_the_time(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    (data_dir / "epoch").unlink()
    zeros(data_dir / "hub.db")
    store = open_store(trusted_utc_s=lambda: 1_800_000_000.0)
    assert store.epoch == 1_800_000_000
    assert store.append("receipts", 61, b"").result(WAIT_S).number == 1
    store.close()
    zeros(data_dir / "hub.db")
    assert open_store(trusted_utc_s=lambda: 1_700_000_000.0).epoch == 1_800_000_001


def test_epochs_only_grow() -> None:
    assert next_epoch(EpochNote(4, True), 2, 0) == 5
    assert next_epoch(None, 7, 0) == 8
    assert next_epoch(None, None, 1_000) == 1_000


def unclean(store: Store, data_dir: Path, tmp_path: Path) -> Path:
    """The files of a hub that lost its power, to be harmed."""
    return power_cut(data_dir, tmp_path / "cut")


def test_a_lost_wal_starts_the_next_epoch(store: Store, data_dir: Path, tmp_path: Path) -> None:
    take(store, 1, 2, 3)
    seal_all(store)
    cut = unclean(store, data_dir, tmp_path)
    (cut / "hub.db-wal").unlink()
    after = started(cut)
    try:
        assert after.epoch == 2
        assert "WAL" in salvaged(after)["reason"]
        works(after)
    finally:
        after.close()


def test_a_wal_torn_in_the_last_commit_is_what_power_cuts_do(store: Store, data_dir: Path, tmp_path: Path) -> None:
    take(store, 1, 2, 3)
    cut = unclean(store, data_dir, tmp_path)
    os.truncate(cut / "hub.db-wal", (cut / "hub.db-wal").stat().st_size - 100)
    after = started(cut)
    assert after.epoch == 1
    assert len(after.readings().result(WAIT_S)) == 2
    after.close()


def test_a_wal_damaged_in_the_middle_starts_the_next_epoch(store: Store, data_dir: Path, tmp_path: Path) -> None:
    take(store, *range(10))
    cut = unclean(store, data_dir, tmp_path)
    wal = cut / "hub.db-wal"
    header = read_header(wal)
    assert header is not None and commits_beyond(wal, header, 0) >= 10
    overwrite(wal, wal.stat().st_size - 5 * 2072 + 500, b"\xff")
    after = started(cut)
    try:
        assert after.epoch == 2
        assert salvaged(after)["reason"] == "the WAL is damaged"
        works(after)
    finally:
        after.close()


def test_a_damaged_wal_header_starts_the_next_epoch(store: Store, data_dir: Path, tmp_path: Path) -> None:
    take(store, 1)
    cut = unclean(store, data_dir, tmp_path)
    overwrite(cut / "hub.db-wal", 8, b"\xff\xff")
    after = started(cut)
    assert after.epoch == 2
    after.close()


def test_the_first_ruin_and_the_latest_are_kept(filled: list[Sealed], open_store: Opener, data_dir: Path) -> None:
    for number in range(1, 4):
        (data_dir / "hub.db").write_bytes(bytes([number]) * 3000)
        store = open_store()
        assert store.epoch == number + 1
        store.close()
    ruins = {path.name: path.read_bytes()[0] for path in data_dir.glob("hub.db.corrupt-*")}
    assert ruins == {"hub.db.corrupt-1": 3, "hub.db.corrupt-2": 1}, "the first has most of the data in it"


def test_a_salvage_cut_short_is_done_again(filled: list[Sealed], open_store: Opener, data_dir: Path) -> None:
    (data_dir / "hub.db.new").write_bytes(b"half a database")
    zeros(data_dir / "hub.db")
    assert open_store().epoch == 2
    assert not (data_dir / "hub.db.new").exists()


def test_a_salvage_cut_between_its_renames_is_finished(
    filled: list[Sealed], open_store: Opener, data_dir: Path
) -> None:
    (data_dir / "hub.db").rename(data_dir / "hub.db.new")
    (data_dir / "hub.db.corrupt-1").write_bytes(b"the ruin")
    (data_dir / "hub.db-wal").write_bytes(b"and its WAL")
    store = open_store()
    assert store.epoch == 1
    assert len(store.unsent("readings", 0, 0, 99).result(WAIT_S)) == 2
    assert (data_dir / "hub.db.corrupt-1-wal").read_bytes() == b"and its WAL"


def test_the_side_file_says_open_and_closed(open_store: Opener, data_dir: Path) -> None:
    store = open_store()
    assert read_note(data_dir) == EpochNote(1, True)
    store.close()
    assert read_note(data_dir) == EpochNote(1, False)
    (data_dir / "epoch").write_bytes(b"\xff")
    assert read_note(data_dir) is None
    assert open_store().epoch == 1


def test_damage_that_comes_back_at_once_is_salvaged_once_a_minute(tmp_path: Path) -> None:
    """A medium that fails is not worn out by salvaging over and over."""
    now_s = [1000.0]
    newborn(tmp_path / "data")
    place = StorePlace(
        tmp_path / "data",
        seal,
        make_budget(64, 4096),
        lambda: int(now_s[0] * 1000),
        lambda: 0,
        trusted_utc_s=lambda: 1.0,
    )
    keeper = DatabaseRecovery(place)
    keeper.open()
    assert keeper.recover("damage")
    epoch = keeper.epoch
    for later_s, salvaged in ((0.0, False), (SALVAGE_EVERY_S - 1, False), (1.0, True), (1.0, False)):
        now_s[0] += later_s
        assert keeper.recover("damage") is salvaged
    assert keeper.epoch == epoch + 1 and keeper.counts["salvaged"] == 2
    keeper.close()
