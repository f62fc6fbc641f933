"""HTTPS whose answers come to an end: no server can hold a thread with an answer that never begins."""

import http.client
import socket
import threading
from typing import Any

_MOST_INTERIM = 8  # "100 Continue" and its like, which nobody asked for


class _Answer(http.client.HTTPResponse):
    """An answer with few interim ones before it."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise http.client.HTTPException("the server says 100 Continue and does not")
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return found


class HttpsConnection(http.client.HTTPSConnection):
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
