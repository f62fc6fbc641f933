"""`meterhub trace`: what is said on either side, by the standards' names; and as a capture that Wireshark dissects."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.control_point import ControlPoint
from tests.harness.hub import ROOT, Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

PLUG = "000d6f0000000001"
DEVICES = [
    {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "appliance": "boiler"},
    {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "charger", "period_s": 1},
]


class Talk:
    """A hub in the middle of a conversation on all of its sides, and what a trace of it says."""

    def __init__(self, hub: Hub, point: ControlPoint, operator: Operator) -> None:
        self.hub, self.point, self.operator = hub, point, operator
        self.adapter = UdpAdapter(hub.udp_port, "boiler")
        assert self.adapter.connect(duration_s=600) == 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        price = {"currency": "GBP", "steps": [[0, 3600, 0.2]]}
        at = 0
        while not self._stopping.wait(0.05):
            at += 1
            if at % 2:
                self.adapter.publish(0x0001, b"20")
                self.adapter.send(0x0C, b"\x62")  # cut short
            else:
                self.adapter.send(0x0A, bytes(2) + at.to_bytes(2, "big") + b"plant/flow")
                topic = self.adapter.expect(0x0B)[:2]
                self.adapter.send(0x0C, b"\x00" + topic + bytes(2) + b"7")
            if at % 20 == 0:
                self.adapter.publish(0x0021, b"too hot %d" % at)
            if at % 10 == 0:
                self.point.send(self.operator.command("price", price))

    def end(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self.adapter.close()

    def trace(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "hub", "trace", "--config", str(self.hub.config), "--seconds", "30", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.trace("--json", *words).stdout.splitlines()]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    from tests.harness.broker import Broker

    folder = tmp_path_factory.mktemp("trace")
    authority = DevelopmentAuthority(folder / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    broker = Broker(folder / "broker", authority).start()
    operator = Operator("grid")
    radio = Radio(DEVICES).start()
    hub = Hub(
        folder / "hub", authority, broker.port, radio__path=str(radio.path), forward__out=["plant/#"],
        control__operators_file=str(write_operators(folder / "operators.toml", operator)), uplink__deflate=True,
        control__heartbeat_s=5,
    )  # fmt: skip
    point = ControlPoint(authority.directory, broker.port)
    try:
        hub.start().wait_uplink()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=200)
        wait_for("the plug", lambda: point.values(f"zb-{PLUG}"))
        wait_for("the charger", lambda: point.values("charger"))
        talk = Talk(hub, point, operator)
        yield talk
        talk.end()
    finally:
        hub.kill()
        point.stop()
        radio.close()
        broker.stop()


def test_messages_are_named_by_the_standard_with_their_fields_and_who_says_them(talk: Talk) -> None:
    seen = talk.trace("--client", "boiler", "--count", "12").stdout.decode()
    assert "boiler -> hub  MQTT-SN PUBLISH topic=readings/power topic_id=0x0001 msg_id=" in seen
    assert "qos=1" in seen and "20" in seen
    assert "boiler <- hub  MQTT-SN PUBACK topic=readings/power topic_id=0x0001" in seen
    assert "return_code=0x00 (accepted)" in seen and "malformed (truncated)" in seen
    assert "REGISTER topic=plant/flow" in seen and "REGACK topic=plant/flow" in seen
    # A topic id of the session, by the name it was registered with.
    assert any(" PUBLISH topic=plant/flow topic_id=0x" in line for line in seen.splitlines())


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("meters/+/readings", "readings"), ("meters/+/events", "events"), ("meters/+/receipts", "receipt"),
        ("meters/+/heartbeat", ""), ("meters/+/commands", "price"), ("meters/+/han/#", "7"),
    ],
)  # fmt: skip
def test_everything_on_the_uplink_is_decoded(talk: Talk, topic: str, says: str) -> None:
    (row,) = talk.rows("--side", "uplink", "--topic", topic, "--count", "1")
    assert row["message"] == "PUBLISH" and row["protocol"] == "MQTT", row
    assert says in row["text"] and row["way"] == ("in" if topic.endswith("commands") else "out")


def test_a_deflated_pack_is_shown_with_its_series(talk: Talk) -> None:
    rows = talk.rows("--topic", "meters/+/readings", "--count", "4")
    series = {(each["client"], each["quantity"]): each["last"] for row in rows for each in row["fields"]["series"]}
    assert series["boiler", "power"] == "20 W"


def test_zcl_is_named_and_its_reports_are_read(talk: Talk) -> None:
    rows = talk.rows("--protocol", "zcl", "--message", "report attributes", "--count", "2")
    assert {row["client"] for row in rows} == {f"zb-{PLUG}"} and all(row["fields"]["attributes"] for row in rows)


def test_filters_choose_by_way_and_message(talk: Talk) -> None:
    rows = talk.rows("--way", "out", "--message", "puback", "--protocol", "mqtt-sn", "--count", "3")
    assert {(row["way"], row["message"]) for row in rows} == {("out", "PUBACK")}


def test_wireshark_reads_the_capture_with_its_own_dissectors(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "home.pcapng"
    done = talk.trace("--pcap", str(file), "--seconds", "8")
    assert done.returncode == 0 and b"wireshark -d udp.port==1883,mqttsn" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    rows = dissected(file, "frame.protocols", "mqttsn.msg.type", "mqttsn.pub.msg", "mqtt.topic", "zbee_zcl.cmd.id")
    of_home = [row for row in rows if "mqttsn" in row["frame.protocols"]]
    assert any(row["mqttsn.pub.msg"] == "20" for row in of_home), of_home[:20]
    # Of the radio's adapter, too: its message in IPv6.
    assert any("ipv6" in row["frame.protocols"] for row in of_home)
    topics = {row["mqtt.topic"] for row in rows if "mqtt" in row["frame.protocols"].split(":")}
    assert {"meters/MTR-1/readings", "meters/MTR-1/han/plant/flow"} <= topics
    assert any("zbee_aps:zbee_zcl" in row["frame.protocols"] for row in rows)
    # The only frames that no dissector understands are the ones that were sent so.
    bad = dissected(file, "frame.protocols", "_ws.malformed", "_ws.expert.message", where="_ws.malformed")
    assert all("mqttsn" in row["frame.protocols"] for row in bad), bad[:5]
    checks = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
    assert not dissected(file, "frame.number", where="ip.checksum.status==0 || udp.checksum.status==0", options=checks)
    again = talk.trace("--pcap", str(file), "--count", "1")
    assert again.returncode == 1 and b"File exists" in again.stderr


def test_a_capture_goes_live_through_a_pipe(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "live.pcapng"
    file.write_bytes(talk.trace("--pcap", "-", "--protocol", "mqtt-sn", "--count", "5").stdout)
    assert len(dissected(file, "mqttsn.msg.type")) == 5


def dissected(file: Path, *fields: str, where: str = "", options: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """What tshark finds in each frame."""
    command = ["tshark", "-r", str(file), "-d", "udp.port==1883,mqttsn", "-T", "fields", "-E", "separator=|", *options]
    command += [word for field in fields for word in ("-e", field)] + (["-Y", where] if where else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [dict(zip(fields, line.split("|"))) for line in done.stdout.splitlines()]
