"""Whether a WAL lost acknowledged transactions, which SQLite does not say: it stops at the first unsound frame.

A power cut tears the last transaction at most, as each is synced before the next begins. So behind the point where
SQLite stopped there can be one commit frame of the same generation; two or more mean that sound transactions lie
behind a damaged one. Layout: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_MAGIC = 0x377F0682


class WalHeader(NamedTuple):
    """What tells one generation of a WAL from the next."""

    page_size: int
    salts: tuple[int, int]


def read_header(wal: Path) -> WalHeader | None:
    """The header of a WAL; None when the file is missing, short or its header is damaged."""
    try:
        with wal.open("rb") as file:
            data = file.read(_HEADER.size)
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, _, page_size, _, salt1, salt2, *checksum = _HEADER.unpack(data)
    if magic & ~1 != _MAGIC or list(_checksum(data[:24], big_endian=bool(magic & 1))) != checksum:
        return None
    return WalHeader(page_size, (salt1, salt2))


def _checksum(data: bytes, *, big_endian: bool) -> tuple[int, int]:
    s0 = s1 = 0
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2]):
        s0 = (s0 + first + s1) & 0xFFFFFFFF
        s1 = (s1 + second + s0) & 0xFFFFFFFF
    return s0, s1


def commits_beyond(wal: Path, header: WalHeader, sound_frames: int) -> int:
    """How many commit frames of this generation lie behind the frames that SQLite accepted."""
    step = _FRAME.size + header.page_size
    count = 0
    with wal.open("rb") as file:
        size = wal.stat().st_size
        for offset in range(_HEADER.size + sound_frames * step, size - step + 1, step):
            file.seek(offset)
            _, commit_size, salt1, salt2, _, _ = _FRAME.unpack(file.read(_FRAME.size))
            if (salt1, salt2) == header.salts and commit_size:
                count += 1
    return count
