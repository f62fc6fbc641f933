"""A hub that is told to stop waits for no broker."""

from collections.abc import Callable

import pytest

from tests.harness import scripted_broker as wire
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]


@pytest.mark.parametrize("kind", [wire.CONNECT, wire.SUBSCRIBE], ids=["CONNACK", "SUBACK"])
def test_it_stops_at_once_while_it_waits_for(make_house: Make, scripted: Scripted, kind: int) -> None:
    broker = scripted(Script(mute_from=kind))
    house = make_house(broker.port)
    wait_for("the question", lambda: broker.count(kind) == 1)
    house.stop()  # fails by itself when the loop does not end


def test_nobody_is_told_that_the_hub_is_there_before_its_commands_are_heard(
    make_house: Make, scripted: Scripted
) -> None:
    """A control point that answers "online" with a command would lose it: at a first session nothing is kept for it."""
    broker = scripted(Script())
    make_house(broker.port).wait_state("up")
    wait_for("the state", lambda: broker.count(wire.PUBLISH))
    kinds = [heard.kind for heard in broker.heard]
    assert kinds.index(wire.SUBSCRIBE) < kinds.index(wire.PUBLISH)


def test_it_stops_at_once_with_messages_unanswered(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(puback=None))
    house = make_house(broker.port)
    for number in range(5):
        house.event(number)
    wait_for("them to be sent", lambda: len(broker.publishes("/events")) >= 5)
    house.stop()  # fails by itself when the loop does not end
    wait_for("the connection to end", lambda: broker.open == 0)
