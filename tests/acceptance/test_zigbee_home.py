"""The main job over Zigbee: unmodified zigpy and bellows on a pty, an emulated NCP, adapters from the real client."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

PLUG = "000d6f0000000001"
HOME = [
    {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "name": "Kettle", "appliance": "kettle"},
    {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "period_s": 1,
     "appliance": {"kind": "boiler", "nominal_w": 2000}},
]  # fmt: skip


@pytest.fixture
def radio() -> Iterator[Radio]:
    radio = Radio(HOME).start()
    yield radio
    radio.close()


@pytest.fixture
def hub(make_hub: Callable[..., Hub], radio: Radio, control_point: ControlPoint) -> Hub:
    hub = make_hub(radio__path=str(radio.path)).start()
    wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
    hub.ask("radio.permit", duration_s=60)
    wait_for("the boiler's first reading", lambda: control_point.values("boiler"))
    return hub


def test_an_adapters_readings_and_a_plugs_reach_the_control_point(hub: Hub, control_point: ControlPoint) -> None:
    wait_for("the plug's power", lambda: ("zb-" + PLUG, "power") in {r[:2] for r in control_point.books.readings})
    assert ("boiler", "power") in {r[:2] for r in control_point.books.readings}
    events = [event["event"] for event in control_point.books.events]
    assert "radio.formed" in events and "radio.up" in events
    assert events.count("adapter.joined") == 2
    assert not control_point.faults and not control_point.books.missing()
    rows = {row["client"]: row for row in hub.ask("adapters")}
    assert rows["boiler"]["lqi"] == 180 and rows["boiler"]["rssi_dbm"] == -60
    assert rows["boiler"]["link"] == "zigbee" and rows["zb-" + PLUG]["link"] == "zigbee"
    assert hub.cli("radio", "info").returncode == 0


def test_kills_and_resets_lose_nothing(hub: Hub, radio: Radio, control_point: ControlPoint) -> None:
    for disturb in (hub.kill, lambda: radio.do("reset", code=6), hub.kill, lambda: _replug(radio)):
        before = len(radio.published("boiler"))
        disturb()
        if disturb == hub.kill:
            hub.start()
        try:
            radio.wait_published("boiler", before + 3)
        except AssertionError as error:
            adapter = {key: value for key, value in radio.device("boiler").items() if key != "published"}
            raise AssertionError(f"{error}\n{hub.status()['radio']}\n{adapter}\n{hub.log()}") from None
    wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
    acknowledged = [row for row in radio.published("boiler") if row[2] == 0 and row[0] == 1]
    assert len(acknowledged) >= 4
    expected = len(acknowledged)
    wait_for("every acknowledged reading", lambda: _count(control_point, "boiler", "power") >= expected)
    assert not control_point.books.missing()
    assert not control_point.books.altered


def _replug(radio: Radio) -> None:
    radio.do("unplug")
    radio.do("plug")


def _count(control_point: ControlPoint, client: str, quantity: str) -> int:
    return sum(row[:2] == (client, quantity) for row in control_point.books.readings)


def test_the_home_is_served_while_the_radio_is_missing(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(radio__path="/dev/no-such-radio").start()
    hub.wait_uplink()
    wait_for("the condition", lambda: "radio-missing" in hub.conditions())
    assert hub.cli("radio", "info").returncode == 1


def test_the_radio_stack_is_not_imported_to_serve_the_home() -> None:
    code = "import sys, hub.app.daemon; sys.exit(any(name in sys.modules for name in ('zigpy', 'bellows', 'aiohttp')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_a_price_of_the_utility_is_shown_by_a_smart_energy_display(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    operator = Operator("tariffs", "price")
    operators = write_operators(tmp_path / "operators.toml", operator)
    radio = Radio([{"kind": "display", "ieee": "00:0d:6f:00:00:00:00:03", "name": "display"}]).start()
    try:
        hub = make_hub(radio__path=str(radio.path), control__operators_file=str(operators)).start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        now = int(time.time())
        control_point.send(operator.command("price", {"currency": "EUR", "steps": [[now - 60, 3600, 0.315]]}))
        wait_for("the price", lambda: (_display(radio)["price"] or {}).get("per_kwh") == 0.315)
        assert _display(radio)["price"]["currency"] == 978
        wait_for("the time", lambda: abs((_display(radio)["time"] or 0) - time.time()) < 60)
        hub.stop()
    finally:
        radio.close()


def _display(radio: Radio) -> dict[str, Any]:
    return next(row for row in radio.do("devices")["devices"] if row["name"] == "display")
