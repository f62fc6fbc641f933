"""A command is acknowledged to the broker by whoever made durable what became of it, and not before (point 13)."""

from collections.abc import Callable

import pytest

from tests.harness import scripted_broker as wire
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker, connack, connack_3
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_command_is_not_acknowledged_before_it_is_durable(
    make_house: Make, scripted: Scripted, protocol: str
) -> None:
    topic = b"meters/MTR-1/commands"
    properties = b"\x00" if protocol == "5" else b""
    body = len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + properties + b"hold this"
    command = wire.packet(wire.PUBLISH, body, 0x02)
    broker = scripted(Script(connack() if protocol == "5" else connack_3(), at_once=command))
    house = make_house(broker.port, protocol=protocol)
    wait_for("the command", lambda: house.commands == [b"hold this"])
    house.event(1)
    house.wait_drained()  # whatever the hub had to say meanwhile has been said
    assert broker.count(wire.PUBACK) == 0
    house.let_go()
    wait_for("its PUBACK", lambda: broker.count(wire.PUBACK) == 1)
    assert [heard.body[:2] for heard in broker.heard if heard.kind == wire.PUBACK] == [b"\x00\x07"]
