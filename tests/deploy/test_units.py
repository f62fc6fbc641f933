"""The systemd units: each as closed as it can be, each line understood by systemd, each back-off as long as it says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.provision.device import FIELD_ID, HUB_ID

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
FIELD_UNITS = UNITS.parent / "field"
SERVICES = sorted([*UNITS.glob("*.service"), *FIELD_UNITS.glob("*.service")])
EXPOSURE_AT_MOST = 1.3

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: units cannot be judged"
)
may_judge = pytest.mark.skipif(
    os.geteuid() != 0 and not Path("/run/systemd").exists(),
    reason="systemd has never run here, and only root may make its folder in /run",
)


@may_judge
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_unit_exposes_little(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_AT_MOST, "\n".join(
        line for line in done.stdout.splitlines() if line.startswith("✗")
    )
    assert "Unknown" not in done.stderr, done.stderr


def test_every_unit_is_understood(tmp_path: Path) -> None:
    """Beside stand-ins for the commands they start; what systemd does not know it says."""
    for path in UNITS.glob("meterhub*.*"):
        if path.is_file():
            text = re.sub(r"/usr/(bin/meterhub|lib/meterhub/(first-boot|raise-index))\b", "/bin/true", path.read_text())
            (tmp_path / path.name).write_text(text)
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "meterhub" in line]
    assert not complaints and len(units) >= 9, "\n".join(complaints)


@may_judge
def test_a_unit_that_does_not_hold_is_told(tmp_path: Path) -> None:
    """The check above can fail."""
    open_unit = tmp_path / "open.service"
    open_unit.write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(open_unit)], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found and float(found[1]) > EXPOSURE_AT_MOST


def test_short_lives_wait_longer_and_longer(tmp_path: Path) -> None:
    text = (UNITS / "meterhub.service").read_text()
    found = re.search(r"^ExecStartPre=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    assert found
    script = found[1].replace("$$", "$")
    slept = tmp_path / "slept"
    (tmp_path / "sleep").write_text(f"#!/bin/sh\necho $1 >>{slept}\n")
    (tmp_path / "sleep").chmod(0o755)
    environment = {"RUNTIME_DIRECTORY": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    for _ in range(12):
        subprocess.run(["/bin/sh", "-c", script], env=environment, check=True)
    assert slept.read_text().split() == ["2", "4", "8", "16", "32", "64", "128", "256", "300", "300", "300"]
    timeout = re.search(r"^TimeoutStartSec=(\d+)$", text, re.MULTILINE)
    assert timeout and int(timeout[1]) > 300, "or systemd would end the wait as a failed start"


def test_the_first_boots_key_is_whole_or_not_there(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    folder = tmp_path / "ssh"
    folder.mkdir()
    (folder / "new").write_text("half a key of a first attempt that the power ended")
    subprocess.run([str(UNITS / "first-boot"), str(folder)], check=True)
    assert sorted(path.name for path in folder.iterdir()) == ["host_ed25519", "host_ed25519.pub"]
    assert (folder / "host_ed25519").stat().st_mode & 0o077 == 0
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(folder / "host_ed25519")], capture_output=True, text=True)
    assert shown.stdout.split()[1] == (folder / "host_ed25519.pub").read_text().split()[1]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not here")
def test_users_and_groups_have_the_numbers_that_the_station_gives_files_to(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    conf = UNITS / "sysusers.d" / "meterhub.conf"
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(conf)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    users = {line.split(":")[0]: line.split(":")[2:4] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    assert (users["meterhub"], users["field"]) == ([str(HUB_ID)] * 2, [str(FIELD_ID)] * 2)
    assert users["meterhub-slots"][0] == "961"
