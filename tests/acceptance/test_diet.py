"""What a running hub holds in memory, in quiet and beside every flood of the home at once: no more than promised, and
none of what its libraries bring and it never uses.

An appliance behind the radio and one that speaks ZCL, the uplink up, the home known from before: a hub as it is for
years. The first start of all, which makes the radio's database and forms the network, may wake more.
"""

import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.test_zigbee_home import HOME
from tests.fuzz.floods import FLOODS, send
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

MOST_BYTES = 64_000_000  # resident, on x86-64 (design, P8)
# module -> what brought it in, or would.
NOT_THERE = {
    "argparse": "the command line's other verbs",
    "gettext": "argparse",
    "shutil": "argparse's help; bz2 and lzma come with it",
    "lzma": "shutil, zipfile",
    "aiohttp": "zigpy.ota.providers",
    "jsonschema": "zigpy.ota.providers",
    "http.client": "urllib.request, for paho's WebSockets",
    "email.parser": "http.client, importlib.metadata",
    "csv": "importlib.metadata, for bellows' own version",
    "importlib.resources": "zigpy.appdb_schemas",
    "_statistics": "statistics, for bellows' energy scan",
    "sqlite_utils": "migrations, which have their own process",
    "serial": "the meter's port, which this hub has not",
    "hub.app.doctor": "a verb",
    "drivers.zigbee.switch_group": "a home in which many appliances are switched at once",
    "hub.services.admin.bundle": "a verb",
    "hub.headend": "the utility's side",
}


@pytest.fixture
def settled(make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path) -> "Callable[[], Hub]":
    compiled = tmp_path / "compiled"

    def start() -> Hub:
        hub = make_hub(radio__path=str(radio.path))
        hub.start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_for("both appliances", lambda: len({row[0] for row in control_point.books.readings}) == len(HOME))
        hub.stop()
        # As in the image: compiled when it was built, without columns for tracebacks, one arena (deploy/systemd).
        hub.env = {
            "MALLOC_ARENA_MAX": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONNODEBUGRANGES": "1",
            "PYTHONPYCACHEPREFIX": str(compiled),
        }
        hub.start()
        wait_for("the radio, everything compiled", lambda: hub.status()["radio"]["state"] == "up")
        hub.stop()
        hub.env["PYTHONPROFILEIMPORTTIME"] = "1"  # each module that is imported is a line in the log
        hub.start()
        hub.wait_uplink()
        wait_for("the radio again", lambda: hub.status()["radio"]["state"] == "up")
        heard = len(control_point.books.readings)
        wait_for("readings again", lambda: len(control_point.books.readings) > heard + len(HOME))
        return hub

    radio = Radio(HOME).start()
    try:
        yield start
    finally:
        radio.close()


def test_a_hub_holds_what_it_needs(settled: Callable[[], Hub]) -> None:
    hub = settled()
    imported = set(re.findall(r"^import time: .*\| +(\S+)$", hub.log_file.read_text(), re.MULTILINE))
    assert {"hub.app.daemon", "bellows.zigbee.application", "paho.mqtt.client"} <= imported, "the log tells of imports"
    broken = [f"{name} ({why})" for name, why in NOT_THERE.items() if name in imported]
    assert not broken, f"a running hub has imported {', '.join(broken)}; see drivers/lazy_imports.py"
    wait_for("what only a start needs to be given back", lambda: _rss_bytes(hub) < MOST_BYTES - 6_000_000)
    size = _rss_bytes(hub)
    Path(f"/proc/{hub.pid}/clear_refs").write_text("5")  # what it took to start is no part of the peak (proc(5))
    for number, flood in enumerate(FLOODS):  # each from a host of its own, and none of them goes away
        assert send(flood, f"127.0.2.{number + 1}", hub.udp_port, 1.0) > 0
        hub.status()  # it has read what there was
    peak = hub.peak_bytes()
    print(f"{size:,} bytes resident, {peak:,} at most beside {len(FLOODS)} floods")
    assert not hub.status()["han"]["internal_errors"], hub.log_file.read_text()[-2000:]
    if platform.machine() == "x86_64":
        assert peak <= MOST_BYTES, f"{size:,} bytes resident in quiet, {peak:,} beside floods; {MOST_BYTES:,} promised"


def _rss_bytes(hub: Hub) -> int:
    return int(hub.status()["process"]["rss_bytes"])
