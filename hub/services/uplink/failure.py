"""Why a connection to the broker failed or ended: the words of the reconnect policy and of the health table."""

import socket
import ssl

from hub.core.uplink.reasons import REFUSED
from hub.wire.printable import why

# What a TLS library says to a peer that answers in clear: a captive portal, a proxy, another service on the port.
_NOT_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
}


class UplinkFailure(Exception):
    """A connection failed or ended. `kind` is a row of the reconnect policy, the text says what happened.

    `maybe_version`: CONNECT went out and nothing came back, as from a broker that speaks the other version of MQTT.
    `maybe_retain`: the broker keeps no retained messages, and says so only to a will that asks for it. `reference`:
    where else the broker says that hubs are served (MQTT 5 section 4.13).
    """

    def __init__(
        self, kind: str, text: str, *, maybe_version: bool = False, maybe_retain: bool = False, reference: str = ""
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.maybe_version = maybe_version
        self.maybe_retain = maybe_retain
        self.reference = reference


def failure_of(error: Exception, host: str, port: int) -> UplinkFailure:
    """What an attempt that never came to a TLS session died of."""
    if isinstance(error, socket.gaierror):
        return UplinkFailure("uplink-dns", f"{host}: {error.strerror}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return UplinkFailure("uplink-server-untrusted", f"{host}: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError):  # not a refusal: TLS says those; the line went in the middle
        return UplinkFailure("uplink-unreachable", f"{host}:{port}: closed during the TLS handshake")
    if isinstance(error, ssl.SSLError):
        kind = "uplink-portal" if error.reason in _NOT_TLS else REFUSED
        return UplinkFailure(kind, f"{host}:{port}: TLS: {error.reason or error}")
    return UplinkFailure("uplink-unreachable", f"{host}:{port}: {why(error)}")
