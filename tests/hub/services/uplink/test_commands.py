"""A command is acknowledged to the broker by whoever made durable what became of it, and not before (point 13)."""

from collections.abc import Callable

import pytest

from tests.harness import scripted_broker as wire
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker, connack, connack_3
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]


def publish(topic: bytes, payload: bytes, mid: int, protocol: str, *, retained: bool = False) -> bytes:
    """A PUBLISH at QoS 1, as a broker sends it."""
    properties = b"\x00" if protocol == "5" else b""
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + properties + payload
    return wire.packet(wire.PUBLISH, body, 0x02 | retained)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_command_is_not_acknowledged_before_it_is_durable(
    make_house: Make, scripted: Scripted, protocol: str
) -> None:
    command = publish(b"meters/MTR-1/commands", b"hold this", 7, protocol)
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), at_once=command))
    house = make_house(broker.port, protocol=protocol)
    wait_for("the command", lambda: house.commands == [b"hold this"])
    house.event(1)
    house.wait_drained()  # whatever the hub had to say meanwhile has been said
    assert broker.count(wire.PUBACK) == 0
    house.let_go()
    wait_for("its PUBACK", lambda: broker.count(wire.PUBACK) == 1)
    assert [heard.body[:2] for heard in broker.heard if heard.kind == wire.PUBACK] == [b"\x00\x07"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_is_retained_or_comes_on_another_topic_is_no_command(
    make_house: Make, scripted: Scripted, protocol: str
) -> None:
    """amqtt 0.12 gives a hub that reconnects its own retained state, which it never subscribed to."""
    topics = [b"meters/MTR-1/state", b"meters/MTR-2/commands", b"meters/group/elsewhere/commands", b"commands"]
    strays = [publish(topic, b"stray", mid, protocol) for mid, topic in enumerate(topics, 1)]
    strays.append(publish(b"meters/MTR-1/commands", b"old news", 5, protocol, retained=True))
    strays.append(publish(b"meters/MTR-1/state", b"stray", 6, protocol, retained=True))
    commands = [
        publish(name, b"for us", 7 + n, protocol)
        for n, name in enumerate((b"meters/MTR-1/commands", b"meters/all/commands"))
    ]
    script = Script(connack() if protocol == "5" else connack_3(), at_once=b"".join(strays + commands))
    broker = scripted(script)
    house = make_house(broker.port, protocol=protocol)
    wait_for("both commands", lambda: house.commands == [b"for us"] * 2)
    wait_for("every PUBACK: or the broker sends them for ever", lambda: broker.count(wire.PUBACK) == 8)
    assert house.status()["strays"] == 6


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_group_that_the_hub_has_left_is_not_listened_to_for_years(
    make_house: Make, scripted: Scripted, protocol: str
) -> None:
    """The broker keeps what an earlier session had subscribed to: the session outlives the settings."""
    topics = [b"meters/group/left/commands"] * 3 + [b"meters/group/north/commands", b"meters/MTR-1/state"]
    heard = [publish(topic, b"heard", mid, protocol) for mid, topic in enumerate(topics, 1)]
    heard.append(publish(b"meters/group/north/commands", b"kept", 9, protocol, retained=True))
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), at_once=b"".join(heard)))
    house = make_house(broker.port, protocol=protocol, groups=["north"])
    wait_for("every PUBACK", lambda: broker.count(wire.PUBACK) == 6)
    house.event(1)
    house.wait_drained()
    asked = [packet.body[2:].lstrip(b"\0")[1:] for packet in broker.heard if packet.kind == wire.UNSUBSCRIBE]
    assert asked == [b"meters/group/left/commands"], "once, and nothing else"
    assert house.commands == [b"heard"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_pubacks_go_in_the_order_of_their_messages(make_house: Make, scripted: Scripted, protocol: str) -> None:
    """MQTT 5 section 4.6. The second is done first, and waits."""
    commands = [
        publish(b"meters/MTR-1/commands", payload, mid, protocol) for mid, payload in ((7, b"hold"), (8, b"go"))
    ]
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), at_once=b"".join(commands)))
    house = make_house(broker.port, protocol=protocol)
    wait_for("both", lambda: len(house.commands) == 2)
    house.event(1)
    house.wait_drained()
    assert broker.count(wire.PUBACK) == 0
    house.let_go()
    wait_for("both PUBACKs", lambda: broker.count(wire.PUBACK) == 2)
    assert [heard.body[:2] for heard in broker.heard if heard.kind == wire.PUBACK] == [b"\x00\x07", b"\x00\x08"]


def test_an_id_that_is_used_again_too_early_ends_nothing(make_house: Make, scripted: Scripted) -> None:
    """The broker's fault (MQTT 5 section 2.2.1): what it sent is dealt with, and the session goes on."""
    commands = [publish(b"meters/MTR-1/commands", b"hold", mid, "5") for mid in (7, 7, 8)]
    broker = scripted(Script(connack(), at_once=b"".join(commands)))
    house = make_house(broker.port)
    wait_for("all three", lambda: len(house.commands) == 3)
    house.let_go()
    wait_for("the PUBACKs", lambda: broker.count(wire.PUBACK) == 2)
    house.event(1)
    house.wait_drained()
    assert broker.count(wire.CONNECT) == 1


def test_who_is_behind_a_flood_is_read_before_the_flood_is_judged(make_house: Make, scripted: Scripted) -> None:
    """A broker's queue is first in, first out: what it holds back, nobody here can turn to."""
    flood = [publish(b"meters/MTR-1/commands", b"hold".ljust(200), mid, "5") for mid in range(1, 10_001)]
    behind = publish(b"meters/MTR-1/commands", b"honest", 10_001, "5")
    house = make_house(scripted(Script(connack(), at_once=b"".join([*flood, behind]))).port)
    wait_for("the one behind", lambda: b"honest" in house.commands)
    assert len(house.held) == 10_000, "while not one of the flood is dealt with"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_heeds_no_receive_maximum_waits(make_house: Make, scripted: Scripted, protocol: str) -> None:
    """What the hub holds unacknowledged is bounded by not reading on, and nothing of it is lost."""
    count, raw = 3500, 2000
    commands = [publish(b"meters/MTR-1/commands", b"hold".ljust(raw), mid, protocol) for mid in range(1, count + 1)]
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), at_once=b"".join(commands)))
    house = make_house(broker.port, protocol=protocol)
    most = (6 << 20) // (raw + 320) + 1  # 320: what each takes beside its bytes
    wait_for("as many as it takes", lambda: len(house.commands) >= most - 10)
    house.event(1)
    house.status()  # it lives, and has read what it would
    assert len(house.commands) <= most
    while len(house.commands) < count or house.held:
        house.let_go()
    wait_for("every PUBACK", lambda: broker.count(wire.PUBACK) == count)
    mids = [int.from_bytes(heard.body[:2], "big") for heard in broker.heard if heard.kind == wire.PUBACK]
    assert mids == list(range(1, count + 1))
