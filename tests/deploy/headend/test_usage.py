"""Usage as packs come: half-hours appear, are made anew when the truth is late, and keep their versions."""

import random
from collections.abc import Iterator
from datetime import date
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deploy.headend.control_point import book_in
from deploy.headend.intervals import MEASURED, STEP_S, SUBSTITUTED, SUSPECT, day_of
from deploy.headend.usage import HouseholdUsage, intervals_of, readings_of, to_mwh
from hub.headend.book import Book
from hub.wire.uplink.reading import Reading

HUB = "MTR-1"
START = 1_800_000_000 // STEP_S * STEP_S


@pytest.fixture
def book(place: Path | str) -> Iterator[Book]:
    if isinstance(place, Path):
        place.mkdir()
    book = Book(book_in(place))
    book.db.make((files("deploy.headend") / "schema.sql").read_text())
    yield book
    book.close()


def energy(t: int, wh: int) -> Reading:
    return Reading("meter", "energy", (START + t) * 1000, wh, 0)


def known(book: Book, hours: int = 48) -> list[tuple[int, int, int | None, str]]:
    """(half-hour, version, Wh, quality)."""
    return [
        ((start_s - START) // STEP_S, version, None if mwh is None else mwh // 1000, quality)
        for start_s, version, mwh, quality, _ in intervals_of(book.db, HUB, "energy", START, START + hours * 3600)
    ]


def test_half_hours_appear_once_their_end_is_seen(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    for minute in range(121):
        usage.enter(HUB, [energy(minute * 60, 20 * minute)])
        usage.settle_stale(minute)
    assert known(book) == [(n, 1, 600, MEASURED) for n in range(4)]


def test_the_order_in_which_packs_come_does_not_matter(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    minutes = list(range(241))
    random.Random(4).shuffle(minutes)
    for minute in minutes:
        usage.enter(HUB, [energy(minute * 60, 20 * minute)])
        usage.settle_stale(minute)
    assert [(n, wh, quality) for n, _, wh, quality in known(book)] == [(n, 600, MEASURED) for n in range(8)]


def test_a_substitute_is_replaced_when_the_truth_comes_and_both_are_kept(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    usage.enter(HUB, [energy(minute * 60, 10 * minute) for minute in range(11)])
    usage.enter(HUB, [energy(minute * 60, 100 + 30 * (minute - 10)) for minute in range(80, 121)])
    usage.settle_stale(1)
    assert [quality for _, _, _, quality in known(book)] == [SUBSTITUTED] * 3 + [MEASURED]
    usage.enter(HUB, [energy(minute * 60, 100 + 30 * (minute - 10)) for minute in range(11, 80)])
    usage.settle_stale(2)
    assert [(n, wh, quality) for n, _, wh, quality in known(book)] == [
        (0, 700, MEASURED), (1, 900, MEASURED), (2, 900, MEASURED), (3, 900, MEASURED)]  # fmt: skip
    versions = book.db.execute("SELECT start_s, version, made_ms FROM interval ORDER BY 1, 2").fetchall()
    assert [(version, made_ms) for _, version, made_ms in versions[:2]] == [(1, 1), (2, 2)]


def whole(book: Book) -> tuple[list[int], int]:
    """Which half-hours there are, and what they sum up to."""
    found = known(book)
    return [n for n, _, _, _ in found], sum(wh or 0 for _, _, wh, _ in found)


def test_a_long_hole_is_bridged_whole_and_one_reading_within_it_changes_all_of_it(book: Book) -> None:
    """Nothing of what the register did is lost, however the truth comes."""
    usage, now_ms = HouseholdUsage(book.db, 24_000), (START + 86_400) * 1000
    hole_s = 10 * 3600
    usage.enter(HUB, [energy(minute * 60, 10 * minute) for minute in range(61)])
    usage.settle_stale(now_ms)
    usage.enter(HUB, [energy(hole_s + minute * 60, 6000 + 10 * minute) for minute in range(61)])
    usage.settle_stale(now_ms)
    assert whole(book) == (list(range(22)), 6600)
    usage.enter(HUB, [energy(5 * 3600, 1400)])
    usage.settle_stale(now_ms)
    assert whole(book) == (list(range(22)), 6600)
    assert [wh for _, _, wh, _ in known(book)][2:20] == [100] * 8 + [460] * 10
    usage.enter(HUB, [energy(minute * 60, 600 + 10 * (minute - 60)) for minute in range(61, 600)])
    usage.settle_stale(now_ms)
    assert all(version == 3 and quality == MEASURED for n, version, _, quality in known(book) if 2 <= n < 9)


def test_a_slip_within_a_hole_is_found_out_by_what_comes_late(book: Book) -> None:
    usage, now_ms = HouseholdUsage(book.db, 24_000), (START + 86_400) * 1000
    readings = [energy(minute * 60, 10 * minute) for minute in range(61)]
    for t, wh in ((4 * 3600, 0), (9 * 3600, 5400)):  # a zero first, that nothing contradicts yet
        usage.enter(HUB, [*readings, energy(t, wh)])
        usage.settle_stale(now_ms)
    assert whole(book) == (list(range(18)), 5400)


def test_clocks_that_are_wrong_fill_no_years_with_half_hours(book: Book) -> None:
    """From 1970 to today are a million of them. One reading from a clock that is ahead costs as little with each pack
    that comes after it."""
    usage, ahead_s = HouseholdUsage(book.db, 24_000), 100 * 86_400
    usage.enter(HUB, [energy(ahead_s, 40)])
    usage.settle_stale(START * 1000)
    usage.enter(HUB, [Reading("meter", "energy", t, 0, 0) for t in (1000, 61_000)])
    for minute in range(61):
        usage.enter(HUB, [energy(minute * 60, 20 * minute)])
        usage.settle_stale((START + minute * 60) * 1000)
    assert book.db.execute("SELECT count(*) FROM interval").fetchone()[0] < 20
    assert [(n, wh) for n, _, wh, _ in known(book, 1)] == [(0, 600), (1, 600)]


def test_readings_that_say_nothing_new_make_no_new_version(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    for _ in range(3):
        usage.enter(HUB, [energy(minute * 60, 20 * minute) for minute in range(61)])
        usage.settle_stale(1)
    assert [version for _, version, _, _ in known(book)] == [1, 1]


def test_a_register_that_stands_still_is_suspect_after_a_day_also_pack_by_pack(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    for t in range(0, 26 * 3600 + 1, 600):
        usage.enter(HUB, [energy(t, 77)])
        usage.settle_stale(1)
    qualities = [quality for _, _, _, quality in known(book)]
    assert qualities == [MEASURED] * 48 + [SUSPECT] * 4


def test_an_exchange_in_an_event_after_the_fact_makes_the_half_hour_known(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    usage.enter(HUB, [energy(minute * 60, 5000 + 20 * minute) for minute in range(40)])
    usage.enter(HUB, [energy(minute * 60, 20 * (minute - 40)) for minute in range(41, 91)])
    usage.settle_stale(1)
    assert known(book)[1][2] is None
    usage.enter_exchange(HUB, (START + 40 * 60) * 1000, {"energy": "5800", "voltage.l1": "230"}, {"energy": "0"})
    usage.settle_stale(2)
    assert [wh for _, _, wh, _ in known(book)] == [600, 600, 600]


def test_nonsense_in_the_event_of_an_exchange_is_passed_over(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    usage.enter_exchange(HUB, 1, {"energy": [1], "x": 3}, {"energy": "1e9", "x": None})
    assert book.db.execute("SELECT count(*) FROM exchange").fetchone()[0] == 0


@pytest.mark.parametrize(("mantissa", "exponent", "mwh"), [(12345, 0, 12_345_000), (12345, -1, 1_234_500),
                                                            (1, -6, 0), (7, 3, 7_000_000)])  # fmt: skip
def test_registers_are_exact(mantissa: int, exponent: int, mwh: int) -> None:
    assert to_mwh(mantissa, exponent) == mwh


def test_readings_are_found_by_appliance_and_time(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    usage.enter(HUB, [energy(t, t) for t in range(10)] + [Reading("boiler", "power", START * 1000, 5, 0)])
    assert len(list(readings_of(book.db, HUB, "", "", START * 1000, (START + 5) * 1000, 100))) == 6
    assert [row.mantissa for row in readings_of(book.db, HUB, "boiler", "power", 0, 1 << 60, 100)] == [5]


def test_two_values_of_one_millisecond_are_two_and_what_comes_again_is_one(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    readings = [Reading("boiler", "power", START * 1000, value, 0) for value in (5, 7, 5)]
    usage.enter(HUB, readings)
    usage.enter(HUB, readings)
    assert [row.mantissa for row in readings_of(book.db, HUB, "boiler", "power", 0, 1 << 60, 100)] == [5, 7]


def test_a_day_of_25_hours_has_50_half_hours(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000)
    from_s, to_s = day_of(date(2027, 10, 31), ZoneInfo("Europe/London"))
    usage.enter(HUB, [Reading("meter", "energy", t * 1000, (t - from_s) // 6, 0) for t in range(from_s, to_s + 1, 300)])
    usage.settle_stale(1)
    assert len(intervals_of(book.db, HUB, "energy", from_s, to_s)) == 50


def test_series_are_known_again_however_few_numbers_are_kept(book: Book) -> None:
    usage = HouseholdUsage(book.db, 24_000, most_kept=3)
    hubs = [f"MTR-{number}" for number in range(300)]
    for round_ in range(3):
        usage.enter_all([(hub, [energy(60 * round_, 20 * round_)]) for hub in hubs])
        usage.count_added()
        for hub in hubs[:5]:
            usage.enter(hub, [Reading("boiler", "power", (START + 60 * round_) * 1000, 5, 0)])
    rows = book.db.execute("SELECT hub, client, readings FROM series").fetchall()
    assert sorted(tuple(row) for row in rows) == sorted(
        [*((hub, "meter", 3) for hub in hubs), *((hub, "boiler", 3) for hub in hubs[:5])]
    )
    assert usage.series_kept <= 200, "those that were asked for at once, where these are more than are to be kept"
