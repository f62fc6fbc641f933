"""The helper with the rights: it takes one small request, and nothing that its folder holds can lead it astray."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hub.services.update.helper import SystemPlaces, serve_one
from tests.harness.board import COMPATIBLE, Board
from tests.harness.hub import ROOT


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def place_of(board: Board) -> SystemPlaces:
    return SystemPlaces(
        board.slots_dir, board.folder / "bundle.raucb", str(board.folder / "rauc"), board.folder / "A/os-release",
        board.folder / "boot_id", board.folder / "A",
    )  # fmt: skip


def answer_to(board: Board, request: bytes) -> dict[str, object]:
    (board.slots_dir / "request.json").write_bytes(request)
    assert serve_one(place_of(board)) is True
    assert not (board.slots_dir / "request.json").exists(), "or the path unit would start it for ever"
    answer: dict[str, object] = json.loads((board.slots_dir / "answer.json").read_bytes())
    return answer


def test_it_says_what_runs(board: Board) -> None:
    answer = answer_to(board, b'{"id":"7","verb":"status"}')
    assert answer == {
        "id": "7", "ok": True, "compatible": COMPATIBLE, "booted": "A", "version": "1.0.0",
        "slots": {"A": "good", "B": "bad"}, "boot": (board.folder / "boot_id").read_text().strip(),
    }  # fmt: skip


def test_a_bundle_is_what_its_signature_says(board: Board) -> None:
    shutil.copy(board.bundle("2.0.0"), board.folder / "bundle.raucb")
    answer = answer_to(board, b'{"id":"1","verb":"info"}')
    assert (answer["ok"], answer["compatible"], answer["version"]) == (True, COMPATIBLE, "2.0.0")
    with (board.folder / "bundle.raucb").open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(bytes(8))
    answer = answer_to(board, b'{"id":"2","verb":"info"}')
    assert answer["ok"] is False and "ignature" in str(answer["text"])


@pytest.mark.parametrize(
    "request_",
    [b"", b"{", b"[]", b"7", b'{"verb":"rm"}', b'{"verb":["status"]}', b'{"id":{},"verb":null}', b"x" * 100_000],
)
def test_anything_else_is_refused(board: Board, request_: bytes) -> None:
    assert answer_to(board, request_)["ok"] is False


def test_links_are_not_followed(board: Board, tmp_path: Path) -> None:
    secret, victim = tmp_path / "secret", tmp_path / "victim"
    secret.write_text('{"id":"stolen","verb":"status"}')
    victim.write_text("untouched")
    (board.slots_dir / "request.json").symlink_to(secret)
    (board.slots_dir / ".answer.json").symlink_to(victim)
    (board.slots_dir / "answer.json").symlink_to(victim)
    assert serve_one(place_of(board)) is True
    answer = json.loads((board.slots_dir / "answer.json").read_bytes())
    assert answer["ok"] is False and answer["id"] is None
    assert victim.read_text() == "untouched" and secret.exists()
    os.mkfifo(board.slots_dir / "request.json")  # must not hang
    assert serve_one(place_of(board)) is True


def test_raucs_refusal_is_told_in_its_words(board: Board) -> None:
    board.write(faults=["install", "status"])
    for verb in ("install", "good", "bad", "status"):
        answer = answer_to(board, json.dumps({"id": verb, "verb": verb}).encode())
        assert answer["ok"] is False and "does not work today" in str(answer["text"])
    nowhere = SystemPlaces(board.slots_dir, rauc=str(board.folder / "no-such-command"))
    (board.slots_dir / "request.json").write_bytes(b'{"id":"1","verb":"good"}')
    assert serve_one(nowhere) is True


def test_it_needs_the_standard_library_alone() -> None:
    """On a hub whose packages are damaged it still answers, and it starts quickly."""
    code = (
        "import sys; from hub.cli.main import main; main(['slots-helper', '--folder', sys.argv[1]]); "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'cbor2','cryptography','paho','asyncio','zigpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, "/nonexistent"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_slot_with_a_block_that_cannot_be_read_is_found(board: Board) -> None:
    """The first bytes of a process's memory answer as a bad block does: EIO."""
    (board.folder / "A/nowhere").symlink_to("not-there")
    assert answer_to(board, b'{"id":"1","verb":"check"}')["ok"] is True
    (board.folder / "A/late.pyc").symlink_to("/proc/self/mem")
    answer = answer_to(board, b'{"id":"2","verb":"check"}')
    assert answer["ok"] is False
    assert answer["text"] == f"unreadable: {board.folder}/A/late.pyc: Input/output error"
