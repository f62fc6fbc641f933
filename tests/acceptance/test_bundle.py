"""The support bundle goes home by every way that a field engineer has, answers there, and tells nothing of the home."""

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from hub.services.admin.bundle import BadBundle, as_text, from_text
from tests.emulators.meter import Meter
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import ROOT, Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

WATTS, METER_W = b"1973.25", 4321
PASSWORD, PIN, NAME = "correct horse battery", "s3cr3t-pin", "Aunt Eudora"
DEVICES = [{"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "appliance": {"kind": "plain", "nominal_w": 1239}}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with all that it must not tell: values, keys, a PIN, names."""
    folder = tmp_path_factory.mktemp("bundle")
    authority = DevelopmentAuthority(folder / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    operator = Operator("grid")
    file = write_operators(folder / "operators.toml", operator)
    file.write_text(file.read_text().replace('name = "Test grid"', f'name = "{NAME} of the grid"'))
    (folder / "password").write_text(PASSWORD + "\n")
    broker = Broker(folder / "broker", authority).start()
    meter = Meter(folder / "tty", "p1", power_w=METER_W).start()
    radio = Radio(DEVICES).start()
    hub = Hub(
        folder / "hub", authority, broker.port, radio__path=str(radio.path), meter__path=str(meter.link),
        meter__protocol="p1", control__operators_file=str(file), uplink__username="eudora",
        uplink__password_file=str(folder / "password"), uplink__est_url=f"https://hub:{PIN}@localhost:9/.well-known/est",
    )  # fmt: skip
    point = ControlPoint(authority.directory, broker.port)
    adapter = UdpAdapter(hub.udp_port, "boiler") if hub.start() else None
    assert adapter is not None
    try:
        hub.wait_uplink()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=120)
        assert adapter.connect(duration_s=600) == 0
        about = {"class": "water-heater", "name": f"Boiler of {NAME}", "nominal_w": 2000, "sheddable": True}
        adapter.publish(0x0020, json.dumps(about).encode())
        adapter.publish(0x0001, WATTS)
        adapter.publish(0x0021, f"{NAME} left the tap open".encode())
        wait_for("the plug", lambda: point.values("zb-000d6f0000000001"))
        wait_for("the meter", lambda: hub.status()["meter"]["state"] == "up")
        wait_for("the reading", lambda: point.values("boiler"))
        yield hub
    finally:
        adapter.close()
        hub.kill()
        point.stop()
        radio.close()
        meter.stop()
        broker.stop()


def run(hub: Hub, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hub", *words, "--config", str(hub.config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=180)


@pytest.fixture(scope="module")
def bundle(home: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `ssh hub bundle > file` brings it."""
    done = run(home, "bundle")
    assert done.returncode == 0, done.stderr
    file = tmp_path_factory.mktemp("laptop") / "bundle.tar.gz"
    file.write_bytes(done.stdout)
    return file


def test_nothing_of_the_home_is_in_it(home: Hub, bundle: Path) -> None:
    raw = gzip.decompress(bundle.read_bytes())
    assert len(raw) > 10_000, "there is something to look through"
    key = (Path(home.config.parent.parent / "pki/hub.key")).read_text().split("\n")[1]
    number, registers = (home.ask("meter")[name] for name in ("number", "registers"))
    assert number and registers and PIN in home.config.read_text(), "what is looked for is there to be found"
    network = json.dumps(home.ask("radio.backup"))
    network_key = re.search(r'"network_key": \{"key": "([0-9a-f]{32})"', network)
    assert network_key is not None, network[:300]
    planted = (
        WATTS, WATTS[:4], str(METER_W).encode(), b"4.321", b"1239", PASSWORD.encode(), PIN.encode(), NAME.encode(),
        b"eudora", str(number).encode(), b"PRIVATE KEY", key.encode(), network_key[1].encode(),
        b"power_w", b"household_w",
    )  # fmt: skip
    assert all(str(row["value"]).encode() not in raw for row in registers.values() if len(str(row["value"])) > 4)
    for secret in planted:
        # A few digits stand in longer numbers by chance: in one of a process, of nanoseconds, in a digest.
        whole = rb"(?<!\w)%b(?!\w)" if secret[:1].isdigit() else b"%b"
        assert not re.search(whole % re.escape(secret), raw), secret
    for there in (b"boiler", b"zb-000d6f0000000001", b"water-heater", b"adapter.alarm", b'"serialx"', b"kernel.txt"):
        assert there in raw, there


READS = (
    "status", "adapters", "queue", "uplink", "limits", "events", "meter", "radio info", "radio map", "doctor",
)  # fmt: skip


@pytest.mark.parametrize("verb", READS)
def test_every_verb_that_reads_answers_from_it(bundle: Path, verb: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hub", *verb.split(), "--bundle", str(bundle), "--config", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1) and done.stdout and not done.stderr, done.stderr
    assert json.loads(subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, timeout=60).stdout)


def test_readings_are_not_in_it_and_that_is_said(bundle: Path) -> None:
    command = [sys.executable, "-m", "hub", "readings", "--bundle", str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no consumption data" in done.stderr


def test_it_comes_home_over_a_serial_console(home: Hub, tmp_path: Path) -> None:
    """What the terminal shows is recorded: echoes, prompts, carriage returns and all."""
    command = [sys.executable, "-m", "hub", "bundle", "--text", "--no-map", "--config", str(home.config)]
    master, slave = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b"hub> bundle --text\r\n"
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:  # EIO: the other side is closed
                break
            shown += more
        assert process.wait(60) == 0
    os.close(master)
    log = tmp_path / "console.log"
    log.write_bytes(shown + b"hub> exit\r\n")
    out = tmp_path / "home.tar.gz"
    decode = [sys.executable, "-m", "hub", "bundle", "--decode", str(log), "--out", str(out)]
    done = subprocess.run(decode, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for file in (out, log):  # the recording itself is read as well
        read = [sys.executable, "-m", "hub", "status", "--bundle", str(file)]
        assert "MTR-1" in subprocess.run(read, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    by_hand = re.search(r"(sed -n .* > FILE)", shown.decode())
    assert by_hand is not None
    words = by_hand[1].replace("LOG", str(log)).replace("FILE", str(tmp_path / "by-hand"))
    subprocess.run(["sh", "-c", words], check=True)
    assert (tmp_path / "by-hand").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("damage", ["a letter", "a line lost", "cut off"])
def test_what_was_damaged_on_its_way_is_said(damage: str) -> None:
    text = as_text("x.tar.gz", os.urandom(3000))
    assert from_text("noise\r\n" + text.replace("\n", "\r\n") + "more")[0] == "x.tar.gz"
    lines = text.split("\n")
    if damage == "a letter":
        lines[3] = ("B" if lines[3][0] == "A" else "A") + lines[3][1:]
    elif damage == "a line lost":
        del lines[5]
    else:
        del lines[20:]
    with pytest.raises(BadBundle, match=r"damaged|no bundle"):
        from_text("\n".join(lines))


def test_a_file_is_written_where_it_is_asked_for(home: Hub, tmp_path: Path) -> None:
    out = tmp_path / "b.tar.gz"
    done = run(home, "bundle", "--no-map", "--out", str(out))
    assert done.returncode == 0 and out.stat().st_mode & 0o777 == 0o600
    assert run(home, "bundle", "--no-map", "--out", str(out)).returncode == 1
