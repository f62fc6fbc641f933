"""An index of a bundle's chunks, so that a hub fetches only those that the last bundle did not have. A codec; no I/O.

    "MHX1", then for each chunk in the order of the file: its length (u32, big-endian), SHA-256 of it (first 16 bytes)

Chunks end where the content says so (deploy/update_index.py), so what moved is found again. Nothing of an index is
believed: what is put together by it has to have the SHA-256 that the operator signed.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

MAGIC = b"MHX1"
DIGEST_BYTES = 16
MAX_CHUNKS = 100_000
_ENTRY = struct.Struct(f">I{DIGEST_BYTES}s")
MAX_INDEX_BYTES = len(MAGIC) + MAX_CHUNKS * _ENTRY.size


class BadIndex(ValueError):
    """Not an index, or one that no bundle of ours has."""


class Chunk(NamedTuple):
    """A stretch of a file."""

    offset: int
    length: int
    digest: bytes


class Piece(NamedTuple):
    """A stretch of the new file: from `base_offset` of the old one, or (None) from the server."""

    offset: int
    length: int
    base_offset: int | None


def encode_index(chunks: Iterable[tuple[int, bytes]]) -> bytes:
    """`(length, digest)` of each chunk, in order."""
    return MAGIC + b"".join(_ENTRY.pack(length, digest[:DIGEST_BYTES]) for length, digest in chunks)


def decode_index(data: bytes) -> list[Chunk]:
    """Read an index. Raises BadIndex."""
    body = data[len(MAGIC) :]
    if data[: len(MAGIC)] != MAGIC or len(body) % _ENTRY.size or len(data) > MAX_INDEX_BYTES:
        raise BadIndex("not an index of chunks")
    chunks, offset = [], 0
    for length, digest in _ENTRY.iter_unpack(body):
        if not length:
            raise BadIndex("a chunk of nothing")
        chunks.append(Chunk(offset, length, digest))
        offset += length
    return chunks


def plan(new: list[Chunk], base: list[Chunk]) -> list[Piece]:
    """How to make the new file, in its order; neighbours of one source are one piece."""
    known = {(chunk.digest, chunk.length): chunk.offset for chunk in base}
    pieces: list[Piece] = []
    for chunk in new:
        piece = Piece(chunk.offset, chunk.length, known.get((chunk.digest, chunk.length)))
        last = pieces[-1] if pieces else None
        if last is not None and _follows(last, piece):
            pieces[-1] = last._replace(length=last.length + piece.length)
        else:
            pieces.append(piece)
    return pieces


def _follows(last: Piece, piece: Piece) -> bool:
    if last.base_offset is None or piece.base_offset is None:
        return last.base_offset is piece.base_offset
    return last.base_offset + last.length == piece.base_offset


def from_offset(pieces: list[Piece], have: int) -> list[Piece]:
    """What is left of a plan when `have` bytes of the new file are there."""
    left = []
    for piece in pieces:
        skip = max(0, have - piece.offset)
        if skip < piece.length:
            base = None if piece.base_offset is None else piece.base_offset + skip
            left.append(Piece(piece.offset + skip, piece.length - skip, base))
    return left


def bytes_to_get(pieces: list[Piece]) -> int:
    """How much of a plan comes from the server."""
    return sum(piece.length for piece in pieces if piece.base_offset is None)
