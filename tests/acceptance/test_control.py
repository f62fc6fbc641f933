"""Commands over the real broker: obeyed, refused, answered by receipts whose chain is whole (promises P4, P5)."""

import time
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest

from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

ABOUT = b'{"class":"water-heater","nominal_w":2000}'


@pytest.fixture
def operator() -> Operator:
    return Operator("grid")


@pytest.fixture
def hub(make_hub: Callable[..., Hub], control_point: ControlPoint, operator: Operator, tmp_path: Path) -> Hub:
    file = write_operators(tmp_path / "operators.toml", operator)
    hub = make_hub(control__operators_file=str(file), hub__groups=["region-north"]).start()
    hub.wait_uplink()
    return hub


class Heater(UdpAdapter):
    """An appliance that says what it is and listens to its orders."""

    def begin(self, about: bytes = ABOUT) -> "Heater":
        assert self.connect() == 0
        self.publish(0x0020, about)
        self.send(0x12, b"\x21" + self.next_msg_id().to_bytes(2, "big") + b"\x00\x30")
        assert self.expect(0x13)[-1] == 0
        return self

    def order(self) -> str:
        """The next order, acknowledged."""
        while True:
            kind, body = self.receive()
            if kind == 0x0C:
                self.send(0x0D, body[1:5] + b"\x00")
                return body[5:].decode()


def test_a_limit_is_obeyed_ends_and_every_receipt_is_chained(
    hub: Hub, control_point: ControlPoint, operator: Operator
) -> None:
    heater = Heater(hub.udp_port, "boiler").begin()
    heater.publish(0x0001, b"2000")
    command = operator.command("limit", {"watts": 1500, "duration": 6})
    control_point.send(command)
    words = heater.order().split()
    assert words[:2] == ["limit", "0"] and 1 <= int(words[2]) <= 6
    heater.publish(0x0007, b"0")
    heater.publish(0x0001, b"0")
    cti = cti_of(command)
    wait_for("it to be applied", lambda: "applied" in control_point.receipts(cti))
    assert hub.status()["limit"]["state"] == "limited"
    wait_for("its end", lambda: control_point.receipts(cti) == ["accepted", "applied", "completed"])
    assert hub.status()["limit"]["watts"] is None
    assert not control_point.chain_faults() and not control_point.faults
    assert control_point.receipt(cti, "applied")["detail"]["restricted"] == {"boiler": 0}
    heater.close()
    assert hub.stop() == 0
    told = [line for line in hub.log().splitlines() if line.startswith("INFO ")]
    for words_of_it in (
        "serving as MTR-1", "uplink: session with", "adapter.joined: boiler", "the household is held to 1500 W",
        "the household is held no longer", "stopping",
    ):  # fmt: skip
        assert any(words_of_it in line for line in told), f"the journal does not say {words_of_it!r}"


def test_a_limit_ends_on_time_while_the_uplink_is_dead(
    hub: Hub, control_point: ControlPoint, operator: Operator, broker: Broker
) -> None:
    heater = Heater(hub.udp_port, "boiler").begin()
    heater.publish(0x0001, b"2000")
    command = operator.command("limit", {"watts": 1500, "duration": 8})
    control_point.send(command)
    cti = cti_of(command)
    wait_for("the word that it is accepted", lambda: "accepted" in control_point.receipts(cti))
    broker.kill()
    words = heater.order().split()
    assert words[:2] == ["limit", "0"] and int(words[2]) <= 8
    ends_at = time.monotonic() + int(words[2])
    heater.publish(0x0007, b"0")
    heater.publish(0x0001, b"0")
    wait_for("the hub to let go", lambda: hub.status()["limit"]["watts"] is None, 20)
    assert abs(time.monotonic() - ends_at) < 3, "at its end, whether anybody outside is listening or not"
    assert hub.status()["uplink"]["state"] != "up"
    broker.start()
    wait_for("what happened meanwhile", lambda: control_point.receipts(cti) == ["accepted", "applied", "completed"], 60)
    assert not control_point.chain_faults() and not control_point.books.missing()
    heater.close()


def test_a_repeated_command_is_answered_with_its_receipt_and_done_once(
    hub: Hub, control_point: ControlPoint, operator: Operator
) -> None:
    command = operator.command("price", {"currency": "GBP", "steps": [[int(time.time()), 3600, 0.28]]})
    control_point.send(command)
    wait_for("the receipts", lambda: control_point.receipts(cti_of(command)) == ["accepted", "completed"])
    control_point.send(command)
    wait_for("the receipt again", lambda: control_point.books.repeats >= 1)
    assert control_point.receipts() == ["accepted", "completed"]
    replay = operator.command("heartbeat", ctr=operator.ctr)  # a counter that was used
    control_point.send(replay)
    wait_for("the refusal", lambda: control_point.receipts(cti_of(replay)) == ["refused"])
    assert control_point.receipt(cti_of(replay), "refused")["reason"] == "replayed"
    assert not control_point.chain_faults() and not control_point.books.altered


def test_groups_and_everybody_are_heard_and_strangers_are_not(
    hub: Hub, control_point: ControlPoint, operator: Operator
) -> None:
    to_group = operator.command("limit", {"watts": 9000, "duration": 60}, aud="group:region-north")
    to_all = operator.command("limit.cancel", aud="all")
    control_point.send(to_group, to="group/region-north")
    wait_for("the group's", lambda: "accepted" in control_point.receipts(cti_of(to_group)))
    control_point.send(to_all, to="all")
    wait_for("everybody's", lambda: "completed" in control_point.receipts(cti_of(to_all)))
    wait_for("its end", lambda: control_point.receipts(cti_of(to_group))[-1] == "cancelled")
    stranger = Operator("grid").command("limit", {"watts": 0, "duration": 60})
    control_point.send(stranger)
    wait_for("the refusal", lambda: control_point.receipts(cti_of(stranger)) == ["refused"])
    assert control_point.receipt(cti_of(stranger), "refused")["reason"] == "bad-signature"
    assert hub.status()["limit"]["watts"] is None


def test_prices_reach_the_home_and_survive_a_kill(hub: Hub, control_point: ControlPoint, operator: Operator) -> None:
    now = int(time.time())
    command = operator.command("price", {"currency": "GBP", "steps": [[now - 10, 3600, 0.28], [now + 3590, 3600, 0.4]]})
    control_point.send(command)
    wait_for("its receipt", lambda: "completed" in control_point.receipts(cti_of(command)))
    for _ in range(2):
        display = UdpAdapter(hub.udp_port, "display")
        assert display.connect() == 0
        display.send(0x12, b"\x21" + display.next_msg_id().to_bytes(2, "big") + b"\x00\x40")
        assert display.expect(0x13)[-1] == 0
        _, body = display.receive()
        assert b'"now":0.28' in body and b"0.4" in body
        display.close()
        hub.kill()
        hub.start()


def test_history_is_read_and_resent_byte_for_byte(hub: Hub, control_point: ControlPoint, operator: Operator) -> None:
    heater = Heater(hub.udp_port, "boiler").begin()
    for watts in (b"100", b"200", b"300"):
        heater.publish(0x0001, watts)
    wait_for("the readings", lambda: len(control_point.values("boiler")) == 3)
    now = time.time()
    read = operator.command("read", {"client": "boiler", "quantity": "power", "from": now - 600, "to": now + 60})
    control_point.send(read)
    wait_for("the receipt", lambda: control_point.receipts(cti_of(read)) == ["accepted", "completed"])
    wait_for("the answer", lambda: control_point.books.answers)
    header, pack = control_point.books.answers[0]
    assert header[-65539] == cti_of(read)
    series = cbor2.loads(pack)[2]
    assert [row[:2] for row in series] == [["boiler", "power"]] and series[0][4][0] == 100
    epoch = hub.status()["epoch"]
    repeats = control_point.books.repeats
    again = operator.command("resend", {"lane": "readings", "epoch": epoch, "from": 1, "to": 1})
    control_point.send(again)
    wait_for("the pack again", lambda: control_point.books.repeats > repeats)
    assert not control_point.books.altered
    heater.close()


def test_a_diagnosis_tells_the_status(hub: Hub, control_point: ControlPoint, operator: Operator) -> None:
    command = operator.command("diagnose", {"what": "bundle"})
    control_point.send(command)
    wait_for("the answer", lambda: control_point.books.answers)
    header, payload = control_point.books.answers[0]
    assert header[3] == "application/json" and header[-65539] == cti_of(command)
    assert b'"hub":"MTR-1"' in payload and b'"events"' in payload


def test_settings_that_cut_the_hub_off_are_rolled_back(
    hub: Hub, control_point: ControlPoint, operator: Operator
) -> None:
    good = operator.command("config", {"set": {"uplink.pack_interval_s": 1.5, "uplink.est_look_s": 3600}})
    control_point.send(good)
    wait_for("the good change", lambda: control_point.receipts(cti_of(good)) == ["accepted", "completed"], 60)
    unknown = operator.command("config", {"set": {"hub.data_dir": "/tmp"}})
    control_point.send(unknown)
    wait_for("the refusal", lambda: control_point.receipts(cti_of(unknown)) == ["accepted", "failed"])


@pytest.mark.slow
def test_a_hub_sent_to_a_broker_that_is_not_there_is_back_after_five_minutes(
    hub: Hub, control_point: ControlPoint, operator: Operator
) -> None:
    away = operator.command("config", {"set": {"uplink.port": 1}})
    control_point.send(away)
    wait_for("it to be away", lambda: hub.status()["uplink"]["state"] != "up", 60)
    wait_for("it to be back", lambda: control_point.receipts(cti_of(away)) == ["accepted", "failed"], 480)
    assert control_point.receipt(cti_of(away), "failed")["reason"] == "rolled-back"
