"""A file over HTTPS into a folder, in as many attempts as it takes: resumed by Range, paced, bounded. Blocks: a thread.

Whether what was fetched is what was asked for, its SHA-256 tells in the end; nothing on the way is believed.
"""

import errno
import hashlib
import http.client
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from drivers.https import HttpsConnection
from hub.wire.printable import plain

TIMEOUT_S = 60.0
_CHUNK = 16 * 1024
_SYNC_EVERY = 1 << 20  # what a power cut may take; also, no commit has to wait for more than this
# What the rest of the hub keeps for itself on the data partition.
RESERVE_OCTETS = 32 << 20
# Answers that may change by themselves: timeouts, "too early", "too many requests" and what is above 499.
_PASSING = (408, 425, 429)


class Interrupted(Exception):
    """The transfer ended before the file; another attempt goes on from there. `retry_after_s`: what the server asks."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Hopeless(Exception):
    """No further attempt would help. `reason` goes into the receipt."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Bounds(NamedTuple):
    """`max_octets` of the file; `octets_per_s`, 0 = as fast as it goes."""

    max_octets: int
    octets_per_s: float


def check_url(url: str) -> None:
    """Raise Hopeless for an URL that is not HTTPS to a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Hopeless("bad-args", f"url: {plain(str(error))}") from None
    is_plain = all("!" <= letter <= "~" for letter in url)  # http.client refuses the rest, as late as it is asked
    if parts.scheme != "https" or not parts.hostname or port == 0 or not is_plain:
        raise Hopeless("bad-args", "url: expected https://HOST/PATH")


def fetch(
    url: str,
    context: ssl.SSLContext,
    part: Path,
    bounds: Bounds,
    stop: threading.Event,
    progress: Callable[[int, int | None], None],
) -> None:
    """Complete `part`, going on from what is there. `progress(octets so far, of how many)` is called as it goes.

    Returns when the file is whole as far as the server tells. Raises Interrupted or Hopeless.
    """
    have = part.stat().st_size if part.exists() else 0
    parts = urlsplit(url)
    connection = HttpsConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT_S, context=context)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers={"Range": f"bytes={have}-"} if have else {})
        answer = connection.getresponse()
        begin, size = _placed(answer, have)
        if begin == size:
            return
        _check_size(size, begin, part, bounds)
        _receive(answer, part, begin, size, bounds, stop, progress)
    except ssl.SSLCertVerificationError as error:
        raise Interrupted(f"the server is not trusted: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        if is_no_space(error):
            raise Hopeless("no-space", f"{part.parent}: {error}") from None
        raise Interrupted(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def is_no_space(error: Exception) -> bool:
    """Whether the data partition is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _placed(answer: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """`(where the body begins in the file, the file's size if told)`. Raises Interrupted or Hopeless."""
    status = answer.status
    if status == 200:  # no ranges here: from the start
        length = answer.getheader("Content-Length")
        return 0, int(length) if length and length.isdigit() else None
    if status in (206, 416):
        unit, _, rest = (answer.getheader("Content-Range") or "").partition(" ")
        span, _, size = rest.partition("/")
        total = int(size) if size.isdigit() else None
        if status == 206 and unit == "bytes" and span.partition("-")[0] == str(have):
            return have, total
        if status == 416 and total == have:
            return have, have
        raise Interrupted(f"the server answers {status} with {unit} {rest}".strip())
    text = f"the server answers {status} {answer.reason}"
    if 400 <= status < 500 and status not in _PASSING:
        raise Hopeless("not-found" if status in (404, 410) else "server-refused", text)
    if 300 <= status < 400:
        raise Hopeless("server-refused", f"{text}: a redirect is not followed, the signed command names the server")
    after = answer.getheader("Retry-After") or ""
    raise Interrupted(text, float(after) if after.isdigit() else None)


def _check_size(size: int | None, begin: int, part: Path, bounds: Bounds) -> None:
    if size is None:
        return
    if size > bounds.max_octets:
        raise Hopeless("too-large", f"{size} octets are more than {bounds.max_octets}")
    free = os.statvfs(part.parent)
    if size - begin + RESERVE_OCTETS > free.f_bavail * free.f_frsize:
        raise Hopeless("no-space", f"{size - begin} octets more do not fit on {part.parent}")


def _receive(
    answer: http.client.HTTPResponse,
    part: Path,
    begin: int,
    size: int | None,
    bounds: Bounds,
    stop: threading.Event,
    progress: Callable[[int, int | None], None],
) -> None:
    began_at, received, unsynced = time.monotonic(), 0, 0
    with part.open("r+b" if begin else "wb") as file:
        file.seek(begin)
        file.truncate()
        while data := answer.read1(_CHUNK):
            received += len(data)
            if begin + received > bounds.max_octets:
                raise Hopeless("too-large", f"more than {bounds.max_octets} octets")
            file.write(data)
            unsynced += len(data)
            if unsynced >= _SYNC_EVERY:
                file.flush()
                os.fdatasync(file.fileno())
                unsynced = 0
            progress(begin + received, size)
            ahead_s = received / bounds.octets_per_s - (time.monotonic() - began_at) if bounds.octets_per_s else 0.0
            if stop.wait(ahead_s) if ahead_s > 0 else stop.is_set():
                raise Interrupted("told to stop")
        file.flush()
        os.fsync(file.fileno())
    if size is not None and begin + received < size:
        raise Interrupted(f"the connection ended after {begin + received} of {size} octets")


def sha256_of(file: Path) -> str:
    """Hexadecimal. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
