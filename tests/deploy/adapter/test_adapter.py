# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter on mains power, in conversation with the real gateway machine on a virtual clock."""

import json
from itertools import pairwise

import pytest

from deploy.adapter.adapter import ABOUT, CONTROL, LIMIT, Adapter
from hub.wire.mqttsn import messages
from hub.wire.mqttsn.messages import Connect, Publish, Subscribe
from tests.deploy.adapter.home import CLIENT, POWER, Home, heard


def test_it_introduces_itself_and_reports() -> None:
    home = heard(about=(("class", "water-heater"), ("nominal_w", 2000), ("priority", 3)))
    payload, _ = home.store.retained[f"about/{CLIENT}"]
    assert json.loads(payload) == {"sheddable": True, "class": "water-heater"}, "as much as the link carries"
    assert home.store.subscriptions == {(CLIENT, f"control/{CLIENT}"): 1}
    assert home.store.values("state") == [1]
    assert home.publishes_of(LIMIT)[0][1] == b""
    assert home.store.values("energy") == [7]


def test_about_takes_what_fits_in_order() -> None:
    home = heard(about=(("name", "x" * 60), ("class", "ev"), ("priority", 3)))
    assert json.loads(home.store.retained[f"about/{CLIENT}"][0]) == {"sheddable": True, "class": "ev", "priority": 3}


def test_readings_arrive_at_their_period_and_time() -> None:
    home = heard(period_s=60).waits(3600)
    assert len(home.store.values()) == 61
    assert home.misplaced_by_s() <= 5, "all but the first are sent as they are taken"
    assert home.adapter.ring.dropped == 0


def test_an_order_is_obeyed_reported_and_ends() -> None:
    home = heard()
    given = home.now
    home.orders("limit 500 60").waits(1)
    assert home.told_since(given) == [(given, "limit", 500)]
    assert home.store.values("limit") == [500]
    home.waits(120)
    assert home.told_since(given + 1) == [(given + 60, "limit", None)]
    assert [payload for _, payload in home.publishes_of(LIMIT)] == [b"", b"500", b""]
    home.orders("off 30").waits(60)
    assert home.store.values("state") == [1, 0, 1]


def test_a_refused_order_is_not_reported_as_obeyed() -> None:
    home = heard()
    before = len(home.said)
    home.orders("limit 500").orders("off 604800").orders("\x00")
    assert [type(message) for _, message in home.said[before:]] == [messages.PubAck] * 3, "received, and not obeyed"
    assert home.adapter.orders.refused == 3
    assert home.adapter.orders.limit_w is None and home.adapter.orders.on


def test_a_protected_appliance_says_so_and_refuses() -> None:
    home = heard(protected=True, about=(("class", "medical"),))
    assert json.loads(home.store.retained[f"about/{CLIENT}"][0])["sheddable"] is False
    started = home.now
    home.orders("off 60").orders("limit 0 60").orders("set temperature 5 60").waits(120)
    assert home.told_since(started) == []
    assert home.adapter.orders.refused == 3


def test_a_retained_order_is_refused() -> None:
    home = heard()
    order = Publish(1, CONTROL, 9, b"off 60", 1, True)
    home.adapter.receive_datagram(order.encode(), home.now)
    assert home.adapter.orders.on


def test_orders_on_other_topics_are_nobodys_orders() -> None:
    home = heard()
    for kind, topic_id in ((1, 0x0040), (1, 0x0031), (2, messages.short_topic_id("c0"))):
        home.adapter.receive_datagram(Publish(kind, topic_id, 9, b"off 60", 1).encode(), home.now)
    assert home.adapter.orders.on


def test_it_lets_go_although_the_hub_is_dead() -> None:
    home = heard().orders("off 300").orders("limit 500 600")
    given = home.now
    home.dies().waits(3600)
    assert home.told_since(given + 1) == [(given + 300, "on", True), (given + 600, "limit", None)]
    home.returns().waits(300)
    assert home.store.values("state")[-1] == 1
    assert home.publishes_of(LIMIT)[-1][1] == b"", "the hub that comes back learns that nothing is limited"


def test_it_lets_go_while_reconnecting_and_while_its_sensor_fails() -> None:
    home = heard().orders("off 100")
    given = home.now
    home.loses = lambda side, message: side == "hub"
    home.waits(50)
    home.appliance.is_broken = True
    home.waits(100)
    home.appliance.is_broken = False
    home.waits(1)
    assert home.told_since(given + 1) == [(given + 151, "on", True)]
    assert home.adapter.faults > 0


@pytest.mark.parametrize("outage_s", [20, 90, 600, 7200])
def test_readings_of_an_outage_arrive_in_their_place(outage_s: int) -> None:
    home = heard(period_s=60).waits(600)
    home.dies().waits(outage_s)
    home.returns().waits(1200)
    values = home.store.values()
    assert len(values) == len(set(values)), "each once"
    steps = {b - a for a, b in pairwise(sorted(values))}
    assert steps <= {55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65}, f"none is missing: {steps}"
    # A payload that was on its way when the hub went is repeated as it is for a minute, for the hub to recognise.
    assert home.misplaced_by_s() <= 60
    late = [s for s in home.store.samples if s.quantity == "power" and abs(s.sampled_s - s.mantissa) > 5]
    assert len(late) <= 1
    assert home.adapter.ring.dropped == 0


def test_after_a_long_outage_nothing_is_misdated() -> None:
    home = heard(period_s=10).waits(100)
    home.dies().waits(86400)
    home.returns().waits(3600)
    assert home.misplaced_by_s() <= 2, "what was on its way was written anew"
    assert home.adapter.ring.dropped > 0, "a day of ten-second readings does not fit: it was thinned and counted"
    assert len(home.adapter.ring) == 0


def test_a_lost_acknowledgement_doubles_nothing() -> None:
    home = heard(period_s=60)
    losing = iter([True, True] * 1000)
    home.loses = lambda side, message: isinstance(message, messages.PubAck) and side == "hub" and next(losing, False)
    home.waits(45)
    home.loses = lambda side, message: False
    home.waits(600)
    values = home.store.values()
    assert len(values) == len(set(values))


def test_a_hub_killed_between_commit_and_acknowledgement_doubles_nothing() -> None:
    home = heard(period_s=60)
    home.loses = lambda side, message: side == "hub"
    home.waits(61 - home.now % 60)
    home.loses = lambda side, message: False
    home.dies().waits(20)
    home.returns().waits(600)
    values = home.store.values()
    assert len(values) == len(set(values))
    assert any(isinstance(message, Publish) and message.dup for _, message in home.said)


def test_a_congested_hub_gets_every_reading_later_and_in_its_place() -> None:
    home = heard(period_s=60)
    home.book.holds = True
    for _ in range(40):
        home.waits(10)
        home.book.refuses()
        home._exchange()
    home.book.holds = False
    home.book.commits()
    home.waits(900)
    values = home.store.values()
    assert len(values) == len(set(values))
    assert home.misplaced_by_s() <= 60


def test_it_reconnects_for_ever_with_growing_pauses() -> None:
    home = heard().dies().waits(86400)
    connects = [at for at, message in home.said if isinstance(message, Connect)]
    attempts = [b - a for a, b in pairwise(connects) if b - a > 10]  # what is nearer is the same attempt's repetition
    assert min(attempts[-20:]) >= 120, "it has become patient"
    assert max(attempts) <= 240 + 10
    assert connects[-1] > 86400 - 600, "and has not given up"
    home.returns().waits(240 + 60)
    assert home.book.state(CLIENT) == "active"


def test_adapters_spread_over_time() -> None:
    starts = set()
    pauses = set()
    for seed in range(40):
        home = Home(seed).dies().waits(120)
        connects = [at - 1000 for at, message in home.said if isinstance(message, Connect)]
        starts.add(connects[0])
        pauses.add(connects[5] - connects[4])
    assert starts >= {0, 1, 2, 3, 4}
    assert len(pauses) > 1


def test_a_hub_that_forgot_it_is_introduced_anew() -> None:
    home = heard()
    home.store.__init__()  # type: ignore[misc]
    home.book.restarts()
    home.waits(120)
    assert (CLIENT, f"control/{CLIENT}") in home.store.subscriptions
    assert home.publishes_of(ABOUT)[-1][0] > 1030
    home.orders("off 60")
    assert not home.adapter.orders.on


def test_a_refused_subscription_is_asked_for_again() -> None:
    home = Home()
    home.loses = lambda side, message: isinstance(message, messages.SubAck)
    for _ in range(8):
        home.waits(1)
        asked = [message for _, message in home.said if isinstance(message, Subscribe)]
        if asked:
            home.adapter.receive_datagram(messages.SubAck(0, asked[-1].msg_id, 3).encode(), home.now)
            break
    home.loses = lambda side, message: False
    home.waits(59)
    assert len([m for _, m in home.said if isinstance(m, Subscribe)]) == 1
    home.waits(10)
    assert len([m for _, m in home.said if isinstance(m, Subscribe)]) == 2


def test_a_reading_that_the_hub_refuses_is_counted_and_not_repeated() -> None:
    home = heard()
    home.adapter.record(0x0099, 5, 0, home.now)  # an id that this hub does not know
    home.waits(120)
    assert home.adapter.refused == 1
    assert len(home.publishes_of(0x0099)) == 1
    assert len(home.publishes_of(POWER)) > 1


def test_any_bytes_at_any_time() -> None:
    home = heard()
    seed = 7
    for length in range(400):
        seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
        noise = bytes((seed >> shift & 0xFF) for shift in range(min(length, 24)))
        home.adapter.receive_datagram(noise, home.now)
        home.waits(1)
    home.waits(300)
    assert home.book.state(CLIENT) == "active"
    assert home.misplaced_by_s() <= 60


def test_a_setting_for_the_link_bounds_every_datagram() -> None:
    adapter = Adapter("a" * 23, heard().appliance, lambda bits: 0, max_bytes=60, about=(("class", "x" * 30),))
    adapter.start(0)
    adapter.handle_timer(0)
    assert all(len(datagram) <= 60 for datagram in adapter.datagrams_to_send())
