"""What was in hand when a hub died: a command that ends the process each time must not come a third time.

One small file in run_dir, which outlives the process and not the machine: nothing is worn. It holds the SHA-256 of the
command that is being judged, and how often that was begun: one line, always as long, so that a message costs two writes
into a file that stays open.
"""

import hashlib
import os
from pathlib import Path

FILE_NAME = "in-hand"
MOST_TRIES = 2
_NOTHING = "-" * 64


class InHand:
    """Ask `is_poison` before a command is looked into, and say `done` when it was."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / FILE_NAME
        self._left: tuple[str, int] = ("", 0)
        self._fd: int | None = None
        try:
            digest, tries = self._file.read_text("ascii").split()
            self._left = (digest, int(tries))
        except (OSError, ValueError):
            pass  # nothing was in hand

    def is_poison(self, message: bytes) -> bool:
        """Whether the hub has died of this message as often as it may. Else it is noted as in hand."""
        digest = hashlib.sha256(message).hexdigest()
        tries = self._left[1] if self._left[0] == digest else 0
        if tries >= MOST_TRIES:
            self._left = ("", 0)
            return True
        self._note(f"{digest} {tries + 1}")
        return False

    def done(self) -> None:
        """The hub is still there."""
        self._left = ("", 0)
        self._note(f"{_NOTHING} 0")

    def _note(self, line: str) -> None:
        try:
            if self._fd is None:
                # Open for as long as the process lives.
                self._fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.pwrite(self._fd, f"{line}\n".encode(), 0)
        except OSError:
            pass  # without the file nobody is protected from such a message; all else goes on
