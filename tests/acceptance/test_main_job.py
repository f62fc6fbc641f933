"""The main job over UDP: adapter -> gateway -> store -> mTLS MQTT -> a control point that only knows the design."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def test_readings_of_every_qos_reach_the_control_point(hub: Hub, control_point: ControlPoint) -> None:
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    adapter.publish(0x0001, b"1500", qos=0)
    assert adapter.publish(0x0001, b"1501.5", qos=1) == 0
    assert adapter.publish(0x0002, b"-7", qos=2) == 0
    adapter.publish(0x0001, b"1503", qos=-1)
    assert adapter.publish(0x0005, b"10:21.5,5:21.6,0:21.7", qos=1) == 0
    expected = {1500.0, 1501.5, -7.0, 1503.0, 21.5, 21.6, 21.7}
    wait_for("seven readings", lambda: len(control_point.values("boiler")) >= len(expected))
    assert {round(value, 6) for value in control_point.values("boiler")} == expected
    assert not control_point.faults
    assert not control_point.books.missing()
    at = {round(value, 6): t_ms for _, _, t_ms, value, _ in control_point.books.readings}
    assert 4900 <= at[21.6] - at[21.5] <= 5100, "SECONDS_AGO places a sample in time"


@pytest.mark.parametrize("qos", [-1, 0, 1, 2])
def test_a_public_client_publishes(hub: Hub, control_point: ControlPoint, qos: int) -> None:
    """PyPI's mqtt-sn-12, unmodified: by name (REGISTER) and, at QoS -1, by predefined id without a session."""
    tool = Path(sys.executable).parent / "mqtt_sn_pub"
    topic = ["-T", "1"] if qos == -1 else ["-t", "readings/power"]
    command = [str(tool), "-h", "127.0.0.1", "-p", str(hub.udp_port), "-i", "public-1", "-q", str(qos), *topic]
    subprocess.run([*command, "-m", f"40{qos + 1}"], check=True, capture_output=True, timeout=30)
    value = 400.0 + qos + 1
    client = "udp-127.0.0.1" if qos == -1 else "public-1"
    wait_for("the public client's reading", lambda: value in control_point.values(client))


def test_what_is_no_reading_is_refused_and_counted(hub: Hub) -> None:
    adapter = UdpAdapter(hub.udp_port, "confused")
    adapter.connect()
    for payload in (b"warm", b"", b"1e3", b"1:2:3", b"--1", b"9" * 40):
        assert adapter.publish(0x0001, payload) == 0x03, payload
    assert adapter.publish(0x0030, b"off 60") == 0x03, "control/ is the hub's alone"
    assert adapter.publish(0x0040, b"{}") == 0x03, "price is the hub's alone"
    assert adapter.publish(0x7777, b"1") == 0x02, "an unknown topic id"
    row = next(row for row in hub.ask("adapters") if row["client"] == "confused")
    assert row["refused"] == {"bad-reading": 6, "forbidden-topic": 2, "unknown-topic-id": 1}


def test_an_alarm_becomes_an_event_at_once(hub: Hub, control_point: ControlPoint) -> None:
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    assert adapter.publish(0x0021, b"leak", qos=1) == 0
    alarm = wait_for("the alarm", lambda: [e for e in control_point.books.events if e["event"] == "adapter.alarm"])[0]
    assert (alarm["client"], alarm["text"]) == ("boiler", "leak")


def test_forwards_go_up_unchanged(make_hub: Callable[..., Hub], control_point: ControlPoint) -> None:
    hub = make_hub(forward__out=["alarm/#", "readings/power"]).start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    adapter.publish(0x0021, b"leak")
    adapter.publish(0x0001, b"12.50")
    adapter.publish(0x0002, b"99")
    found: dict[str, bytes] = {}

    def arrived() -> bool:
        while not control_point.raw.empty():
            topic, payload = control_point.raw.get()
            if "/han/" in topic:
                found[topic] = payload
        return len(found) >= 2

    wait_for("two forwards", arrived)
    assert found == {"meters/MTR-1/han/alarm/boiler": b"leak", "meters/MTR-1/han/readings/power": b"12.50"}


def test_the_home_works_while_the_uplink_is_down(hub: Hub, broker: Broker, control_point: ControlPoint) -> None:
    hub.wait_uplink()
    broker.kill()
    display, boiler = UdpAdapter(hub.udp_port, "display"), UdpAdapter(hub.udp_port, "boiler")
    assert display.connect() == 0 and boiler.connect() == 0
    display.send(0x12, bytes((0x20, 0, 1)) + b"plant/#")
    assert display.expect(0x13)[-1] == 0
    boiler.send(0x0A, bytes((0, 0, 0, 1)) + b"plant/flow")
    topic_id = int.from_bytes(boiler.expect(0x0B)[:2], "big")
    assert boiler.publish(topic_id, b"wet", topic_id_type=0) == 0
    registered = display.expect(0x0A)
    display.send(0x0B, registered[:4] + b"\x00")
    assert display.expect(0x0C)[5:] == b"wet"
    assert boiler.publish(0x0001, b"777") == 0
    broker.start()
    wait_for("the backlog", lambda: 777.0 in control_point.values("boiler"))


def test_a_hundred_adapters_at_once(hub: Hub, control_point: ControlPoint) -> None:
    refused: list[str] = []

    def live(number: int) -> None:
        adapter = UdpAdapter(hub.udp_port, f"adapter-{number}", timeout_s=30)
        if adapter.connect() != 0:
            refused.append(adapter.client_id)
        for i in range(20):
            code = adapter.publish(0x0001, str(number * 1000 + i).encode())
            if code != 0:
                refused.append(f"{adapter.client_id} {i}: {code}")
        adapter.close()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    wait_for("2000 readings", lambda: len(control_point.values()) >= 2000)
    assert sorted(control_point.values()) == sorted(float(n * 1000 + i) for n in range(100) for i in range(20))
    assert not control_point.books.missing()


def test_a_retransmission_is_stored_once_even_over_a_restart(hub: Hub, control_point: ControlPoint) -> None:
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    assert adapter.publish(0x0001, b"1", msg_id=7) == 0
    assert adapter.publish(0x0001, b"1", msg_id=7, dup=True) == 0
    hub.kill()
    hub.start()
    assert adapter.publish(0x0001, b"1", msg_id=7, dup=True) == 0, "the session survived: no CONNECT was needed"
    assert adapter.publish(0x0001, b"1", msg_id=7) == 0, "without DUP a MsgId that is used again is a new message"
    assert adapter.publish(0x0001, b"2", msg_id=8) == 0
    wait_for("the last reading", lambda: 2.0 in control_point.values("boiler"))
    assert sorted(control_point.values("boiler")) == [1.0, 1.0, 2.0]


def test_it_stops_within_five_seconds_and_says_goodbye(hub: Hub, control_point: ControlPoint) -> None:
    hub.wait_uplink()
    begun = time.monotonic()
    assert hub.stop() == 0
    assert time.monotonic() - begun < 5, "the promise of design 3.4"
    wait_for("the goodbye", lambda: any('"offline"' in state for state in control_point.states))


def test_the_will_tells_of_a_killed_hub(hub: Hub, control_point: ControlPoint) -> None:
    hub.wait_uplink()
    wait_for("online", lambda: any('"online"' in state for state in control_point.states))
    hub.kill()
    wait_for("the will", lambda: '"offline"' in control_point.states[-1])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_both_versions_of_mqtt(make_hub: Callable[..., Hub], control_point: ControlPoint, protocol: str) -> None:
    hub = make_hub(uplink__protocol=protocol).start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    adapter.publish(0x0001, b"5")
    wait_for("the reading", lambda: control_point.values("boiler") == [5.0])
    assert hub.status()["uplink"]["protocol"] == protocol


def test_headend_watch_verifies_and_counts(hub: Hub, authority: DevelopmentAuthority, broker: Broker) -> None:
    pki = authority.directory
    hub.wait_uplink()
    watch = subprocess.Popen(
        [sys.executable, "-m", "hub", "headend", "watch", "--port", str(broker.port), "--ca", str(authority.ca_file),
         "--cert", str(pki / "headend.pem"), "--key", str(pki / "headend.key"), "--hub-cert", str(pki / "hub.pem"),
         "--json", "--seconds", "8"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["text"] == "connected"
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    for value in range(10):
        adapter.publish(0x0001, str(value).encode())
    rows = [json.loads(line) for line in watch.stdout]
    assert watch.wait() == 0
    assert [row["mantissa"] for row in rows if row["kind"] == "reading"] == list(range(10))
    assert rows[-1]["text"] == "10 readings, 0 faults, no number is missing"
