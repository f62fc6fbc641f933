"""A commit on its caller's thread: only where commits are quick, never out of order, as durable as any."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.core import records as r
from store import Store
from store.offline import OfflineStore
from tests.store.helpers import Answers, batch, power_cut, sample, until

Opener = Callable[..., Store]


@pytest.fixture
def quick_dir() -> Iterator[Path]:
    """A folder in memory: whatever disk the tests run on, and whoever else uses it, commits are quick there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder) / "data"


@pytest.fixture
def quick(open_store: Opener, quick_dir: Path) -> Store:
    """A store that has found out that its medium is quick."""
    store = open_store(quick_dir)
    threads: list[int] = []

    def warm() -> bool:
        # One by one: what is queued while the writer is busy tells it nothing about the medium.
        answered = threading.Event()

        def done(*_: object) -> None:
            threads.append(threading.get_ident())
            answered.set()

        store.commit(batch(1, sample()), done)
        assert answered.wait(30)
        return threads[-1] == threading.get_ident()

    until(warm)
    assert threads[0] != threading.get_ident(), "a medium that nobody has measured yet counts as slow"
    return store


def session(client_id: str) -> r.SessionChanged:
    return r.SessionChanged(client_id, ("udp", "10.0.0.1", 1), "active", False, 60, "", b"", 0, False)


def commit_at_once(store: Store, made: r.Batch) -> None:
    """Once more when the writer was just busy (it looks after the database now and then)."""
    answers = Answers()

    def attempt() -> bool:
        answers.all.clear()
        here: list[int] = []
        store.commit(made, lambda *answer: (here.append(threading.get_ident()), answers(*answer)))
        answers.wait(1)
        return here == [threading.get_ident()]

    until(attempt)


def test_it_is_durable_when_done_is_called(quick: Store, quick_dir: Path, tmp_path: Path) -> None:
    commit_at_once(quick, batch(7, sample(value=4711), seen=1))
    with OfflineStore(power_cut(quick_dir, tmp_path / "copy")) as copy:
        assert [reading.mantissa for reading in copy.readings()][-1] == 4711


def test_nothing_overtakes_anything(quick: Store) -> None:
    answers = Answers()
    for number in range(100, 200, 2):
        quick.commit(batch(number, changes=[session("plug-1")], urgent=False), answers)
        quick.commit(batch(number + 1, changes=[r.SessionRemoved("plug-1")]), answers)
    assert [number for number, _ in answers.wait(100)] == list(range(100, 200))


def test_what_waits_for_company_goes_with_it_once(quick: Store) -> None:
    answers = Answers()
    quick.commit(batch(5, changes=[session("plug-1")], urgent=False), answers)
    quick.queue_status().result()  # answered behind it: the writer has put it where it waits
    commit_at_once(quick, batch(6, sample()))
    quick.close()
    assert answers.all == [(5, None)]
    assert quick.status()["refused"] == 0


def test_the_database_is_looked_after_all_the_same(quick: Store, quick_dir: Path) -> None:
    for number in range(1500):
        commit_at_once(quick, batch(number, sample()))
    # A mebibyte is where a checkpoint is due; 1500 commits are three times that, SQLite's own limit is four.
    assert (quick_dir / "hub.db-wal").stat().st_size < 2 * 2**20
