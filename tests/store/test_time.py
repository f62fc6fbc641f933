"""Time: readings are ordered by sequence, stamped when trust comes, and no step of a clock loses or reorders any."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED, Reading
from store import Sealed, Store
from tests.store.helpers import WAIT_S, batch, commit, every, payload_of, power_cut, sample, seal_all, started, until
from tests.store.home import Home
from tests.store.test_compaction import by_series, opened

Opener = Callable[..., Store]
UTC_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class Clocks:
    """A machine's two clocks: one only runs, the other is set."""

    def __init__(self, monotonic_s: float, utc_ms: int) -> None:
        self.monotonic_s, self.utc = monotonic_s, utc_ms

    @property
    def options(self) -> dict[str, Any]:
        return {"monotonic": lambda: self.monotonic_s, "utc_ms": lambda: self.utc}

    @property
    def offset_ms(self) -> int:
        return self.utc - round(self.monotonic_s * 1000)

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.utc += round(seconds * 1000)


def take(store: Store, clocks: Clocks, *values: int) -> None:
    for value in values:
        assert commit(store, batch(value, sample(value=value, at_s=clocks.monotonic_s), seen=1)) is None
        clocks.pass_time(10)


def found(store: Store) -> list[Reading]:
    return [reading for pack in every(store, "readings") for reading in decode_pack(payload_of(pack))]


@pytest.mark.parametrize("step_h", [-12, -1, 1, 12])
def test_a_step_of_hours_moves_what_waits_with_it_and_changes_no_order(open_store: Opener, step_h: int) -> None:
    """The samples of a boot keep their distances: they were taken on the clock that only runs."""
    clocks = Clocks(100.0, UTC_MS)
    store = open_store(**clocks.options)
    store.set_clock(clocks.offset_ms, True)
    take(store, clocks, 1, 2)
    store.seal_pack().result(WAIT_S)
    take(store, clocks, 3)
    clocks.utc += step_h * HOUR_MS
    store.set_clock(clocks.offset_ms, True)
    take(store, clocks, 4)
    seal_all(store, 1)
    readings = found(store)
    assert [reading.mantissa for reading in readings] == [1, 2, 3, 4]
    assert [reading.t_ms - UTC_MS for reading in readings[:2]] == [0, 10_000], "sealed is sealed"
    assert [reading.t_ms - UTC_MS - step_h * HOUR_MS for reading in readings[2:]] == [20_000, 30_000]
    assert {reading.flags for reading in readings} == {0}


def test_samples_are_stamped_when_trust_comes(open_store: Opener) -> None:
    """No battery, no network: the hub believes it is 1970. Then the control point's time arrives."""
    clocks = Clocks(5.0, 0)
    store = open_store(**clocks.options)
    store.set_clock(clocks.offset_ms, False)
    take(store, clocks, 1, 2)
    assert store.seal_pack(1).result(WAIT_S) is not None
    store.record_event("adapter.lost", {"client": "before"})
    until(lambda: len(every(store, "events")) == 1)
    clocks.utc = UTC_MS
    store.set_clock(clocks.offset_ms, True)
    take(store, clocks, 3)
    store.set_clock(0, False)  # whoever trusts less, later, changes nothing
    seal_all(store)
    assert [(r.mantissa, r.t_ms, r.flags) for r in found(store)] == [
        (1, 0, CLOCK_UNSYNCHRONISED),
        (2, UTC_MS - 10_000, 0),
        (3, UTC_MS, 0),
    ]
    event = store.events(1).result(WAIT_S)[0]
    assert (event["t"] < HOUR_MS, event["clock"]) == (True, "unsynchronised")


def test_a_boot_that_was_never_trusted_stays_flagged_and_in_its_place(open_store: Opener, tmp_path: Path) -> None:
    clocks = Clocks(5.0, UTC_MS)
    store = open_store(**clocks.options)
    store.set_clock(clocks.offset_ms, True)
    take(store, clocks, 1)
    store.close()
    for value, utc_ms in ((2, 0), (3, UTC_MS + 400 * 24 * HOUR_MS)):  # the clock's battery is empty, or it runs wild
        clocks = Clocks(5.0, utc_ms)
        store = open_store(**clocks.options)
        take(store, clocks, value)
        store.close()
    clocks = Clocks(5.0, UTC_MS + HOUR_MS)
    store = open_store(**clocks.options)
    store.set_clock(clocks.offset_ms, True)
    take(store, clocks, 4)
    seal_all(store, 1)
    assert [reading.mantissa for reading in found(store)] == [1, 2, 3, 4], "by sequence, not by the clock"
    assert [reading.flags for reading in found(store)] == [0, CLOCK_UNSYNCHRONISED, CLOCK_UNSYNCHRONISED, 0]


def test_trust_outlives_a_power_cut(open_store: Opener, data_dir: Path, tmp_path: Path) -> None:
    clocks = Clocks(5.0, 0)
    store = open_store(**clocks.options)
    take(store, clocks, 1)
    clocks.utc = UTC_MS
    store.set_clock(clocks.offset_ms, True)
    assert store.queue_status().result(WAIT_S)
    after = started(power_cut(data_dir, tmp_path / "cut"), **Clocks(1.0, 0).options)
    seal_all(after)
    assert [(r.mantissa, r.t_ms, r.flags) for r in found(after)] == [(1, UTC_MS - 10_000, 0)]
    after.close()


def test_history_is_not_thrown_away_by_a_clock_that_nobody_trusts(open_store: Opener) -> None:
    clocks = Clocks(5.0, UTC_MS)
    store = open_store(retention_days=10, **clocks.options)
    take(store, clocks, 1, 2)
    for pack in seal_all(store, 1):
        store.delivered("readings", 1, pack.number).result(WAIT_S)
    for years in (1, 20, 68):
        store.set_clock(clocks.offset_ms + years * 365 * 24 * HOUR_MS, False)
        take(store, clocks, 10 + years)
    assert len(every(store, "readings")) == 2


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_clocks_do_nothing_is_lost_or_reordered(tmp_path: Path, seed: int) -> None:
    """Steps of hours, trust that comes late or not, reboots, power cuts; rows are merged meanwhile."""
    chance, lives = random.Random(seed), 0
    home = Home([50.0], period_s=60, seed=seed)
    store = started(tmp_path / "0", monotonic=home.monotonic, utc_ms=lambda: UTC_MS)
    for _ in range(40):
        home.report(store, chance.randrange(20, 200), chance.choice((1, 5, 20)))
        store.set_clock(UTC_MS + chance.randrange(-12 * HOUR_MS, 12 * HOUR_MS), chance.random() < 0.5)
        if chance.random() < 0.3:
            store.seal_pack(chance.choice((5, 100, 1000))).result(WAIT_S)
        if chance.random() < 0.15:
            cut = power_cut(tmp_path / str(lives), tmp_path / str(lives + 1))
            store.close()
            home.clock[0] = chance.choice((3.0, 9000.0))  # a boot: its clock begins anew, or another machine's
            lives, store = lives + 1, started(cut, monotonic=home.monotonic, utc_ms=lambda: UTC_MS)
    seal_all(store, 500)
    packs = every(store, "readings")
    store.close()
    assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))
    out = by_series(opened(packs))
    # A pack splits a series by its flags, so order is that of the packs and, within one, of each flag.
    assert {key: sorted(value for _, value in points) for key, points in out.items()} == {
        key: sorted(value for _, value in points) for key, points in home.taken.items()
    }
    for key, points in home.taken.items():
        where = {value: number for number, pack in enumerate(packs) for value in values_in(pack, key)}
        if key[1] == "energy":  # registers only grow, so each value says when it was taken
            order = [where[value] for _, value in points]
            assert order == sorted(order), "an earlier reading is never in a later pack"


def values_in(pack: Sealed, key: tuple[str, str]) -> list[int]:
    return [r.mantissa for r in decode_pack(payload_of(pack)) if (r.client_id, r.quantity) == key]
