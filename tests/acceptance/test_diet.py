"""What a running hub holds in memory: no more than promised, and none of what its libraries bring and it never uses.

An appliance behind the radio and one that speaks ZCL, the uplink up, the home known from before: a hub as it is for
years. The first start of all, which makes the radio's database and forms the network, may wake more.
"""

import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.test_zigbee_home import HOME
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
    size = hub.status()["process"]["rss_bytes"]
    print(f"{size:,} bytes resident")
    if platform.machine() == "x86_64":
        assert size <= MOST_BYTES, f"{size:,} bytes resident, radio loaded; {MOST_BYTES:,} were promised"
