"""Every device of tests/emulators/devices, played to the driver on one emulated radio: each gives what its file says.

The files are of the shapes of real devices; see tests/emulators/ezsp/player.py for what stands in them. Beside `expect`
(all that may come out): withheld, polled, zone, limit, tolerance (relative), never (texts that must not come out).
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.zigbee.radio import HubSide, bench_with, short_directory
from tests.emulators import home
from tests.emulators.ezsp.player import Player

HERE = Path(__file__).resolve().parents[2] / "emulators/devices"
ROWS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))}
# What others measured (design: not part of the repository): the folder lies beside a checkout, or does not.
SHARED = Path(__file__).resolve().parents[4] / "shared/cases/appliances.json"
CASES: dict[str, dict[str, Any]] = (
    {row["device"]["name"]: row for row in json.loads(SHARED.read_text())} if SHARED.is_file() else {}
)
TIMEOUT_S = 60.0
# Where `expect` names a part only: it tells what the case is about, and the device gives more by its own account. No
# rule could keep these back: an attribute of the same value, with the same pair beside it, is expected of another case
# (ota-mute has those of develco-SPLZB-131). That they are exact is tested all the same, by `stated`.
UNSAID: dict[str, set[str]] = {
    "register-wraps": {"power"},
    "refuses-reporting": {"voltage", "current"},
    "one-cluster-mute": {"current"},
    "amina-S": {"state", "voltage.b", "voltage.c"},
    "demand-int32": {"energy"},
    "unreportable-power": {"state", "current"},
    "ota-mute": {"voltage", "current"},
}
# Quantity: cluster, attribute, its multiplier and divisor, what the quotient is in.
_STATED = {
    "state": ("0x0006", "0x0000", "", "", 1),
    "power": ("0x0702", "0x0400", "0x0301", "0x0302", 1000),
    "energy": ("0x0702", "0x0000", "0x0301", "0x0302", 1000),
    "voltage": ("0x0B04", "0x0505", "0x0600", "0x0601", 1),
    "voltage.b": ("0x0B04", "0x0905", "0x0600", "0x0601", 1),
    "voltage.c": ("0x0B04", "0x0A05", "0x0600", "0x0601", 1),
    "current": ("0x0B04", "0x0508", "0x0602", "0x0603", 1),
}


class Outcome:
    """What came of each device, by its name."""

    def __init__(self) -> None:
        self.readings: dict[str, dict[str, list[str]]] = {}
        self.alarms: dict[str, list[str]] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.players: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []


def client_of(row: dict[str, Any]) -> str:
    return f"zb-{row['device']['ieee']}"


def matches(wanted: Any, texts: list[str], tolerance: float) -> bool:
    """A value, or several in this order; "polled" and other words: any."""
    if isinstance(wanted, list):
        rest = iter(texts)
        return all(any(is_near(value, text, tolerance) for text in rest) for value in wanted)
    if isinstance(wanted, str):
        return bool(texts)
    return bool(texts) and all(is_near(wanted, text, tolerance) for text in texts)


def stated(row: dict[str, Any], quantity: str) -> float:
    """What a device says of a quantity by its own attributes; without a pair in whole units (Amina's)."""
    cluster_id, attribute, multiplier, divisor, unit = _STATED[quantity]
    for endpoint in row["device"]["endpoints"].values():
        cluster = endpoint["in"].get(cluster_id, {})
        if attribute in cluster:
            scale = cluster.get(multiplier, ["", 1])[1] / cluster.get(divisor, ["", 1])[1]
            return float(cluster[attribute][1] * scale * unit)
    raise AssertionError(f"{row['device']['name']} has no {quantity}")


def is_near(wanted: float, text: str, tolerance: float) -> bool:
    return abs(float(text) - wanted) <= tolerance * abs(wanted) + 1e-9


def is_complete(row: dict[str, Any], outcome: Outcome) -> bool:
    """Whether all that a device owes has come."""
    got, client = outcome.readings, client_of(row)
    tolerance = row.get("tolerance", 1e-4)
    quantities = [quantity for quantity in row["expect"] if quantity not in ("alarm", "limit")]
    if not all(matches(row["expect"][q], got.get(client, {}).get(q, []), tolerance) for q in quantities):
        return False
    appliance = outcome.rows.get(client, {})
    if not set(row.get("withheld", ())) <= set(appliance.get("withheld", {})):
        return False
    alarm = row.get("zone", {}).get("alarm")
    return alarm is None or alarm in outcome.alarms.get(client, [])


async def play(rows: list[dict[str, Any]], outcome: Outcome) -> None:
    players = [home.build(dict(row["device"]), 0.0) for row in rows]
    with short_directory() as place:
        async with bench_with(place / "tty", *players) as bench, HubSide(place / "tty", place / "data") as hub:
            await hub.open(254)
            deadline, spoken = time.monotonic() + TIMEOUT_S, False
            while time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                collect(hub, outcome)
                zones = [row for row in rows if "zone" in row]
                if not spoken and all(outcome.rows.get(client_of(row), {}).get("alarms") for row in zones):
                    spoken = speak(rows, players, bench)
                if spoken and all(is_complete(row, outcome) for row in rows):
                    break
            outcome.players = {player.name: player.describe(0.0) for player in players}


def speak(rows: list[dict[str, Any]], players: list[Any], bench: Any) -> bool:
    """The zones say what their files have them say."""
    now = asyncio.get_running_loop().time()
    for row, player in zip(rows, players, strict=True):
        zone = row.get("zone")
        if zone is not None and isinstance(player, Player):
            if zone.get("enrol"):
                player.request_enrolment()
            player.raise_zone(zone["status"])
            bench.ncp.air.speak(player, now)
    bench.changed()
    return True


def collect(hub: HubSide, outcome: Outcome) -> None:
    outcome.readings.clear()
    for client, quantity, text in hub.readings:
        outcome.readings.setdefault(client, {}).setdefault(quantity, []).append(text)
    outcome.rows = {row["client"]: row for row in hub.link.appliances()}
    outcome.events = list(hub.events)
    outcome.alarms.clear()
    for name, fields in hub.events:
        if name == "adapter.alarm":
            outcome.alarms.setdefault(fields["client"], []).append(fields["text"])


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """All devices on one radio, until each has given what it owes."""
    found = Outcome()
    asyncio.run(play(list(ROWS.values()), found))
    return found


@pytest.fixture(scope="module")
def measured() -> Outcome:
    found = Outcome()
    asyncio.run(play(list(CASES.values()), found))
    return found


def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 60 and len({row["device"]["ieee"] for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_device_gives_what_it_has_and_nothing_else(name: str, outcome: Outcome) -> None:
    row = ROWS[name]
    client, tolerance = client_of(row), row.get("tolerance", 1e-4)
    got, appliance = outcome.readings.get(client, {}), outcome.rows[client]
    assert set(got) == set(row["expect"]), (row["why"], appliance["withheld"], appliance["refused"])
    for quantity, wanted in row["expect"].items():
        assert matches(wanted, got[quantity], tolerance), (row["why"], quantity, got[quantity])
        assert not set(row.get("never", ())) & set(got[quantity])
    assert set(row.get("withheld", ())) == set(appliance["withheld"]), row["why"]
    for quantity in row.get("withheld", ()):
        told = [fields for event, fields in outcome.events if event == "adapter.withheld"]
        assert {"client": client, "quantity": quantity} in [{k: f[k] for k in ("client", "quantity")} for f in told]
    assert set(row.get("polled", ())) <= set(appliance["polled"])
    assert appliance["limit"] == row.get("limit")
    player = outcome.players[name]
    if "zone" in row:
        assert row["zone"]["alarm"] in outcome.alarms.get(client, [None])
        assert player["enrolled"], "the zone was never enrolled"
    assert not row.get("acknowledged") or player["acknowledged"], "its reports want a Default Response"


@pytest.mark.skipif(not CASES, reason="no ../shared/cases beside this checkout")
@pytest.mark.parametrize("name", CASES)
def test_a_measured_device_gives_what_is_expected_of_it(name: str, measured: Outcome) -> None:
    row = CASES[name]
    client = client_of(row)
    got, appliance = measured.readings.get(client, {}), measured.rows[client]
    for quantity, wanted in row["expect"].items():
        if quantity == "alarm":
            assert wanted in appliance["alarms"]
        elif quantity == "limit":
            assert appliance["limit"] == wanted
        else:
            assert matches(wanted, got.get(quantity, []), 1e-4), (quantity, got.get(quantity))
            assert wanted != "polled" or quantity in appliance["polled"]
    unsaid = UNSAID.get(name, set())
    assert set(got) == set(row["expect"]) - {"alarm", "limit"} | unsaid, (row["source"], appliance["withheld"])
    for quantity in unsaid:
        assert matches(stated(row, quantity), got[quantity], 1e-4), (quantity, got[quantity])
