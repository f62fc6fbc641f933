"""P8: the daily write budget. Nobody waits while it lasts; then commits wait for company, and the hub says so."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from hub.app.config import Config
from store import Store
from store.write_budget import MAX_WINDOW_S, Change, WriteBudget
from tests.bench.wear import measure
from tests.store.helpers import WAIT_S, Answers, batch, commit, sample, until

Opener = Callable[..., Store]
DAY_S = 86_400.0
MB = 1_000_000


def live(
    pace: WriteBudget, readings_per_s: float, days: float, start_s: float = 0.0, written: int = 0
) -> tuple[int, float]:
    """A home on a virtual clock whose commits cost what the table says; bytes written, and the longest window."""
    now_s, end_s, longest = start_s, start_s + days * DAY_S, 0.0
    while now_s < end_s:
        window_s = pace.window_s
        longest = max(longest, window_s)
        group = max(1.0, window_s * readings_per_s)
        # A minute at a time: the window hardly changes within it.
        commits = 60 * readings_per_s / group
        now_s += 60
        written += int(commits * (6400 + 60 * group))
        pace.note(now_s, written)
    return written, longest


@pytest.mark.parametrize("readings_per_s", [2, 10, 40])
def test_a_busy_home_keeps_to_its_budget_and_its_adapters_are_answered_in_time(readings_per_s: float) -> None:
    pace = WriteBudget(0.0, 512 * MB)
    first, _ = live(pace, readings_per_s, 3)
    rest, longest = live(pace, readings_per_s, 10, 3 * DAY_S, first)
    assert (rest - first) / 10 <= 1.02 * 512 * MB
    assert longest < MAX_WINDOW_S / 2
    assert pace.stretched


def test_what_no_window_can_contain_waits_no_longer_than_the_longest() -> None:
    """A hundred readings a second are 500 MB a day in content alone: the budget is a goal, custody comes first."""
    pace = WriteBudget(0.0, 512 * MB)
    _, longest = live(pace, 100, 10)
    assert longest == MAX_WINDOW_S and pace.stretched


def test_a_quiet_home_never_waits() -> None:
    pace = WriteBudget(0.0, 512 * MB)
    _, longest = live(pace, 0.5, 10)
    assert (longest, pace.stretched) == (0.0, False)


DEFAULT_BYTES = {field.name: field.default for field in fields(Config)}["daily_write_mb"] * 1024 * 1024


def test_an_ordinary_home_fits_into_the_budget_that_hubs_have() -> None:
    """Ten appliances that report every ten seconds, at what `python -m tests.bench.wear` measures: nobody waits."""
    pace, now_s, written = WriteBudget(0.0, DEFAULT_BYTES), 0.0, 0
    for _ in range(30 * 24 * 60):
        now_s += 60
        written += 60 * 6_850
        assert pace.note(now_s, written) is None
    assert pace.window_s == 0 and not pace.stretched and written / 30 < 0.9 * DEFAULT_BYTES


@pytest.mark.parametrize(("readings_per_s", "wait_s", "daily_mb"), [(2, 0.9, 671), (10, 0.9, 671), (100, 3.7, 671)])
def test_what_the_porters_table_says_of_busier_homes(readings_per_s: float, wait_s: float, daily_mb: int) -> None:
    pace = WriteBudget(0.0, DEFAULT_BYTES)
    first, _ = live(pace, readings_per_s, 5)
    rest, longest = live(pace, readings_per_s, 10, 5 * DAY_S, first)
    assert longest <= wait_s and (rest - first) / 10 / MB <= 1.02 * daily_mb


def test_a_burst_is_free_and_a_change_is_told_once() -> None:
    pace, told = WriteBudget(0.0, 100 * MB), []
    assert pace.note(0, 49 * MB) is None and pace.window_s == 0
    told.append(pace.note(1, 52 * MB))
    told += [pace.note(2 + second, 52 * MB + second) for second in range(100)]
    assert [change for change in told if change] == [Change(True, pytest.approx(0.2, rel=0.1))]
    day = [pace.note(60.0 * minute, 52 * MB + 100) for minute in range(2, 1440)]
    assert [change for change in day if change] == [Change(False, 0.0)]


def test_what_is_left_is_carried_over_and_no_debt_lasts_a_week() -> None:
    pace = WriteBudget(0.0, 100 * MB)
    pace.resume(10 * MB)
    assert pace.window_s == pytest.approx(MAX_WINDOW_S * 0.8)
    pace.note(0, 5000 * MB)
    assert pace.left_bytes == -100 * MB and pace.window_s == MAX_WINDOW_S
    _, _ = live(pace, 0.01, 1.6, 0, 5000 * MB)
    assert pace.window_s == 0


def test_what_is_left_is_written_down_every_hour_and_at_the_end_also_of_a_machine_just_started() -> None:
    pace = WriteBudget(0.0, 100 * MB)
    assert pace.to_keep(5) is None and pace.to_keep(6, at_end=True) is None, "a full bucket is not worth a page"
    pace.note(7, 0)
    pace.note(7, 80 * MB)
    assert pace.to_keep(8) is None, "not each second"
    assert pace.to_keep(9, at_end=True) == 20 * MB, "a restart in a machine's first hour is no new day, either"
    assert pace.to_keep(10, at_end=True) is None
    pace.note(3000, 80 * MB)
    assert pace.to_keep(3608) is None
    kept = pace.to_keep(3610)
    assert kept is not None and 20 * MB < kept < 30 * MB
    pace.resume(kept)
    pace.note(3 * DAY_S, 80 * MB)
    assert pace.to_keep(3 * DAY_S) == 100 * MB, "full again, which what was written down denies"


def test_without_a_budget_there_is_none() -> None:
    pace = WriteBudget(0.25, 0)
    assert pace.note(0, 1 << 60) is None
    assert (pace.window_s, pace.stretched) == (0.25, False)
    assert pace.to_keep(7200, at_end=True) is None


def test_the_store_stretches_its_window_by_itself_and_records_it(open_store: Opener, disk_dir: Path) -> None:
    store = open_store(disk_dir, daily_write_mb=1)
    if store.status()["written_source"] != "proc":
        pytest.skip("this kernel does not count the bytes that a process writes")
    assert (store.status()["window_s"], store.status()["stretched"]) == (0.0, False)
    number = 0
    while not store.status()["stretched"]:
        number += 1
        assert commit(store, batch(number, sample(value=number), seen=1)) is None
        assert number < 1000
    assert 0 < store.status()["window_s"] <= MAX_WINDOW_S
    until(lambda: bool(store.events(9).result(WAIT_S)))
    assert [(e["event"], e["stretched"]) for e in store.events(9).result(WAIT_S)] == [("store.wear", True)]
    # What comes within the window is one commit; questions are answered meanwhile.
    before, answers = store.status()["commits"], Answers()
    for more in range(50):
        store.commit(batch(number + more, sample(value=more), seen=1), answers)
    assert store.queue_status().result(WAIT_S)["readings"]["unsealed"] <= number
    answers.wait(50)
    until(lambda: store.status()["readings"] == number + 50)
    assert store.status()["commits"] - before <= 2
    store.close()
    assert open_store(disk_dir, daily_write_mb=1).status()["window_s"] > 0, "a restart is no new day"


def test_calls_do_not_wait_for_the_window(open_store: Opener) -> None:
    store, answers = open_store(group_window_s=30.0), Answers()
    store.commit(batch(1, sample()), answers)
    store.append("receipts", 61, b"receipt").result(WAIT_S)
    assert store.queue_status().result(WAIT_S)["receipts"]["pending"] == 1
    assert not answers.all, "answered before the window was over"
    store.close()
    assert answers.all == [(1, None)], "and closing ends it"


@pytest.mark.parametrize(("window_s", "readings_per_s"), [(0.0, 2), (0.01, 10), (0.1, 100), (1.0, 2)])
def test_a_commit_costs_at_most_twice_the_floor(window_s: float, readings_per_s: float) -> None:
    """The short form of `python -m tests.bench.wear`, all told: sealing, checkpoints, merging, pruning."""
    row = measure(window_s, readings_per_s, commits=1200)
    if not row.bytes_per_commit:
        pytest.skip("this file system does not count what is written to it")
    print(f"{row.bytes_per_commit:.0f} bytes a commit with an uplink, {row.down_bytes_per_commit:.0f} without")
    assert row.bytes_per_commit <= 8192
    assert row.down_bytes_per_commit <= 8192
