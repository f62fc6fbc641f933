"""A command line that people like: what goes on, what is near, what fits, what explains itself."""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from hub.services.admin.bundle import make_bundle, write_bundle
from tests.harness.hub import ROOT, Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


@pytest.fixture
def home(make_hub: Callable[..., Hub]) -> Iterator[Hub]:
    hub = make_hub().start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect(duration_s=600) == 0
    for value in (b"1000", b"3500"):
        assert adapter.publish(0x0002, value) == 0
    yield hub
    adapter.close()


def words(hub: Hub, *typed: str) -> list[str]:
    return [sys.executable, "-m", "hub", *typed, "--config", str(hub.config)]


class Terminal:
    """A command on a terminal of 24 lines of 80 characters, and what its screen shows."""

    def __init__(self, command: list[str], lines: int = 24, **settings: str) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
        environment = {**os.environ, "TERM": "vt100", **settings}
        for name in {"COLUMNS", "LINES", "NO_COLOR"} - set(settings):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def read(self, seconds: float) -> str:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                break
            try:
                self.shown += os.read(self._master, 65536).decode()
            except OSError:
                break
        return self.shown

    def until(self, what: str) -> str:
        wait_for(what, lambda: what in self.read(0.1))
        return self.shown

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        os.close(self._master)
        return status


def test_status_is_watched(home: Hub) -> None:
    terminal = Terminal(words(home, "status", "--watch", "0.3"))
    terminal.until("\x1b[H")
    wait_for("another page", lambda: terminal.read(0.2).count("\x1b[H") >= 3)
    assert terminal.shown.count("\x1b[2J") == 1, "only what changes is painted anew"
    assert "MTR-1" in terminal.shown
    assert terminal.interrupt() == 130


def test_events_are_followed_and_chosen(home: Hub) -> None:
    home.wait_uplink()
    following = subprocess.Popen(
        words(home, "events", "--follow", "--limit", "1"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert following.stdout.readline()
    late = UdpAdapter(home.udp_port, "latecomer")
    time.sleep(1.2)
    assert late.connect() == 0
    line = following.stdout.readline()
    assert "adapter.joined" in line and "latecomer" in line
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 130
    chosen = json.loads(home.cli("events", "--since", "10m", "--event", "adapter", "--json").stdout)
    assert {row["event"] for row in chosen} == {"adapter.joined"} and len(chosen) == 2
    assert json.loads(home.cli("events", "--since", "2100-01-01", "--json").stdout) == []
    assert (
        "10m, 2h" in home.cli("events", "--since", "yesterday").stderr
        or home.cli("events", "--since", "x").returncode == 2
    )
    late.close()


def test_readings_of_a_time_of_the_local_clock_and_by_day(home: Hub, tmp_path: Path) -> None:
    env = {**os.environ, "TZ": "Pacific/Auckland"}
    now = subprocess.run(
        ["date", "+%Y-%m-%dT%H:%M"], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()
    hour = now[:11] + "00:00"
    found = subprocess.run(
        words(home, "readings", "--from", hour, "--json"), cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert len(json.loads(found.stdout)) == 2, found.stderr
    assert json.loads(home.cli("readings", "--since", "1h", "--to", "30m", "--json").stdout) == []
    (day,) = json.loads(home.cli("readings", "--by-day", "--json").stdout)
    assert (day["client"], day["quantity"], day["kwh"]) == ("boiler", "energy", 2.5)
    assert "2.500 kWh" in home.cli("readings", "--by-day").stdout
    picture = tmp_path / "report.svg"
    assert home.cli("readings", "--svg", str(picture)).returncode == 0 and "<polyline" in picture.read_text()
    assert home.cli("readings", "--svg", str(picture)).returncode == 1


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """A bundle of a home with a thousand adapters, of the longest names."""
    rows: list[dict[str, Any]] = [
        {
            "client": f"appliance-number-{number:06}", "link": "udp" if number % 2 else "zigbee",
            "address": f"10.0.{number // 250}.{number % 250}:40000", "state": "lost" if number % 10 == 0 else "active",
            "last_seen_s": float(number * 600), "accepted": 10**6 + number, "refused": {"congestion": number % 3},
            "lqi": 255 if number % 2 == 0 else None,
        }
        for number in range(1000)
    ]  # fmt: skip
    file = tmp_path / "crowd.tar.gz"
    write_bundle(file, make_bundle({"adapters": rows, "manifest": {"format": 1}}, {}, lambda text: text))
    return file


def run(*typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hub", *typed], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_thousand_adapters_fit_are_chosen_and_sorted(crowd: Path) -> None:
    lines = run("adapters", "--bundle", str(crowd)).stdout.splitlines()
    assert len(lines) == 1002 and max(map(len, lines)) <= 79
    lost = run(
        "adapters", "--bundle", str(crowd), "--state", "lost", "--link", "zigbee", "--sort", "seen"
    ).stdout.splitlines()
    assert len(lost) == 102 and "number-000000" in lost[2]
    assert len(run("adapters", "--bundle", str(crowd), "--like", "number-00001").stdout.splitlines()) == 12
    assert "refused" in run("adapters", "--bundle", str(crowd), "--wide").stdout


def test_what_is_longer_than_the_screen_goes_through_a_pager(crowd: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nexec wc -l\n")
    pager.chmod(0o755)
    command = ["env", f"PAGER={pager}", sys.executable, "-m", "hub", "adapters", "--bundle", str(crowd)]
    terminal = Terminal(command)
    assert "1002" in terminal.until("1002")
    short = Terminal([*command, "--like", "number-00001"])
    assert "appliance-number-000019" in short.until("appliance-number-000019"), "what fits does not"


def test_top_fits_the_screen_of_a_serial_console(home: Hub) -> None:
    for number in range(40):
        UdpAdapter(home.udp_port, f"plug-{number:02}").connect(duration_s=600)
    terminal = Terminal(words(home, "top", "--every", "0.3"))
    terminal.until("more: meterhub adapters")
    wait_for("more pages", lambda: terminal.read(0.2).count("\x1b[H") >= 3)
    page = terminal.shown.split("\x1b[H")[1]
    lines = page.replace("\x1b[K", "").replace("\x1b[J", "").split("\r\n")
    assert len(lines) <= 24 and max(map(len, lines)) < 80
    assert any("plug-" in line for line in lines) and "uplink" in page
    assert set(re.findall(r"\x1b\[[0-9;]*([A-Za-z])", terminal.shown)) <= {"H", "J", "K"}, "what a VT100 knows"
    assert terminal.interrupt() == 130
    plain = subprocess.run(words(home, "top", "--rounds", "1"), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert plain.returncode == 0 and "\x1b" not in plain.stdout


@pytest.mark.parametrize(
    ("settings", "has_colour"),
    [
        ({"TERM": "xterm-256color"}, True), ({"TERM": "linux"}, True), ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "vt220"}, False), ({"TERM": "dumb"}, False),
    ],
)  # fmt: skip
def test_what_is_wrong_is_red_for_who_wants_colours(home: Hub, settings: dict[str, str], has_colour: bool) -> None:
    home.stop()
    terminal = Terminal(words(home, "doctor"), **settings)
    shown = terminal.until("systemctl start meterhub")
    assert ("\x1b[1;31mERROR\x1b[m    daemon" in shown) is has_colour and ("\x1b[32mok\x1b[m " in shown) is has_colour
    assert has_colour or "\x1b" not in shown
    terminal.process.wait(20)
    piped = subprocess.run(words(home, "doctor"), cwd=ROOT, env={**os.environ, **settings}, capture_output=True)
    assert b"\x1b" not in piped.stdout


@pytest.mark.parametrize(("typed", "meant"), [("statsu", "status"), ("radio inof", "info"), ("adapter", "adapters")])
def test_who_mistypes_is_asked_what_was_meant(typed: str, meant: str) -> None:
    done = run(*typed.split())
    assert done.returncode == 2 and f"did you mean '{meant}'?" in done.stderr


def test_a_configuration_to_begin_with_is_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    assert run("config", "init", str(file)).returncode == 0 and file.stat().st_mode & 0o007 == 0
    text = file.read_text()
    from hub.app.config import KEYS, load_config

    assert load_config(file).uplink.hosts == (("mqtt.utility.example", 8883),)
    for table, rules in KEYS.items():
        assert all(re.search(rf"^(# )?{key} = ", text, re.MULTILINE) for key in rules), table
    everything = "\n".join(
        line[2:] if re.match(r"# (\[|\w+ = (?!\.\.\.))", line) else line for line in text.splitlines()
    )
    everything = re.sub(r"^hosts = .*$", "", everything, flags=re.MULTILINE)
    file.write_text(everything)
    load_config(file)  # what stands in the comments is accepted too
    assert run("config", "init", str(file)).returncode == 1, "nothing is written over"


def test_what_is_in_force_and_where_it_is_from(home: Hub) -> None:
    rows = {row["key"]: row for row in json.loads(home.cli("config", "show", "--json").stdout)}
    assert rows["uplink.host"] == {"key": "uplink.host", "value": "localhost", "from": "the file"}
    assert rows["store.max_mb"]["from"] == "default" and rows["uplink.keepalive_s"]["value"] == 60
    assert "the file" in home.cli("config", "show").stdout


def test_a_tab_completes_a_verb_and_an_option(tmp_path: Path) -> None:
    script = (
        "source deploy/shell/meterhub.bash; "
        "COMP_WORDS=(meterhub {}); COMP_CWORD={}; COMPREPLY=(); "
        'f=$(complete -p meterhub | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f; echo "${{COMPREPLY[@]}}"'
    )
    for typed, at, expected in (("sta", 1, "status"), ("status --wa", 2, "--watch"), ("radio per", 2, "permit")):
        done = subprocess.run(["bash", "-c", script.format(typed, at)], cwd=ROOT, capture_output=True, text=True)
        assert expected in done.stdout.split(), (typed, done.stdout, done.stderr)


def test_completion_and_man_page_are_current() -> None:
    from deploy.shell_pages import FILES, FOLDER
    from hub.cli.main import VERBS

    if sys.version_info[:2] == (3, 11):  # argparse words some things otherwise in each version
        for name, made in FILES.items():
            assert (FOLDER / name).read_text("utf-8") == made(), "python -m deploy.shell_pages"
    page = (FOLDER / "meterhub.1").read_text("utf-8").replace("\\-", "-")
    assert all(f".SS meterhub {verb}\n" in page for verb in VERBS)
