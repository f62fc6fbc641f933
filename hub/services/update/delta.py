"""A bundle put together from the last one and what the server has of the new (chunks.py). Blocks: a thread.

It only saves octets: whatever is amiss, `NotThisWay` is raised and the bundle is fetched whole (fetch.py).
"""

import http.client
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from drivers.https import HttpsConnection
from hub.core.update.chunk_index import MAX_INDEX_OCTETS, BadIndex, Chunk, Piece, decode_index, from_offset, plan
from hub.services.update.fetch import RESERVE_OCTETS, TIMEOUT_S, Bounds, Interrupted, is_no_space

log = logging.getLogger(__name__)

SUFFIX = ".idx"
_CHUNK = 16 * 1024
_SYNC_EVERY = 1 << 20


class NotThisWay(Exception):
    """There is no saving to be had here; the text says why."""


def fetch_delta(
    url: str,
    context: ssl.SSLContext,
    part: Path,
    base: Path,
    bounds: Bounds,
    stop: threading.Event,
    progress: Callable[[int, int | None], None],
) -> None:
    """Complete `part` out of `base` (its index beside it) and the server; the new index stays beside `part`.

    Raises Interrupted, after which another attempt goes on, or NotThisWay.
    """
    parts = urlsplit(url)
    connection = HttpsConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT_S, context=context)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        base_chunks = _base_index(base)
        data = _get_index(connection, parts.path + SUFFIX)
        part.with_name(part.name + SUFFIX).write_bytes(data)
        chunks = decode_index(data)
        _check_room(chunks, part, bounds)
        _put_together(connection, path, part, base, plan(chunks, base_chunks), bounds, stop, progress)
    except (BadIndex, ssl.SSLCertVerificationError) as error:
        raise NotThisWay(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        if is_no_space(error):
            raise NotThisWay(str(error)) from None
        raise Interrupted(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def _base_index(base: Path) -> list[Chunk]:
    """What the last bundle consists of; both files can be read."""
    try:
        with base.open("rb"):
            return decode_index(base.with_name(base.name + SUFFIX).read_bytes())
    except OSError as error:
        raise NotThisWay(f"{error.filename}: {error.strerror or error}") from None


def fetch_index(url: str, context: ssl.SSLContext, part: Path) -> None:
    """Keep a bundle's index beside it, for the update after this one. No index, no saving, no harm."""
    parts = urlsplit(url)
    connection = HttpsConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT_S, context=context)
    try:
        data = _get_index(connection, parts.path + SUFFIX)
        decode_index(data)
        part.with_name(part.name + SUFFIX).write_bytes(data)
    except (NotThisWay, BadIndex, OSError, http.client.HTTPException) as error:
        log.info("update: no index of %s: %s", url, error)
    finally:
        connection.close()


def _get_index(connection: http.client.HTTPSConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read(MAX_INDEX_OCTETS + 1)
    if answer.status != 200:
        raise NotThisWay(f"{path}: the server answers {answer.status} {answer.reason}")
    return data


def _check_room(chunks: list[Chunk], part: Path, bounds: Bounds) -> None:
    size = chunks[-1].offset + chunks[-1].length if chunks else 0
    free = os.statvfs(part.parent)
    have = part.stat().st_size if part.exists() else 0
    if not 0 < size <= bounds.max_octets or size - have + RESERVE_OCTETS > free.f_bavail * free.f_frsize:
        raise NotThisWay(f"{size} octets are too large, or do not fit beside the last bundle")


def _put_together(
    connection: http.client.HTTPSConnection,
    path: str,
    part: Path,
    base: Path,
    pieces: list[Piece],
    bounds: Bounds,
    stop: threading.Event,
    progress: Callable[[int, int | None], None],
) -> None:
    size, began_at, received, unsynced = pieces[-1].offset + pieces[-1].length, time.monotonic(), 0, 0
    part.touch()
    with part.open("r+b") as file, base.open("rb") as old:
        have = file.seek(0, os.SEEK_END)
        for piece in from_offset(pieces, have):
            is_ours = piece.base_offset is not None
            for data in _copied(old, piece) if is_ours else _fetched(connection, path, piece):
                file.write(data)
                have += len(data)
                received += 0 if is_ours else len(data)
                unsynced += len(data)
                if unsynced >= _SYNC_EVERY:
                    file.flush()
                    os.fdatasync(file.fileno())
                    unsynced = 0
                progress(have, size)
                ahead_s = received / bounds.octets_per_s - (time.monotonic() - began_at) if bounds.octets_per_s else 0.0
                if stop.wait(ahead_s) if ahead_s > 0 else stop.is_set():
                    raise Interrupted("told to stop")
        file.flush()
        os.fsync(file.fileno())


def _copied(old: BinaryIO, piece: Piece) -> Iterator[bytes]:
    assert piece.base_offset is not None
    old.seek(piece.base_offset)
    left = piece.length
    while left:
        try:
            data = old.read(min(_CHUNK, left))
        except OSError as error:  # a bad block
            raise NotThisWay(f"the last bundle: {error}") from None
        if not data:
            raise NotThisWay("the last bundle is shorter than its index says")
        left -= len(data)
        yield data


def _fetched(connection: http.client.HTTPSConnection, path: str, piece: Piece) -> Iterator[bytes]:
    connection.request("GET", path, headers={"Range": f"bytes={piece.offset}-{piece.offset + piece.length - 1}"})
    answer = connection.getresponse()
    if answer.status != 206:
        raise NotThisWay(f"the server answers a range with {answer.status} {answer.reason}")
    left = piece.length
    while left:
        data = answer.read1(min(_CHUNK, left))
        if not data:
            raise Interrupted("the connection ended")
        left -= len(data)
        yield data
    answer.read()  # nothing is left; the connection is free for the next piece
