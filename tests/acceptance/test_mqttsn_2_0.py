"""An MQTT-SN 2.0 adapter at a running hub: its bytes written by hand from the draft, none of the product's code."""

import socket
from collections.abc import Iterator

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

# CONNECT: session expiry but no clean start (0x08), Packet Identifier 1, version 2, keep alive 60 s, packets of any
# size, session expiry 600 s, ClientId "plant-two".
CONNECT = "17 01 08 0001 02 003c 0000 00000258 706c616e742d74776f"


class Line:
    """One socket; what is asked and answered as hex."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(10)
        self.sock.connect(("127.0.0.1", port))

    def asks(self, raw: str) -> str:
        self.sock.send(bytes.fromhex(raw))
        return self.hears()

    def hears(self) -> str:
        return self.sock.recv(2048).hex()


@pytest.fixture
def line(hub: Hub) -> Iterator[Line]:
    line = Line(hub.udp_port)
    yield line
    line.sock.close()


def test_readings_reach_the_control_point(line: Line, control_point: ControlPoint) -> None:
    assert line.asks(CONNECT) == "060200000100", "CONNACK, no session present"
    assert line.asks("1210 00 0002" + b"readings/flow".hex()) == "07110400020001", "REGACK: session alias 1"
    assert line.asks("0903 20 0003 0001" + b"42".hex()) == "04040003", "PUBACK"
    assert line.asks("0b03 21 0004 0001" + b"1500".hex()) == "04040004", "by a predefined alias: power"
    line.sock.send(bytes.fromhex("1412 03 000e" + b"readings/power7".hex()))
    wait_for("three readings", lambda: len(control_point.values()) >= 3)
    assert sorted(control_point.values("plant-two")) == [7.0, 42.0, 1500.0]
    assert not control_point.faults and not control_point.books.missing()


def test_a_killed_hub_goes_on_in_2_0(hub: Hub, line: Line, control_point: ControlPoint) -> None:
    line.asks(CONNECT)
    assert line.asks("1210 00 0002" + b"readings/flow".hex()) == "07110400020001"
    assert line.asks("0d08 23 0003" + b"garden/x".hex()) == "0809040003000201", "SUBACK: QoS 1, session alias 2"
    assert line.asks("0913 01 0004 00000258") == "0514000004", "SLEEPRESP: for 600 s, aliases kept"
    other = UdpAdapter(hub.udp_port, "switch")
    other.connect()
    other.send(0x0A, bytes((0, 0, 0, 1)) + b"garden/x")
    topic_id = int.from_bytes(other.expect(0x0B)[:2], "big")
    assert other.publish(topic_id, b"on", topic_id_type=0) == 0
    hub.kill()
    hub.start()
    assert line.asks("0903 20 0005 0001" + b"43".hex()) == "04040005", "the session alias is what it was"
    assert line.asks("040c 0006") == "0903200001" + "0002" + b"on".hex(), "awake: what waited, by its alias"
    assert line.asks("0404 0001") == "050d000600", "PINGRESP: no more"
    wait_for("the reading", lambda: 43.0 in control_point.values("plant-two"))
