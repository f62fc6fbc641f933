"""Sealed messages that somebody asked for once more: byte for byte, and in nobody's way (design 3.3, `resend`)."""

from collections.abc import Callable

import pytest

from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker, connack
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
SMALL = connack(maximum_packet_size=2048)


def ask(house: House, lane: str, first: int, last: int) -> None:
    done: list[bool] = []
    house.loop.call_soon_threadsafe(lambda: done.append(house.uplink.send_again(lane, house.store.epoch, first, last)))
    wait_for("the request to be taken", lambda: done == [True])


def payloads(broker: ScriptedBroker, lane: str) -> list[bytes]:
    return [entry.payload for entry in broker.publishes(f"/{lane}")]


def answer(house: House, count: int, size: int = 100) -> None:
    """So many messages of lane answers, delivered."""
    for _ in range(count):
        house.store.append("answers", 61, bytes(size)).result(10)
    house.wait_drained()


def test_what_is_prompt_does_not_wait_for_what_was_asked_for_again(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(delay_s=0.05))
    house = make_house(broker.port)
    answer(house, 200)
    ask(house, "answers", 1, 200)
    wait_for("some of it", lambda: len(payloads(broker, "answers")) > 220)
    at = len(payloads(broker, "answers"))
    house.store.append("receipts", 61, b"accepted").result(10)
    wait_for("the receipt", lambda: payloads(broker, "receipts"))
    assert len(payloads(broker, "answers")) - at < 100, "it waited for what was under way, and no more"
    wait_for("all of it", lambda: len(payloads(broker, "answers")) == 400)
    assert payloads(broker, "answers")[:200] == payloads(broker, "answers")[200:], "in order, and the same bytes"


def test_packs_that_were_asked_for_again_keep_to_the_rate_and_take_turns_with_new_ones(
    make_house: Make, scripted: Scripted
) -> None:
    broker = scripted(Script(SMALL))
    house = make_house(broker.port, drain_kb_s=8)
    house.read(3000)
    house.wait_drained()
    old = payloads(broker, "readings")
    count = len(old)
    ask(house, "readings", 1, count)
    wait_for("the first", lambda: len(payloads(broker, "readings")) > count)
    house.read(200, first=3000)
    wait_for("all of it", lambda: payloads(broker, "readings").count(old[-1]) == 2)
    house.wait_drained()
    sent = broker.publishes("/readings")[count:]
    again = [entry.payload for entry in sent if entry.payload in old]
    assert again == old, "in order, and the same bytes"
    assert sent[-1].payload in old, "new readings did not wait for all of it"
    size, took_s = sum(len(entry.payload) for entry in sent), sent[-1].at - sent[0].at
    assert size > 15_000 and size <= 8000 * (took_s + 1) + 2048


def test_what_waits_already_is_not_sent_twice(make_house: Make, scripted: Scripted) -> None:
    """A control point that asks again because an answer takes its time."""
    broker = scripted(Script(delay_s=0.05))
    house = make_house(broker.port)
    answer(house, 100)
    for _ in range(5):
        ask(house, "answers", 1, 100)
    house.store.append("answers", 61, b"the last").result(10)
    house.wait_drained()
    wait_for("all of it", lambda: len(payloads(broker, "answers")) >= 201)
    house.store.append("answers", 61, b"the very last").result(10)
    house.wait_drained()
    assert len(payloads(broker, "answers")) <= 320, "what was sent of the first request may be sent once more"


def test_numbers_that_are_gone_long_since_keep_nothing_waiting(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script())
    house = make_house(broker.port)
    answer(house, 3)
    ask(house, "answers", 2, 2_000_000)
    ask(house, "readings", 1, 2_000_000)
    for number in range(20):
        house.store.append("receipts", 61, bytes([number])).result(10)
        wait_for("the receipt", lambda wanted=number: len(payloads(broker, "receipts")) > wanted, 5)
    assert len(payloads(broker, "answers")) == 5


@pytest.mark.parametrize("booked_within_s", [0.5, 1000.0])
def test_one_that_is_larger_than_this_broker_takes_does_not_cost_the_session(
    make_house: Make, scripted: Scripted, booked_within_s: float
) -> None:
    """The broker before took it; this one would end the session at it, each time anew (MQTT 5, 3.2.2.3.6)."""
    broker = scripted(Script(), Script(SMALL))
    house = make_house(broker.port, booked_within_s=booked_within_s)
    answer(house, 1, 4000)
    broker.hang_up()
    wait_for("the second session", lambda: broker.connections == 2)
    house.wait_state("up")
    if booked_within_s > 100:
        ask(house, "answers", 1, 1)
    assert "answers" in house.wait_condition("uplink-message-refused")
    house.event(3)
    house.wait_drained()
    assert all(len(entry.payload) < 2048 for entry in broker.publishes() if entry.connection == 1)
