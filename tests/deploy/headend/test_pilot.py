"""`make headend`, its story, short: on mosquitto and on the embedded broker."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local_postgres import postgres_programs
from tests.harness.folders import folder_until_exit

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("broker", [[], ["--embedded"]], ids=["mosquitto", "embedded"])
def test_the_story_ends_well_and_leaves_nothing(tmp_path: Path, broker: list[str]) -> None:
    words = [sys.executable, "-m", "deploy.headend.pilot", "--hubs", "12", "--once", *broker]
    done = subprocess.run(words, cwd=ROOT, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin"},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "13 of 13 hubs obey",
        "13 of 13 hubs kept it to its end",
        "missing                        0",
        "given up by hubs               0",
    ):
        assert line in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def reachable() -> Path:
    """A folder that every user gets to: root's PostgreSQL is somebody else's."""
    folder = folder_until_exit("mh-fleet-")
    folder.chmod(0o711)
    return folder


def test_a_fleet_outlives_the_death_of_a_broker(reachable: Path) -> None:
    words = [sys.executable, "-m", "deploy.headend.fleet", "--hubs", "9", "--once"]
    done = subprocess.run(words, cwd=ROOT, env={"TMPDIR": str(reachable), "PATH": "/usr/bin:/bin:/usr/sbin"},
                          capture_output=True, text=True, timeout=400, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("10 of 10 hubs kept it to its end") == 2, "before and during the outage"
    for program, said in (
        ("haproxy", "one address for hubs"), ("victoria-metrics", "each reading once"), ("prometheus", "alert rules"),
        ("prometheus-alertmanager", "tells whom it concerns"),
    ):  # fmt: skip
        assert (said in done.stdout) == bool(shutil.which(program)), "what is installed is started"
    assert ("packs taken by worker-1" in done.stdout) == (postgres_programs() is not None)
    for name, value in (("missing", "0"), ("given up by hubs", "0"), ("believed to be where they are", "10 of 10")):
        assert f"  {name:30} {value}\n" in done.stdout
    assert not list(reachable.iterdir())


@pytest.mark.slow  # a minute, nearly all of it waiting; its parts are in test_authority.py
def test_the_authority_is_exchanged_and_nobody_is_missed(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "deploy.headend.exchange", "--hubs", "30", "--brokers", "2", "--once"]
    done = subprocess.run(words, cwd=ROOT, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin"},
                          capture_output=True, text=True, timeout=400, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("31 of 31 hubs kept it to its end") == 2, "while they renewed, and after the old one went"
    assert "certificates open 0 of 2 brokers" in done.stdout
    for name, value in (("missing", "0"), ("not believed", "0"), ("sign with the new authority's", "31 of 31")):
        assert f"  {name:30} {value}\n" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # most of a minute; `make chaos` is the long form
def test_whatever_is_killed_the_book_is_whole_and_each_order_has_its_fate(reachable: Path) -> None:
    words = [sys.executable, "-m", "deploy.headend.chaos", "--hubs", "9", "--seconds", "20"]
    done = subprocess.run(words, cwd=ROOT, env={"TMPDIR": str(reachable), "PATH": "/usr/bin:/bin:/usr/sbin"},
                          capture_output=True, text=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[2:32].strip(): line[33:] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert rows["messages in the book"] == rows["messages hubs sent"] != "0"
    assert rows["readings in the book"] == rows["readings hubs sealed"] != "0"
    assert rows["given up by hubs"] == rows["not believed"] == "0"
    assert int(rows["killed"].split()[0]) > 2
    assert "completed" in rows["orders by hub, and their fates"]
    assert not list(reachable.iterdir())
