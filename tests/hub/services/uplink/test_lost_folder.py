"""A hub whose folder is lost asks the broker what it knows of it: epochs never fall, and never come twice."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.pki import DevelopmentAuthority
from store.database import PAGE_SIZE
from store.epoch_file import FIRST_RANDOM
from tests.harness import scripted_broker as wire
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker
from tests.harness.waiting import wait_for
from tests.store.test_salvage import overwrite, pages_of

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
NOW_S = 1_800_000_000


@pytest.fixture
def control_point(authority: DevelopmentAuthority, broker: Broker) -> Iterator[ControlPoint]:
    authority.issue("headend")
    control_point = ControlPoint(authority.directory, broker.port)
    yield control_point
    control_point.stop()


def live(house: House, readings: int = 20) -> int:
    """Readings and an event arrive; the epoch in which they did."""
    house.wait_state("up")
    house.event(1)
    house.read(readings)
    house.wait_drained()
    house.stop()
    return house.store.epoch


@pytest.mark.parametrize("clocks", ["tut", "utu", "uut", "ttu", "uuu"])
def test_epochs_grow_whatever_clocks_are_trusted(
    make_house: Make, broker: Broker, control_point: ControlPoint, clocks: str
) -> None:
    """Three lives of one hub, each in an empty folder, with (t) and without (u) a clock."""
    epochs = []
    for life, clock in enumerate(clocks):
        house = make_house(broker.port, is_lost=True, utc_s=NOW_S + 1000 * life if clock == "t" else None)
        epochs.append(live(house))
        assert house.forgot == (life > 0)
        told = [e for e in control_point.books.events if e["event"] == "store.salvaged"]
        assert len(told) == life and (life == 0 or f"epoch {epochs[-2]}" in told[-1]["reason"])
    assert all(one < other for one, other in pairwise(epochs)), epochs
    assert (epochs[0] < FIRST_RANDOM) == (clocks[0] == "t")
    assert not control_point.faults and not control_point.books.missing() and not control_point.books.altered
    seen = {(epoch, lane) for _, epoch, lane, _ in control_point.books.messages}
    assert seen == {(epoch, lane) for epoch in epochs for lane in ("events", "readings")}, "no number in another epoch"
    assert len(control_point.values()) == 60


def test_a_clock_that_is_not_trusted_goes_on_above_what_the_broker_knows(make_house: Make, broker: Broker) -> None:
    first = live(make_house(broker.port, is_lost=True, utc_s=NOW_S))
    assert first == NOW_S
    assert live(make_house(broker.port, is_lost=True)) == NOW_S + 1, "not a random one, above all that times will be"
    assert live(make_house(broker.port, is_lost=True, utc_s=NOW_S - 500)) == NOW_S + 2, "a clock that is behind"


def test_an_epoch_that_a_salvage_began_is_told_at_once(
    make_house: Make, authority: DevelopmentAuthority, broker: Broker, control_point: ControlPoint, tmp_path: Path
) -> None:
    """Lost then, the hub must not begin what the salvage had begun."""
    epoch = live(make_house(broker.port), 20_000)
    database = tmp_path / "house0/data/hub.db"
    history = pages_of(database, "sealed_readings")[:-1]
    house = House(tmp_path / "house0", authority, [broker.port])
    house.wait_state("up")
    for page in history:  # which it has not read yet
        overwrite(database, (page - 1) * PAGE_SIZE, b"\xff" * PAGE_SIZE)
    house.store.readings().result(30)
    salvaged = house.store.epoch
    wait_for("the retained state", lambda: f'"epoch":{salvaged},' in control_point.states[-1])
    assert live(house) == salvaged > epoch
    assert live(make_house(broker.port, is_lost=True)) > salvaged
    assert not control_point.books.altered


def test_it_is_asked_once_and_the_broker_keeps_no_subscription(make_house: Make, broker: Broker) -> None:
    """Its session outlives the hub's: what is subscribed comes back for years."""
    for strays in (0, 1):
        house = make_house(broker.port, is_lost=True)
        house.wait_state("up")
        house.event(1)
        house.wait_drained()
        status = house.status()
        assert (status["attempts"], status["sessions"]) == (2, 1)
        assert status["strays"] == strays, "the retained one, and nothing of its own since"
        house.stop()


def test_a_will_does_not_replace_what_the_broker_has_to_be_asked_for(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    house = make_house(broker.port, is_lost=True)
    house.wait_state("up")
    asking, serving = broker.connects()
    assert will_is_retained(serving.body) and not will_is_retained(asking.body)
    [state, *_] = wait_for("its word", lambda: broker.publishes("state"))
    assert json.loads(state.payload)["epoch"] == house.store.epoch


def will_is_retained(connect: bytes) -> bool:
    return bool(connect[2 + int.from_bytes(connect[:2], "big") + 1] & 0x20)


@pytest.mark.parametrize(
    "script",
    [
        Script(refuses=b"/state"),
        Script(closes_on=b"/state"),
        Script(connack=wire.connack(retain_available=0)),
        Script(),
    ],
    ids=["refused", "closes", "keeps nothing", "says nothing"],
)
def test_a_broker_that_lets_no_hub_see_its_own_state_does_not_hurt(
    make_house: Make, scripted: Scripted, script: Script
) -> None:
    broker = scripted(script)
    house = make_house(broker.port, is_lost=True, utc_s=NOW_S)
    live(house)
    assert house.store.epoch == NOW_S and house.forgot == 0
    assert broker.publishes("readings")


def test_the_access_list_of_mosquitto_that_hides_it_does_not_hurt(
    make_house: Make, tmp_path: Path, authority: DevelopmentAuthority
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("pattern write meters/%u/#\npattern read meters/%u/commands\nuser somebody\ntopic read meters/#\n")
    broker = Broker(tmp_path / "strict", authority, extra=f"acl_file {acl}\n").start()
    try:
        assert live(make_house(broker.port, is_lost=True, utc_s=NOW_S)) == NOW_S
        assert live(make_house(broker.port, is_lost=True, utc_s=NOW_S + 9)) == NOW_S + 9
    finally:
        broker.stop()


@pytest.mark.parametrize(
    "lie",
    [
        b"", b"[]", b"{}", b"{" * 9000, b"\xff", b'{"epoch":1e99,"boot":1}', b'{"epoch":"9","boot":1}',
        b'{"epoch":4294967295,"boot":1}', b'{"epoch":-1,"boot":1}', b'{"epoch":true,"boot":1}',
    ],
)  # fmt: skip
def test_what_the_broker_keeps_may_be_anything(
    make_house: Make, broker: Broker, authority: DevelopmentAuthority, lie: bytes
) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "liar")
    pki = authority.directory
    authority.issue("liar")
    client.tls_set(str(authority.ca_file), str(pki / "liar.pem"), str(pki / "liar.key"))
    client.connect("localhost", broker.port)
    client.loop_start()
    client.publish("meters/MTR-1/state", lie, qos=1, retain=True).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    assert live(make_house(broker.port, is_lost=True, utc_s=NOW_S)) == NOW_S


def test_a_command_that_waited_is_judged_once_it_is_known_what_was_lost(
    make_house: Make, broker: Broker, control_point: ControlPoint
) -> None:
    live(make_house(broker.port))
    control_point.send(b"while the hub had no folder")
    house = make_house(broker.port, is_lost=True)
    wait_for("the command", lambda: house.commands)
    assert house.forgot == 1
    house.stop()
    assert house.commands == [b"while the hub had no folder"]
