"""A simulated home under a limit, over the real stack: bellows, an emulated radio, adapters built from the real client,
a plug that speaks ZCL; the limit comes over MQTT. What counts is what the appliances really draw (promise P4)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

LIMIT_W = 1500
WITHIN_S = 5.0


def adapter(number: int, client_id: str, kind: str, **more: Any) -> dict[str, Any]:
    options = {"kind": kind, **more.pop("appliance", {})}
    ieee = f"00:0d:6f:00:00:00:01:{number:02x}"
    return {"kind": "adapter", "ieee": ieee, "client_id": client_id, "period_s": 1, "appliance": options, **more}


# The liar takes every order and goes on: its appliance is one that nothing can hold back.
LIAR = adapter(
    7, "liar", "medical", appliance={"nominal_w": 300.0},
    about={"class": "water-heater", "sheddable": True, "nominal_w": 300},
)  # fmt: skip
HOME = [
    adapter(1, "boiler", "boiler"),
    adapter(2, "car", "ev"),
    adapter(3, "heat-pump", "heat-pump"),
    adapter(4, "fridge", "fridge"),
    adapter(5, "oven", "oven"),
    adapter(6, "breathing-aid", "medical"),
    {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "name": "Lamp", "appliance": {"kind": "plain"}},
]
PROTECTED = {"fridge", "breathing-aid"}


class Home:
    """The radio's view of the home: what every appliance draws, honestly."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.radio.do("devices")["devices"]
        return rows

    def power_w(self, rows: list[dict[str, Any]] | None = None) -> float:
        return sum(row.get("power_w", 0.0) for row in rows or self.rows())

    def restricted(self) -> set[str]:
        return {row["client_id"] for row in self.rows() if row.get("limit_w") is not None or row.get("on") is False}

    def watch(self, duration_s: float) -> list[float]:
        """What the household draws, looked at ten times a second; nobody protected may be restricted."""
        seen, ends_at = [], time.monotonic() + duration_s
        while time.monotonic() < ends_at:
            rows = self.rows()
            seen.append(self.power_w(rows))
            touched = {r["client_id"] for r in rows if "client_id" in r and (r["limit_w"] is not None or not r["on"])}
            assert not touched & PROTECTED
            time.sleep(0.1)
        return seen


Begin = Callable[[list[dict[str, Any]]], tuple[Hub, Home]]


@pytest.fixture
def operator() -> Operator:
    return Operator("grid")


@pytest.fixture
def begin(
    make_hub: Callable[..., Hub], control_point: ControlPoint, operator: Operator, tmp_path: Path
) -> Iterator[Begin]:
    """`begin(devices)`: a hub and its home, once everybody has joined, has told what it draws, and listens."""
    radios: list[Radio] = []

    def start(devices: list[dict[str, Any]]) -> tuple[Hub, Home]:
        radio = Radio(devices).start()
        radios.append(radio)
        file = write_operators(tmp_path / "operators.toml", operator)
        hub = make_hub(radio__path=str(radio.path), control__operators_file=str(file)).start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=120)
        names = {row["client_id"] for row in devices if "client_id" in row}
        wait_for("the home", lambda: _is_whole(hub, control_point, names), 90)
        return hub, Home(radio)

    yield start
    for radio in radios:
        radio.close()


def _is_whole(hub: Hub, control_point: ControlPoint, names: set[str]) -> bool:
    with control_point.lock:
        heard = {row[0] for row in control_point.books.readings if row[1] == "power"}
    rows = {row["client"]: row for row in hub.ask("adapters")}
    listening = {name for name in names if f"control/{name}" in rows.get(name, {}).get("subscriptions", [])}
    return names <= heard and listening == names


def test_the_household_is_below_its_limit_in_seconds_and_stays_there(
    begin: Begin, control_point: ControlPoint, operator: Operator
) -> None:
    _, home = begin(HOME)
    assert home.power_w() > 10_000
    command = operator.command("limit", {"watts": LIMIT_W, "duration": 25})
    control_point.send(command)
    begun = time.monotonic()
    wait_for("the limit to be kept", lambda: home.power_w() <= LIMIT_W)
    assert time.monotonic() - begun < WITHIN_S
    seen = home.watch(15)
    assert max(seen) <= LIMIT_W
    assert max(seen) > 0.5 * LIMIT_W, "what can be modulated is modulated, not cut"
    cti = cti_of(command)
    wait_for("the receipt", lambda: control_point.receipts(cti)[:2] == ["accepted", "applied"])
    wait_for("its end", lambda: "completed" in control_point.receipts(cti), 40)
    wait_for("everybody to be free", lambda: not home.restricted())
    assert control_point.receipts(cti) == ["accepted", "applied", "completed"]
    assert not control_point.chain_faults() and not control_point.faults


def test_appliances_let_go_by_themselves_when_the_hub_is_dead(
    begin: Begin, control_point: ControlPoint, operator: Operator
) -> None:
    hub, home = begin(HOME)
    control_point.send(operator.command("limit", {"watts": LIMIT_W, "duration": 15}))
    wait_for("the limit to be kept", lambda: home.power_w() <= LIMIT_W)
    begun = time.monotonic()
    hub.kill()
    seen = home.watch(8)
    assert max(seen) <= LIMIT_W, "its orders outlive the hub, until their own end"
    wait_for("everybody to be free", lambda: not home.restricted(), 20)
    assert time.monotonic() - begun < 16


def test_a_liar_is_noticed_and_planned_around(begin: Begin, control_point: ControlPoint, operator: Operator) -> None:
    _, home = begin([LIAR, adapter(3, "heat-pump", "heat-pump")])
    control_point.send(operator.command("limit", {"watts": 1400, "duration": 120}))
    wait_for("the lie to be noticed", lambda: _ignored(control_point) == {"liar"}, 60)
    wait_for("the others to make up for it", lambda: home.power_w() <= 1400)
    assert max(home.watch(5)) <= 1400


def _ignored(control_point: ControlPoint) -> set[str]:
    with control_point.lock:
        return {event["client"] for event in control_point.books.events if event["event"] == "limit.ignored"}
