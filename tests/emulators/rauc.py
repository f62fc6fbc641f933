"""A `rauc` command for a board of two files: slots, boot order and counters in one JSON document.

    python tests/emulators/rauc.py BOARD info|install|status|... (as the words of rauc 1.8)

Bundles are real: what is signed by whom, and for which board, the real rauc says (`rauc info`). Only what needs a boot
loader, a D-Bus and device mapper is played: the slot is a folder, the boot loader's variables are the document's.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Board:
    """The document: `compatible`, `booted`, `order` (BOOT_ORDER), `left` (BOOT_x_LEFT), `faults` (verbs that fail)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "board.json"
        self.values: dict[str, Any] = json.loads(self._file.read_text())

    def save(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self.values))
        fresh.replace(self._file)

    def other(self) -> str:
        return "B" if self.values["booted"] == "A" else "A"


def _real_info(board: Board, bundle: str) -> str:
    command = ["rauc", f"--keyring={board.folder / 'keyring.pem'}", "info", "--output-format=json", bundle]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    return done.stdout


def info(board: Board, words: list[str]) -> None:
    print(_real_info(board, words[-1]))


def install(board: Board, words: list[str]) -> None:
    holds = json.loads(_real_info(board, words[-1]))
    print("installing\n  0% Installing\n 40% Checking bundle done.")
    if holds["compatible"] != board.values["compatible"]:
        sys.exit("LastError: Compatible mismatch")
    slot, booted = board.other(), board.values["booted"]
    board.values["left"][slot] = 0  # as RAUC does: what is half written is never booted
    board.values["order"] = [booted]
    board.save()
    while (board.folder / "hold").exists():
        time.sleep(0.02)
    content = board.folder / "content"
    subprocess.run(["unsquashfs", "-n", "-f", "-d", str(content), words[-1]], check=True, capture_output=True)
    place = board.folder / slot
    (place / "image").write_bytes((content / "rootfs.img").read_bytes())
    (place / "os-release").write_text(f'IMAGE_ID={board.values["compatible"]}\nIMAGE_VERSION="{holds["version"]}"\n')
    board.values["left"][slot] = 3
    board.values["order"] = [slot, booted]
    board.save()
    print("100% Installing done.\nInstalling `bundle` succeeded")


def status(board: Board, words: list[str]) -> None:
    if "mark-good" in words:
        board.values["left"][board.values["booted"]] = 3
        board.values["good"] = [*board.values.get("good", []), board.values["booted"]]
        board.save()
        print(f"rauc status: marked slot {board.values['booted']} as good")
    elif "mark-bad" in words:
        booted = board.values["booted"]
        board.values["left"][booted] = 0
        board.values["order"] = [name for name in board.values["order"] if name != booted]
        board.save()
    else:
        print(json.dumps(_document(board.values)))


def _document(values: dict[str, Any]) -> dict[str, Any]:
    slots = [
        {f"rootfs.{at}": {"class": "rootfs", "device": f"/dev/{name}", "type": "raw", "bootname": name,
         "state": "booted" if name == values["booted"] else "inactive", "parent": None, "mountpoint": None,
         "boot_status": "good" if values["left"][name] else "bad"}}
        for at, name in enumerate("AB")
    ]  # fmt: skip
    return {"compatible": values["compatible"], "variant": "", "booted": values["booted"], "slots": slots}


def main() -> None:
    folder, verb, *words = sys.argv[1:]
    board = Board(Path(folder))
    if verb in board.values.get("faults", ()):
        sys.exit(f"LastError: {verb} does not work today")
    {"info": info, "install": install, "status": status}[verb](board, words)


if __name__ == "__main__":
    main()
