"""What is known of the home's appliances, kept through restarts in a file of its own: scales, channels, reporting.

Without it every start of the hub would have to ask two hundred devices for their divisors before it could read a
single report. It is written seldom: when something new was learned.
"""

import json
import logging
from pathlib import Path
from typing import Any

from drivers.durable_file import replace_file

log = logging.getLogger(__name__)

FILE = "radio-appliances.json"


class RecordsFile:
    """Records by IEEE address (16 hex digits)."""

    def __init__(self, data_dir: Path, name: str = FILE) -> None:
        self._path = data_dir / name
        self.records = _read(self._path)

    def write(self, records: dict[str, Any]) -> None:
        """Replace the file, whole and durable. Blocks for a flash write: for another thread. Raises OSError."""
        replace_file(self._path, json.dumps(records, separators=(",", ":")).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {str(ieee): record for ieee, record in found.items() if isinstance(record, dict)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:  # everything in it can be asked for again
        log.warning("%s: %s", path, error)
        return {}
