"""A bundle put together from the last one and what the server has of the new (chunk_index.py). Blocks: a thread.

It only saves bytes: whatever is amiss, `NotThisWay` is raised and the bundle is fetched whole (fetch.py).
"""

import logging
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from drivers.https import HttpsClient, HttpsFault
from hub.core.update.chunk_index import MAX_INDEX_BYTES, BadIndex, Chunk, Piece, decode_index, from_offset, plan
from hub.services.update.fetch import (
    CHUNK_BYTES,
    TIMEOUT_S,
    Bounds,
    Hopeless,
    Interrupted,
    PartFile,
    Progress,
    Transfer,
    has_room,
    is_no_space,
)

log = logging.getLogger(__name__)

SUFFIX = ".idx"


class NotThisWay(Exception):
    """There is no saving to be had here; the text says why."""


def fetch_delta(
    url: str,
    context: ssl.SSLContext,
    part: Path,
    base: Path,
    bounds: Bounds,
    stop: threading.Event,
    progress: Progress,
) -> None:
    """Complete `part` out of `base` (its index beside it) and the server; the new index stays beside `part`.

    Raises Interrupted, after which another attempt goes on, or NotThisWay.
    """
    try:
        with HttpsClient(url, context, TIMEOUT_S) as server:
            base_chunks = _base_index(base)
            data = _get_index(server)
            part.with_name(part.name + SUFFIX).write_bytes(data)
            chunks = decode_index(data)
            _check_room(chunks, part, bounds)
            _put_together(server, part, base, plan(chunks, base_chunks), Transfer(bounds, stop, progress))
    except (BadIndex, Hopeless, ssl.SSLCertVerificationError) as error:
        raise NotThisWay(str(error)) from None
    except (OSError, HttpsFault) as error:
        if is_no_space(error):
            raise NotThisWay(str(error)) from None
        raise Interrupted(f"{type(error).__name__}: {error}") from None


def _base_index(base: Path) -> list[Chunk]:
    """What the last bundle consists of; both files can be read."""
    try:
        with base.open("rb"):
            return decode_index(base.with_name(base.name + SUFFIX).read_bytes())
    except OSError as error:
        raise NotThisWay(f"{error.filename}: {error.strerror or error}") from None


def fetch_index(url: str, context: ssl.SSLContext, part: Path) -> None:
    """Keep a bundle's index beside it, for the update after this one. No index, no saving, no harm."""
    try:
        with HttpsClient(url, context, TIMEOUT_S) as server:
            data = _get_index(server)
        decode_index(data)
        part.with_name(part.name + SUFFIX).write_bytes(data)
    except (NotThisWay, BadIndex, OSError, HttpsFault) as error:
        log.info("update: no index of %s: %s", url, error)


def _get_index(server: HttpsClient) -> bytes:
    path = server.bare_path + SUFFIX
    answer = server.request("GET", path)
    data = answer.read(MAX_INDEX_BYTES + 1)
    if answer.status != 200:
        raise NotThisWay(f"{path}: the server answers {answer.status} {answer.reason}")
    return data


def _check_room(chunks: list[Chunk], part: Path, bounds: Bounds) -> None:
    size = chunks[-1].offset + chunks[-1].length if chunks else 0
    have = part.stat().st_size if part.exists() else 0
    if not 0 < size <= bounds.max_bytes or not has_room(part.parent, size - have):
        raise NotThisWay(f"{size} bytes are too large, or do not fit beside the last bundle")


def _put_together(server: HttpsClient, part: Path, base: Path, pieces: list[Piece], transfer: Transfer) -> None:
    part.touch()
    with part.open("r+b") as file, base.open("rb") as old:
        have = file.seek(0, os.SEEK_END)
        growing = PartFile(file, pieces[-1].offset + pieces[-1].length, transfer)
        for piece in from_offset(pieces, have):
            is_ours = piece.base_offset is not None
            for data in _copied(old, piece) if is_ours else _fetched(server, piece):
                growing.write(data, is_received=not is_ours)
        growing.sync()


def _copied(old: BinaryIO, piece: Piece) -> Iterator[bytes]:
    assert piece.base_offset is not None
    old.seek(piece.base_offset)
    left = piece.length
    while left:
        try:
            data = old.read(min(CHUNK_BYTES, left))
        except OSError as error:  # a bad block
            raise NotThisWay(f"the last bundle: {error}") from None
        if not data:
            raise NotThisWay("the last bundle is shorter than its index says")
        left -= len(data)
        yield data


def _fetched(server: HttpsClient, piece: Piece) -> Iterator[bytes]:
    span = {"Range": f"bytes={piece.offset}-{piece.offset + piece.length - 1}"}
    answer = server.request("GET", server.path, headers=span)
    if answer.status != 206:
        raise NotThisWay(f"the server answers a range with {answer.status} {answer.reason}")
    left = piece.length
    while left:
        data = answer.read1(min(CHUNK_BYTES, left))
        if not data:
            raise Interrupted("the connection ended")
        left -= len(data)
        yield data
    if answer.read(1):  # nothing is left, then the connection is free for the next piece; the rest is not looked at
        raise NotThisWay("the server sends more than the range that was asked for")
