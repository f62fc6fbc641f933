"""Commands: what a control point may ask of a hub, as a signed CWT claims map (design 3.3; RFC 8392, RFC 9052).

Protected header `{1: alg, 3: 61, 4: kid}`; claims `{1 iss, 3 aud, 4 exp, 5 nbf?, 6 iat, 7 cti, "ctr", "op", "args"}`.
Both ends use this module: `sign_command` at the control point, `parse_command` at the hub. Whether a command may be
obeyed is hub/core/control/authority.py's matter.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import cbor2

from hub.wire.uplink.cbor import BadCbor, loads_one
from hub.wire.uplink.envelope import BadEnvelope, split_sign1

CONTENT_TYPE = 61  # application/cwt, RFC 8392 section 9.2
MAX_COMMAND_BYTES = 16 * 1024
CTI_BYTES = 16
_ISS, _AUD, _EXP, _NBF, _IAT, _CTI = 1, 3, 4, 5, 6, 7  # RFC 8392 section 4
_ALG, _HEADER_CONTENT_TYPE, _KID = 1, 3, 4
_MAX_TIME_S = 2**53  # seconds that any decoder can hold exactly
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
    "permit": "field",
    "diagnose": "field",
    "config": "admin",
    "trust": "admin",
    "update": "admin",
}


class BadCommand(ValueError):
    """The bytes are not a well-formed command. `cti` is its id where that much could be read: a receipt names it."""

    def __init__(self, text: str, cti: bytes | None = None) -> None:
        super().__init__(text)
        self.cti = cti


@dataclass(frozen=True, slots=True)
class Command:
    """A well-formed command; nothing about it is verified. Times in UTC epoch seconds."""

    kid: str
    aud: str
    exp: float
    nbf: float | None
    iat: float
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
    protected = cbor2.dumps({_ALG: sign.alg, _HEADER_CONTENT_TYPE: CONTENT_TYPE, _KID: command.kid.encode()})
    payload = cbor2.dumps(claims)
    signature = sign.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


class OperatorSigner(Protocol):
    """An operator's key: what hub.wire.uplink.envelope.FileSigner is."""

    alg: int

    def sign(self, data: bytes) -> bytes:
        """Sign as COSE wants it."""


def parse_command(message: bytes) -> Command:
    """Read a command without verifying it. Raises BadCommand with what is wrong."""
    if len(message) > MAX_COMMAND_BYTES:
        raise BadCommand(f"{len(message)} bytes are more than {MAX_COMMAND_BYTES}")
    try:
        header, payload, _, _ = split_sign1(message)
        claims = loads_one(payload)
    except (BadEnvelope, BadCbor) as error:
        raise BadCommand(str(error)) from None
    if not isinstance(claims, dict):
        raise BadCommand("the claims are a map")
    cti = claims.get(_CTI)
    if not (isinstance(cti, bytes) and len(cti) == CTI_BYTES):
        raise BadCommand(f"cti is {CTI_BYTES} bytes")
    try:
        return _read(header, claims, cti)
    except ValueError as error:
        raise BadCommand(str(error), cti) from None


def _read(header: dict[Any, Any], claims: dict[Any, Any], cti: bytes) -> Command:
    kid = kid_text(header)
    if header.get(_HEADER_CONTENT_TYPE) != CONTENT_TYPE:
        raise ValueError(f"content type is {CONTENT_TYPE}")
    if _take(claims, _ISS, "iss", str) != kid:
        raise ValueError("iss and kid name different operators")
    op = _take(claims, "op", "op", str)
    if op not in ROLES:
        raise ValueError(f"op {op[:32]!r} is not one of {', '.join(ROLES)}")
    args = _take(claims, "args", "args", dict)
    if not all(isinstance(key, str) for key in args):
        raise ValueError("the names of args are texts")
    ctr = _take(claims, "ctr", "ctr", int)
    if isinstance(ctr, bool) or not 0 <= ctr <= _MAX_CTR:
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
    """The operator that a protected header names. Raises ValueError."""
    kid = header.get(_KID)
    if isinstance(kid, bytes):
        try:
            kid = kid.decode()
        except UnicodeDecodeError:
            raise ValueError("kid is not a text") from None
    if not isinstance(kid, str) or not 0 < len(kid) <= 64:
        raise ValueError("kid is a text of 1 to 64 characters")
    return kid


def _take(claims: dict[Any, Any], key: int | str, name: str, kind: type) -> Any:
    value = claims.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is missing or not a {kind.__name__}")
    return value


def _time(claims: dict[Any, Any], key: int, name: str) -> float:
    value = claims.get(key)
    # NumericDate (RFC 8392 section 2): an integer or a float, never a bool, an infinity or not-a-number.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TIME_S:  # type: ignore[operator]
        raise ValueError(f"{name} is not a time in seconds")
    return value  # type: ignore[return-value]
