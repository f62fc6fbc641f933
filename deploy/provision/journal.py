"""The station's journal: what was done for which serial number, each entry chained to the one before, and durable
before what it tells of leaves the station. It is the one truth: a run that was cut off goes on from what stands here.

One JSON map a line: `n`, `t` (UTC), `what`, `serial`, fields, `prev` (SHA-256 of the line before). Whoever can write
the file can compute hashes, so the head of the chain is signed with the authority's key after each run.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers.durable_file import write_whole

_FIRST = "0" * 64


class Broken(Exception):
    """The journal was altered, or is damaged before its end; the text names the entry."""


def entries_of(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """`(entries, bytes that are whole)`. A last line that a power cut tore is left out. Raises Broken."""
    entries: list[dict[str, Any]] = []
    prev, whole = _FIRST, 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        number = len(entries) + 1
        try:
            entry = json.loads(line)
            fits = entry["prev"] == prev and entry["n"] == number
        except (ValueError, KeyError, TypeError):
            fits, entry = False, {}
        if not fits:
            raise Broken(f"entry {number} does not follow from the one before")
        entries.append(entry)
        prev = hashlib.sha256(line).hexdigest()
        whole += len(line)
    return entries, whole


class StationJournal:
    """Appends to a file that nobody else writes. Raises Broken or OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        import fcntl

        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Broken("another run of the station is at work here") from None
        data = _read_all(self._descriptor)
        entries, whole = entries_of(data)
        if whole < len(data):
            os.ftruncate(self._descriptor, whole)
        self._count = len(entries)
        self._prev = hashlib.sha256(data[:whole].splitlines(keepends=True)[-1]).hexdigest() if entries else _FIRST
        self.devices: dict[str, dict[str, Any]] = {}
        for entry in entries:
            self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "serial" in entry:
            device = self.devices.setdefault(entry["serial"], {})
            device[entry["what"]] = entry

    def add(self, what: str, **fields: Any) -> None:
        """One entry; on disk when this returns."""
        entry = {
            "n": self._count + 1,
            "t": datetime.now(UTC).isoformat(timespec="seconds"),
            "what": what,
            **fields,
            "prev": self._prev,
        }
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        write_whole(self._descriptor, line)
        os.fsync(self._descriptor)
        self._prev, self._count = hashlib.sha256(line).hexdigest(), self._count + 1
        self._take(entry)

    def head(self) -> bytes:
        """What to sign: how many entries there are, and the hash that each of them decides."""
        return f"{self._count} {self._prev}\n".encode()

    def close(self) -> None:
        os.close(self._descriptor)


def head_of(data: bytes, count: int) -> bytes:
    """The head that a journal had when it was `count` entries long. Raises Broken where it is shorter."""
    lines = data.splitlines(keepends=True)
    if count > len(lines):
        raise Broken(f"{len(lines)} entries, where {count} were signed for: some are gone")
    prev = hashlib.sha256(lines[count - 1]).hexdigest() if count else _FIRST
    return f"{count} {prev}\n".encode()


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0)
