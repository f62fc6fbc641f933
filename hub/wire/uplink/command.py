"""Commands: what a control point may ask of a hub, as a signed CWT claims map (design 3.3; RFC 8392, RFC 9052).

Protected header `{1: alg, 3: 61, 4: kid}`; claims `{1 iss, 3 aud, 4 exp, 5 nbf?, 6 iat, 7 cti, "ctr", "op", "args"}`.
Both ends use this module: `sign_command` at the control point; at the hub `split_command` before the signature is
verified and `read_claims` after. Whether a command may be obeyed is hub/core/control/authority.py's matter.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from hub.wire.printable import quoted
from hub.wire.uplink.cbor import BadCbor, decode, encode
from hub.wire.uplink.envelope import BadEnvelope, Sign1, sign_sign1, split_sign1

CONTENT_TYPE = 61  # application/cwt, RFC 8392 section 9.2
MAX_COMMAND_BYTES = 16 * 1024
CTI_BYTES = 16
_ISS, _AUD, _EXP, _NBF, _IAT, _CTI = 1, 3, 4, 5, 6, 7  # RFC 8392 section 4
_ALG, _HEADER_CONTENT_TYPE, _KID = 1, 3, 4
_MAX_TIME_S = 2**53  # seconds that any decoder can hold exactly
MAX_KID = 64
_MAX_CTR = 2**63 - 1

# Which role each operation needs (design 3.3).
ROLES = {
    "limit": "limit",
    "limit.cancel": "limit",
    "switch": "limit",
    "set": "limit",
    "heartbeat": "limit",
    "price": "price",
    "weather": "price",
    "read": "read",
    "resend": "read",
    "booked": "read",
    "permit": "field",
    "diagnose": "field",
    "config": "admin",
    "trust": "admin",
    "trust.confirm": "admin",
    "update": "admin",
}


class BadCommand(ValueError):
    """The bytes are not a well-formed command. `cti` is its id where that much could be read: a receipt names it."""

    def __init__(self, text: str, cti: bytes | None = None) -> None:
        super().__init__(text)
        self.cti = cti


@dataclass(frozen=True, slots=True)
class Command:
    """A well-formed command. Times in UTC epoch seconds."""

    kid: str
    aud: str
    exp: int
    nbf: int | None
    iat: int
    cti: bytes
    ctr: int
    op: str
    args: dict[str, Any]


def sign_command(sign: "OperatorSigner", command: Command) -> bytes:
    """Make the message that goes to `meters/{hub}/commands`."""
    claims: dict[Any, Any] = {
        _ISS: command.kid,
        _AUD: command.aud,
        _EXP: command.exp,
        _IAT: command.iat,
        _CTI: command.cti,
        "ctr": command.ctr,
        "op": command.op,
        "args": command.args,
    }
    if command.nbf is not None:
        claims[_NBF] = command.nbf
    header = {_ALG: sign.alg, _HEADER_CONTENT_TYPE: CONTENT_TYPE, _KID: command.kid.encode()}
    return sign_sign1(sign.sign, header, encode(claims))


class OperatorSigner(Protocol):
    """An operator's key: what hub.wire.uplink.envelope.FileSigner is."""

    alg: int

    def sign(self, data: bytes) -> bytes:
        """Sign as COSE wants it."""


def split_command(message: bytes) -> Sign1:
    """What can be said of a command before its signature is verified: size and form. Raises BadCommand."""
    try:
        return split_sign1(message, MAX_COMMAND_BYTES)
    except BadEnvelope as error:
        raise BadCommand(str(error)) from None


def read_claims(message: Sign1) -> Command:
    """The claims of a command whose signature was verified. Raises BadCommand, with the cti where that much is read."""
    try:
        claims = decode(message.payload)
    except BadCbor as error:
        raise BadCommand(f"the claims: {error}") from None
    if not isinstance(claims, dict):
        raise BadCommand("the claims are a map")
    cti = claims.get(_CTI)
    if not (isinstance(cti, bytes) and len(cti) == CTI_BYTES):
        raise BadCommand(f"cti is {CTI_BYTES} bytes")
    try:
        return _read(message.header, claims, cti)
    except ValueError as error:
        raise BadCommand(str(error), cti) from None


def parse_command(message: bytes) -> Command:
    """Read a command without verifying it: for who sent it, and for tools. Raises BadCommand."""
    return read_claims(split_command(message))


def _read(header: dict[Any, Any], claims: dict[Any, Any], cti: bytes) -> Command:
    kid = kid_text(header)
    if type(header.get(_HEADER_CONTENT_TYPE)) is not int or header[_HEADER_CONTENT_TYPE] != CONTENT_TYPE:
        raise ValueError(f"content type is {CONTENT_TYPE}")
    if _take(claims, _ISS, "iss", str) != kid:
        raise ValueError("iss and kid name different operators")
    op = _take(claims, "op", "op", str)
    if op not in ROLES:
        raise ValueError(f"op {quoted(op, 32)} is not one of {', '.join(ROLES)}")
    args = _take(claims, "args", "args", dict)
    if not all(isinstance(key, str) for key in args):
        raise ValueError("the names of args are texts")
    ctr = claims.get("ctr")
    if type(ctr) is not int or not 0 <= ctr <= _MAX_CTR:
        raise ValueError("ctr is an unsigned integer below 2^63")
    return Command(
        kid=kid,
        aud=_take(claims, _AUD, "aud", str),
        exp=_time(claims, _EXP, "exp"),
        nbf=_time(claims, _NBF, "nbf") if _NBF in claims else None,
        iat=_time(claims, _IAT, "iat"),
        cti=cti,
        ctr=ctr,
        op=op,
        args=args,
    )


def kid_text(header: dict[Any, Any]) -> str:
    """The operator that a protected header names: RFC 9052 has a byte string, here of UTF-8. Raises ValueError."""
    kid = header.get(_KID)
    if not isinstance(kid, bytes) or not 0 < len(kid) <= MAX_KID:
        raise ValueError(f"kid is a byte string of 1 to {MAX_KID} bytes")
    try:
        return kid.decode()
    except UnicodeDecodeError:
        raise ValueError("kid is not a text") from None


def _take(claims: dict[Any, Any], key: int | str, name: str, kind: type) -> Any:
    value = claims.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is missing or not a {kind.__name__}")
    return value


def _time(claims: dict[Any, Any], key: int, name: str) -> int:
    """NumericDate (RFC 8392 section 2), in whole seconds: design 3.3 has floats in arguments alone."""
    value = claims.get(key)
    if type(value) is not int or not 0 <= value <= _MAX_TIME_S:
        raise ValueError(f"{name} is not a time in whole seconds")
    return value
