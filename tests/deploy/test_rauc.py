"""The helper with the real RAUC: its service on a bus of its own, two slots in files, a boot loader of a shell script.

What the emulated board (tests/emulators/rauc.py) plays is compared with it. Takes root, for RAUC mounts what it
installs; the bundle is of the `plain` format, for want of device mapper on many machines.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.services.update.helper import SystemPlaces, serve_one
from tests.harness.board import COMPATIBLE, Board
from tests.harness.folders import folder_until_exit
from tests.harness.waiting import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="RAUC mounts what it installs: run the tests as root"),
    pytest.mark.skipif(not shutil.which("rauc") or not shutil.which("dbus-daemon"), reason="rauc or D-Bus is missing"),
]
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={path}</listen>
<policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
</policy>
</busconfig>
"""
_BACKEND = """#!/bin/sh
cd {folder}
case $1 in
get-primary) cat primary ;;
set-primary) echo "$2" >primary; echo good >"state.$2" ;;
get-state) cat "state.$2" ;;
set-state) echo "$3" >"state.$2" ;;
esac
"""


class Rauc:
    """RAUC's service as the image runs it, booted from slot A."""

    def __init__(self, board: Board) -> None:
        self.folder = folder = board.folder / "real"
        folder.mkdir()
        for slot, state in (("A", "good"), ("B", "bad")):
            (folder / f"slot{slot}").write_bytes(bytes(1 << 20))
            (folder / f"state.{slot}").write_text(f"{state}\n")
        (folder / "primary").write_text("A\n")
        (folder / "backend").write_text(_BACKEND.format(folder=folder))
        (folder / "backend").chmod(0o755)
        (folder / "mnt").mkdir()
        slots = "".join(
            f"[slot.rootfs.{at}]\ndevice={folder}/slot{name}\ntype=raw\nbootname={name}\n"
            for at, name in enumerate("AB")
        )
        (folder / "system.conf").write_text(
            f"[system]\ncompatible={COMPATIBLE}\nbootloader=custom\nmountprefix={folder}/mnt\nstatusfile={folder}/status\n"
            f"[handlers]\nbootloader-custom-backend={folder}/backend\n[keyring]\npath={board.folder}/keyring.pem\n{slots}"
        )
        self._bus = folder_until_exit("mh-bus-") / "bus"
        (folder / "bus.conf").write_text(_BUS.format(path=self._bus))
        self._environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self._bus}"}
        self.command = folder / "rauc"
        self.command.write_text(
            f'#!/bin/sh\nDBUS_SYSTEM_BUS_ADDRESS=unix:path={self._bus} exec rauc --conf={folder}/system.conf "$@"\n'
        )
        self.command.chmod(0o755)
        log = (folder / "log").open("wb")
        quiet = {"stdout": log, "stderr": log, "env": self._environment}
        self._daemon = subprocess.Popen(["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork"], **quiet)
        wait_for("the bus", self._bus.exists)
        words = ["rauc", f"--conf={folder}/system.conf", "--override-boot-slot=A", f"--mount={folder}/mnt", "service"]
        self._service = subprocess.Popen(words, **quiet)
        wait_for("RAUC's service", self._answers)

    def _answers(self) -> bool:
        assert self._service.poll() is None, (self.folder / "log").read_text()
        return subprocess.run([str(self.command), "status"], capture_output=True).returncode == 0

    def state(self, slot: str) -> str:
        return (self.folder / f"state.{slot}").read_text().strip()

    def stop(self) -> None:
        for process in (self._service, self._daemon):
            process.terminate()
            process.wait(10)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


@pytest.fixture
def rauc(board: Board) -> Iterator[Rauc]:
    rauc = Rauc(board)
    yield rauc
    rauc.stop()


def ask(board: Board, rauc: Rauc, verb: str) -> dict[str, object]:
    place = SystemPlaces(
        board.slots_dir, board.folder / "bundle.raucb", str(rauc.command), board.folder / "A/os-release",
        board.folder / "boot_id",
    )  # fmt: skip
    (board.slots_dir / "request.json").write_text(json.dumps({"id": verb, "verb": verb}))
    assert serve_one(place)
    answer: dict[str, object] = json.loads((board.slots_dir / "answer.json").read_text())
    return answer


def test_the_five_verbs_do_what_they_say(board: Board, rauc: Rauc) -> None:
    status = ask(board, rauc, "status")
    assert (status["booted"], status["compatible"], status["slots"]) == ("A", COMPATIBLE, {"A": "good", "B": "bad"})
    bundle = board.bundle("2.0.0")
    shutil.copy(bundle, board.folder / "bundle.raucb")
    assert ask(board, rauc, "info")["version"] == "2.0.0"
    installed = ask(board, rauc, "install")
    assert installed["ok"], installed
    assert (rauc.folder / "slotB").read_bytes().startswith(b"2.0.0")
    assert (rauc.folder / "primary").read_text().strip() == "B" and rauc.state("B") == "good"
    assert ask(board, rauc, "bad")["ok"] and rauc.state("A") == "bad", "the slot that runs"
    assert ask(board, rauc, "good")["ok"] and rauc.state("A") == "good"
    assert (board.slots_dir / "good").exists()


def test_what_is_not_signed_for_this_board_is_refused_in_raucs_words(board: Board, rauc: Rauc) -> None:
    other = board.bundle("2.0.0", compatible="meterhub-other")
    shutil.copy(other, board.folder / "bundle.raucb")
    refused = ask(board, rauc, "install")
    assert not refused["ok"] and "ompatible" in str(refused["text"]), refused
    (board.folder / "bundle.raucb").write_bytes(other.read_bytes()[:-100])
    assert not ask(board, rauc, "info")["ok"] and not ask(board, rauc, "install")["ok"]
    assert not (rauc.folder / "slotB").read_bytes().strip(b"\0"), "no slot was touched"


def test_the_emulated_board_says_the_same(board: Board, rauc: Rauc) -> None:
    def document(command: Path) -> dict[str, object]:
        words = [str(command), "status", "--output-format=json"]
        found: dict[str, object] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return found

    real, played = document(rauc.command), document(board.folder / "rauc")
    assert set(played) <= set(real)
    assert (real["booted"], real["compatible"]) == (played["booted"], played["compatible"])

    def fields(found: dict[str, object]) -> list[dict[str, object]]:
        entries = found["slots"]
        assert isinstance(entries, list)
        slots = [slot for entry in entries for slot in entry.values()]
        return sorted(
            ({key: slot[key] for key in ("bootname", "boot_status", "state", "class")} for slot in slots),
            key=lambda slot: str(slot["bootname"]),
        )

    assert fields(real) == fields(played)
