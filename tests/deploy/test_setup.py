"""`deploy/setup.sh`: goes on only when it has what it needs, says so in one line, and shows that it lives."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a machine without apt, pip's network or python3-venv still has.
TOOLS = ["sh", "dirname", "id", "rm", "cat", "cmp", "tee", "awk", "grep", "echo", "mkdir", "cp", "mktemp", "tail", "ls"]
PYTHON = """# Stands for a Python whose venv and pip do as $FAKE says.
case "$*" in
"-m venv "*)
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    [ "$FAKE" != "no venv" ] ;;
"-m pip install "*)
    for name in one two three; do echo "Collecting $name==1.0 (from -r requirements-dev.lock)"; done
    [ "$FAKE" != "no network" ] || { echo "ERROR: no network"; exit 1; }
    echo "Installing collected packages: one, two, three" ;;
"-m deploy.headend.console_parts")
    [ "$FAKE" != "no npm" ] || { echo "console: npm: exit status 1" >&2; exit 1; }
    echo fetched >>console ;;
esac
"""


class Machine:
    """A checkout beside tools that are ours to choose."""

    def __init__(self, place: Path) -> None:
        self.checkout, self._tools = place / "checkout", place / "bin"
        (self.checkout / "deploy").mkdir(parents=True)
        shutil.copy(ROOT / "deploy/setup.sh", self.checkout / "deploy")
        (self.checkout / "requirements-dev.lock").write_text("one==1.0 \\\n    --hash=x\ntwo==1.0\nthree==1.0\n")
        (self.checkout / "pyproject.toml").write_text("[project]\n")
        self._tools.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self._tools / tool).symlink_to(found)
        self.add("python3", PYTHON)

    def add(self, tool: str, script: str) -> None:
        """A tool of ours in place of the real one."""
        (self._tools / tool).unlink(missing_ok=True)
        (self._tools / tool).write_text(f"#!/bin/sh\n{script}\n")
        (self._tools / tool).chmod(0o755)

    def set_up(self, fake: str = "", want: str = "run") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["deploy/setup.sh", want], cwd=self.checkout, env={"PATH": str(self._tools), "FAKE": fake},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_python3_venv_it_stops_with_its_advice(machine: Machine) -> None:
    done = machine.set_up("no venv")
    assert done.returncode == 1
    assert done.stderr == "setup: missing: please type: sudo apt-get install python3-venv\n"
    assert not (machine.checkout / ".venv").exists(), "half a venv would pass for a whole one"


def test_pip_shows_that_it_lives_and_is_asked_once(machine: Machine) -> None:
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert "package 1 of 3: one==1.0" in done.stderr and "unpacking 3 packages" in done.stderr
    assert machine.set_up().stderr == "", "all is there"


def test_pip_that_fails_is_shown_and_tried_again(machine: Machine) -> None:
    for _ in range(2):
        done = machine.set_up("no network")
        assert done.returncode == 1 and "ERROR: no network" in done.stderr
    assert machine.set_up().returncode == 0


def test_only_who_wants_the_console_has_its_framework_fetched(machine: Machine) -> None:
    fetched = machine.checkout / "console"
    machine.set_up()
    assert not fetched.exists()
    done = machine.set_up("no npm", want="headend")
    assert done.returncode == 0, "the control point does without it"
    assert "console: npm: exit status 1" in done.stderr and "there is no console" in done.stderr
    assert machine.set_up(want="headend").returncode == 0 and fetched.read_text() == "fetched\n"


def test_an_environment_whose_python_has_gone_is_made_anew(machine: Machine) -> None:
    assert machine.set_up().returncode == 0
    python = machine.checkout / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert "package 1 of 3" in machine.set_up().stderr


def test_every_missing_package_stands_in_one_line(machine: Machine) -> None:
    done = machine.set_up(want="test")
    assert done.returncode == 1
    [advice] = [line for line in done.stderr.splitlines() if "please type" in line]
    for package in ("rauc", "strace", "softhsm2", "openssh-client", "gcc", "npm"):
        assert f" {package}" in advice, advice


@pytest.mark.parametrize("answer", [0, 100])
def test_root_has_packages_installed_and_sees_how_far_it_is(machine: Machine, answer: int) -> None:
    machine.add("id", "echo 0")
    machine.add(
        "apt-get",
        'case "$*" in *install*) echo "0 upgraded, 2 newly installed, 0 to remove"; echo "Unpacking rauc (1.8) ..."\n'
        f'echo "Unpacking squashfs-tools (4.5) ..."; exit {answer};; esac',
    )
    done = machine.set_up(want="check")
    assert "setup: package 2 of 2: squashfs-tools" in done.stderr, done.stderr
    assert (done.returncode, "apt could not install" in done.stderr) == ((1, True) if answer else (0, False))
