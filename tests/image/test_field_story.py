"""The field engineer's evening (docs/field-engineer.md) at a board as it is shipped: the access list denies every
publish, an adapter is dead, the meter speaks P1 where SML is expected. Found over SSH, and once more at the serial
console; both times the bundle comes home, and tells the same there.

One story, told in order (see test_story.py). No root shell: what the engineer has is all there is.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.meter import p1_telegram
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import free_port, wait_for
from tests.image.site import HUB_ID, ROOT, Site

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]

_DENIED = f"user {HUB_ID}\ntopic read meters/#\n"
_OTHERS = "user somebody\ntopic read meters/#\nuser headend\ntopic readwrite #\n"
_TOML = """
[han.udp]
listen = "0.0.0.0:1884"

[meter]
path = "/dev/ttyS0"
protocol = "sml"
"""
_CONSOLE_S = 180.0
# An emulated board needs seconds to start a command: who asks it more often starves its radio.
_BOOT_S, _LOOK_S = 600.0, 20.0


class MeterLine:
    """A meter's end of the board's second serial line: P1, a telegram a second."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._push, daemon=True).start()

    def _push(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
                while True:
                    connection.sendall(p1_telegram(500))
                    time.sleep(1)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def close(self) -> None:
        self._listener.close()


class Engineer:
    """A laptop with the key that the utility's authority signed this morning, and the books' console code."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        for name in ("ssh_ca", "engineer"):
            self._keygen("-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))
        self._keygen(
            "-s", str(folder / "ssh_ca"), "-I", "engineer-7", "-n", "field", "-V", "-1d:+1d",
            str(folder / "engineer.pub"),
        )  # fmt: skip

    def _keygen(self, *words: str) -> None:
        subprocess.run(["ssh-keygen", "-q", *words], check=True, capture_output=True)

    def ssh(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={self.folder}/known",
                   "IdentitiesOnly=yes", "ConnectTimeout=20")  # fmt: skip
        base = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.folder / "engineer")]
        base += [word for option in options for word in ("-o", option)]
        return subprocess.run(
            [*base, "field@127.0.0.1", *words], capture_output=True, timeout=300, stdin=subprocess.DEVNULL
        )

    def says(self, line: str) -> str:
        """What a verb says over SSH; that something is wrong (exit status 1) is what it is asked for."""
        done = self.ssh(line)
        assert done.returncode in (0, 1), (line, done.returncode, done.stderr)
        return done.stdout.decode()

    def at_home(self, *words: str) -> str:
        """The same command line on the laptop, with a bundle."""
        done = subprocess.run(
            [sys.executable, "-m", "hub", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (0, 1), (words, done.stderr)
        return done.stdout


class Home:
    """Two adapters of Wi-Fi: a boiler that speaks every few seconds, and a heat pump that said something once."""

    def __init__(self) -> None:
        self.port = free_port()
        self._ended = threading.Event()

    def come(self) -> None:
        pump = UdpAdapter(self.port, "heat-pump", timeout_s=60.0)
        assert pump.connect(duration_s=20) == 0 and pump.publish(1, b"700") == 0
        pump.close()  # its fuse blows
        threading.Thread(target=self._boil, daemon=True).start()

    def _boil(self) -> None:
        boiler = UdpAdapter(self.port, "boiler", timeout_s=60.0)
        while not self._ended.wait(5):
            with suppress(OSError, AssertionError):
                boiler.connect(duration_s=600)
                boiler.publish(1, b"1500")
        boiler.close()

    def end(self) -> None:
        self._ended.set()


class SerialLine:
    """The field console of a board, as a terminal shows it."""

    def __init__(self, site: Site) -> None:
        self._console = site.console

    def type(self, line: str, until: str, timeout_s: float = _CONSOLE_S) -> str:
        """Type a line; what is shown until `until` comes."""
        mark = self._console.mark()
        self._console.send(line)
        self._console.wait_text(until, mark, timeout_s)
        return self._console.since(mark)

    def says(self, line: str) -> str:
        """What a verb says: all that is shown until the next prompt."""
        mark = self._console.mark()
        self._console.send(line)
        wait_for(f"an answer to {line!r}", lambda: self._console.since(mark).endswith("\nhub> "), _CONSOLE_S)
        return self._console.since(mark)


@pytest.fixture(scope="module")
def engineer(tmp_path_factory: pytest.TempPathFactory) -> Engineer:
    return Engineer(tmp_path_factory.mktemp("laptop"), free_port())


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home()
    yield home
    home.end()


@pytest.fixture(scope="module")
def rights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's access list: the hub may hear, and say nothing."""
    rights = tmp_path_factory.mktemp("rights") / "acl"
    rights.write_text(_DENIED + _OTHERS)
    return rights


@pytest.fixture(scope="module")
def site(
    closed_release: Path, engineer: Engineer, home: Home, rights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder, meter = tmp_path_factory.mktemp("site"), MeterLine()
    site = Site(
        folder, closed_release, toml=_TOML, uplink="retry_cap_s = 30\n",
        station=("--ssh-ca", str(engineer.folder / "ssh_ca.pub")), broker=f"acl_file {rights}\n", home=None,
        meter=meter.address, ssh_port=engineer.port, udp_port=home.port,
    )  # fmt: skip
    yield site
    site.close()
    meter.close()


def codes(rows: list[dict[str, Any]]) -> set[str]:
    return {row.get("check", row.get("code", "")) for row in rows if row["severity"] != "fine"}


def test_a_home_with_three_faults(site: Site, engineer: Engineer, home: Home) -> None:
    site.provision()
    site.power_on()
    wait_for("the engineer to get in", lambda: engineer.ssh("queue").returncode == 0, _BOOT_S, _LOOK_S)
    home.come()

    def lost() -> set[str]:
        rows = json.loads(engineer.says("adapters --json"))
        return {row["client"] for row in rows if row["state"] == "lost"}

    wait_for("one of them to be missed", lambda: lost() == {"heat-pump"}, _BOOT_S, _LOOK_S)
    wanted = {"uplink-message-refused", "meter-silent"}
    wait_for("the rest", lambda: wanted <= codes(json.loads(engineer.says("doctor --json"))), _BOOT_S, _LOOK_S)


def tells_the_story(says: Any) -> None:
    """What the engineer finds, in the order of the page; `says(line)`: a verb's words."""
    doctor = says("doctor")
    assert "uplink-message-refused" in doctor and "0x87 (not authorized)" in doctor
    assert "check the broker's access list for meters/{hub}/#" in doctor
    assert "meter-silent" in doctor
    assert "0x87 (not authorized)" in says("uplink")
    assert [line for line in says("queue").splitlines() if line.startswith("readings")]
    [lost] = [line for line in says("adapters --state lost").splitlines() if " udp " in line]
    assert lost.startswith("heat-pump") and "lost" in lost
    assert "adapter.lost" in says("events --since 1h --event adapter")
    assert "sml" in says("meter")
    assert any("meter.protocol" in line and '"sml"' in line for line in says("config show").splitlines())


def test_it_is_found_over_ssh(site: Site, engineer: Engineer) -> None:
    tells_the_story(engineer.says)
    assert engineer.ssh("sh -c id").returncode == 2, "the command line, and nothing else"


def same_at_home(engineer: Engineer, bundle: Path) -> None:
    """The bundle tells at home what the hub told."""
    doctor = json.loads(engineer.at_home("doctor", "--json", "--bundle", str(bundle)))
    assert {"uplink-message-refused", "meter-silent"} <= codes(doctor)
    rows = json.loads(engineer.at_home("adapters", "--json", "--bundle", str(bundle)))
    assert {row["client"]: row["state"] for row in rows} == {"boiler": "active", "heat-pump": "lost"}
    meter = json.loads(engineer.at_home("meter", "--json", "--bundle", str(bundle)))
    assert meter["configured"] == "sml" and meter["telegrams"] == 0
    assert "pending of readings, messages" in engineer.at_home("queue", "--plot", "--bundle", str(bundle))


def test_the_bundle_comes_home_over_ssh(site: Site, engineer: Engineer) -> None:
    done = engineer.ssh("bundle --no-map")
    assert done.returncode == 0, done.stderr
    bundle = engineer.folder / "ssh.tar.gz"
    bundle.write_bytes(done.stdout)
    same_at_home(engineer, bundle)


def test_it_is_found_at_the_serial_console(site: Site, engineer: Engineer) -> None:
    record = json.loads((site.lot.device(HUB_ID) / "record.json").read_text())
    line = SerialLine(site)
    line.type("", "console code: ")
    assert "no\n" in line.type("AAAA-BBBB-CCCC-DDDD", "console code: "), "a wrong code opens nothing"
    line.type(record["console_code"], "hub> ")
    tells_the_story(line.says)


def test_the_bundle_comes_home_over_the_serial_console(site: Site, engineer: Engineer) -> None:
    recording = engineer.folder / "console.log"
    recording.write_text(SerialLine(site).says("bundle --no-map"))
    bundle = engineer.folder / "serial.tar.gz"
    engineer.at_home("bundle", "--decode", str(recording), "--out", str(bundle))
    same_at_home(engineer, bundle)


def test_the_utility_mends_its_access_list_and_all_that_waited_arrives(
    site: Site, engineer: Engineer, rights: Path
) -> None:
    rights.write_text(f"user {HUB_ID}\ntopic readwrite #\n{_OTHERS}")
    site.broker.kill()
    site.broker.start()
    wait_for("what waited", lambda: site.control_point.values("heat-pump"), 400, 1)
    wait_for(
        "the condition to go",
        lambda: "uplink-message-refused" not in codes(json.loads(engineer.says("doctor --json"))),
        _BOOT_S,
        _LOOK_S,
    )
    site.assert_nothing_missing()
