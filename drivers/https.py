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
        sock: Any = self.sock
        timer = threading.Timer(float(self.timeout or 60.0), _hang_up, (sock,))
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()


def _hang_up(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # the line itself: TLS is the reading thread's
    except OSError:
        pass
