"""TLS sessions, queued commands, certificate authorities and revocation, with a real broker and a proxy that counts."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.house import House
from tests.harness.proxy import Proxy
from tests.harness.scripted_broker import ScriptedBroker
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    proxy = Proxy(broker.port)
    yield proxy
    proxy.close()


def _reconnect(house: House, proxy: Proxy) -> None:
    sessions, attempts = (house.status()[name] for name in ("sessions", "attempts"))
    proxy.cut()
    # It waits before the attempt that fails, too: mended then, it would never have failed.
    wait_for("an attempt that failed", lambda: _has_failed_since(house, attempts))
    proxy.mend()
    wait_for("a new session", lambda: house.status()["sessions"] > sessions)


def _has_failed_since(house: House, attempts: int) -> bool:
    status = house.status()
    return status["attempts"] > attempts and status["state"] == "waiting"


def test_a_reconnect_resumes_the_tls_session(make_house: Make, proxy: Proxy) -> None:
    house = make_house(proxy.port)
    house.wait_state("up")
    house.wait_drained()
    assert house.status()["tls"]["resumed"] is False
    first = proxy.bytes_down
    sessions = house.status()["sessions"]
    # One cut only, so that no failed attempt lies between: after one of those the handshake is a full one.
    proxy.reset()
    wait_for("a new session", lambda: house.status()["sessions"] > sessions)
    house.wait_drained()
    assert house.status()["tls"]["resumed"] is True
    assert house.status()["tls"]["version"] == "TLSv1.3"
    # What comes down is the handshake and a few acknowledgements; what goes up depends on what is sent once more.
    second = proxy.bytes_down - first
    assert second < 0.75 * first, f"{first} bytes for a full handshake, {second} for a resumed one"


def test_after_a_failed_attempt_the_handshake_is_a_full_one(make_house: Make, proxy: Proxy) -> None:
    house = make_house(proxy.port, random_source=lambda: 0.05)  # half a second, in which the race was lost each time
    house.wait_state("up")
    _reconnect(house, proxy)
    assert house.status()["tls"]["resumed"] is False


def test_it_stops_at_once_while_a_connect_hangs(make_house: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # TCP is taken, TLS is never answered
        house = make_house(silent.getsockname()[1])
        house.wait_state("connecting")
        house.stop()  # fails by itself when the loop does not end


def test_a_hub_that_booted_waits_its_turn_and_one_that_was_started_anew_does_not(
    make_house: Make, scripted: Scripted
) -> None:
    broker = scripted()
    spread = {"boot_spread_s": 3600.0, "random_source": lambda: 0.5}
    booted = make_house(broker.port, machine_up_s=lambda: 20.0, **spread)
    make_house(broker.port, machine_up_s=lambda: 1000.0, **spread).wait_state("up")
    assert broker.connections == 1 and booted.status()["attempts"] == 0
    booted.stop()  # fails by itself when the loop does not end


def test_bytes_are_those_of_the_line(make_house: Make, proxy: Proxy, tmp_path: Path) -> None:
    kept = tmp_path / "traffic.json"
    house = make_house(proxy.port, traffic_file=kept)
    house.wait_state("up")
    house.read(500)
    house.wait_drained()
    wait_for("the same count at both ends", lambda: _counted(house) == (proxy.bytes_up, proxy.bytes_down))
    up, down = _counted(house)
    assert up > 2000 and down > 500
    proxy.reset()
    wait_for("the second session", lambda: house.status()["sessions"] == 2)
    wait_for("its bytes", lambda: _counted(house)[0] >= proxy.bytes_up > up)
    # What was on its way when the line was reset was paid for, and never came.
    wait_for("nothing but that to be between", lambda: _counted(house)[0] - proxy.bytes_up < 1000)
    up, down = _counted(house)
    month = house.status()["traffic"]["month"]
    assert month["bytes_on_line"] > up + down, "headers of IP and TCP are paid for, too"
    house.stop()
    again = make_house(proxy.port, traffic_file=kept)
    assert _counted(again)[0] >= up, "a restart forgets nothing"


def _counted(house: House) -> tuple[int, int]:
    today = house.status()["traffic"]["today"]
    return today["bytes_up"], today["bytes_down"]


def test_commands_wait_at_the_broker_while_the_hub_is_away(
    make_house: Make, broker: Broker, authority: DevelopmentAuthority
) -> None:
    house = make_house(broker.port)
    house.wait_state("up")
    house.stop()
    _publish(authority, broker.port, "meters/MTR-1/commands", b"while you were away")
    again = make_house(broker.port)
    wait_for("the command", lambda: again.commands == [b"while you were away"])


def _publish(authority: DevelopmentAuthority, port: int, topic: str, payload: bytes) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "headend-once")
    pki = authority.directory
    client.tls_set(str(authority.ca_file), str(pki / "headend.pem"), str(pki / "headend.key"))
    client.connect("localhost", port)
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_the_authority_is_exchanged_without_a_restart(
    make_house: Make, tmp_path: Path, authority: DevelopmentAuthority
) -> None:
    new = DevelopmentAuthority(tmp_path / "new-pki", name="the next CA")
    new.issue("broker", hosts=["localhost", "127.0.0.1"])
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.ca_file.read_bytes())
    old_broker = Broker(tmp_path / "b", authority).start()
    house = make_house(old_broker.port, ca_file=trusted)
    house.wait_state("up")
    # The utility first hands out a file with both authorities, then changes the broker's certificate.
    trusted.write_bytes(authority.ca_file.read_bytes() + new.ca_file.read_bytes())
    os.utime(trusted, ns=(1, 1))
    old_broker.stop()
    for name in ("broker.pem", "broker.key"):
        (authority.directory / f"next-{name}").write_bytes((new.directory / name).read_bytes())
    next_broker = Broker(tmp_path / "b2", authority, server="next-broker", port=old_broker.port).start()
    try:
        wait_for("a session under the new authority", lambda: house.status()["sessions"] == 2)
        house.event(1)
        house.wait_drained()
    finally:
        next_broker.stop()


@pytest.mark.parametrize("revoked", [False, True])
def test_a_revoked_broker_is_refused(make_house: Make, tmp_path: Path, revoked: bool) -> None:
    authority = DevelopmentAuthority(tmp_path / "own-pki")
    cert_file, _ = authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    broker = Broker(tmp_path / "b", authority).start()
    crl_file = authority.revoke(*([cert_file] if revoked else []))
    pki: dict[str, Any] = {
        "ca_file": authority.ca_file, "cert_file": authority.directory / "hub.pem",
        "key_file": authority.directory / "hub.key",
    }  # fmt: skip
    house = make_house(broker.port, crl_file=crl_file, **pki)
    try:
        if revoked:
            assert "revoked" in house.wait_condition("uplink-server-untrusted")
            assert house.status()["sessions"] == 0
        else:
            house.wait_state("up")
    finally:
        broker.stop()
