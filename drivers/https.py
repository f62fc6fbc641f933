"""HTTPS whose answers come to an end: no server can hold a thread with an answer that never begins."""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

_MOST_INTERIM = 8  # "100 Continue" and its like, which nobody asked for
_MOST_LINE_BYTES = 65536
_MOST_TRAILERS = 100  # fields after the last chunk (RFC 9112 section 7.1.2), as many as http.client allows before it


class _Answer(http.client.HTTPResponse):
    """An answer with few interim ones before it, whose chunks have a length and whose trailers end."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise http.client.HTTPException("the server says 100 Continue and does not")
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return found

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:  # to http.client, -1 is all that will ever come, whatever was asked for
            raise ValueError("a chunk of less than nothing")  # which it tells as IncompleteRead
        return size

    def _read_and_discard_trailer(self) -> None:
        for _ in range(_MOST_TRAILERS):
            if self.fp.readline(_MOST_LINE_BYTES).rstrip(b"\r\n") == b"":
                return
        raise http.client.HTTPException("the trailers do not end")


HttpsAnswer = http.client.HTTPResponse
HttpsFault = http.client.HTTPException  # what came is no HTTP; raised by `request` and by reading an answer


class HttpsClient:
    """The server of one URL, for as many requests as it takes; `path` is the URL's, with its query. Blocks: a thread.

    `timeout_s`: how long the server may be silent, and how long an answer's headers may take altogether.
    """

    def __init__(self, url: str, context: ssl.SSLContext, timeout_s: float) -> None:
        """Raises ValueError for a port that is none."""
        parts = urlsplit(url)
        self.bare_path = parts.path  # without the query
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection = _Connection(parts.hostname or "", parts.port or 443, timeout=timeout_s, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpsAnswer:
        """Ask, and wait for an answer's headers. Raises OSError (ssl.SSLError included) or HttpsFault."""
        self._connection.request(method, path, body, dict(headers or {}))
        return self._connection.getresponse()


class _Connection(http.client.HTTPSConnection):
    """As http.client's; from the request to the end of an answer's headers it takes `timeout` at most, however slowly
    they come."""

    response_class = _Answer

    def getresponse(self) -> http.client.HTTPResponse:
        """Raises OSError or HTTPException."""
        is_late = threading.Event()
        timer = threading.Timer(float(self.timeout or 60.0), _hang_up, (self.sock, is_late))
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()
        finally:
            timer.cancel()
        if is_late.is_set():
            raise TimeoutError("the answer's headers do not end")
        return answer


def _hang_up(sock: Any, is_late: threading.Event) -> None:
    is_late.set()
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # the line itself: TLS is the reading thread's
    except OSError:
        pass
