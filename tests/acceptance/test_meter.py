"""The meter's own register port: its readings reach the control point, it has a say in the plan, its loss is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulators.meter import Meter
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.waiting import wait_for


def _seen(control_point: ControlPoint) -> dict[str, float]:
    return {q: value for client, q, _, value, _ in control_point.books.readings if client == "meter"}


@pytest.mark.parametrize("protocol", ["p1", "iec62056-21"])
def test_its_registers_are_readings(
    protocol: str, make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", protocol, power_w=-420).start()
    hub = make_hub(meter__path=str(meter.link), meter__protocol=protocol).start()
    wait_for("power and energy", lambda: {"power", "energy"} <= set(_seen(control_point)))
    seen = _seen(control_point)
    assert seen["power"] == -420 and seen["energy"] in (777777, 12345678)
    assert hub.status()["meter"]["state"] == "up"
    assert "meter    up" in hub.cli("status").stdout
    if protocol == "iec62056-21":
        assert [rate for _, rate in meter.heard[:2]] == [300, 300], "asked and acknowledged at 300 baud"
    hub.stop()
    meter.stop()


def test_a_cable_pulled_out_is_told_and_put_back_is_found(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", "p1")
    hub = make_hub(meter__path=str(meter.link), meter__protocol="p1").start()
    wait_for("the condition", lambda: "meter-missing" in hub.conditions())
    meter.start()
    wait_for("it to be up", lambda: hub.status()["meter"]["state"] == "up")
    assert "meter-missing" not in hub.conditions()
    meter.stop()
    wait_for("its loss", lambda: hub.status()["meter"]["state"] == "missing")
    meter.start()
    wait_for("it to be up again", lambda: hub.status()["meter"]["state"] == "up")
    named = [event["event"] for event in hub.ask("events")]
    assert named.count("meter.up") == 2 and named.count("meter.lost") == 1
    hub.stop()
    meter.stop()


def test_the_meters_word_counts_when_a_limit_is_judged(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    operator = Operator("grid")
    operators = write_operators(tmp_path / "operators.toml", operator)
    meter = Meter(tmp_path / "tty", "p1", power_w=3000).start()
    settings = {"meter__path": str(meter.link), "meter__protocol": "p1", "control__operators_file": str(operators)}
    hub = make_hub(**settings).start()
    hub.wait_uplink()
    wait_for("its word", lambda: hub.ask("limits")["household"]["household_w"] == 3000)
    command = operator.command("limit", {"watts": 2000, "duration": 600})
    control_point.send(command)
    cti = cti_of(command)
    wait_for("the command", lambda: "accepted" in control_point.receipts(cti))
    assert "applied" not in control_point.receipts(cti), "nobody obeys, and the meter shows it"
    meter.power_w = 1500
    wait_for("the limit to be kept", lambda: "applied" in control_point.receipts(cti))
    assert control_point.receipt(cti, "applied")["detail"]["household_w"] == 1500
    hub.stop()
    meter.stop()
