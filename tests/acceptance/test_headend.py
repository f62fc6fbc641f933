"""The control point's command line as an integrator types it: keygen, send --wait, watch --save, audit."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest

from deploy.pki import DevelopmentAuthority
from hub.headend.archive import load
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import ROOT, Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


class Desk:
    """An operator's desk: one directory, one key."""

    def __init__(self, directory: Path, authority: DevelopmentAuthority, broker: Broker) -> None:
        self.directory = directory
        self.pki = authority.directory
        self.port = broker.port
        self.archive = directory / "archive.cbor"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hub", "headend", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)

    def send(self, *words: str, key: str = "grid") -> list[dict[str, Any]]:
        """`headend send` with --json: its lines, then its exit status."""
        done = self.run(
            "send", *words, "--port", str(self.port), "--ca", str(self.pki / "ca.pem"),
            "--cert", str(self.pki / "headend.pem"), "--cert-key", str(self.pki / "headend.key"),
            "--key", str(self.directory / f"{key}.key"), "--kid", "grid", "--hub-cert", str(self.pki / "hub.pem"),
            "--save", str(self.archive), "--json",
        )  # fmt: skip
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [*rows, {"exit": done.returncode, "error": done.stderr}]

    def audit(self, archive: Path | None = None) -> tuple[int, str]:
        done = self.run("audit", str(archive or self.archive), "--hub-cert", str(self.pki / "hub.pem"))
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def desk(tmp_path: Path, authority: DevelopmentAuthority, broker: Broker) -> Desk:
    desk = Desk(tmp_path, authority, broker)
    made = desk.run("keygen", "grid", "--roles", "limit,price,read,field,admin", "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    (tmp_path / "grid.toml").rename(tmp_path / "operators.toml")
    return desk


@pytest.fixture
def hub(make_hub: Callable[..., Hub], desk: Desk) -> Hub:
    hub = make_hub(control__operators_file=str(desk.directory / "operators.toml"), control__heartbeat_s=5).start()
    hub.wait_uplink()
    return hub


def test_a_command_is_sent_awaited_and_audited(desk: Desk, hub: Hub, control_point: ControlPoint) -> None:
    rows = desk.send("limit", "watts=1500", "duration=3", "--to", "MTR-1", "--wait", "final")
    assert rows[1]["status"] == "accepted" and rows[-2]["status"] == "completed"
    assert rows[-1]["exit"] == 0
    rows = desk.send("switch", "client=nobody", "on=false", "duration=60", "--to", "MTR-1", "--wait")
    assert (rows[1]["status"], rows[1]["reason"], rows[-1]["exit"]) == ("refused", "unknown-client", 1)
    assert "nobody" in rows[1]["detail"]["text"]
    status, text = desk.audit()
    assert status == 0 and "sound" in text, text


def test_the_audit_sees_what_was_left_out(desk: Desk, hub: Hub, control_point: ControlPoint) -> None:
    for _ in range(3):
        assert desk.send("limit.cancel", "--to", "all", "--wait", "final")[-1]["exit"] == 0
    messages = list(load(desk.archive))
    receipts = [at for at, (topic, _) in enumerate(messages) if topic.endswith("/receipts")]
    assert len(receipts) == 6
    broken = desk.directory / "broken.cbor"
    broken.write_bytes(b"".join(cbor2.dumps(list(m)) for at, m in enumerate(messages) if at != receipts[2]))
    status, text = desk.audit(broken)
    assert status == 1 and "missing" in text and "broken" in text
    altered = bytearray(messages[receipts[0]][1])
    altered[-70] ^= 1
    broken.write_bytes(cbor2.dumps([messages[receipts[0]][0], bytes(altered)]))
    status, text = desk.audit(broken)
    assert status == 1 and "fault" in text


def test_mistakes_get_one_clear_line(desk: Desk, tmp_path: Path) -> None:
    again = desk.run("keygen", "grid", "--out", str(tmp_path))
    assert again.returncode == 2 and "grid.key" in again.stderr and "exists" in again.stderr
    roles = desk.run("keygen", "other", "--roles", "king", "--out", str(tmp_path))
    assert roles.returncode == 2 and "roles" in roles.stderr
    assert not (tmp_path / "other.key").exists()
    assert "limitt" in desk.send("limitt", "--to", "MTR-1")[-1]["error"]
    assert desk.send("limitt", "--to", "MTR-1")[-1]["exit"] == 2
    assert "NAME=VALUE" in desk.send("limit", "1500", "--to", "MTR-1")[-1]["error"]
    missing = desk.audit(tmp_path / "nothing.cbor")
    assert missing[0] == 1 and "nothing.cbor" in missing[1]
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x01\x02")
    assert desk.audit(junk)[0] == 1


def test_everybody_is_waited_for_and_the_silent_are_named(desk: Desk, control_point: ControlPoint) -> None:
    rows = desk.send("limit", "watts=1", "duration=60", "--to", "MTR-1", "--wait", "--timeout-s", "1")
    assert rows[-1]["exit"] == 1 and "MTR-1: no receipt within 1 s" in rows[-1]["error"]
    wait_for("the command in the archive", lambda: desk.archive.exists())
    status, text = desk.audit()
    assert status == 0 and "unanswered" in text


def _waits(lane: dict[str, int]) -> int:
    return lane["pending"] + lane["unsealed"]


class Keeper:
    """`meterhub headend keep` beside a hub, as a utility would run it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.book = desk.directory / "book.sqlite"

    def run(self, seconds: float, *more: str) -> tuple[int, str]:
        desk = self._desk
        done = desk.run(
            "keep", "--port", str(desk.port), "--ca", str(desk.pki / "ca.pem"),
            "--cert", str(desk.pki / "headend.pem"), "--cert-key", str(desk.pki / "headend.key"),
            "--key", str(desk.directory / "grid.key"), "--kid", "grid", "--hub-cert", str(desk.pki / "hub.pem"),
            "--book", str(self.book), "--gap-after-s", "0.5", "--booked-every-s", "1", "--seconds", str(seconds), *more,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def test_the_book_is_complete_though_consumer_and_broker_forgot(hub: Hub, desk: Desk, broker: Broker) -> None:
    """Nobody was there while the hub sent; then somebody keeps the book: gaps are asked for, what is there is
    booked."""
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for watts in range(20):
        assert adapter.publish(0x0001, str(watts).encode()) == 0
    wait_for("an empty queue", lambda: _waits(hub.ask("queue")["readings"]) == 0)
    status, said = Keeper(desk).run(12)
    assert status == 0, said
    assert "resend" in said and "booked" in said and "MISSING" not in said
    queue = hub.ask("queue")
    assert queue["readings"]["booked"] >= 1 and queue["events"]["booked"] >= 1
    status, said = Keeper(desk).run(4)
    assert status == 0 and "resend" not in said, "what is in the book is not asked for again"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["limit", "watts=100", "duration=60"], "--to"),
        (["limit", "watts=lots", "duration=60", "--to", "MTR-1"], "watts"),
        (["limit", "duration=60", "--to", "MTR-1"], "needs watts"),
        (["limits", "--to", "MTR-1"], "limits"),
        (["switch", "client=a", "on=false", "--to", "MTR-1"], "duration"),
    ],
)
def test_a_mistake_is_told_before_anything_is_signed(desk: Desk, words: list[str], expected: str) -> None:
    row = desk.send(*words)[-1]
    assert row["exit"] == 2 and expected in row["error"] and "Traceback" not in row["error"]


class Watcher:
    """`meterhub headend watch` beside a hub."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.archive = desk.directory / "watched.cbor"

    def start(self, *more: str, seconds: float = 4) -> subprocess.Popen[str]:
        pki = self._desk.pki
        command = [
            sys.executable, "-m", "hub", "headend", "watch", "--port", str(self._desk.port),
            "--ca", str(pki / "ca.pem"), "--cert", str(pki / "headend.pem"), "--key", str(pki / "headend.key"),
            "--hub-cert", str(pki / "hub.pem"), "--seconds", str(seconds), *more,
        ]  # fmt: skip
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def run(self, *more: str, seconds: float = 4) -> tuple[int, str]:
        watching = self.start(*more, seconds=seconds)
        said = watching.communicate(timeout=60)[0]
        return watching.returncode, said


def test_a_watch_that_joins_late_cries_no_wolf(hub: Hub, desk: Desk, control_point: ControlPoint) -> None:
    """What was sent before it came is missed by nobody; heartbeats speak of it all the same."""
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for watts in range(5):
        adapter.publish(0x0001, str(watts).encode())
    wait_for("an empty queue", lambda: _waits(hub.ask("queue")["readings"]) == 0)
    status, said = Watcher(desk).run(seconds=8)  # longer than a heartbeat's period
    assert status == 0 and "issing " not in said and "no number is missing" in said, said
    status, said = Watcher(desk).run("--from-start", seconds=8)
    assert status == 1 and "MISSING" in said, "who asks for all of it is told"
    adapter.close()


def test_receipts_are_told_in_words_and_json_is_structure(hub: Hub, desk: Desk, control_point: ControlPoint) -> None:
    watching = Watcher(desk).start(seconds=90), Watcher(desk).start("--json", seconds=90)
    wait_for(
        "both to have begun", lambda: desk.send("limit.cancel", "--to", "MTR-1", "--wait", "final")[-1]["exit"] == 0
    )
    desk.send("limit", "watts=1500", "duration=3", "--to", "MTR-1", "--wait")
    desk.send("limit", "watts=1600", "duration=3", "--to", "MTR-1", "--wait")
    for each in watching:
        each.send_signal(signal.SIGINT)
    plain, structured = (each.communicate(timeout=60)[0] for each in watching)
    assert "limit watts 1600, duration 3 by grid: accepted" in plain, plain
    assert "receipt   20" in plain and "accepted end 20" in plain, "times are times"
    rows = [json.loads(line) for line in structured.splitlines()]
    receipt = next(row for row in rows if row["kind"] == "receipt" and row["status"] == "accepted")
    assert receipt["hub"] == "MTR-1" and receipt["lane"] == "receipts" and len(receipt["re"]) == 32
    assert rows[-1]["kind"] == "end" and rows[-1]["complete"] is True and rows[-1]["faults"] == 0


def test_an_archive_is_gone_on_with_and_audited_from_where_it_begins(
    hub: Hub, desk: Desk, control_point: ControlPoint
) -> None:
    desk.send("limit.cancel", "--to", "MTR-1", "--wait", "final")
    watcher = Watcher(desk)
    for _ in range(2):
        watching = watcher.start("--client-id", "watch", "--save", str(watcher.archive), seconds=6)
        wait_for("it to have begun", lambda: watcher.archive.exists())
        desk.send("limit.cancel", "--to", "MTR-1", "--wait", "final")
        assert watching.communicate(timeout=60) and watching.returncode == 0
        with watcher.archive.open("ab") as torn:
            torn.write(b"\x82\x6ameters/MTR")  # killed in the middle of a message
    said = watcher.run("--client-id", "watch", "--save", str(watcher.archive), seconds=1)[1]
    assert "resumed" in said and "messages" in said
    cert = ("--hub-cert", str(desk.pki / "hub.pem"))
    whole = desk.run("audit", str(watcher.archive), *cert)
    assert whole.returncode == 1 and "missing" in whole.stdout, "it does not begin at 1"
    late = desk.run("audit", str(watcher.archive), "--from-first", *cert)
    assert late.returncode == 0 and "sound" in late.stdout, late.stdout
    numbers = [load_number(topic, payload) for topic, payload in load(watcher.archive) if topic.endswith("/receipts")]
    given = desk.run("audit", str(watcher.archive), "--from", f"receipts={numbers[0]}", *cert)
    assert given.returncode == 0, given.stdout
    wrong = desk.run("audit", str(watcher.archive), "--from", "lane=1", *cert)
    assert wrong.returncode == 2 and "LANE=NUMBER" in wrong.stderr


def load_number(topic: str, payload: bytes) -> int:
    """The number of a sealed message."""
    header = cbor2.loads(cbor2.loads(payload).value[0])
    number: int = header[-65537][3]
    return number
