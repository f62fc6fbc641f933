"""P8: bytes of flash a durable commit costs, checkpoints, sealing, delivery and pruning included. Counts, not times."""

from collections.abc import Callable
from pathlib import Path

import pytest

from store import Store
from tests.store.helpers import WAIT_S, batch, commit, sample, started

Opener = Callable[..., Store]
COMMITS = 1600


def run_home(store: Store, clock: list[float], commits: int, every_s: float) -> None:
    """One reading a commit from twenty appliances; a pack a minute, sealed and delivered."""
    for number in range(commits):
        clock[0] += every_s
        assert commit(store, batch(number, sample(f"plug-{number % 20}", number, clock[0]), seen=1)) is None
        if number * every_s % 60 < every_s:
            pack = store.seal_pack().result(WAIT_S)
            if pack is not None:
                store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)


def test_a_durable_commit_costs_at_most_8_kib(open_store: Opener, disk_dir: Path) -> None:
    """Twenty appliances that report every forty seconds; busier homes are in test_pace.py."""
    clock, every_s = [1.0], 2.0
    store = open_store(disk_dir, monotonic=lambda: clock[0])
    if store.status()["written_source"] != "proc":
        pytest.skip("this kernel does not count the bytes that a thread writes")
    run_home(store, clock, COMMITS, every_s)
    before = store.status()
    run_home(store, clock, COMMITS, every_s)
    after = store.status()
    if after["written_bytes"] == before["written_bytes"]:
        pytest.skip("this file system does not count what is written to it")
    each = (after["written_bytes"] - before["written_bytes"]) / COMMITS
    print(f"one reading a commit, {1 / every_s:g} commits/s: {each:.0f} bytes of flash a commit, all told")
    assert each <= 8192


def test_a_reading_takes_few_bytes_in_the_log(data_dir: Path) -> None:
    clock = [1.0]
    started(data_dir).close()
    before = (data_dir / "hub.db").stat().st_size
    store = started(data_dir, monotonic=lambda: clock[0])
    for number in range(20_000 // 64):
        clock[0] += 1
        samples = [sample(f"plug-{i % 20}", 20_000 + number * 7 % 1000, clock[0]) for i in range(64)]
        assert commit(store, batch(number, *samples, seen=64)) is None
    store.close()
    each = ((data_dir / "hub.db").stat().st_size - before) / 20_000
    print(f"{each:.1f} bytes a reading with its seen entry")
    assert each <= 20


def test_the_wal_stays_within_its_bound(open_store: Opener, data_dir: Path) -> None:
    store = open_store(max_mb=8)
    wal = data_dir / "hub.db-wal"
    assert not (data_dir / "hub.db-shm").exists(), "locking is exclusive from the start"
    for number in range(1000):
        assert commit(store, batch(number, sample(value=number), seen=1)) is None
    size = wal.stat().st_size
    assert size <= 2 * 512 * 1024
    for number in range(1000):
        assert commit(store, batch(number, sample(value=number), seen=1)) is None
    assert wal.stat().st_size == size, "the WAL is started over, not grown"
