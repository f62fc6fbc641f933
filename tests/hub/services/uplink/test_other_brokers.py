"""Brokers that other people run: few filters at a time, forbidden topics, silence, names, tenants, two of one name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import scripted_broker as wire
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker, connack, connack_3, disconnect
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
GROUPS = tuple(f"group-{n}" for n in range(20))


def filters(broker: ScriptedBroker) -> list[list[str]]:
    subscribes = [heard for heard in broker.heard if heard.kind == wire.SUBSCRIBE]
    return [[topic.decode() for topic in wire.filters_of(heard.body[3:])] for heard in subscribes]


def test_its_own_commands_come_first_and_the_rest_eight_at_a_time(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(most_filters=8))
    make_house(broker.port, groups=GROUPS).wait_state("up")
    asked = filters(broker)
    assert asked[0] == ["meters/MTR-1/commands"]
    assert max(map(len, asked)) <= 8
    assert {topic for piece in asked for topic in piece} == {
        "meters/MTR-1/commands", "meters/all/commands", *(f"meters/group/{group}/commands" for group in GROUPS),
    }  # fmt: skip


def test_a_topic_that_is_refused_is_named_and_the_rest_goes_on(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(refuses=b"group-3/"))
    house = make_house(broker.port, groups=GROUPS)
    house.wait_state("up")
    assert house.wait_condition("uplink-commands-refused").endswith(": meters/group/group-3/commands")
    house.event(1)
    house.wait_drained()


@pytest.mark.parametrize("forbidden", [b"meters/all/", b"meters/MTR-1/"])
def test_a_broker_that_closes_over_a_topic_still_takes_readings(
    make_house: Make, scripted: Scripted, forbidden: bytes
) -> None:
    broker = scripted(Script(closes_on=forbidden))
    house = make_house(broker.port)
    house.event(1)
    house.wait_drained()
    assert forbidden.decode() in house.wait_condition("uplink-commands-refused")


def test_what_a_broker_says_instead_of_suback_is_heard(make_house: Make, scripted: Scripted) -> None:
    elsewhere = disconnect(0x9D, server_reference="localhost:1")
    broker = scripted(Script(instead_of_suback=elsewhere), Script())
    house = make_house(broker.port, hosts=[("localhost", broker.port), ("localhost", 1)])
    wait_for("the redirect", lambda: "localhost:1" in str(house.status()["last_error"]))


def test_five_is_tried_again_at_each_later_connection(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack=b""), Script(connack_3()), Script())
    house = make_house(broker.port)
    house.wait_state("up")
    assert house.status()["protocol"] == "3.1.1"
    broker.hang_up()
    wait_for("MQTT 5", lambda: house.status()["protocol"] == "5" and house.status()["state"] == "up")


@pytest.mark.slow
def test_a_broker_that_is_silent_to_five_is_asked_in_3_1_1(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack_3(), silent_to_5=True))
    house = make_house(broker.port)
    house.wait_state("up")
    assert house.status()["protocol"] == "3.1.1"


def test_name_and_password_go_along(make_house: Make, scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n")
    broker = scripted()
    make_house(broker.port, username="tenant", password_file=tmp_path / "password").wait_state("up")
    body = broker.connects()[0].body
    assert body[7] & 0xC0 == 0xC0 and body.endswith(b"\x00\x06tenant\x00\x08a secret")


def test_a_prefix_is_before_every_topic(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    house = make_house(broker.port, topic_prefix="tenant-a/", heartbeat_s=0.2)
    house.event(1)
    house.wait_drained()
    wait_for("a heartbeat", lambda: broker.publishes("/heartbeat"))
    topics = {entry.topic for entry in broker.publishes("") if entry.topic}
    assert topics and all(topic.startswith("tenant-a/meters/MTR-1/") for topic in topics)
    assert all(topic.startswith("tenant-a/meters/") for piece in filters(broker) for topic in piece)
    assert b"tenant-a/meters/MTR-1/state" in broker.connects()[0].body


def test_a_broker_without_retained_messages_is_served_without(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack(0x9A)), Script(connack(retain_available=0)))
    house = make_house(broker.port)
    house.event(1)
    house.wait_drained()
    first, second = broker.connects()[:2]
    assert first.body[7] & 0x20 and not second.body[7] & 0x20, "the will does without, too"
    states = [heard for heard in broker.heard if heard.kind == wire.PUBLISH and heard.connection == 1]
    assert states and not any(heard.flags & 1 for heard in states)


def test_a_broker_of_qos_0_alone_is_no_custodian(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack(maximum_qos=0)))
    house = make_house(broker.port)
    assert "QoS 0" in house.wait_condition("uplink-refused")


def test_two_of_one_name_are_known_by_their_pattern(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(ends_after=2))
    house = make_house(broker.port)
    text = house.wait_condition("uplink-taken-over")
    assert "in a row" in text
