"""The file in which a hub remembers its meter: what speaks at the port, at which rate, and what it last said. It holds
consumption, so it lies in hub.data_dir, which is encrypted at rest, and only the hub may read it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drivers.durable_file import replace_file
from drivers.meter.happenings import Memory
from drivers.meter.listener import Setting
from drivers.meter.records import SetLine

_MAX_BYTES = 65_536


class StateFile:
    """`path` None: nothing is remembered."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved = ""

    def load(self) -> tuple[Setting | None, Memory]:
        """What was saved; what does not read is as if it were not there."""
        try:
            if self._path is None:
                return None, Memory()
            with self._path.open("rb") as file:
                self._saved = file.read(_MAX_BYTES).decode("utf-8", "replace")
            document = json.loads(self._saved)
            return _setting(document), _memory(document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None, Memory()

    def save(self, setting: Setting | None, memory: Memory) -> None:
        """Replace the file. Raises OSError."""
        if self._path is None:
            return
        line = None if setting is None else {**setting.line._asdict(), "asks": setting.asks}
        text = json.dumps({"line": line, **asdict(memory)})
        if text == self._saved:
            return
        replace_file(self._path, text.encode())
        self._saved = text


def _setting(document: dict[str, Any]) -> Setting | None:
    line = document["line"]
    if line is None:
        return None
    baudrate, parity = int(line["baudrate"]), str(line["parity"])
    if not 50 <= baudrate <= 4_000_000 or parity not in ("N", "E"):
        return None
    return Setting(SetLine(baudrate, parity), bool(line["asks"]))


def _memory(document: dict[str, Any]) -> Memory:
    registers = {str(name): str(text) for name, text in document["registers"].items() if float(text) >= 0}
    counts = {str(name): int(count) for name, count in document["counts"].items()}
    wh_exponent = document.get("wh_exponent")  # an earlier hub's file has none
    return Memory(
        str(document["number"]), registers, counts, str(document["failure"]), str(document["month"]),
        wh_exponent if type(wh_exponent) is int else None,
    )  # fmt: skip
