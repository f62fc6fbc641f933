"""A backlog goes at a bounded rate, and what is prompt does not wait for it (issue 4, point 10)."""

import asyncio
import math
import time
from collections.abc import Callable

import cbor2
import pytest

from hub.core.records import Batch, ForwardQueued
from hub.core.uplink.rate_limiter import SLOW_ANSWER_S, Drain
from hub.core.uplink.window import MAX_FORWARDS_IN_FLIGHT
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker, connack, connack_3
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
SMALL = connack(maximum_packet_size=2048)  # small packs, so that a small backlog is many of them


def test_the_rate_holds_over_any_stretch() -> None:
    drain, now, sent = Drain(1000), 0.0, []
    for mid in range(200):
        now = max(now, drain.due_at(now))
        assert drain.may_send(now)
        drain.sent(mid, 400, now)
        drain.answered(mid, now + 0.1)
        sent.append(now)
    for begin in range(0, 150, 10):
        took_s = sent[begin + 50] - sent[begin]
        assert 1000 * (took_s + 1) + 400 >= 50 * 400, "a second's burst, and no more"
    assert sent[-1] <= 200 * 400 / 1000, "and it does go at the rate it may"


def test_a_slow_line_has_one_pack_under_way() -> None:
    drain = Drain(0)
    drain.sent(1, 20_000, 0.0)
    drain.sent(2, 20_000, 0.0)
    assert drain.may_send(0.1)
    assert drain.due_at(SLOW_ANSWER_S + 0.1) == math.inf, "nothing more behind what is not answered"
    drain.answered(1, 9.0)
    assert not drain.may_send(9.0), "the second is still under way"
    drain.answered(2, 12.0)
    assert drain.may_send(12.0)
    drain.sent(3, 20_000, 12.0)
    assert not drain.may_send(12.1), "the line was slow a moment ago"
    drain.answered(3, 12.5)
    drain.sent(4, 20_000, 12.5)
    assert drain.may_send(12.6), "and is no more"


def test_a_backlog_keeps_to_its_rate(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(SMALL))
    house = make_house(broker.port, drain_kb_s=8)
    house.read(2000)
    house.wait_drained()
    packs = broker.publishes("/readings")
    size, took_s = sum(len(pack.payload) for pack in packs), packs[-1].at - packs[0].at
    assert size > 10_000 and len(packs) > 7
    # An upper bound: a busy machine is only ever slower.
    assert size <= 8000 * (took_s + 1) + 2048


def test_what_is_prompt_overtakes_a_backlog_and_each_lane_keeps_its_order(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(SMALL, delay_s=0.02))
    house = make_house(broker.port, drain_kb_s=20, heartbeat_s=0.2)
    house.read(4500)
    wait_for("the backlog to flow", lambda: len(broker.publishes("/readings")) > 5)
    for number in range(3):
        at = len(broker.publishes("/readings"))
        house.event(1000 + number)
        wait_for("the event", lambda wanted=number: _booked(broker, 1000 + wanted))
        order = [entry.topic.rsplit("/", 1)[1] + str(_boot(entry.payload)) for entry in broker.publishes()]
        behind = order[: order.index(f"events{1000 + number}")].count("readingsNone") - at
        assert behind <= 17, "at most what was under way and the packs of one round were before it"
    wait_for("heartbeats", lambda: len(broker.publishes("/heartbeat")) > 4)
    assert house.pending() > 0, "the backlog was gone: the test tests nothing"
    house.wait_drained()
    for lane in ("readings", "events"):
        numbers = [_number(entry.payload) for entry in broker.publishes(f"/{lane}")]
        assert numbers == sorted(numbers), f"{lane} out of order"


@pytest.mark.parametrize("receive_maximum", [1, 2, 65535])
def test_a_flood_of_forwards_and_a_backlog_share_the_window(
    make_house: Make, scripted: Scripted, receive_maximum: int
) -> None:
    few = connack(maximum_packet_size=2048, receive_maximum=receive_maximum)
    broker = scripted(Script(few, delay_s=0.01 if receive_maximum > 2 else 0.001))
    house = make_house(broker.port, drain_kb_s=0)
    batch = Batch(1)
    batch.urgent = True
    batch.changes = [ForwardQueued(f"raw/{i}", bytes(500)) for i in range(2000)]
    house.store.commit(batch, lambda _id, _error: None)
    house.read(3000)
    house.wait_drained()
    wait_for("the forwards", lambda: len([p for p in broker.publishes() if "/han/" in p.topic]) == 2000)
    kinds = ["han" in entry.topic for entry in broker.publishes() if "han" in entry.topic or "/readings" in entry.topic]
    packs_before_the_last_forward = kinds[: len(kinds) - kinds[::-1].index(True)].count(False)
    assert packs_before_the_last_forward > 5, "readings starve behind a flood of forwards"


@pytest.mark.parametrize(("protocol", "least", "most"), [("5", 200, MAX_FORWARDS_IN_FLIGHT), ("3.1.1", 60, 100)])
def test_on_a_slow_line_as_many_are_under_way_as_the_broker_takes(
    make_house: Make, scripted: Scripted, protocol: str, least: int, most: int
) -> None:
    """Else what goes in a second is a handful for each round trip. A broker of 3.1.1 does not say how many it takes."""
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), delay_s=0.5))
    house = make_house(broker.port, protocol=protocol)
    house.wait_state("up")
    batch = Batch(1)
    batch.urgent = True
    batch.changes = [ForwardQueued(f"raw/{i}", bytes(64)) for i in range(600)]
    house.store.commit(batch, lambda _id, _error: None)
    wait_for("all of them", lambda: len([p for p in broker.publishes() if "/han/" in p.topic]) == 600)
    assert least < broker.unanswered[0] <= most


def _boot(message: bytes) -> int | None:
    try:
        found = cbor2.loads(cbor2.loads(message).value[2])
        return int(found["boot"]) if found.get("event") == "hub.stopped" else None
    except Exception:
        return None


def _booked(broker: ScriptedBroker, boot: int) -> bool:
    return any(_boot(entry.payload) == boot for entry in broker.publishes("/events"))


def _number(message: bytes) -> int:
    return int(cbor2.loads(cbor2.loads(message).value[0])[-65537][3])


def test_what_comes_while_the_lane_is_being_looked_at_is_not_forgotten(make_house: Make, scripted: Scripted) -> None:
    """Two messages close behind each other, as a command's receipts are: the second must not wait for a third. The loop
    has other work, so that an answer of the store and the next news of it wait for their turn together."""
    house = make_house(scripted(Script()).port)
    house.wait_state("up")
    house.wait_drained()

    async def be_busy() -> None:
        while True:
            time.sleep(0.004)  # noqa: ASYNC251 - that is the work
            await asyncio.sleep(0)

    work = asyncio.run_coroutine_threadsafe(be_busy(), house.loop)
    try:
        for pair in range(60):
            house.store.append("receipts", 61, b"accepted").result(10)
            time.sleep(pair % 20 / 1000)
            house.store.append("receipts", 61, b"failed").result(10)
            wait_for(f"pair {pair} to go out", lambda: house.pending() == 0, 5)
    finally:
        work.cancel()


def test_forwards_go_on_where_a_connection_ended_in_their_order(make_house: Make, scripted: Scripted) -> None:
    """Fetched many at a time and marked together: what was under way when the line broke goes again, nothing is left
    out, small or large."""
    broker = scripted(Script(connack(), ends_after=90), Script(connack(), ends_after=150), Script())
    house = make_house(broker.port)
    wait_for("the session", lambda: house.status()["state"] == "up")
    payloads = [f"{n}:".encode().ljust(40_000 if n % 50 == 7 else 64, b".") for n in range(400)]
    batch = Batch(1)
    batch.urgent = True
    batch.changes = [ForwardQueued(f"raw/{i}", payload) for i, payload in enumerate(payloads)]
    house.store.commit(batch, lambda _id, _error: None)
    wait_for("all of them", lambda: {p.payload for p in broker.publishes() if "/han/" in p.topic} >= set(payloads))
    numbers = {payload: n for n, payload in enumerate(payloads)}
    for connection in range(broker.connections):
        heard = [numbers[p.payload] for p in broker.publishes() if "/han/" in p.topic and p.connection == connection]
        assert heard == sorted(heard), "in order within a session"
