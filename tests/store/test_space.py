"""P3: bounded by max_mb and by the file system; a full disk refuses, and is over when there is space again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.core import records as r
from hub.core.control.records import FORGOT, Journal
from store import Store, StoreError, StoreFull
from store.database import PAGE_SIZE
from store.space import DUP_WINDOW_S, DupWindow, choose_lane, log_pruning_pays, make_budget
from tests.harness.disk import fill, tmpfs
from tests.store.helpers import WAIT_S, batch, commit, every, sample, seal_all, take, until
from tests.store.test_salvage import overwrite, pages_of

Opener = Callable[..., Store]
BIG = [r.RetainedSet("x", b"", 1)]


def bulk(number: int, clock: list[float]) -> r.Batch:
    samples = [sample(f"plug-{i}", number * 1_000_003 + i * 7, at_s=clock[0]) for i in range(64)]
    return batch(number, *samples, seen=64)


def test_what_is_sealed_and_undelivered_is_refused_not_dropped(open_store: Opener) -> None:
    """Nothing of it may be thinned (tests/store/test_retention.py shows what may)."""
    clock = [1.0]
    store = open_store(max_mb=2, monotonic=lambda: clock[0])
    taken, error, packs = 0, None, 0
    for number in range(3000):
        clock[0] += 1
        error = commit(store, bulk(number, clock))
        if error is not None:
            break
        taken += 64
        packs += store.seal_pack().result(WAIT_S) is not None
    assert isinstance(error, StoreFull)
    assert len(every(store, "readings")) == packs
    status = store.status()
    assert status["bytes"] <= status["max_bytes"]
    assert (status["readings"], status["thinned"]) == (taken, 0)
    assert taken > 20_000
    # The reserve still takes events and receipts; what is delivered makes room again.
    store.record_event("adapter.lost", {"client": "a"})
    store.append("receipts", 61, b"receipt").result(WAIT_S)
    until(lambda: len(every(store, "events")) == 1)
    assert len(store.readings(limit=1 << 20).result(WAIT_S)) == taken
    store.delivered("readings", 1, 1).result(WAIT_S)
    clock[0] += 100
    assert commit(store, bulk(1, clock)) is None
    assert store.status()["bytes"] <= status["max_bytes"]


def test_delivered_history_gives_way_oldest_first(open_store: Opener) -> None:
    clock = [1.0]
    store = open_store(max_mb=2, monotonic=lambda: clock[0])
    for number in range(1200):
        clock[0] += 10
        assert commit(store, bulk(number, clock)) is None, number
        pack = store.seal_pack().result(WAIT_S)
        assert pack is not None
        store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
    kept = [s.number for s in every(store, "readings")]
    assert kept[0] > 1 and kept == list(range(kept[0], 1201))
    status = store.status()
    assert status["readings"] == 1200 * 64
    assert status["bytes"] <= status["max_bytes"]


def test_retention_asks_a_trusted_clock(open_store: Opener) -> None:
    day_ms, clock = 86_400_000, [1.0]
    store = open_store(retention_days=10, monotonic=lambda: clock[0])
    store.set_clock(1_700_000_000_000, True)
    for number in range(3):
        take(store, number)
        pack = store.seal_pack().result(WAIT_S)
        assert pack is not None
        store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
    store.close()
    store = open_store(retention_days=10, monotonic=lambda: clock[0])
    store.set_clock(1_700_000_000_000 + 11 * day_ms, False)
    assert commit(store, batch(1, changes=BIG)) is None
    assert len(every(store, "readings")) == 3
    store.set_clock(1_700_000_000_000 + 9 * day_ms, True)
    assert commit(store, batch(1, changes=BIG)) is None
    assert len(every(store, "readings")) == 3
    store.set_clock(1_700_000_000_000 + 11 * day_ms, True)
    until(lambda: [s.number for s in every(store, "readings")] == [3])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", 2) as folder:
        yield folder


@pytest.mark.root
def test_a_full_disk_refuses_and_is_over_by_itself(small_disk: Path, open_store: Opener) -> None:
    clock = [1.0]
    store = open_store(small_disk, max_mb=64, monotonic=lambda: clock[0])
    assert commit(store, bulk(0, clock)) is None
    hog = small_disk / "hog"
    fill(hog)
    taken, refused = 64, 0
    for number in range(1, 1500):
        clock[0] += 1
        error = commit(store, bulk(number, clock))
        if error is None:
            taken += 64
        else:
            assert isinstance(error, StoreFull)
            refused += 1
        if refused == 5:
            break
    assert refused == 5
    store.record_event("adapter.lost", {"client": "a"})
    assert store.status()["last_error"]
    hog.unlink()
    assert commit(store, bulk(5000, clock)) is None
    until(lambda: len(every(store, "events")) == 1)
    assert store.status()["readings"] == taken + 64
    assert len(store.readings(limit=1 << 20).result(WAIT_S)) == taken + 64
    store.close()
    store = open_store(small_disk, max_mb=64)
    assert (store.epoch, store.status()["readings"]) == (1, taken + 64)


@pytest.mark.root
def test_delivered_history_gives_way_on_a_full_disk_too(small_disk: Path, open_store: Opener) -> None:
    clock = [1.0]
    store = open_store(small_disk, max_mb=64, monotonic=lambda: clock[0])

    def live(first: int, count: int) -> list[Exception | None]:
        errors = []
        for number in range(first, first + count):
            clock[0] += 20
            errors.append(commit(store, bulk(number, clock)))
            pack = store.seal_pack().result(WAIT_S)
            if pack is not None:
                store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
        return errors

    # A WAL that has grown to its bound is given its place back at a clean end: but for the ballast, others could take
    # it before it has grown again.
    assert set(live(0, 300)) == {None}
    store.close()
    store = open_store(small_disk, max_mb=64, monotonic=lambda: clock[0])
    fill(small_disk / "hog")
    assert set(live(300, 330)) == {None}
    kept = [s.number for s in every(store, "readings")]
    assert kept == list(range(kept[0], 631)) and kept[0] > 1


@pytest.mark.root
def test_a_hub_starts_on_a_full_disk(small_disk: Path, open_store: Opener) -> None:
    store = open_store(small_disk, max_mb=64)
    take(store, 1, 2)
    store.close()
    hog = small_disk / "hog"
    fill(hog)
    store = open_store(small_disk, max_mb=64)
    commit(store, batch(1, sample(value=3)))
    hog.unlink()
    until(lambda: commit(store, batch(1, sample(value=4))) is None)
    assert store.epoch == 1
    assert len(store.readings().result(WAIT_S)) >= 3


@pytest.mark.root
def test_what_a_full_disk_kept_from_the_start_is_not_gone_on_beside(small_disk: Path, open_store: Opener) -> None:
    """Sessions, what was seen, control's counters: a hub that runs without them must not write where they are."""
    store = open_store(small_disk, max_mb=64)
    take(store, 1)
    store.commit_control(Journal(kept={"ctr/grid": b"\x07"})).result(WAIT_S)
    store.close()
    (small_disk / "ballast").unlink()
    hog = small_disk / "hog"
    fill(hog)
    store = open_store(small_disk, max_mb=64)
    assert store.restored == [] and not store.is_late
    assert store.control_state().result(WAIT_S).keys() == {FORGOT}
    hog.unlink()

    def is_late() -> bool:  # it tries every other second while somebody wants to commit
        assert isinstance(commit(store, batch(1, sample(value=1), seen=1)), StoreFull)
        return store.is_late

    until(is_late)
    with pytest.raises(StoreFull, match="starts anew"):
        store.commit_control(Journal(kept={"ctr/grid": b"\x01"})).result(WAIT_S)
    assert "starts anew" in store.status()["last_error"]
    store.close()
    store = open_store(small_disk, max_mb=64)
    assert [type(record) for record in store.restored] == [r.Seen]
    assert store.control_state().result(WAIT_S) == {"ctr/grid": b"\x07"}
    take(store, 2)


@pytest.mark.root
def test_damage_met_while_the_disk_is_full_costs_control_nothing(small_disk: Path, open_store: Opener) -> None:
    """There is no room for another database at once; when there is, what is in memory still is written down in it."""
    store = open_store(small_disk, max_mb=64)
    kept = {"ctr/grid": b"\x07", "operators": b"the list"}
    store.commit_control(Journal(kept=dict(kept))).result(WAIT_S)
    take(store, *range(1000))
    seal_all(store, 50)
    store.close()
    unread = pages_of(small_disk / "hub.db", "sealed_readings")[:-1]
    store = open_store(small_disk, max_mb=64)
    for page in unread:
        overwrite(small_disk / "hub.db", (page - 1) * PAGE_SIZE, b"\xff" * PAGE_SIZE)
    (small_disk / "ballast").unlink()
    hog = small_disk / "hog"
    fill(hog)
    with pytest.raises(StoreError):
        store.readings().result(WAIT_S)
    assert isinstance(commit(store, batch(1, sample())), StoreFull) and store.epoch == 1
    hog.unlink()
    until(lambda: commit(store, batch(2, sample(value=2))) is None)
    assert store.epoch > 1 and not store.is_late
    assert store.control_state().result(WAIT_S) == kept


@pytest.mark.root
def test_a_new_hub_on_a_full_disk_waits_for_space(small_disk: Path, open_store: Opener) -> None:
    hog = small_disk / "hog"
    fill(hog)
    store = open_store(small_disk, max_mb=64)
    assert store.restored == []
    assert isinstance(commit(store, batch(1, sample())), StoreFull)
    with pytest.raises(StoreFull):
        store.seal_pack().result(WAIT_S)
    hog.unlink()
    until(lambda: commit(store, batch(2, sample())) is None)  # it tries every other second while somebody wants to
    assert len(store.readings().result(WAIT_S)) == 1


def test_the_budget_leaves_a_reserve_at_every_size() -> None:
    for max_mb in (1, 2, 8, 256):
        budget = make_budget(max_mb, 2048)
        assert 0 < budget.bulk_pages < budget.hard_pages
        assert budget.hard_pages * 2048 + 2 * budget.wal_bytes + budget.ballast_bytes <= budget.max_bytes
        assert (budget.hard_pages - budget.bulk_pages) * 2048 >= 256 * 1024 - 2048


def test_the_oldest_lane_gives_way() -> None:
    assert choose_lane({"readings": 5, "events": 3, "answers": None}) == "events"
    assert choose_lane({"readings": None}) is None


def test_the_window_forgets_in_steps() -> None:
    window = DupWindow(0, 1)
    assert window.floor(0, DUP_WINDOW_S) == (0, 0)
    for seq in range(1, 101):
        window.note(seq * 1000, seq, 30)
    assert window.floor(DUP_WINDOW_S * 1000, DUP_WINDOW_S) == (1, 0)
    seq, size = window.floor(50_000 + DUP_WINDOW_S * 1000, DUP_WINDOW_S)
    assert (seq, size) == (51, 1500)
    window.pruned(51)
    assert window.floor(50_000 + DUP_WINDOW_S * 1000, DUP_WINDOW_S) == (51, 0)
    assert window.floor(10**9, DUP_WINDOW_S) == (101, 1500)


def test_pruning_is_done_in_bulk() -> None:
    assert not log_pruning_pays(10, 1000)
    assert log_pruning_pays(512, 0)
    assert log_pruning_pays(1, 1 << 20)
    assert not log_pruning_pays(0, 1 << 20)
