# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter on a battery: it wakes, collects what the hub kept, says what it measured, and sleeps on."""

from itertools import pairwise

import pytest

from hub.wire.mqttsn.messages import Connect, Disconnect, PingReq, Publish
from tests.deploy.adapter.home import CLIENT, Home, heard

SLEEP_S = 600


def asleep(**settings: int) -> Home:
    home = heard(sleep_s=SLEEP_S, period_s=60, **settings)
    assert home.book.state(CLIENT) == "asleep"
    return home


def test_it_sleeps_once_everything_is_said() -> None:
    home = asleep()
    assert [type(message) for _, message in home.said][-1] is Disconnect
    assert home.said[-1][1] == Disconnect(SLEEP_S + 50), "time for a wake-up whose every frame is repeated"
    assert home.store.values("state") == [1]
    assert home.adapter.is_idle


def test_its_radio_is_silent_between_wake_ups() -> None:
    home = asleep()
    said = len(home.said)
    home.waits(SLEEP_S - 40)
    assert len(home.said) == said
    assert len(home.adapter.ring) > 10, "but it measures"


def test_a_wake_up_collects_then_says_then_sleeps() -> None:
    home = asleep()
    said = len(home.said)
    home.waits(SLEEP_S)
    kinds = [type(message) for _, message in home.said[said:]]
    assert kinds[0] is PingReq and kinds[1] is Connect and kinds[-1] is Disconnect
    assert kinds[2:-1] == [Publish] * (len(kinds) - 3)
    assert home.book.state(CLIENT) == "asleep"
    assert home.misplaced_by_s() <= 1


def test_a_day_of_sleep_is_a_day_of_readings() -> None:
    home = asleep().waits(86400)
    values = home.store.values()
    assert len(values) >= 1430
    assert {b - a for a, b in pairwise(values)} == {60}
    assert home.misplaced_by_s() <= 1
    assert "adapter.lost" not in home.store.event_names()


def test_nothing_to_say_costs_two_frames() -> None:
    home = heard(sleep_s=SLEEP_S, period_s=100_000)
    said = len(home.said)
    home.waits(2 * SLEEP_S + 60)
    assert [type(message) for _, message in home.said[said:]] == [PingReq, PingReq]


def test_orders_wait_for_it_and_are_reported_in_the_same_wake_up() -> None:
    home = asleep()
    given = home.now
    home.orders("limit 300 900").waits(SLEEP_S - 40)
    assert home.told_since(given) == []
    home.waits(60)
    ((obeyed, *told),) = home.told_since(given)
    assert told == ["limit", 300]
    assert home.store.values("limit") == [300]
    home.waits(2 * SLEEP_S)
    assert home.told_since(obeyed + 1) == [(obeyed + 900, "limit", None)], "its own clock ends it, asleep or not"


@pytest.mark.parametrize("outage_s", [900, 7200])
def test_an_outage_is_slept_through_and_caught_up(outage_s: int) -> None:
    home = asleep().waits(1200)
    home.dies().waits(outage_s)
    home.returns().waits(1800)
    values = home.store.values()
    assert {b - a for a, b in pairwise(sorted(values))} == {60}
    assert len(values) == len(set(values))
    assert home.misplaced_by_s() <= 60
    assert home.book.state(CLIENT) == "asleep"


def test_a_hub_that_forgot_the_sleeper_hears_its_introduction() -> None:
    home = asleep()
    home.store.__init__()  # type: ignore[misc]
    home.book.restarts()
    home.waits(SLEEP_S + 60)
    assert (CLIENT, f"control/{CLIENT}") in home.store.subscriptions
    assert home.book.state(CLIENT) == "asleep"


def test_a_lossy_link_wakes_and_sleeps_all_the_same() -> None:
    home = asleep()
    numbers = iter(range(1_000_000))
    home.loses = lambda side, message: next(numbers) % 7 == 0
    home.waits(20 * SLEEP_S)
    home.loses = lambda side, message: False
    home.waits(3 * SLEEP_S)
    values = home.store.values()
    assert {b - a for a, b in pairwise(sorted(values))} == {60}
    assert len(values) == len(set(values))
    assert home.misplaced_by_s() <= 60
