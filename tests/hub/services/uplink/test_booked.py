"""Custody ends in the control point's book: brokers that acknowledge and forget, and consumers that are away (P1)."""

import threading
from collections.abc import Callable
from pathlib import Path

import cbor2
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.pki import DevelopmentAuthority
from hub.core.control.records import Journal
from hub.core.uplink.window import NOBODY
from tests.harness.broker import Broker
from tests.harness.house import House
from tests.harness.scripted_broker import Script, ScriptedBroker
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]


def payloads(broker: ScriptedBroker, lane: str) -> list[bytes]:
    return [entry.payload for entry in broker.publishes(f"/{lane}")]


def test_what_the_broker_acknowledged_and_nobody_booked_is_sent_again_byte_for_byte(
    make_house: Make, scripted: Scripted
) -> None:
    broker = scripted(Script())
    house = make_house(broker.port, booked_within_s=1.0)
    house.event(7)
    house.wait_drained()
    first = payloads(broker, "events")
    wait_for("each once more", lambda: len(payloads(broker, "events")) >= 2 * len(first))
    assert payloads(broker, "events")[len(first) : 2 * len(first)] == first, "in order, and the same bytes"
    assert house.status()["sent_again"] >= len(first)


def test_what_is_booked_is_never_sent_again(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script())
    house = make_house(broker.port, booked_within_s=3.0)
    house.read(5)
    house.wait_drained()
    wait_for("the readings", lambda: payloads(broker, "readings"))
    upto = house.store.queue_status().result(10)["readings"]["next"] - 1
    house.store.commit_control(Journal(booked={"readings": (house.store.epoch, upto)})).result(10)
    wait_for("another lane's repeat", lambda: house.status()["sent_again"] > 0)
    sent = payloads(broker, "readings")
    assert len(sent) == len(set(sent))


def test_the_heartbeat_says_what_is_booked(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script())
    house = make_house(broker.port, heartbeat_s=0.3)
    house.read(5)
    house.wait_drained()
    house.store.commit_control(Journal(booked={"readings": (house.store.epoch, 1)})).result(10)

    def beats() -> list[dict[str, object]]:
        return [cbor2.loads(beat) for beat in payloads(broker, "heartbeat")]

    wait_for("a heartbeat with the book", lambda: any(beat["b"]["readings"] == 1 for beat in beats()))  # type: ignore[index]
    assert set(beats()[-1]) == {"t", "epoch", "n", "b"}


def test_a_message_to_nobody_is_no_delivery(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(puback=0x10), Script())
    house = make_house(broker.port)
    house.event(7)
    assert "events" in house.wait_condition("uplink-nobody-listens")
    assert house.pending() > 0
    before = len(payloads(broker, "events"))
    house.event(8)
    wait_for("the event to be taken", lambda: house.pending() > 1)
    assert len(payloads(broker, "events")) <= before + 1, "it is not asked again for each message"
    broker.hang_up()
    house.wait_drained()
    wait_for("the condition to go", lambda: all(c.code != "uplink-nobody-listens" for c in house.health.conditions()))


def test_a_lane_that_nobody_has_keeps_no_other_waiting(
    tmp_path: Path, authority: DevelopmentAuthority, make_house: Make
) -> None:
    """Who takes readings alone has them at once, not when the events are tried again."""
    broker = Broker(tmp_path / "broker", authority, somebody=False).start()
    authority.issue("meters")
    pki = authority.directory
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "meters")
    client.tls_set(str(authority.ca_file), str(pki / "meters.pem"), str(pki / "meters.key"))
    packs: list[bytes] = []
    client.on_connect = lambda client, *_: client.subscribe("meters/MTR-1/readings", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, message: packs.append(message.payload)
    subscribed = threading.Event()
    client.connect("localhost", broker.port)
    client.loop_start()
    try:
        assert subscribed.wait(30)
        house = make_house(broker.port)
        house.event(1)
        assert house.wait_condition("uplink-nobody-listens").endswith("events")
        house.event(2)  # which waits, and is news until it goes
        house.read(30)
        wait_for("the readings", lambda: packs, timeout_s=NOBODY.first_s / 2)
    finally:
        client.disconnect()
        client.loop_stop()
        broker.stop()


def test_somebody_who_listens_again_has_everything_without_a_human(
    tmp_path: Path, authority: DevelopmentAuthority, make_house: Make
) -> None:
    """A real broker: nobody has subscribed; then somebody has, and says so by a heartbeat that is taken."""
    from tests.harness.control_point import ControlPoint

    broker = Broker(tmp_path / "broker", authority, somebody=False).start()
    try:
        house = make_house(broker.port, heartbeat_s=0.5)
        house.read(30)
        house.wait_condition("uplink-nobody-listens")
        assert house.pending() > 0
        point = ControlPoint(authority.directory, broker.port)
        try:
            house.wait_drained()
            wait_for("all readings", lambda: len(point.books.readings) == 30)
            assert not point.books.missing() and not point.faults
        finally:
            point.stop()
    finally:
        broker.stop()


def test_a_broker_that_dies_with_what_it_acknowledged_costs_nothing(
    tmp_path: Path, authority: DevelopmentAuthority, make_house: Make
) -> None:
    """Debian's default saves every half hour: killed before, it forgets what waited for a consumer that was away."""
    from tests.harness.control_point import ControlPoint

    extra = "autosave_on_changes false\nautosave_interval 1800\n"
    broker = Broker(tmp_path / "broker", authority, extra=extra, somebody=False).start()
    try:
        point = ControlPoint(authority.directory, broker.port)
        house = make_house(broker.port, booked_within_s=2.0)
        house.wait_state("up")
        point.stop()
        house.read(40)
        house.wait_drained()
        broker.kill()
        broker.start()
        point = ControlPoint(authority.directory, broker.port)
        try:
            wait_for("what the broker lost", lambda: len(point.books.readings) == 40)
            assert not point.books.altered and not point.faults
        finally:
            point.stop()
    finally:
        broker.stop()
