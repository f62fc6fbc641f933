"""zigbee-herdsman, a host that shares nothing with ours, forms a network on the emulated radio and works with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.zigbee.radio import short_directory
from tests.harness.npm import install

ROOT = Path(__file__).parents[2]
HERE, INSTALLED = Path(__file__).parent / "herdsman", ROOT / ".cache" / "herdsman"
PLUG, CODED = "000d6f0000000001", "000d6f0000000002"
# The example of the Zigbee Base Device Behavior specification (table 10-1) and the link key that it makes.
INSTALL_CODE, LINK_KEY = "83fed3407a939723a5c639b26916d505c3b5", "66b6900981e1ee3ca4206b6b861c02bb"
HOME = {
    "seed": 1,
    "devices": [
        {"kind": "plug", "ieee": PLUG, "name": "kettle", "appliance": {"kind": "plain", "nominal_w": 1200}},
        {"kind": "plug", "ieee": CODED, "name": "coded", "link_key": LINK_KEY},
    ],
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("version", [13, 14, 16, 18, 19])
def test_herdsman_finds_an_ncp(version: int) -> None:
    install(HERE / "package.json", INSTALLED)
    shutil.copyfile(HERE / "judge.mjs", INSTALLED / "judge.mjs")
    with short_directory() as place:
        (place / "home.json").write_text(json.dumps(HOME))
        command = [
            sys.executable, "-m", "tests.emulators.serve", "--tcp", "127.0.0.1:0", "--home", str(place / "home.json"),
            "--version", str(version),
        ]  # fmt: skip
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as emulator:
            try:
                assert emulator.stdout is not None
                where = json.loads(emulator.stdout.readline())["ready"]
                arguments = [f"tcp://{where}", f"0x{PLUG}", f"0x{CODED}", INSTALL_CODE]
                done = subprocess.run(
                    ["node", "judge.mjs", *arguments], cwd=INSTALLED, capture_output=True, text=True, timeout=90,
                    check=False,
                )  # fmt: skip
            finally:
                emulator.terminate()
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        said[row["step"]] = row["what"]
    assert "error" not in said, (said, done.stderr[-2000:])
    assert said == {
        "form": "reset",
        "network": [0x1A62, 15],
        "interview": "successful",
        "model": "plug-1",
        "read": {"multiplier": 1, "divisor": 1000},
        "bound": 1,
        "report": {"onOff": 0},
        "on": 1,
        "group": [0, 0],  # off with its group; what the group is told once it left is not for it
        "install code": "successful",
        "backup": ["zigpy/open-coordinator-backup", "1a62"],
        "removed": True,
        "stop": True,
    }, done.stderr[-2000:]
