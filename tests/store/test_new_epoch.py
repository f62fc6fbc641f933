"""What a new epoch says: to control, which may have forgotten, and to the utility, whatever cuts the salvage short."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.core.control.records import FORGOT, Journal
from store import Sealed, Store
from store.database import PAGE_SIZE
from store.opening import StorePlace, open_engine
from store.space import make_budget
from tests.store.helpers import WAIT_S, batch, commit, power_cut, sample, seal, seal_all, take, until, values_of
from tests.store.test_salvage import filled, overwrite, pages_of, salvaged, unclean, works, zeros

__all__ = ["filled"]  # a fixture

Opener = Callable[..., Store]


def control_items(store: Store) -> dict[str, bytes]:
    return store.control_state().result(WAIT_S)


def test_what_control_kept_is_carried_over_and_the_new_epoch_says_that_some_may_be_missing(
    open_store: Opener, data_dir: Path
) -> None:
    store = open_store()
    assert control_items(store) == {}, "a first start has nothing to forget"
    kept = {"ctr/grid": b"\x07", "cti/00ff": b"\x83\x01\x01\x00", FORGOT: b"\x1a\x6b\x49\xd2\x00"}
    store.commit_control(Journal(kept=dict(kept))).result(WAIT_S)
    store.close()
    with sqlite3.connect(data_dir / "hub.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    store = open_store()
    assert control_items(store) == {**kept, FORGOT: b"\xf6"}, "when that was is not known yet"


@pytest.mark.parametrize("how", ["zeros", "lost database", "lost WAL"])
def test_each_new_epoch_says_that_control_forgot(
    store: Store, data_dir: Path, tmp_path: Path, how: str, open_store: Opener
) -> None:
    store.commit_control(Journal(kept={"ctr/grid": b"\x07"})).result(WAIT_S)
    cut = unclean(store, data_dir, tmp_path)
    if how == "zeros":
        zeros(cut / "hub.db")
        (cut / "hub.db-wal").unlink()
    else:
        (cut / ("hub.db" if how == "lost database" else "hub.db-wal")).unlink()
    after = open_store(cut)
    assert after.epoch == 2
    assert control_items(after)[FORGOT] == b"\xf6"
    salvaged(after)


def test_a_salvage_that_nobody_was_told_of_is_told_by_the_next_start(
    filled: list[Sealed], open_store: Opener, data_dir: Path, tmp_path: Path
) -> None:
    zeros(data_dir / "hub.db")
    place = StorePlace(data_dir, seal, make_budget(256, PAGE_SIZE), lambda: 1000, lambda: 1_800_000_000_000)
    engine = open_engine(place)
    cut = power_cut(data_dir, tmp_path / "cut")  # before it records anything
    engine.close()
    store = open_store(cut)
    event = salvaged(store)
    assert (event["reason"], store.epoch) == ("not a database", 2)
    assert "store/untold" not in control_items(store)
    store.close()
    again = open_store(cut)
    take(again, 1)
    again.record_event("hub.started", {"boot": 3, "version": "1", "reason": "start"})
    until(lambda: len(again.events(9).result(WAIT_S)) == 2)
    assert salvaged(again) == event, "told once"


def test_a_salvage_that_runs_out_of_space_doubles_nothing(open_store: Opener, data_dir: Path) -> None:
    """What was sealed and delivered stays behind; its rows of the log must not pass for unsealed where the marks that
    say so found no room."""
    store = open_store(max_mb=64)
    for first in range(0, 60_000, 500):
        samples = [sample(f"plug-{n % 50}", (n * 7919) % 100_003) for n in range(first, first + 500)]
        assert commit(store, batch(first, *samples)) is None
    sealed = seal_all(store)
    for pack in sealed:
        store.delivered("readings", 1, pack.number).result(WAIT_S)
    take(store, 1, 2, 3)
    store.close()
    with sqlite3.connect(data_dir / "hub.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    after = open_store(max_mb=1)
    assert after.epoch == 2
    assert [int(value * 10) for value in values_of(seal_all(after))] in ([1, 2, 3], [])
    works(after)


def test_damage_under_a_running_hub_costs_control_nothing(open_store: Opener, data_dir: Path) -> None:
    """It is in memory still, so it is written down again with the salvage, and nothing has to be refused."""
    store = open_store()
    kept = {"ctr/grid": b"\x07", "operators": b"the list", "limit/00": b"?"}
    store.commit_control(Journal(kept={**kept, "limit/01": b"?"})).result(WAIT_S)
    store.commit_control(Journal(kept={"limit/01": None})).result(WAIT_S)
    take(store, *range(1000))
    seal_all(store, 50)
    store.close()
    history = pages_of(data_dir / "hub.db", "sealed_readings")
    control = pages_of(data_dir / "hub.db", "control")
    assert len(history) > 3
    store = open_store()
    assert control_items(store) == kept
    for page in [*history[:-1], *control]:  # what it has not read yet, and what it will not read again
        overwrite(data_dir / "hub.db", (page - 1) * PAGE_SIZE, b"\xff" * PAGE_SIZE)
    store.readings().result(WAIT_S)
    assert store.epoch == 2, "the damage was not met: the test tests nothing"
    assert control_items(store) == kept
    store.close()
    assert control_items(open_store()) == kept
