"""P3, honest loss: a store that is full gives way in order, keeps taking readings, and tells what went."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import records as r
from hub.core.control.records import Journal
from hub.wire.uplink.event import decode_event, encode_event
from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED, THINNED, Reading
from store import Sealed, Store
from store.columns import UNTHINNED, Point, Thinned
from store.downsampling import RESOLUTIONS_S, thin
from tests.store.helpers import WAIT_S, batch, commit, every, payload_of, power_cut, sample, seal_all, started, until
from tests.store.home import Home, Series
from tests.store.test_compaction import UTC_MS, opened

SMALL_MB = 0.6  # room for some 60,000 readings: eight hours
Opener = Callable[..., Store]


def settled(store: Store) -> dict[str, Any]:
    """The status once the writer has done what follows a commit."""
    store.queue_status().result(WAIT_S)
    return store.status()


def gaps(store: Store, what: str = "readings") -> list[dict[str, Any]]:
    events = [decode_event(payload_of(event)) for event in every(store, "events")]
    return [event for event in events if event["event"] == "store.gap" and event["what"] == what]


def grouped(readings: list[Reading]) -> dict[Series, list[Reading]]:
    found: dict[Series, list[Reading]] = defaultdict(list)
    for reading in readings:
        found[reading.client_id, reading.quantity].append(reading)
    return found


def fill_beyond_its_bound(store: Store, home: Home, hours: int) -> int:
    """Hours of a home without an uplink; how many commits were refused."""
    refused = 0
    for _ in range(hours):
        refused += home.report(store, 7200, 240)
    return refused


def fill_until_the_coarsest_grid(store: Store, home: Home) -> tuple[int, set[int]]:
    """Hours without an uplink, until the oldest readings are on the last grid: how many commits were refused, and which
    grids the oldest were seen on. How many hours that takes depends on how much the writer could merge in between."""
    refused, seen = 0, set[int]()
    while max(RESOLUTIONS_S) not in seen and home.clock[0] < 24 * 60 * 3600:
        refused += home.report(store, 7200, 240)
        oldest = store.readings(client="plug-1", quantity="power", limit=4).result(WAIT_S)
        apart_s = (oldest[3].t_ms - oldest[1].t_ms) / 2000
        seen |= {grid for grid in RESOLUTIONS_S if 0.7 * grid < apart_s < 1.5 * grid}
    return refused, seen


def drain(store: Store) -> list[Sealed]:
    """An uplink that is back: seals, sends and is answered. History then gives way to what still waits."""
    packs = []
    while (pack := store.seal_pack().result(WAIT_S)) is not None:
        packs.append(pack)
        store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
    return packs


def judge(store: Store, home: Home, packs: list[Sealed]) -> None:
    """What came out is what was taken, but for what the gap records say."""
    found, told = grouped(opened(packs)), [row for gap in gaps(store) for row in gap["series"]]
    for series, taken in home.taken.items():
        out = [(x.t_ms - UTC_MS, x.mantissa) for x in found[series]]
        thinned = [x.t_ms - UTC_MS for x in found[series] if x.flags]
        mine = [row[2:] for row in told if tuple(row[:2]) == series]
        spans = [(row[0] - UTC_MS, row[1] - UTC_MS) for row in mine]
        assert set(out) <= set(taken), "what is kept was measured, not computed"
        assert len(out) + sum(row[3] for row in mine) == len(taken), "every reading is there or told of"
        assert sum(row[2] for row in mine) == len(thinned)
        assert all(any(low <= at <= high for low, high in spans) for at in thinned)
        assert {x.flags for x in found[series]} == {0, THINNED}

        def untouched(rows: list[tuple[int, int]], spans: list[tuple[int, int]] = spans) -> list[tuple[int, int]]:
            return [row for row in rows if not any(low <= row[0] <= high for low, high in spans)]

        assert untouched(out) == untouched(taken), "outside of what is told nothing is missing"
        assert (out[0], out[-1]) == (taken[0], taken[-1]), "the first and last of a register stay, and of all others"


def test_a_full_store_thins_its_oldest_readings_and_says_so(open_store: Opener, data_dir: Path) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    home.report(store, 600, 20)
    sealed = [store.seal_pack(255).result(WAIT_S) for _ in range(2)]  # ends inside a row of the log
    receipt = store.append("receipts", 61, b"receipt").result(WAIT_S)
    store.record_event("adapter.lost", {"client": "a"})
    assert fill_beyond_its_bound(store, home, 20) == 0, "no adapter had to wait"
    status = settled(store)
    assert status["bytes"] <= status["max_bytes"]
    assert status["readings"] == home.count > 144_000
    assert status["thinned"] == home.count - status["unsealed"] - 510 > home.count // 2
    # Undelivered messages of every lane are what they were.
    assert every(store, "readings") == sealed and every(store, "receipts") == [receipt]
    assert not gaps(store), "a gap is told with the readings that are left"
    for number in (1, 2):
        store.delivered("readings", 1, number).result(WAIT_S)
    packs = drain(store)
    assert [pack.number for pack in packs] == list(range(3, len(packs) + 3))
    events = every(store, "events")
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert 0 < len(gaps(store)) <= len(packs), "the number of gap records is bounded"
    judge(store, home, [*sealed, *packs])
    assert {gap["resolution_s"] for gap in gaps(store)} <= set(RESOLUTIONS_S)
    assert store.status()["bytes"] <= status["max_bytes"]


def test_thinning_survives_restarts_and_power_cuts(tmp_path: Path) -> None:
    home, lives = Home([1000.0]), 0
    store = started(tmp_path / "0", max_mb=SMALL_MB, monotonic=home.monotonic)
    for life in range(8):
        store.set_clock(UTC_MS, True)
        assert fill_beyond_its_bound(store, home, 3) == 0
        before = settled(store)
        cut = power_cut(tmp_path / str(lives), tmp_path / str(lives + 1))
        store.close()
        lives += 1
        store = started(cut if life % 2 else tmp_path / str(lives - 1), max_mb=SMALL_MB, monotonic=home.monotonic)
        if not life % 2:
            lives -= 1
        after = store.status()
        assert [after[key] for key in ("readings", "unsealed", "thinned", "epoch")] == [
            before[key] for key in ("readings", "unsealed", "thinned", "epoch")
        ]
    store.set_clock(UTC_MS, True)
    assert store.status()["thinned"] > 0
    judge(store, home, drain(store))
    store.close()


def test_thinned_readings_are_told_by_every_question(open_store: Opener) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    fill_beyond_its_bound(store, home, 12)
    unsealed = store.readings(limit=1 << 20).result(WAIT_S)
    assert THINNED in {reading.flags for reading in unsealed}
    assert sorted(opened(drain(store))) == sorted(unsealed)


def test_an_untrusted_clock_is_flagged_beside(open_store: Opener) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    fill_beyond_its_bound(store, home, 12)
    flags = {reading.flags for reading in opened(drain(store))}
    assert flags == {CLOCK_UNSYNCHRONISED, CLOCK_UNSYNCHRONISED | THINNED}


def test_forwards_go_before_readings_and_are_told_once(open_store: Opener) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    for number in range(150):
        assert commit(store, batch(number, changes=[r.ForwardQueued("alarm/a", bytes(800))])) is None
    first = store.forwards(0, 1).result(WAIT_S)[0][0]
    home.report(store, 3600, 60)
    while not store.status()["forwards_dropped"]:
        assert home.report(store, 600, 60) == 0
        assert home.count < 400_000
    dropped = store.status()["forwards_dropped"]
    assert store.status()["thinned"] == 0
    assert store.forwards(0, 1).result(WAIT_S)[0][0] == first + dropped, "the oldest went"
    store.close()
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    assert store.status()["forwards_dropped"] == dropped
    while not store.status()["thinned"]:
        assert home.report(store, 1200, 60) == 0
        assert home.count < 1_000_000
    assert store.forwards(0, 1).result(WAIT_S) == []
    told: list[set[str]] = []
    store.on_change = told.append
    seal_all(store)
    until(lambda: "events" in set().union(*told))
    assert [gap["dropped"] for gap in gaps(store, "forwards")] == [150]
    gap = gaps(store, "forwards")[0]
    assert UTC_MS < gap["from_ms"] <= gap["to_ms"] <= UTC_MS + home.clock[0] * 1000
    seal_all(store)
    assert len(gaps(store, "forwards")) == 1


def test_history_goes_before_anything_is_lost(open_store: Opener) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    assert commit(store, batch(0, changes=[r.ForwardQueued("alarm/a", b"keep me")])) is None
    while len(kept := every(store, "readings")) < 2 or kept[0].number == 1:
        home.report(store, 1200, 60)
        for pack in seal_all(store):
            store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
        assert home.count < 1_000_000
    home.report(store, 7200, 60)
    status = store.status()
    assert (status["thinned"], status["forwards_dropped"]) == (0, 0)
    assert len(store.forwards(0, 9).result(WAIT_S)) == 1


def test_events_and_receipts_that_nobody_booked_stay_however_little_room_there_is(open_store: Opener) -> None:
    """A broker acknowledged them and the control point keeps a book: it may have forgotten them before that."""
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    home.report(store, 60, 60)
    [first, *_] = seal_all(store)
    store.delivered("readings", first.epoch, first.number).result(WAIT_S)
    store.commit_control(Journal(booked={"readings": (store.epoch, 1)})).result(WAIT_S)
    for number in range(1, 4):
        assert store.append("receipts", 61, b"receipt").result(WAIT_S).number == number
        store.record_event("adapter.lost", {"client": "a"})
    until(lambda: len(every(store, "events")) >= 3)
    for lane in ("events", "receipts"):
        for sealed in every(store, lane):
            store.delivered(lane, sealed.epoch, sealed.number).result(WAIT_S)
    while every(store, "readings")[0].number < 3:
        home.report(store, 1200, 60)
        for pack in seal_all(store):
            store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
        assert home.count < 1_000_000
    assert [sealed.number for sealed in every(store, "receipts")] == [1, 2, 3]
    assert next(sealed.number for sealed in every(store, "events")) == 1


@pytest.mark.parametrize("keeps_book", [True, False])
def test_readings_that_nobody_booked_do_not_go_untold(open_store: Opener, keeps_book: bool) -> None:
    """A broker may acknowledge and forget: where the control point keeps a book, custody ends there."""
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    home.report(store, 60, 60)
    packs = seal_all(store)
    store.delivered("readings", packs[0].epoch, packs[0].number).result(WAIT_S)
    booked = packs[0].number if keeps_book else 0
    if keeps_book:
        store.commit_control(Journal(booked={"readings": (store.epoch, booked)})).result(WAIT_S)
    while every(store, "readings")[0].number < booked + 40:
        home.report(store, 1200, 60)
        for pack in seal_all(store):
            store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
        assert home.count < 1_000_000
    home.report(store, 60, 60)
    seal_all(store)  # somebody listens: what went is told
    first_kept = every(store, "readings")[0].number
    told = gaps(store, "packs")
    assert sum(gap["dropped"] for gap in told) == store.status()["packs_given_up"]
    if not keeps_book:
        assert first_kept > 1 and not told, "what is delivered is history where nobody books"
        return
    assert sum(gap["dropped"] for gap in told) == first_kept - booked - 1
    ends = [gap["numbers"] for gap in told]
    assert ends[0][:2] == [store.epoch, booked + 1] and ends[-1][2:] == [store.epoch, first_kept - 1]
    assert all(before[3] + 1 == after[1] for before, after in pairwise(ends)), "each once"


def test_what_may_not_be_thinned_is_refused_in_the_end(open_store: Opener) -> None:
    """Sealed and not delivered: immutable. Then adapters are told to wait, and receipts still find their reserve."""
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    while home.report(store, 600, 60) == 0:
        seal_all(store)
        assert home.count < 1_000_000
    assert store.append("receipts", 61, b"receipt").result(WAIT_S).number == 1
    store.record_event("adapter.lost", {"client": "a"})
    until(lambda: len(every(store, "events")) == 1)
    for pack in every(store, "readings"):
        store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)
    assert commit(store, batch(1, sample(at_s=home.clock[0]))) is None
    status = store.status()
    assert status["bytes"] <= status["max_bytes"]


def test_a_gap_is_an_event_that_is_listed() -> None:
    series = [["plug-1", "power", 1, 2, 3, 4, 60]]
    fields = {"from_ms": 1, "to_ms": 2, "kept": 3, "dropped": 4, "resolution_s": 60, "series": series}
    assert decode_event(encode_event(5, "store.gap", {"what": "readings", **fields}))["series"] == series


samples = st.lists(st.builds(Point, st.integers(0, 3), st.integers(0, 10_000_000), st.integers()), max_size=200)


@given(samples, st.sampled_from(RESOLUTIONS_S), st.integers(-(10**12), 10**12))
def test_thinning_keeps_one_a_step_the_first_and_the_last(made: list[Point], step_s: int, offset_ms: int) -> None:
    kept, gone = thin(made, UNTHINNED, step_s, offset_ms, lambda number: number // 2)
    assert len(kept) + sum(gone.dropped.values()) == len(made)
    rest = iter(made)
    assert all(point in rest for point in kept), "in their order"
    for series in {number // 2 for number in range(4)}:
        times = [point.at_ms for point in made if point.series // 2 == series]
        left = [point.at_ms for point in kept if point.series // 2 == series]
        steps = {(at + offset_ms) // (step_s * 1000) for at in times}
        assert {(at + offset_ms) // (step_s * 1000) for at in left} == steps
        assert len(left) <= len(steps) + 1
        assert not times or (min(left), max(left)) == (min(times), max(times))


@given(samples)
def test_thinning_again_changes_nothing(made: list[Point]) -> None:
    once, gone = thin(made, UNTHINNED, 60, 0, lambda number: number)
    assert thin(once, gone, 60, 0, lambda number: number) == (once, gone)
    coarser, more = thin(once, gone, 1800, 0, lambda number: number)
    assert more == Thinned(1800, more.dropped) and len(coarser) + sum(more.dropped.values()) == len(made)


@pytest.mark.slow
def test_months_without_an_uplink(open_store: Opener) -> None:
    """All three grids come into use, nothing is refused, and the registers' ends are exact."""
    home = Home([1000.0])
    store = open_store(max_mb=SMALL_MB, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    assert fill_until_the_coarsest_grid(store, home) == (0, set(RESOLUTIONS_S))
    packs = drain(store)
    assert max(RESOLUTIONS_S) in {gap["resolution_s"] for gap in gaps(store)} <= set(RESOLUTIONS_S)
    judge(store, home, packs)
