"""The short way through paho says what paho's own way says, packet by packet."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.pki import DevelopmentAuthority
from drivers.tls import TlsSocket, client_context
from hub.services.uplink.mqtt_client import MqttClient, PublishProperties


class Line:
    """Where a socket would be: gives the bytes it was made with, keeps what is sent."""

    def __init__(self, raw: bytes) -> None:
        self._bytes = raw

    def recv(self, count: int) -> bytes:
        raw, self._bytes = self._bytes[:count], self._bytes[count:]
        if not raw:
            raise BlockingIOError
        return raw

    def send(self, raw: bytes) -> int:
        return len(raw)

    def setblocking(self, flag: bool) -> None:
        pass

    def close(self) -> None:
        pass


Lines = Callable[[Sequence[bytes]], TlsSocket]


@pytest.fixture(scope="module")
def tls_line(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Opens a real connection on which a peer has sent these records."""
    pki = tmp_path_factory.mktemp("pki")
    authority = DevelopmentAuthority(pki)
    authority.issue("broker", hosts=["localhost"])
    authority.issue("MTR-1", file_name="hub")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
    server.load_cert_chain(pki / "broker.pem", pki / "broker.key")
    context = client_context(authority.ca_file, Path(pki / "hub.pem"), Path(pki / "hub.key"))

    def line(records: Sequence[bytes]) -> TlsSocket:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            sock = server.wrap_socket(theirs, server_side=True)
            for record in records:
                sock.sendall(record)
            sock.detach()  # open for as long as the process lives, were it not for the other end
            has_sent.set()

        has_sent = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        wrapped = context.wrap_socket(ours, server_hostname="localhost")
        assert isinstance(wrapped, TlsSocket) and has_sent.wait(60)
        wrapped.setblocking(False)
        wrapped.buffer()
        return wrapped

    return line


def heard(kind: type[mqtt.Client], line: Any, protocol: int, published: int = 3) -> list[Any]:
    """What the callbacks of a client are told of what comes, after it has published so many messages."""
    client = kind(CallbackAPIVersion.VERSION2, "MTR-1", protocol=protocol, manual_ack=True, reconnect_on_failure=False)
    said: list[Any] = []
    client.max_inflight_messages = 0
    client.on_message = lambda _c, _u, m: said.append(
        ("message", m.topic, bytes(m.payload), m.qos, m.retain, m.mid, m.dup)
    )
    client.on_publish = lambda _c, _u, mid, reason, _p: said.append(("published", mid, reason.value))
    client.on_disconnect = lambda _c, _u, _f, reason, _p: said.append(("over", reason.value))
    client.on_socket_register_write = lambda *_: None
    client._sock = line
    for _ in range(published):
        client.publish("meters/MTR-1/events", b"x", qos=1)
    said.append(("ended", [code for code in (client.loop_read() for _ in range(20)) if code]))
    said.append(("unanswered", sorted(client._out_messages), client._inflight_messages))
    return said


def publish(topic: bytes, payload: bytes, properties: bytes | None = b"\0", flags: int = 2, mid: int = 7) -> bytes:
    ident = struct.pack("!H", mid) if flags & 6 else b""
    body = struct.pack("!H", len(topic)) + topic + ident + (properties or b"") + payload
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return bytes([0x30 | flags]) + length + body


PACKETS = {
    "puback": b"\x40\x02\x00\x02",
    "puback of nothing": b"\x40\x02\x00\x63",
    "puback twice": b"\x40\x02\x00\x02" * 2,
    "puback with success": b"\x40\x03\x00\x02\x00",
    "puback with success and no properties": b"\x40\x04\x00\x02\x00\x00",
    "puback that refuses": b"\x40\x03\x00\x02\x97",
    "puback without subscribers": b"\x40\x03\x00\x01\x10",
    "puback with a word": b"\x40\x08\x00\x02\x97\x04\x1f\x00\x01x",
    "puback too short": b"\x40\x01\x00",
    "puback of a reserved kind": b"\x41\x02\x00\x02",
    "message": publish(b"meters/MTR-1/commands", b"\xd2\x84"),
    "empty message": publish(b"meters/MTR-1/commands", b""),
    "long message": publish(b"meters/MTR-1/commands", b"\xd2" * 900),
    "retained": publish(b"meters/MTR-1/state", b"{}", flags=3),
    "brought again": publish(b"a", b"b", flags=0xA),
    "at QoS 0": publish(b"a", b"b", flags=0),
    "with an expiry": publish(b"a", b"b", b"\x05\x02\x00\x00\x00\x3c"),
    "without properties": publish(b"a", b"\0b", None),
    "too short for its topic": b"\x32\x04\x00\x09ab",
    "too short for its id": b"\x32\x03\x00\x01a",
    "nothing in it": b"\x32\x00",
    "disconnect": b"\xe0\x01\x8e",
}


PROTOCOLS = pytest.mark.parametrize("protocol", [mqtt.MQTTv5, mqtt.MQTTv311], ids=["5", "3.1.1"])


@PROTOCOLS
@pytest.mark.parametrize("name", PACKETS)
def test_a_packet_says_the_same_either_way(name: str, protocol: int, tls_line: Lines) -> None:
    paho = heard(mqtt.Client, Line(PACKETS[name]), protocol)
    assert heard(MqttClient, Line(PACKETS[name]), protocol) == paho
    assert heard(MqttClient, tls_line([PACKETS[name]]), protocol) == paho


@PROTOCOLS
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_in_a_row_say_the_same_however_they_are_cut(data: st.DataObject, protocol: int, tls_line: Lines) -> None:
    kinds = st.one_of(
        st.integers(1, 60).map(lambda mid: b"\x40\x02" + mid.to_bytes(2, "big")),
        st.integers(1, 60).map(lambda mid: b"\x40\x03" + mid.to_bytes(2, "big") + b"\x00"),
        st.sampled_from(list(PACKETS.values())),
    )
    stream = b"".join(data.draw(st.lists(kinds, max_size=30)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=12))) if stream else []
    records = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)]) if end > begin]
    paho = heard(mqtt.Client, Line(stream), protocol, published=50)
    assert heard(MqttClient, tls_line(records), protocol, published=50) == paho


@pytest.mark.parametrize(("expiry_s", "alias"), [(0, 0), (120, 0), (0, 3), (2_000_000, 65_535)])
def test_properties_are_packed_as_paho_packs_them(expiry_s: int, alias: int) -> None:
    theirs = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry_s:
        theirs.MessageExpiryInterval = expiry_s
    if alias:
        theirs.TopicAlias = alias
    ours = PublishProperties(expiry_s=expiry_s, alias=alias)
    read, _ = Properties(PacketTypes.PUBLISH).unpack(ours.pack())  # type: ignore[no-untyped-call]
    assert read.json() == theirs.json()
    assert len(ours.pack()) == len(theirs.pack())  # type: ignore[no-untyped-call]


def test_only_errors_reach_the_log() -> None:
    client, lines = MqttClient(CallbackAPIVersion.VERSION2, "MTR-1"), []
    client.on_log = lambda _c, _u, level, text: lines.append((level, text))
    client._easy_log(LogLevel.MQTT_LOG_DEBUG, "%s", "each packet")
    client._easy_log(LogLevel.MQTT_LOG_ERR, "%s", "why a socket failed")
    assert lines == [(LogLevel.MQTT_LOG_ERR, "why a socket failed")]
