"""A file over HTTPS into a folder, in as many attempts as it takes: resumed by Range, paced, bounded. Blocks: a thread.

Whether what was fetched is what was asked for, its SHA-256 tells in the end; nothing on the way is believed.
"""

import errno
import hashlib
import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from drivers.https import HttpsAnswer, HttpsClient, HttpsFault
from hub.wire.printable import plain

TIMEOUT_S = 60.0
CHUNK_BYTES = 16 * 1024
_SYNC_EVERY_BYTES = 1 << 20  # what a power cut may take; also, no commit has to wait for more than this
# What the rest of the hub keeps for itself on the data partition.
RESERVE_BYTES = 32 << 20
# Answers that may change by themselves: timeouts, "too early", "too many requests" and what is above 499.
_PASSING = (408, 425, 429)
_NUMBER = re.compile("[0-9]{1,40}")


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
    """`max_bytes` of the file; `bytes_per_s`, 0 = as fast as it goes."""

    max_bytes: int
    bytes_per_s: float


Progress = Callable[[int, int | None], None]


class Transfer(NamedTuple):
    """How a file comes: within its bounds, until `stop`, with `progress(bytes so far, of how many)` as it goes."""

    bounds: Bounds
    stop: threading.Event
    progress: Progress


class PartFile:
    """A file that grows from where it stands, written durably piece by piece, no faster than is allowed and no larger.
    `size`: what it is to be, where that is known."""

    def __init__(self, file: BinaryIO, size: int | None, transfer: Transfer) -> None:
        self._file, self._size = file, size
        self._bounds, self._stop, self._progress = transfer
        self._began_at = time.monotonic()
        self.have = file.tell()
        self._received = self._unsynced = 0

    def write(self, data: bytes, *, is_received: bool = True) -> None:
        """Append. What was not received from afar costs no time. Raises OSError, Interrupted when told to stop, or
        Hopeless when it is too large."""
        if self.have + len(data) > self._bounds.max_bytes:
            raise Hopeless("too-large", f"more than {self._bounds.max_bytes} bytes")
        self._file.write(data)
        self.have += len(data)
        self._received += len(data) if is_received else 0
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_EVERY_BYTES:
            self.sync()
        self._progress(self.have, self._size)
        ahead_s = self._ahead_s()
        if self._stop.wait(ahead_s) if ahead_s > 0 else self._stop.is_set():
            raise Interrupted("told to stop")

    def _ahead_s(self) -> float:
        pace = self._bounds.bytes_per_s
        return self._received / pace - (time.monotonic() - self._began_at) if pace else 0.0

    def sync(self) -> None:
        """What was written is durable. Raises OSError."""
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._unsynced = 0


def check_url(url: str) -> None:
    """Raise Hopeless for an URL that is not HTTPS to a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Hopeless("bad-args", f"url: {plain(str(error))}") from None
    is_plain = all("!" <= letter <= "~" for letter in url)  # HTTP's library refuses the rest, as late as it is asked
    if parts.scheme != "https" or not parts.hostname or port == 0 or not is_plain:
        raise Hopeless("bad-args", "url: expected https://HOST/PATH")


def fetch(
    url: str,
    context: ssl.SSLContext,
    part: Path,
    bounds: Bounds,
    stop: threading.Event,
    progress: Progress,
) -> None:
    """Complete `part`, going on from what is there. `progress(bytes so far, of how many)` is called as it goes.

    Returns when the file is whole as far as the server tells. Raises Interrupted or Hopeless.
    """
    have = part.stat().st_size if part.exists() else 0
    try:
        with HttpsClient(url, context, TIMEOUT_S) as server:
            answer = server.request("GET", server.path, headers={"Range": f"bytes={have}-"} if have else {})
            begin, size = _placed(answer, have)
            if begin == size:
                return
            _check_size(size, have, part, bounds)
            _receive(answer, part, begin, size, Transfer(bounds, stop, progress))
    except ssl.SSLCertVerificationError as error:
        raise Interrupted(f"the server is not trusted: {error.verify_message}") from None
    except (OSError, HttpsFault) as error:
        if is_no_space(error):
            raise Hopeless("no-space", f"{part.parent}: {error}") from None
        raise Interrupted(f"{type(error).__name__}: {error}") from None


def is_no_space(error: Exception) -> bool:
    """Whether the data partition is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _placed(answer: HttpsAnswer, have: int) -> tuple[int, int | None]:
    """`(where the body begins in the file, the file's size if told)`. Raises Interrupted or Hopeless."""
    status = answer.status
    if status == 200:  # no ranges here: from the start
        length = answer.getheader("Content-Length") or ""
        return 0, _number(length)
    if status in (206, 416):
        unit, _, rest = (answer.getheader("Content-Range") or "").partition(" ")
        span, _, size = rest.partition("/")
        total = _number(size)
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
    raise Interrupted(text, _number(after))


def _number(text: str) -> int | None:
    """A count of a header field; what else Unicode calls digits, or Python does not read, is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _check_size(size: int | None, have: int, part: Path, bounds: Bounds) -> None:
    """`have`: the part's bytes on the disk, also where the answer begins anew: it is cut off before it grows."""
    if size is None:
        return
    if size > bounds.max_bytes:
        raise Hopeless("too-large", f"{size} bytes are more than {bounds.max_bytes}")
    if not has_room(part.parent, size - have):
        raise Hopeless("no-space", f"{size - have} bytes more do not fit on {part.parent}")


def has_room(folder: Path, more_bytes: int) -> bool:
    """Whether so much more leaves the rest of the hub its reserve. Raises OSError."""
    free = os.statvfs(folder)
    return more_bytes + RESERVE_BYTES <= free.f_bavail * free.f_frsize


def _receive(answer: HttpsAnswer, part: Path, begin: int, size: int | None, transfer: Transfer) -> None:
    with part.open("r+b" if begin else "wb") as file:
        file.seek(begin)
        file.truncate()
        growing = PartFile(file, size, transfer)
        while data := answer.read1(CHUNK_BYTES):
            growing.write(data)
        growing.sync()
    if size is not None and growing.have < size:
        raise Interrupted(f"the connection ended after {growing.have} of {size} bytes")


def sha256_of(file: Path) -> str:
    """Hexadecimal. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
