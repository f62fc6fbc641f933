"""TLS to the broker: mutual, verified, resumed where the server allows it (P6, P8)."""

import ssl
from pathlib import Path
from typing import Any


class ResumingContext(ssl.SSLContext):
    """A client context that offers the last session, so that a reconnect costs a third of a full handshake.

    paho builds its sockets through `wrap_socket` and has no way to hand a session in; this is that way.
    """

    _last_socket: ssl.SSLSocket | None = None

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        # TLS 1.3 tickets come after the handshake: the old socket object is asked for its session as late as possible.
        session = self._last_socket.session if self._last_socket is not None else None
        if session is not None:
            kwargs.setdefault("session", session)
        self._last_socket = super().wrap_socket(*args, **kwargs)
        return self._last_socket

    def forget_session(self) -> None:
        """Make the next handshake a full one: after a failed one, should resuming have been the trouble."""
        self._last_socket = None


def client_context(ca_file: Path, cert_file: Path, key_file: Path) -> ResumingContext:
    """A context that verifies the broker against `ca_file` (name included) and shows the hub's certificate.

    TLS 1.2 at least. Raises OSError or ssl.SSLError when a file cannot be used.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    context.load_cert_chain(cert_file, key_file)
    return context
