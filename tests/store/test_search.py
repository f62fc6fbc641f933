"""A search opens the packs that can hold what is asked for, and finds all of it, also where there was no index yet."""

import random
import sqlite3
from pathlib import Path

import pytest

from hub.wire.uplink.reading import Reading
from store.database import open_read_only
from store.engine import Group
from store.history import ReadingsQuery, Wanted, find_readings
from store.logview import LogView
from store.offline import OfflineStore
from store.opening import StorePlace
from store.recovery import DatabaseRecovery
from store.space import make_budget
from tests.harness.newborn import newborn
from tests.store.helpers import batch, commit, sample, seal, seal_all, started

_PACKS = 40


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of two readings; some clients are in few of them."""
    folder = tmp_path_factory.mktemp("search") / "data"
    store = started(folder)
    chance = random.Random(1)
    for number in range(_PACKS):
        client = "rare" if number == 7 else f"plug-{chance.randrange(4)}"
        readings = [
            sample(client, number, 1000.0 + number, "power"),
            sample("plug-0", number, 1000.5 + number, "energy" if number % 2 else "power"),
        ]
        assert commit(store, batch(number, *readings)) is None
        seal_all(store, 2)
    store.close()
    return folder


def steps(folder: Path, query: ReadingsQuery) -> tuple[int, list[Reading]]:
    """How many slices a search takes, and what it finds."""
    db = open_read_only(folder / "hub.db", immutable=True)
    search, count = find_readings(LogView(db), Wanted(**query)), 0
    while True:
        try:
            next(search)
            count += 1
        except StopIteration as done:
            db.close()
            return count, done.value


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        {"client": "rare"},
        {"client": "nobody"},
        {"client": "plug-0", "quantity": "energy"},
        {"quantity": "energy"},
        {"client": "plug-1", "limit": 3},
        {},
    ],
)
def test_it_finds_what_a_look_at_everything_finds(data_dir: Path, query: ReadingsQuery, newest_first: bool) -> None:
    asked: ReadingsQuery = {**query, "newest_first": newest_first}
    with OfflineStore(data_dir) as view:
        everything = view.readings(limit=1 << 20)
        found = view.readings(**asked)
    wanted = [
        reading
        for reading in (reversed(everything) if newest_first else everything)
        if reading.client_id == query.get("client", reading.client_id)
        and reading.quantity == query.get("quantity", reading.quantity)
    ]
    assert found == wanted[: query.get("limit", 1000)] and len(everything) == 2 * _PACKS


def test_who_was_never_here_costs_nothing(data_dir: Path) -> None:
    assert steps(data_dir, {"client": "nobody"}) == (0, [])
    assert steps(data_dir, {"client": "plug-0", "quantity": "volume"}) == (0, [])
    assert len(steps(data_dir, {"client": "rare"})[1]) == 1


def test_packs_of_before_the_index_are_looked_through(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "hub.db").write_bytes((data_dir / "hub.db").read_bytes())
    with sqlite3.connect(folder / "hub.db") as db:
        db.execute("DELETE FROM present")
        db.execute("UPDATE present_since SET id = (SELECT max(id) FROM sealed_readings)")
    db.close()
    assert len(steps(folder, {"client": "rare"})[1]) == 1


def test_what_is_noted_of_packs_that_are_gone_goes_with_them(tmp_path: Path) -> None:
    """Names that came and went must not stay for ever."""
    newborn(tmp_path / "data")
    place = StorePlace(tmp_path / "data", seal, make_budget(64, 4096), lambda: 1_000_000, lambda: 0)
    keeper = DatabaseRecovery(place)
    keeper.open()
    engine = keeper.require()
    for number in range(3):
        assert keeper.commit(Group([batch(number, sample(value=number, at_s=1000.0))])) is None
        pack = engine.seal_pack(1)
        assert pack is not None
        engine.outbox.mark("readings", pack.epoch, pack.number, 0)
    with engine.transaction():
        engine.db.run("present_add", (1, "gone", "power"))
    keeper.take_clock(4_000_000_000_000, True)
    assert engine.retention.prune_history(1)
    assert engine.db.run("present_where", ("gone", None)).fetchall() == []
    assert len(engine.db.run("present_where", ("plug-1", "power")).fetchall()) == 1
    keeper.close()


def test_readings_of_one_millisecond_stay_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """A register that counted twice within a millisecond did not fall."""
    folder = tmp_path / "data"
    store = started(folder)
    assert commit(store, batch(1, *(sample("meter", value, 7.0, "energy") for value in (10, 20)))) is None
    seal_all(store, 2)
    for value in (30, 40, 50):
        assert commit(store, batch(value, sample("meter", value, 7.0, "energy"))) is None
    store.close()
    with OfflineStore(folder) as view:
        assert [reading.value for reading in view.readings()] == [1, 2, 3, 4, 5]
        assert [reading.value for reading in view.readings(newest_first=True)] == [5, 4, 3, 2, 1]
        assert [reading.value for reading in view.readings(newest_first=True, limit=3)] == [5, 4, 3]
        assert [reading.value for reading in view.readings(limit=3)] == [1, 2, 3]
