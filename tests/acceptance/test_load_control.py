"""A household limit reaches a Smart Energy load control device on the radio, which has no `about` topic and says what
it is by its own attribute; it lets go when the limit does, and by itself when the hub is dead (promise P4)."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

IEEE = "000d6f0000000004"
CLIENT = "zb-" + IEEE
WATER_HEATER = 0x0004


@pytest.fixture
def operator() -> Operator:
    return Operator("grid")


@pytest.fixture
def radio(request: pytest.FixtureRequest) -> Iterator[Radio]:
    relay = {
        "kind": "relay", "ieee": IEEE, "name": "relay", "minute_s": request.param, "device_class": WATER_HEATER,
    }  # fmt: skip
    radio = Radio([relay]).start()
    yield radio
    radio.close()


@pytest.fixture
def hub(
    make_hub: Callable[..., Hub], radio: Radio, control_point: ControlPoint, operator: Operator, tmp_path: Path
) -> Hub:
    file = write_operators(tmp_path / "operators.toml", operator)
    hub = make_hub(radio__path=str(radio.path), control__operators_file=str(file)).start()
    hub.wait_uplink()
    wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
    hub.ask("radio.permit", duration_s=60)
    wait_for("it to say what it is", lambda: _row(hub).get("listens"))
    return hub


def _row(hub: Hub) -> dict[str, object]:
    rows = {row["client"]: row for row in hub.ask("limits")["appliances"]}
    return rows.get(CLIENT, {})


def test_a_charger_that_is_held_by_its_level_has_its_share_of_the_limit(
    make_hub: Callable[..., Hub], control_point: ControlPoint, operator: Operator, tmp_path: Path
) -> None:
    """It speaks no MQTT-SN and no load control: its amperes are set, its power is read, and it is given them back."""
    charger = {
        "kind": "zcl", "ieee": IEEE, "name": "charger", "manufacturer": "Amina Distribution AS", "model": "amina S",
        "habits": {"report_s": 1, "w_per_level": 690}, "endpoints": {"10": {"in": {
            "0x0000": {}, "0x0006": {"0x0000": ["10", 1]}, "0x0008": {"0x0000": ["20", 16]},
            "0x0B04": {"0x050B": ["29", 11040]},
        }}},
    }  # fmt: skip
    file = write_operators(tmp_path / "operators.toml", operator)
    display = {"kind": "display", "ieee": "000d6f0000000003", "name": "display"}
    with contextlib.closing(Radio([charger, display]).start()) as radio:
        hub = make_hub(radio__path=str(radio.path), control__operators_file=str(file)).start()
        hub.wait_uplink()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_for("it to be announced", lambda: _row(hub).get("restrictable"))
        wait_for("its power", lambda: _row(hub)["power_w"])
        control_point.send(operator.command("limit", {"watts": 8000, "duration": 600}))
        wait_for("it to be held", lambda: radio.device("charger")["values"]["10:0008:0000"] == 11)
        wait_for("it to be known to obey", lambda: _row(hub)["obeys"] and _row(hub)["power_w"] == 11 * 690)
        text = "Your home is limited to 8000 W"
        wait_for("the display to say so", lambda: (radio.device("display")["message"] or {}).get("text") == text)
        control_point.send(operator.command("limit.cancel", {}))
        wait_for("it to be let go", lambda: radio.device("charger")["values"]["10:0008:0000"] == 32)
        wait_for("the display to be told", lambda: radio.device("display")["message"] is None)


@pytest.mark.parametrize("radio", [60.0], indirect=True)
def test_a_limit_holds_it_and_its_cancellation_lets_it_go(
    hub: Hub, radio: Radio, control_point: ControlPoint, operator: Operator
) -> None:
    assert _row(hub)["class"] == "water-heater" and _row(hub)["restrictable"]
    control_point.send(operator.command("limit", {"watts": 500, "duration": 600}))
    wait_for("it to be held", lambda: radio.device("relay")["duty_cycle"] == 0)
    wait_for("it to be known to obey", lambda: _row(hub)["obeys"])
    control_point.send(operator.command("limit.cancel", {}))
    wait_for("it to be let go", lambda: radio.device("relay")["duty_cycle"] is None)


@pytest.mark.parametrize("radio", [1.0], indirect=True)
def test_a_dead_hub_lets_it_go(hub: Hub, radio: Radio, control_point: ControlPoint, operator: Operator) -> None:
    control_point.send(operator.command("limit", {"watts": 500, "duration": 3600}))
    wait_for("it to be held", lambda: radio.device("relay")["duty_cycle"] == 0)
    hub.kill()
    wait_for("its own end", lambda: radio.device("relay")["duty_cycle"] is None)
    assert radio.device("relay")["history"][-1] == 3, "completed: not cancelled by anybody"
