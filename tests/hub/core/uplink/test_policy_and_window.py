"""The uplink's machines: when to try again, what is on its way, what is sent once more."""

import random

import pytest

from hub.core.health import CONDITIONS, Health
from hub.core.uplink.reconnect_policy import JUST_BOOTED_S, PACES, STABLE_S, ReconnectPolicy, first_delay_s
from hub.core.uplink.window import (
    FORWARD,
    LANE_ORDER,
    MAX_FORWARDS_IN_FLIGHT,
    MAX_IN_FLIGHT,
    NOBODY,
    START,
    Listeners,
    Position,
    Rebooking,
    Window,
)
from hub.services.uplink.status import condition_of


@pytest.mark.parametrize("failure", PACES)
def test_delays_are_bounded_jittered_and_grow(failure: str) -> None:
    pace = PACES[failure]
    chance = random.Random(1)
    early = [ReconnectPolicy(chance.random).delay_s(failure) for _ in range(300)]
    assert max(early) <= max(pace.first_s, pace.floor_s)
    assert len(set(early)) > 250, "full jitter: no two hubs come back together"
    worn = ReconnectPolicy(chance.random)
    for _ in range(60):
        delay_s = worn.delay_s(failure)
        assert pace.floor_s / 2 <= delay_s <= pace.cap_s
    late = ReconnectPolicy(chance.random)
    for _ in range(30):
        late.delay_s(failure)
    assert sum(late.delay_s(failure) for _ in range(300)) / 300 > pace.cap_s / 3


def test_a_cap_of_ones_own_holds_for_every_failure() -> None:
    for failure in PACES:
        capped = ReconnectPolicy(lambda: 0.99, cap_s=2.0)
        assert (
            max(capped.delay_s(failure) for _ in range(30))
            <= 2.0
            < ReconnectPolicy(lambda: 0.99).delay_s("uplink-lost")
        )


def test_only_stable_uptime_is_forgiveness() -> None:
    policy = ReconnectPolicy(lambda: 0.5)
    for _ in range(8):
        policy.delay_s("uplink-lost")
    policy.backoff.lived(1)
    assert policy.backoff.failures == 8, "a broker that accepts and drops at once gets no quick retries"
    policy.backoff.lived(30)
    assert policy.backoff.failures == 5
    policy.backoff.lived(STABLE_S)
    assert policy.backoff.failures == 0


def test_the_first_attempt_is_spread_only_where_the_machine_has_just_started() -> None:
    assert first_delay_s(20.0, 60.0, lambda: 0.5) == 30.0
    assert first_delay_s(JUST_BOOTED_S, 60.0, lambda: 0.5) == 0.0
    assert first_delay_s(20.0, 0.0, lambda: 0.5) == 0.0


def test_a_refusal_is_slower_than_an_absence() -> None:
    assert PACES["uplink-not-authorised"].floor_s > PACES["uplink-unreachable"].first_s
    assert all(pace.cap_s >= 60 for pace in PACES.values()), "a cap in minutes"


def test_every_failure_is_a_condition_an_engineer_can_act_on() -> None:
    health = Health()
    for failure in PACES:
        health.raise_condition(condition_of(failure), "detail")
    assert all(condition.remedy for condition in health.conditions())


def test_consequences_hide_behind_causes() -> None:
    health = Health()
    health.raise_condition("uplink-refused")
    health.raise_condition("certificate-expired", "on 2026-01-01")
    assert [condition.code for condition in health.conditions()] == ["certificate-expired"]
    health.clear_condition("certificate-expired")
    assert [condition.code for condition in health.conditions()] == ["uplink-refused"]
    with pytest.raises(KeyError):
        health.raise_condition("uplink-sulking")
    assert all(set(kind.depends_on) <= set(CONDITIONS) for kind in CONDITIONS.values())


def test_the_window_keeps_to_the_brokers_receive_maximum() -> None:
    assert Window(65535).room == MAX_IN_FLIGHT
    assert Window(5).room == 4, "one place is left for state and heartbeat"
    assert Window(1).room == 1


def test_forwards_take_what_the_broker_takes_and_leave_the_lanes_theirs() -> None:
    for maximum in (1, 2, 3, 20, 100, 65535):
        window, mid = Window(maximum), 0
        while window.forward_room > 0:
            mid += 1
            window.sent(mid, FORWARD, Position(0, mid), 0.0)
        assert mid == {1: 1, 2: 1, 3: 1, 20: 11, 100: 91, 65535: MAX_FORWARDS_IN_FLIGHT - 8}[maximum]
        lanes = 0
        while window.room > 0:
            lanes += 1
            window.sent(1000 + lanes, "events", Position(1, lanes), 0.0)
        assert mid + lanes <= max(1, maximum - 1) and lanes <= MAX_IN_FLIGHT
        assert lanes >= min(8, (maximum - 1) // 2), "a flood of forwards leaves the lanes their places"
        for answered in (*range(1, mid + 1), *range(1001, 1001 + lanes)):
            assert window.acknowledged(answered, 1.0) is not None
        assert window.is_empty and window.forward_room == mid


def test_the_window_follows_each_lane() -> None:
    window = Window(10)
    window.sent(1, "events", Position(1, 4), 10.0)
    window.sent(2, "readings", Position(1, 9), 10.0)
    assert window.cursor("events") == Position(1, 4)
    assert window.room == 7
    assert window.acknowledged(2, 10.25) == ("readings", Position(1, 9))
    assert window.rtt_ms == pytest.approx(250)
    assert window.acknowledged(2, 11.0) is None and window.acknowledged(99, 11.0) is None
    window.rewind()
    assert window.cursor("readings") == START


def test_a_lane_that_nobody_has_is_asked_again_gently() -> None:
    listeners, now, waits = Listeners(), 0.0, []
    for _ in range(9):
        listeners.nobody("readings", now)
        listeners.nobody("readings", now + 1)  # one more that was under way
        assert listeners.waits("readings") and not listeners.waits("receipts")
        due_at = listeners.due_at()
        assert due_at is not None and listeners.take_due(due_at - 0.001) == []
        assert listeners.take_due(due_at) == ["readings"]
        waits.append(due_at - now)
        now = due_at
    assert waits == [60, 120, 240, 480, 960, 1920, NOBODY.cap_s, NOBODY.cap_s, NOBODY.cap_s]


def test_any_sign_of_somebody_is_worth_another_try() -> None:
    listeners = Listeners()
    for lane in ("readings", "events"):
        listeners.nobody(lane, 0.0)
    assert listeners.somebody("events") == ["events"] and listeners.waiting() == ["readings"]
    assert listeners.somebody() == ["readings"] and listeners.due_at() is None
    listeners.nobody("readings", 10.0)
    assert listeners.due_at() == 10.0 + 120.0, "a heartbeat's listener is not the readings'"


def test_without_a_book_each_message_goes_out_once_more_and_with_one_until_it_is_booked() -> None:
    for has_book, rounds in ((False, 1), (True, 3)):
        rebooking, now = Rebooking(100.0), 0.0
        for at in range(rounds):
            assert rebooking.may_look("events", now)
            assert rebooking.cursor("events", (0, 0)) == (0, 0)
            rebooking.sent("events", (1, 4))
            rebooking.round_over("events", (0, 0), now, has_book=has_book)
            if has_book:
                assert not rebooking.may_look("events", now + 99 * 2**at)
                now += 100 * 2**at
        if not has_book:
            assert rebooking.cursor("events", (0, 0)) == (1, 4), "it is not sent a third time"
        assert rebooking.cursor("events", (1, 9)) == (1, 9), "what is booked is over"


def test_a_rewind_may_be_of_some_lanes() -> None:
    window = Window(65535)
    for mid, lane in enumerate(LANE_ORDER):
        window.sent(mid, lane, Position(1, 5), 0.0)
    window.rewind(["events", "forward"])
    assert window.cursor("events") == START and window.cursor("readings") == Position(1, 5)
