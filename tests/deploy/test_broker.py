"""deploy/broker: the mosquitto.conf and the access list that integrators are given, with hubs and strangers at them."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deploy.local_broker import production_config
from deploy.pki import DevelopmentAuthority
from tests.harness.broker import MOSQUITTO
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import free_port, wait_for

NOT_AUTHORISED = 0x87


@pytest.fixture
def authority(tmp_path: Path) -> DevelopmentAuthority:
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("MTR-2", file_name="other")
    authority.issue("headend")
    return authority


@pytest.fixture
def port(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[int]:
    """The files as they are given, with this test's folders and port in them."""
    assert MOSQUITTO
    port, folder = free_port(), tmp_path / "broker"
    file = production_config(folder, port, authority.directory)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=log, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    wait_for("mosquitto to listen", listens)
    yield port
    process.terminate()
    process.wait(10)


class Stranger:
    """A client with a hub's certificate that tries what it may not."""

    def __init__(self, authority: DevelopmentAuthority, stem: str, port: int) -> None:
        self.granted: dict[int, int] = {}
        self.published: dict[int, int] = {}
        self.heard: list[str] = []
        self._ready = threading.Event()
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, f"stranger-{stem}", protocol=mqtt.MQTTv5)
        pki = authority.directory
        client.tls_set(str(authority.ca_file), str(pki / f"{stem}.pem"), str(pki / f"{stem}.key"), ssl.CERT_REQUIRED)
        client.on_connect = lambda *_: self._ready.set()
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self.granted.update({mid: codes[0].value})
        client.on_message = lambda _c, _u, message: self.heard.append(message.topic)
        client.on_publish = self._on_publish
        client.connect("localhost", port)
        client.loop_start()
        assert self._ready.wait(20)

    def _on_publish(self, _client: object, _data: object, mid: int, code: ReasonCode, _more: Properties) -> None:
        self.published[mid] = code.value

    def may_publish(self, topic: str) -> bool:
        mid = self._client.publish(topic, b"x", qos=1).mid
        wait_for("an answer", lambda: mid in self.published)
        return self.published[mid] != NOT_AUTHORISED

    def hears(self, topic_filter: str) -> bool:
        """Whether a subscription brings anything that is published to such a topic by the control point."""
        _, mid = self._client.subscribe(topic_filter, 1)
        assert mid is not None
        wait_for("an answer", lambda: mid in self.granted)
        return self.granted[mid] < 0x80

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_hub_works_at_it_whole(tmp_path: Path, authority: DevelopmentAuthority, port: int) -> None:
    operator = Operator("grid")
    point = ControlPoint(authority.directory, port)
    file = write_operators(tmp_path / "operators.toml", operator)
    hub = Hub(tmp_path / "hub", authority, port, control__operators_file=str(file), hub__groups=["north"]).start()
    try:
        hub.wait_uplink()
        adapter = UdpAdapter(hub.udp_port, "boiler")
        assert adapter.connect() == 0
        adapter.publish(0x0001, b"2000")
        wait_for("the reading", lambda: point.values("boiler"))
        for to in (None, "group/north", "all"):
            aud = {"group/north": "group:north", "all": "all"}.get(to or "")
            claims = {"aud": aud} if aud else {}
            command = operator.command("limit.cancel", {}, **claims)
            point.send(command, **({"to": to} if to else {}))
            wait_for(f"the receipt of {to}", lambda c=command: "completed" in point.receipts(cti_of(c)))
        wait_for("no condition", lambda: not hub.conditions())
        adapter.close()
    finally:
        hub.kill()
        point.stop()


def test_a_hub_can_neither_speak_nor_hear_for_another(authority: DevelopmentAuthority, port: int) -> None:
    other = Stranger(authority, "other", port)
    point = Stranger(authority, "headend", port)
    try:
        for leaf in ("state", "readings", "events", "receipts", "answers", "heartbeat", "han/alarm/x"):
            assert other.may_publish(f"meters/MTR-2/{leaf}")
            assert not other.may_publish(f"meters/MTR-1/{leaf}"), leaf
        for topic in (
            "meters/MTR-1/commands",
            "meters/MTR-2/commands",
            "meters/all/commands",
            "meters/group/n/commands",
        ):
            assert not other.may_publish(topic), f"a hub commands nobody: {topic}"
            assert point.may_publish(topic)
        assert not point.may_publish("meters/MTR-1/readings"), "nor does the control point speak as a hub"
        # mosquitto grants a filter and withholds what comes; what is heard decides.
        for topic_filter in ("meters/#", "meters/+/readings", "meters/MTR-1/commands"):
            other.hears(topic_filter)
        assert other.hears("meters/MTR-2/commands")
        point.may_publish("meters/MTR-1/commands")
        other.may_publish("meters/MTR-2/readings")
        point.may_publish("meters/MTR-2/commands")
        wait_for("its own command", lambda: "meters/MTR-2/commands" in other.heard)
        assert set(other.heard) == {"meters/MTR-2/commands"}, other.heard
    finally:
        other.stop()
        point.stop()


def test_nobody_comes_in_without_a_certificate(authority: DevelopmentAuthority, port: int) -> None:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("localhost", port), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as line,
    ):
        line.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # MQTT 3.1.1, section 3.1
        if not line.recv(1):
            raise ConnectionError("closed")
