"""The parts of something that is shown on one machine: processes by name, each with a log in a folder, ended together
however the one that shows them ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.janitor import Janitor, end_groups

_ROOT = Path(__file__).resolve().parents[1]
_TAIL = 2000


class ChildProcesses(dict[str, "subprocess.Popen[bytes]"]):
    """Each in a process group of its own, of which the janitor is told. Who takes one out ends it himself."""

    def __init__(self, folder: Path, janitor: Janitor) -> None:
        super().__init__()
        self._folder, self._janitor = folder, janitor

    def spawn(
        self, name: str, *arguments: str, program: str = sys.executable, environment: dict[str, str] | None = None,
        is_heard: bool = False,
    ) -> "subprocess.Popen[bytes]":  # fmt: skip
        """Start one. `is_heard`: what it says is a pipe for us, and only what it complains of goes to its log."""
        with (self._folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [program, *arguments], cwd=_ROOT, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_heard else log, stderr=log,
                start_new_session=True, preexec_fn=self.enlist, env=os.environ | (environment or {}),
            )  # fmt: skip
        self[name] = child
        return child

    @property
    def enlist(self) -> Callable[[], None]:
        """For the `preexec_fn` of one that somebody else starts, in a group of its own, and puts in here."""
        return self._janitor.enlist

    def ended(self) -> str:
        """The name of one that has ended by itself; empty: all are there."""
        return next((name for name, child in self.items() if child.poll() is not None), "")

    def log_of(self, name: str) -> str:
        """The end of it."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-_TAIL:]

    def stop(self) -> None:
        """All of them, the last first; nothing is left running."""

        def reap() -> None:
            for child in self.values():
                child.poll()

        end_groups([child.pid for child in reversed(self.values()) if child.poll() is None], reap=reap)


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that nobody waits for (a container whose first process does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children_of(pid: int) -> list[int]:
    """Those that a process has started and that are not waited for yet; none where it is gone itself."""
    try:
        files = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for file in files for child in file.read_text().split()]
    except OSError:
        return []


def spawn_radio(children: ChildProcesses, folder: Path, home: dict[str, Any], *, is_heard: bool = False) -> Path:
    """An emulated radio with a home behind it, as the child `radio`; where its pty will be."""
    file, pty = folder / "home.json", folder / "radio"
    file.write_text(json.dumps(home))
    children.spawn(
        "radio", "-m", "tests.emulators.serve", "--link", str(pty), "--home", str(file),
        "--state", str(folder / "ncp.json"), "--control", str(folder / "radio.sock"), "--baud", "115200",
        is_heard=is_heard,
    )  # fmt: skip
    return pty
