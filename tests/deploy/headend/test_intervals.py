"""Half-hours of registers: right or absent."""

from datetime import date
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.headend.intervals import (
    MEASURED,
    MISSING,
    STEP_S,
    SUBSTITUTED,
    SUSPECT,
    MeterExchange,
    RegisterPoint,
    day_of,
    settle,
)

START = 1_800_000_000 // STEP_S * STEP_S
FUSE_W = 24_000
KWH = 1_000_000  # mWh


def register(minutes: int, every_s: int = 60, power_w: int = 1200, first: int = 5_000 * KWH) -> list[RegisterPoint]:
    """A register under a steady load, from START on."""
    return [
        RegisterPoint((START + t) * 1000, first + power_w * t * 10 // 36) for t in range(0, minutes * 60 + 1, every_s)
    ]  # fmt: skip


def halves(
    points: list[RegisterPoint], hours: int, exchanges: list[MeterExchange] | None = None
) -> list[tuple[int | None, str]]:
    made = settle(points, exchanges or [], START, START + hours * 3600, FUSE_W)
    return [(interval.energy_mwh, interval.quality) for interval in made]


def test_a_steady_load() -> None:
    assert halves(register(120), 2) == [(600_000, MEASURED)] * 4


def test_where_the_register_was_not_seen_to_the_end_nothing_is_said() -> None:
    assert halves(register(45), 1) == [(600_000, MEASURED), (None, MISSING)]


def test_readings_between_the_boundaries_are_divided_evenly_and_sum_up() -> None:
    points = [RegisterPoint((START - 100) * 1000, 0), RegisterPoint((START + 200) * 1000, 300), *[
        RegisterPoint((START + 200 + n * 300) * 1000, 300 + n * 300) for n in range(1, 20)]]  # fmt: skip
    made = settle(points, [], START, START + 3600, FUSE_W)
    assert [interval.energy_mwh for interval in made] == [1800, 1800]


def test_a_hole_makes_substitutes_until_the_truth_comes() -> None:
    points = [*register(10), *register(120)[100:]]
    assert [quality for _, quality in halves(points, 2)] == [SUBSTITUTED] * 4
    assert halves(register(120), 2) == [(600_000, MEASURED)] * 4


@pytest.mark.parametrize("slip", [0, 1, 9_999_999 * KWH])
def test_one_telegram_of_nonsense_changes_nothing(slip: int) -> None:
    points = register(120)
    points[50] = RegisterPoint(points[50].t_ms, slip)
    assert halves(points, 2) == [(600_000, MEASURED)] * 4


def test_a_register_that_falls_for_good_is_not_made_into_consumption() -> None:
    points = register(120)
    points[50:] = [RegisterPoint(point.t_ms, point.energy_mwh - 1000 * KWH) for point in points[50:]]
    assert halves(points, 2) == [(600_000, MEASURED), (None, MISSING), (600_000, MEASURED), (600_000, MEASURED)]


def test_a_jump_that_no_fuse_lets_through_is_not_consumption() -> None:
    points = register(120)
    points[50:] = [RegisterPoint(point.t_ms, point.energy_mwh + 1000 * KWH) for point in points[50:]]
    assert halves(points, 2)[1] == (None, MISSING)


def test_a_register_of_six_digits_rolls_over() -> None:
    full = 10**6 * KWH
    points = [RegisterPoint(p.t_ms, p.energy_mwh % full) for p in register(120, first=full - KWH)]
    assert halves(points, 2) == [(600_000, MEASURED)] * 4


def test_an_exchanged_meter_is_no_gap() -> None:
    points = register(120)
    swap_ms = points[50].t_ms - 30_000
    last = points[49].energy_mwh + 10_000
    after = [RegisterPoint(p.t_ms, 10_000 + p.energy_mwh - points[50].energy_mwh) for p in points[50:]]
    swapped = [*points[:50], *after]
    assert halves(swapped, 2)[1] == (None, MISSING)
    assert halves(swapped, 2, [MeterExchange(swap_ms, last, 0)]) == [(600_000, MEASURED)] * 4


def test_a_register_that_stands_still_for_more_than_a_day_is_suspect() -> None:
    points = [RegisterPoint((START + t) * 1000, KWH) for t in range(0, 26 * 3600, 300)]
    assert halves(points, 25)[47:49] == [(0, MEASURED), (0, SUSPECT)]


def test_what_the_hub_doubts_is_suspect() -> None:
    points = register(60)
    points[10] = points[10]._replace(is_doubted=True)
    assert halves(points, 1) == [(600_000, SUSPECT), (600_000, MEASURED)]


@pytest.mark.parametrize(("day", "hours"), [(date(2027, 3, 28), 23), (date(2027, 10, 31), 25), (date(2027, 6, 1), 24)])
def test_a_markets_day_has_23_24_or_25_hours(day: date, hours: int) -> None:
    begin, end = day_of(day, ZoneInfo("Europe/London"))
    assert end - begin == hours * 3600 and begin % STEP_S == 0


@given(
    st.lists(st.tuples(st.integers(1, 600_000), st.integers(0, 2_000)), min_size=2, max_size=60), st.integers(0, 10**9)
)
def test_half_hours_sum_up_to_what_the_register_did(steps: list[tuple[int, int]], first: int) -> None:
    """Whatever the times of its readings: nothing is made, nothing is lost."""
    t_ms, energy = START * 1000, first
    points = [RegisterPoint(t_ms, energy)]
    for after_ms, used in steps:
        t_ms, energy = t_ms + after_ms, energy + used * after_ms // 1000
        points.append(RegisterPoint(t_ms, energy))
    end_s = START + (t_ms // 1000 - START) // STEP_S * STEP_S
    made = settle(points, [], START, end_s, FUSE_W)
    assert all(interval.energy_mwh is not None for interval in made)
    total = sum(interval.energy_mwh or 0 for interval in made)
    behind = next(index for index, point in enumerate(points) if point.t_ms >= end_s * 1000)
    a, b = points[max(behind - 1, 0)], points[behind]
    part = Fraction(end_s * 1000 - a.t_ms, b.t_ms - a.t_ms or 1) if end_s * 1000 > a.t_ms else Fraction(0)
    assert abs(a.energy_mwh + (b.energy_mwh - a.energy_mwh) * part - first - total) < 1
