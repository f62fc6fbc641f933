"""Who may speak in this home: the IEEE addresses that joined while the network was open, kept in a file of their own.

zigpy's database has a device only once its interview is complete, which a sleeping adapter may take days over, and it
can be damaged. This list is written once a join and is what decides: who is not on it is not served.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from drivers.durable_file import replace_file

log = logging.getLogger(__name__)

FILE = "radio-members.json"


class Members:
    """A set of IEEE addresses (16 hex digits) with a file behind it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._members = _read(self._path)
        self._is_saved = True

    def __contains__(self, ieee: str) -> bool:
        return ieee in self._members

    def __len__(self) -> int:
        return len(self._members)

    def add(self, ieees: Iterable[str]) -> None:
        """Admit these; `write` makes it last."""
        fresh = set(ieees) - self._members
        self._members |= fresh
        self._is_saved = self._is_saved and not fresh

    def discard(self, ieee: str) -> None:
        """It belongs to the network no longer; `write` makes it last."""
        if ieee in self._members:
            self._members.discard(ieee)
            self._is_saved = False

    def take_unsaved(self) -> list[str] | None:
        """The whole list when it is not in the file yet, for `write`; None when it is."""
        if self._is_saved:
            return None
        self._is_saved = True
        return sorted(self._members)

    def write(self, members: list[str]) -> None:
        """Write the file, whole and durable. Blocks for a flash write: for another thread. Raises OSError."""
        try:
            replace_file(self._path, json.dumps(members).encode())
        except OSError:
            self._is_saved = False
            raise


def _read(path: Path) -> set[str]:
    try:
        found = json.loads(path.read_text())
        return {str(ieee) for ieee in found}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        # Devices in zigpy's database are admitted all the same; the others need the network to be opened once.
        log.warning("%s: %s", path, error)
        return set()
