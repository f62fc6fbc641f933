"""What a broker's reason codes mean for the next attempt (MQTT 5 section 2.4; MQTT 3.1.1 section 3.2.2.3).

The kinds are the rows of reconnect_policy.py. paho turns the return codes of a 3.1.1 CONNACK into those of MQTT 5.
"""

LOST, REFUSED = "uplink-lost", "uplink-refused"
RETAIN_NOT_SUPPORTED = 0x9A  # MQTT 5 section 3.2.2.2
BUSY, NOT_AUTHORISED, PROTOCOL, TAKEN_OVER = (
    "uplink-busy", "uplink-not-authorised", "uplink-protocol", "uplink-taken-over",
)  # fmt: skip

UNSUPPORTED_VERSION = 0x84
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
USE_ANOTHER_SERVER, SERVER_MOVED = 0x9C, 0x9D

# reason code: (name, kind)
REASONS: dict[int, tuple[str, str]] = {
    0x80: ("unspecified error", REFUSED),
    0x81: ("malformed packet", REFUSED),
    0x82: ("protocol error", REFUSED),
    0x83: ("implementation specific error", REFUSED),
    UNSUPPORTED_VERSION: ("unsupported protocol version", PROTOCOL),
    0x85: ("client identifier not valid", NOT_AUTHORISED),
    0x86: ("bad user name or password", NOT_AUTHORISED),
    0x87: ("not authorized", NOT_AUTHORISED),
    0x88: ("server unavailable", BUSY),
    0x89: ("server busy", BUSY),
    0x8A: ("banned", NOT_AUTHORISED),
    0x8B: ("server shutting down", LOST),
    0x8C: ("bad authentication method", NOT_AUTHORISED),
    0x8D: ("keep alive timeout", LOST),
    0x8E: ("session taken over", TAKEN_OVER),
    0x90: ("topic name invalid", REFUSED),
    0x93: ("receive maximum exceeded", REFUSED),
    0x94: ("topic alias invalid", REFUSED),
    PACKET_TOO_LARGE: ("packet too large", REFUSED),
    0x96: ("message rate too high", BUSY),
    QUOTA_EXCEEDED: ("quota exceeded", BUSY),
    0x98: ("administrative action", BUSY),
    0x99: ("payload format invalid", REFUSED),
    0x9A: ("retain not supported", REFUSED),
    0x9B: ("QoS not supported", REFUSED),
    USE_ANOTHER_SERVER: ("use another server", BUSY),
    SERVER_MOVED: ("server moved", BUSY),
    0x9F: ("connection rate exceeded", BUSY),
    0xA0: ("maximum connect time", LOST),
}


def describe(code: int) -> str:
    """`0x97 (quota exceeded)`."""
    return f"0x{code:02X} ({REASONS[code][0]})" if code in REASONS else f"0x{code:02X}"


def kind_of(code: int, otherwise: str) -> str:
    """The row of the reconnect policy that a reason code asks for."""
    return REASONS[code][1] if code in REASONS else otherwise
