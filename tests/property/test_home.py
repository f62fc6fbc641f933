"""P1 and P2 between real machines: what was acknowledged is stored once, what was stored is delivered."""

from collections import Counter, deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.home import TOPIC, Adapter, Faults, Home

FAULTS = st.builds(
    Faults,
    loss=st.sampled_from((0.0, 0.1, 0.3)),
    repeat=st.sampled_from((0.0, 0.2)),
    refuse=st.sampled_from((0.0, 0.0, 0.3)),
    restart_every_s=st.sampled_from((0.0, 30.0, 120.0)),
)
QUIET = Faults()


def play(seed: int, faults: Faults, qos: int, count: int, sleeps: bool = False) -> tuple[Home, Adapter, Adapter]:
    """A subscriber and a publisher on a sound wire, then faults while everything is published, then quiet again."""
    home = Home(seed, QUIET)
    listener = home.add("listener", sleeps=sleeps)
    talker = home.add("talker")
    home.run(10)
    listener.client.subscribe(TOPIC, qos, home.now)
    home.adapter_settles(listener)
    home.run(10)
    home.faults = faults
    if faults.restart_every_s:
        home.at(home.now + faults.restart_every_s / 2, home.kill_hub)
    if sleeps:
        home.naps(listener)
    values = deque(range(1, count + 1))
    home.publishes_all(talker, values, qos, 3.0)
    home.run(600)
    home.faults, listener.sleeps = QUIET, False
    for _ in range(5):
        home.run(300)
        if listener.client.state == "asleep":  # a goodnight may still have been on its way
            listener.client.connect(home.now)
            home.adapter_settles(listener)
    home.run(1000)
    assert not values and not talker.offered, "the talker did not get everything out on a sound wire"
    return home, talker, listener


def check(home: Home, talker: Adapter, listener: Adapter, qos: int) -> None:
    stored = home.store.values("flow")
    assert Counter(stored).most_common(1)[0][1] == 1, "a publish was stored twice"
    assert set(talker.acknowledged) <= set(stored), "an acknowledged publish is not in the store"
    assert set(stored) <= set(listener.heard), "a stored publish did not reach its subscriber"
    if qos == 2:
        assert Counter(listener.heard).most_common(1)[0][1] == 1, "a QoS 2 message was heard twice"
    assert not home.store.inbox, "a message that was delivered is still in the store"
    assert home.gateway.counters.get("dropped.queue-full", 0) == 0


@given(seed=st.integers(0, 2**32), faults=FAULTS, qos=st.sampled_from((1, 2)), sleeps=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_custody_and_delivery(seed: int, faults: Faults, qos: int, sleeps: bool) -> None:
    check(*play(seed, faults, qos, 60, sleeps), qos)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), faults=FAULTS, qos=st.sampled_from((1, 2)), sleeps=st.booleans())
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_custody_and_delivery_at_length(seed: int, faults: Faults, qos: int, sleeps: bool) -> None:
    check(*play(seed, faults, qos, 150, sleeps), qos)


@given(seed=st.integers(0, 2**32), qos=st.sampled_from((1, 2)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_late_repeats_of_an_adapter_that_counts(seed: int, qos: int) -> None:
    """The network repeats datagrams up to a minute later, without DUP, long after their acknowledgement."""
    home = Home(seed, QUIET)
    talker = home.add("talker")
    home.run(10)
    warm_up = deque(range(1, 41))  # from here on it is known to count
    home.publishes_all(talker, warm_up, qos, 1.0)
    home.run(400)
    home.faults = Faults(repeat=0.5, late_repeats=True)
    values = deque(range(41, 100))
    home.publishes_all(talker, values, qos, 5.0)
    home.run(1500)
    assert not values and not talker.offered
    assert sorted(home.store.values("flow")) == list(range(1, 100))
