"""Old rows of the log become dense ones: 48 hours fit in 8 MB, and everything else stays what it was."""

import random
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.reading import Reading
from store import Sealed, Store
from store.columns import Point, Thinned, decode_dense, encode_dense, is_dense
from store.errors import StoreCorrupt
from store.offline import OfflineStore
from tests.store.helpers import WAIT_S, commit, every, payload_of, power_cut, seal_all, started, until
from tests.store.home import Home, Series

Opener = Callable[..., Store]
UTC_MS = 1_700_000_000_000
TWO_DAYS = 48 * 360 * 20  # readings of twenty appliances, one every ten seconds


def by_series(readings: list[Reading]) -> dict[Series, list[tuple[int, int]]]:
    found: dict[Series, list[tuple[int, int]]] = defaultdict(list)
    for reading in readings:
        found[reading.client_id, reading.quantity].append((reading.t_ms - UTC_MS, reading.mantissa))
    return found


def opened(packs: list[Sealed]) -> list[Reading]:
    return [reading for pack in packs for reading in decode_pack(payload_of(pack))]


def two_days(store: Store, home: Home, data_dir: Path, report: Callable[[int], object]) -> None:
    """No uplink for 48 hours: at most 8 MB at any time, and then all of it goes up, in order."""
    store.set_clock(UTC_MS, True)
    largest = 0
    for _ in range(48):
        report(TWO_DAYS // 48)
        largest = max(largest, store.status()["bytes"])
    status = store.status()
    print(f"{TWO_DAYS} readings in {status['commits']} commits: {largest / 1e6:.2f} MB at most, files and all")
    assert largest <= 8_000_000
    assert (status["unsealed"], status["thinned"], status["refused"]) == (TWO_DAYS, 0, 0)
    packs = seal_all(store)
    assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))
    assert by_series(opened(packs)) == home.taken
    assert {reading.flags for reading in opened(packs)} == {0}
    assert store.status()["bytes"] <= 8_000_000


def test_two_days_of_twenty_appliances_fit_in_8_mb(open_store: Opener, data_dir: Path) -> None:
    """Sixty readings a commit, which is fast; the slow form takes one a commit."""
    home = Home([1000.0])
    store = open_store(max_mb=8, monotonic=home.monotonic)
    two_days(store, home, data_dir, lambda readings: home.report(store, readings, group=60))


@pytest.mark.slow
def test_two_days_of_twenty_appliances_fit_in_8_mb_one_reading_a_commit(open_store: Opener, data_dir: Path) -> None:
    home = Home([1000.0])
    store = open_store(max_mb=8, monotonic=home.monotonic)
    two_days(store, home, data_dir, lambda readings: home.report(store, readings))
    assert store.status()["commits"] >= TWO_DAYS


def rows_of(data_dir: Path) -> list[bytes]:
    connection = sqlite3.connect(data_dir / "hub.db")
    try:
        return [body for (body,) in connection.execute("SELECT body FROM log ORDER BY seq")]
    finally:
        connection.close()


def test_rows_wait_for_the_duplicate_window_and_answers_stay_the_same(open_store: Opener, data_dir: Path) -> None:
    home = Home([1000.0])
    store = open_store(monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    home.report(store, 1100)  # 550 s: nothing may be merged yet
    before = store.readings(limit=1 << 20).result(WAIT_S)
    store.close()
    assert not [body for body in rows_of(data_dir) if is_dense(body)]
    store = open_store(monotonic=home.monotonic)
    home.report(store, 2400)  # 1200 s more
    found = store.readings(limit=1 << 20).result(WAIT_S)
    assert [r.mantissa for r in found[:1000]] == [r.mantissa for r in before[:1000]]
    assert len(found) == home.count
    store.close()
    with OfflineStore(data_dir) as offline:
        assert [r.mantissa for r in offline.readings(limit=1 << 20)] == [r.mantissa for r in found]
        assert offline.queue_status()["readings"]["unsealed"] == home.count
    rows = rows_of(data_dir)
    dense = [body for body in rows if is_dense(body)]
    assert dense and len(rows) < 2400
    assert sum(map(len, dense)) < 8 * (home.count - len(rows))


def test_seen_entries_of_the_window_survive_merging(open_store: Opener) -> None:
    home = Home([1000.0])
    store = open_store(monotonic=home.monotonic)
    home.report(store, 4000)  # 2000 s
    store.close()
    store = open_store(monotonic=home.monotonic)
    assert len([record for record in store.restored if type(record).__name__ == "Seen"]) >= 1200


@pytest.mark.parametrize("seed", range(4))
def test_in_is_out_whatever_is_merged_when(tmp_path: Path, seed: int) -> None:
    """Seals that end inside rows, restarts and power cuts between merges: each sample in one pack, in order."""
    chance, lives = random.Random(seed), 0
    home = Home([1000.0], period_s=60, seed=seed)  # three seconds a reading: the window is 200 rows
    store = started(tmp_path / "0", monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    for _ in range(60):
        home.report(store, chance.randrange(10, 120), chance.choice((1, 1, 1, 3, 20)))
        for _ in range(chance.choice((0, 0, 0, 1, 3))):
            store.seal_pack(chance.choice((1, 7, 50, 400))).result(WAIT_S)
        what = chance.random()
        if what < 0.05:
            store.close()
            store = started(tmp_path / str(lives), monotonic=home.monotonic)
        elif what < 0.15:
            cut = power_cut(tmp_path / str(lives), tmp_path / str(lives + 1))
            store.close()
            lives, store = lives + 1, started(cut, monotonic=home.monotonic)
        store.set_clock(UTC_MS, True)
    unsealed = store.queue_status().result(WAIT_S)["readings"]["unsealed"]
    assert len(store.readings(limit=1 << 20).result(WAIT_S)) == home.count
    rest = seal_all(store, 333)
    packs = every(store, "readings")
    assert (store.epoch, store.status()["readings"]) == (1, home.count)
    store.close()
    assert len(opened(rest)) == unsealed
    assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))
    assert by_series(opened(packs)) == home.taken


def test_a_question_that_is_overtaken_misses_nothing_and_counts_nothing_twice(open_store: Opener) -> None:
    """While somebody reads the log a slice a round, each round commits, and a store pressed for space merges and thins
    rows on either side of where the reader is."""
    home = Home([1000.0])
    store = open_store(max_mb=0.6, monotonic=home.monotonic)
    store.set_clock(UTC_MS, True)
    home.report(store, 80_000, 240)
    home.report(store, 1600)  # rows of one reading: many slices
    now_ms = UTC_MS + home.clock[0] * 1000
    home.clock[0] += 700  # all of them may be merged now
    overtaking, over = home.batches(240 * 40, 240), threading.Event()

    def go_on(_number: int, error: Exception | None) -> None:
        assert error is None
        following = next(overtaking, None)  # on the writer's thread: one commit a round
        if following is None:
            over.set()
        else:
            store.commit(following, go_on)

    before = store.status()["thinned"]
    store.commit(next(overtaking), go_on)
    questions = [store.readings(limit=1 << 20) for _ in range(4)]  # served in turns, so each takes the longer
    answers = [question.result(WAIT_S) for question in questions]
    assert over.wait(WAIT_S)
    second = store.readings(limit=1 << 20, to_ms=int(now_ms)).result(WAIT_S)
    assert store.status()["thinned"] > before, "nothing overtook it: the test tests nothing"
    later = {(r.client_id, r.t_ms) for r in second}
    for answer in answers:
        seen = [(r.client_id, r.t_ms) for r in answer]
        assert len(seen) == len(set(seen))
        assert later <= set(seen), "what is there later was there before"


def test_a_flipped_bit_in_a_dense_row_costs_that_row(open_store: Opener, data_dir: Path) -> None:
    home = Home([1000.0])
    store = open_store(monotonic=home.monotonic)
    home.report(store, 9000, 3)
    store.close()
    connection = sqlite3.connect(data_dir / "hub.db")
    first, samples = connection.execute("SELECT seq, samples FROM log ORDER BY seq LIMIT 1").fetchone()
    assert samples > 1000, "the first row is a dense one"
    connection.execute(
        "UPDATE log SET body = CAST(substr(body, 1, 900) || x'00' || substr(body, 902) AS BLOB) WHERE seq = ?", (first,)
    )
    connection.commit()
    connection.close()
    store = open_store(monotonic=home.monotonic)
    packs = seal_all(store)
    assert store.epoch == 2
    assert len(opened(packs)) == home.count - samples
    until(lambda: bool(store.events(9).result(WAIT_S)))
    assert store.events(9).result(WAIT_S)[0]["event"] == "store.salvaged"


def test_a_home_that_keeps_adapters_waiting_for_nothing(open_store: Opener, disk_dir: Path) -> None:
    """Merging happens behind the answers: what it writes is little beside what the commits wrote."""
    home = Home([1000.0])
    store = open_store(disk_dir, monotonic=home.monotonic)
    home.report(store, 1200)
    before = store.status()
    home.report(store, 4096)
    after = store.status()
    written = (after["written_bytes"] - before["written_bytes"]) / 4096
    print(f"{written:.0f} bytes a commit of one reading, merging included")
    if after["written_bytes"] > before["written_bytes"]:  # a tmpfs writes nothing
        assert written <= 8192


points = st.lists(
    st.builds(Point, st.integers(0, 300), st.integers(-(2**45), 2**45), st.integers(-(10**18), 10**18)), max_size=60
)


@given(st.integers(0, 2**45), points, st.integers(0, 1800), st.dictionaries(st.integers(0, 300), st.integers(1, 10**9)))
def test_a_dense_row_reads_as_it_was_written(
    mono_ms: int, made: list[Point], resolution_s: int, dropped: dict[int, int]
) -> None:
    body = encode_dense(mono_ms, made, Thinned(resolution_s, dropped))
    assert is_dense(body)
    assert decode_dense(mono_ms, body) == (made, Thinned(resolution_s, dropped))


def test_a_dense_row_that_is_not_what_was_written_is_noticed() -> None:
    body = encode_dense(0, [Point(1, 2, 3)] * 50)
    for at in range(len(body)):
        with pytest.raises(StoreCorrupt):
            decode_dense(0, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


def test_a_group_row_is_told_from_a_dense_one(open_store: Opener, data_dir: Path) -> None:
    home = Home([1000.0])
    store = open_store(monotonic=home.monotonic)
    for group in (1, 30, 300):
        for batch in home.batches(group, group):
            assert commit(store, batch) is None
    store.close()
    assert [is_dense(body) for body in rows_of(data_dir)] == [False] * 3
