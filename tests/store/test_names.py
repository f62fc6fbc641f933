"""A device that invents names must not fill the hub's memory, nor that of its next start."""

from collections.abc import Callable
from pathlib import Path

from store import Store
from store.errors import TooManyNames
from store.logbody import MAX_NAMES
from tests.store.helpers import WAIT_S, batch, commit, sample, seal_all, take, values_of

Opener = Callable[..., Store]


def babble(store: Store, first: int, count: int) -> int:
    """So many series that nobody has named yet; how many batches were refused."""
    refused = 0
    for n in range(first, first + count, 512):
        error = commit(store, batch(n, *[sample("babbler", i, quantity=f"q{i}") for i in range(n, n + 512)]))
        assert error is None or isinstance(error, TooManyNames)
        refused += error is not None
    return refused


def test_new_names_are_refused_beyond_a_bound_and_known_ones_are_served(open_store: Opener) -> None:
    clock = [1000.0]
    store = open_store(monotonic=lambda: clock[0])
    take(store, 1)
    assert babble(store, 0, MAX_NAMES - 512) == 0
    assert babble(store, MAX_NAMES, 2048) >= 3
    take(store, 2)
    # What is sealed and beyond the duplicate window is forgotten, and its names with it.
    packs = seal_all(store)
    for _ in range(40):
        clock[0] += 30
        take(store, 3)
        packs += seal_all(store)
    assert babble(store, 2 * MAX_NAMES, 8192) == 0
    store.close()
    store = open_store(monotonic=lambda: clock[0])
    assert babble(store, 3 * MAX_NAMES, 4096) == 0
    take(store, 4)
    assert values_of(seal_all(store))[-1] * 10 == 4
    assert len(store.readings(client="babbler", limit=1 << 20).result(WAIT_S)) > MAX_NAMES


def test_a_refusal_costs_its_batch_alone(open_store: Opener, data_dir: Path) -> None:
    store = open_store()
    babble(store, 0, MAX_NAMES)
    assert isinstance(commit(store, batch(1, sample("babbler", 1, quantity="one-more"))), TooManyNames)
    assert commit(store, batch(2, sample("babbler", 424242, quantity="q1"))) is None
    assert store.status()["refused"] == 1
    store.close()
    assert 424242 in [reading.mantissa for reading in open_store().readings(limit=1 << 20).result(WAIT_S)]
