"""Tidies up after a process that may be killed at any moment: ends what it started, takes its folder away.

A process of its own holds one end of a pipe. The other end closes when whoever made it is gone, however that went
(kill -9, too); then the janitor ends the process groups that it was told of and removes the folder, keys and all.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.parent import ends_with_us

_ROOT = Path(__file__).resolve().parents[1]
# A database that is killed leaves its shared memory behind, and on a busy machine it takes a while to end.
_GRACE_S = 20.0
_DISMISSED = "dismissed"


class Janitor:
    """Watches over the process that makes it."""

    def __init__(self, folder: Path) -> None:
        told, tell = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.janitor", str(folder), str(told)], cwd=_ROOT, pass_fds=[told],
            # Out of reach of Ctrl-C and of a terminal that closes: those are for whoever is watched.
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        self._tell = os.fdopen(tell, "w", buffering=1)
        self._ends_with_us = ends_with_us()  # and should the janitor be killed, too

    def enlist(self) -> None:
        """For the `preexec_fn` of a child in a group of its own: that group is ended, too.

        The child says so itself, before it is another program: at whatever moment the one that starts it is killed, the
        janitor knows of it. As long as it has not said so, it holds the pipe open.
        """
        os.write(self._tell.fileno(), f"{os.getpid()}\n".encode())
        self._ends_with_us()

    def dismiss(self) -> None:
        """All is tidy: there is nothing to do any more."""
        self._tell.write(f"{_DISMISSED}\n")
        self._tell.close()
        self._process.wait(_GRACE_S)


def end_groups(groups: list[int], grace_s: float = _GRACE_S, reap: Callable[[], None] = lambda: None) -> None:
    """SIGTERM to each process group, then SIGINT, at which a database waits for its clients no longer, and SIGKILL to
    what is still there after `grace_s`. `reap`: waits for children of this process that have ended, as a group is there
    until somebody does."""
    begun_at = time.monotonic()
    for number, after_s in ((signal.SIGTERM, grace_s / 4), (signal.SIGINT, grace_s)):
        for group in groups:
            _signal(group, number)
        while groups and time.monotonic() < begun_at + after_s:
            time.sleep(0.05)
            reap()
            groups = [group for group in groups if _signal(group, 0)]
    for group in groups:
        _signal(group, signal.SIGKILL)
    reap()


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    folder, told = Path(sys.argv[1]), int(sys.argv[2])
    groups: list[int] = []
    with os.fdopen(told) as lines:
        for line in lines:
            if line.strip() == _DISMISSED:
                return
            groups.append(int(line))
    end_groups(groups)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
