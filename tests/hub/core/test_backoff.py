"""One rule for every wait before another attempt."""

import math
import random

import pytest

from hub.core.backoff import Backoff, Pace


def test_delays_grow_to_the_cap_and_stay_there() -> None:
    backoff = Backoff(Pace(first_s=1.0, cap_s=30.0))
    assert [backoff.next_delay_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    backoff = Backoff(Pace(first_s=5.0, cap_s=3600.0, factor=5.0))
    assert [backoff.next_delay_s() for _ in range(7)] == [5, 25, 125, 625, 3125, 3600, 3600]


def test_a_steady_life_ends_the_memory_and_a_short_one_forgives_a_part() -> None:
    backoff = Backoff(Pace(1.0, 30.0), steady_s=120.0, forgiven_every_s=10.0)
    for _ in range(8):
        backoff.next_delay_s()
    backoff.lived(9.0)
    assert backoff.failures == 8
    backoff.lived(30.0)
    assert backoff.failures == 5
    backoff.lived(120.0)
    assert backoff.failures == 0 and backoff.next_delay_s() == 1.0
    never = Backoff(Pace(1.0, 30.0))
    never.next_delay_s()
    never.lived(1e9)
    assert never.next_delay_s() == 2.0
    never.reset()
    assert never.next_delay_s() == 1.0


def test_what_is_drawn_is_drawn_between_its_bounds() -> None:
    chance = random.Random(1).random
    whole = [Pace(8.0, 8.0, drawn=1.0).delay_s(0, chance) for _ in range(500)]
    half = [Pace(8.0, 8.0, drawn=0.5).delay_s(0, chance) for _ in range(500)]
    floored = [Pace(8.0, 8.0, floor_s=6.0, drawn=1.0).delay_s(0, chance) for _ in range(500)]
    assert min(whole) < 0.5 and max(whole) < 8.0
    assert 4.0 <= min(half) < 4.5 and max(half) < 8.0
    assert min(floored) >= 3.0 and max(floored) < 8.0


@pytest.mark.parametrize("failures", [0, 1, 63, 1_100, 10**9])
def test_any_number_of_failures_has_a_delay(failures: int) -> None:
    assert Pace(2.0, 3600.0).ceiling_s(failures) <= 3600.0
    assert Pace(0.001, 1e9, factor=6.0).ceiling_s(failures) <= 1e9
    assert Pace(600.0, 60.0).ceiling_s(failures) == 60.0, "a cap below the first delay is the cap"


def test_without_a_cap_it_goes_on_growing() -> None:
    endless = Pace(86400.0, math.inf)
    assert [endless.ceiling_s(tries) / 86400 for tries in range(5)] == [1, 2, 4, 8, 16]
    assert endless.ceiling_s(10**6) == math.inf


def test_a_cap_of_ones_own_holds() -> None:
    backoff = Backoff(Pace(10.0, 300.0), cap_s=2.0)
    assert {backoff.next_delay_s() for _ in range(9)} == {2.0}
