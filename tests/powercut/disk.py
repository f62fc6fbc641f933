"""What a disk may hold when the power goes: everything that was synced, and any part of what was not.

A file is its synced content and the writes since. A cut keeps any of those writes, in any order, each whole, or only
some of its 512-byte sectors (torn), or none; a change of size likewise, all or nothing. Names are journaled: of those
changed since the folder was last synced, the first few hold. That is what POSIX promises and flash with a write-back
cache does; ext4 keeps more order than this.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.powercut.recording import Op

SECTOR = 512


class Change(NamedTuple):
    """Something done to a file since it was synced: bytes at an offset, or (data None) a new size."""

    offset: int
    data: bytes | None
    shrinks: bool = True


@dataclass
class File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    cursor: int = 0  # where write() goes on

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.synced, change)
        self.pending.clear()


def _apply(content: bytearray, change: Change) -> None:
    offset, data, shrinks = change
    end = offset if data is None else offset + len(data)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    if data is not None:
        content[offset:end] = data
    elif shrinks:
        del content[end:]


class Disk:
    """The folder as recorded up to some operation."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {}  # as running programs see it
        self._synced_names: dict[str, File] = {}
        self._pending_names: list[tuple[str, File | None]] = []

    def do(self, op: Op) -> None:
        """Take one operation."""
        if op.kind == "create":
            if op.name not in self.names:
                self._name(op.name, File())
            self.names[op.name].cursor = 0
            if op.offset:
                self.names[op.name].pending.append(Change(0, None))
        elif op.kind == "name":
            file = self.names[op.name]
            self._pending_names.append(("", None))  # a rename is one step: see _names_at
            self._name(op.target, file)
            self._name(op.name, None)
        elif op.kind == "drop":
            self._name(op.name, None)
        elif op.kind == "syncdir":
            self._synced_names, self._pending_names = dict(self.names), []
        elif op.kind != "said":
            self._do_file(self.names[op.name], op)

    def _do_file(self, file: File, op: Op) -> None:
        if op.kind == "sync":
            file.sync()
        elif op.kind == "write":
            file.pending.append(Change(op.offset, op.data))
        elif op.kind == "append":
            file.pending.append(Change(file.cursor, op.data))
            file.cursor += len(op.data)
        else:
            file.pending.append(Change(op.offset, None, op.kind == "size"))

    def _name(self, name: str, file: File | None) -> None:
        if file is None:
            self.names.pop(name, None)
        else:
            self.names[name] = file
        self._pending_names.append((name, file))

    @property
    def unsynced(self) -> int:
        """How many changes a cut may or may not keep."""
        return sum(len(file.pending) for file in self.names.values()) + len(self._pending_names)

    # --- cuts

    def image(self, how: str, chance: random.Random) -> dict[str, bytes]:
        """What the disk holds if the power goes now. how: one of HOW."""
        names = self._names_at(how, chance)
        return {name: bytes(_content(file, how, chance)) for name, file in sorted(names.items())}

    def _names_at(self, how: str, chance: random.Random) -> dict[str, File]:
        steps = _steps(self._pending_names)
        keep = {"none": 0, "all": len(steps)}.get(how, chance.randint(0, len(steps)))
        names = dict(self._synced_names)
        for step in steps[:keep]:
            for name, file in step:
                if file is None:
                    names.pop(name, None)
                else:
                    names[name] = file
        return names


def _steps(pending: list[tuple[str, File | None]]) -> list[list[tuple[str, File | None]]]:
    steps: list[list[tuple[str, File | None]]] = []
    left_of_rename = 0
    for name, file in pending:
        if not name:
            left_of_rename = 2
            steps.append([])
        elif left_of_rename:
            steps[-1].append((name, file))
            left_of_rename -= 1
        else:
            steps.append([(name, file)])
    return steps


def _content(file: File, how: str, chance: random.Random) -> bytearray:
    content, count = bytearray(file.synced), len(file.pending)
    chosen: list[Change] = []
    if how == "all":
        chosen = file.pending
    elif how == "first":
        chosen = file.pending[: chance.randint(0, count)]
    elif how == "some":
        share = chance.random()
        chosen = [change for change in file.pending if chance.random() < share]
    elif how == "torn":
        share = chance.choice((0.3, 0.9, 0.98))
        chosen = [part for change in file.pending for part in _tear(change) if chance.random() < share]
    elif how == "last torn":
        chosen = file.pending[:-1]
        if count:
            parts = list(_tear(file.pending[-1]))
            chosen = [*chosen, *parts[: chance.randint(0, len(parts))]]
    for change in chosen:
        _apply(content, change)
    return content


# Ways of the disk to lose what was not synced.
HOW = ("none", "all", "first", "some", "torn", "last torn")


def _tear(change: Change) -> Iterator[Change]:
    """A write as the sectors it falls on."""
    if change.data is None:
        yield change
        return
    at = 0
    while at < len(change.data):
        step = SECTOR - (change.offset + at) % SECTOR
        yield Change(change.offset + at, change.data[at : at + step])
        at += step


def write_image(image: dict[str, bytes], folder: Path) -> None:
    """Put an image where a store can open it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
