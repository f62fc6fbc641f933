"""`make run SECONDS=n`: ends by itself, with exit status 0 only if every number arrived; leaves nothing running."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("broker", [[], ["--embedded-broker"]], ids=["mosquitto", "embedded"])
def test_it_shows_a_cut_and_ends_well(broker: list[str]) -> None:
    command = [sys.executable, "-m", "deploy.demo", "--seconds", "24", "--pack-interval", "1", *broker]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("CUT", "backlog", "MENDED", "drained", "verified", "boiler", "ev-charger", "fridge", "zb-",
                 "LIMIT", "chained to the one before: applied", "released"):  # fmt: skip
        assert word in done.stdout, done.stdout
    assert "result    no number is missing" in done.stdout


def test_ctrl_c_ends_it_all() -> None:
    demo = subprocess.Popen([sys.executable, "-m", "deploy.demo"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    lines = iter(demo.stdout.readline, "")
    assert any("serving" in line for line in lines)
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
    assert len(children) >= 3, "broker, radio and hub"
    demo.send_signal(signal.SIGINT)
    begun = time.monotonic()
    demo.communicate(timeout=60)
    wait_for("every part to end", lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert time.monotonic() - begun < 60
