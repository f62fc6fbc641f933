"""`deploy/install.sh PREFIX` gives a working command with the locked runtime packages and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_it_installs_a_working_command(tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.fail("not a git checkout: nothing says what belongs to meterhub")
    for name in files:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    prefix = tmp_path / "prefix"
    subprocess.run([source / "deploy/install.sh", str(prefix)], check=True, capture_output=True, timeout=300)
    meterhub = prefix / "bin/meterhub"
    assert subprocess.run([meterhub, "--version"], capture_output=True, text=True).stdout.startswith("meterhub ")
    done = subprocess.run([meterhub, "check-config", str(tmp_path / "none.toml")], capture_output=True, text=True)
    assert done.returncode == 2 and "none.toml" in done.stderr
    assert str(meterhub) in (prefix / "lib/systemd/system/meterhub.service").read_text()
    packages = subprocess.run([prefix / "lib/meterhub/bin/pip", "list"], capture_output=True, text=True).stdout.lower()
    assert "paho-mqtt" in packages and "zigpy" in packages
    assert not any(name in packages for name in ("pytest", "hypothesis", "mypy", "amqtt")), "the target gets no tools"
