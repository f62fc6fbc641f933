"""The envelope of everything sealed: COSE_Sign1 (RFC 9052 section 4.2) with meterhub's header (design 3.3).

Protected header: `{1: alg, 3: content type, 4: kid, -65537: [hub, epoch, lane, number]}` and, where they apply,
`-65538: "deflate"` and `-65539: cti` (private use, RFC 9052 table 3); tag 18, no unprotected header, no external data.
Both ends use this module; it knows no socket, no clock and no database.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from hub.wire.printable import quoted
from hub.wire.uplink.cbor import BadCbor, decode, encode, encode_tagged

COSE_SIGN1_TAG = 18  # RFC 9052 table 1
ES256 = -7  # RFC 9053 section 2.1
EDDSA = -8  # RFC 9053 section 2.2
MAX_ENVELOPE_BYTES = 256 * 1024
_HEADER_DEPTH = 2

_ALG, _CRIT, _CONTENT_TYPE, _KID = 1, 2, 3, 4  # RFC 9052 section 3.1
PLACE, DEFLATED, ANSWERS_CTI = -65537, -65538, -65539
_P256_COORDINATE = 32

LANES = ("readings", "events", "receipts", "answers")

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class BadEnvelope(ValueError):
    """The bytes are not a sound envelope from the key they name. `reason` is a word for tables, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Signer(Protocol):
    """A device key, wherever it lives: a PEM file, or hardware through PKCS#11."""

    alg: int
    kid: bytes

    def sign(self, data: bytes) -> bytes:
        """Sign as COSE wants it: r || s of 32 bytes each for ES256, 64 bytes for EdDSA."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope whose signature was verified."""

    hub: str
    epoch: int
    lane: str
    number: int
    kid: bytes
    content_type: int | str
    payload: bytes
    header: dict[Any, Any]


class FileSigner:
    """Signs with a private key held in memory (P-256 or Ed25519)."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, kid: bytes) -> None:
        self._key = private_key
        self.kid = kid
        self.alg = alg_of(private_key.public_key())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_P256_COORDINATE, "big") + s.to_bytes(_P256_COORDINATE, "big")


def alg_of(public_key: object) -> int:
    """The COSE algorithm that goes with a key. Raises BadEnvelope("key") for other kinds than P-256 and Ed25519."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return EDDSA
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1):
        return ES256
    raise BadEnvelope("key", "the key is neither P-256 nor Ed25519")


def kid_of(certificate: x509.Certificate) -> bytes:
    """The key id of a device: SHA-256 of its certificate (DER), first 8 bytes (design 3.3)."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()[:8]


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return encode(["Signature1", protected, b"", payload])  # RFC 9052 section 4.4


def sign_sign1(sign: Callable[[bytes], bytes], header: dict[Any, Any], payload: bytes) -> bytes:
    """A COSE_Sign1 with this protected header, tag 18."""
    protected = encode(header)
    return encode_tagged(COSE_SIGN1_TAG, [protected, {}, payload, sign(_to_be_signed(protected, payload))])


def seal(
    signer: Signer,
    hub: str,
    epoch: int,
    lane: str,
    number: int,
    content_type: int | str,
    payload: bytes,
    extra: dict[Any, Any] | None = None,
) -> bytes:
    """Sign one message of a lane. `extra` adds header fields: DEFLATED, ANSWERS_CTI."""
    header: dict[Any, Any] = {
        _ALG: signer.alg,
        _CONTENT_TYPE: content_type,
        _KID: signer.kid,
        PLACE: [hub, epoch, lane, number],
        **(extra or {}),
    }
    return sign_sign1(signer.sign, header, payload)


class Sign1(NamedTuple):
    """A COSE_Sign1 taken apart; nothing of it is verified."""

    header: dict[Any, Any]
    payload: bytes
    signature: bytes
    protected: bytes

    @property
    def kid(self) -> bytes | None:
        kid = self.header.get(_KID)
        return kid if isinstance(kid, bytes) else None


def split_sign1(data: bytes, max_bytes: int = MAX_ENVELOPE_BYTES) -> Sign1:
    """Take a COSE_Sign1 apart, nothing verified yet.

    Raises BadEnvelope("malformed"), or ("critical") for a header we would have to understand and do not.
    """
    try:
        parts = decode(data, tag=COSE_SIGN1_TAG, max_bytes=max_bytes, depth=2, floats=False)
    except BadCbor as error:
        raise BadEnvelope("malformed", f"not a COSE_Sign1: {error}") from None
    # An unprotected header proves nothing, so there is none.
    if not (isinstance(parts, list) and len(parts) == 4 and parts[1] == {} and isinstance(parts[1], dict)):
        raise BadEnvelope("malformed", "a COSE_Sign1 has four elements, and here no unprotected header")
    protected, _, payload, signature = parts
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise BadEnvelope("malformed", "protected header, payload and signature are byte strings")
    try:
        header = decode(protected, depth=_HEADER_DEPTH, floats=False)
    except BadCbor as error:
        raise BadEnvelope("malformed", f"the protected header: {error}") from None
    if not isinstance(header, dict):
        raise BadEnvelope("malformed", "the protected header is a map")
    if _CRIT in header:
        raise BadEnvelope("critical", "it says that headers are critical, and none of those is understood here")
    return Sign1(header, payload, signature, protected)


def verify(message: Sign1, key: PublicKey) -> None:
    """Verify with the key that the kid names. The key decides the algorithm, never the message: alg in the header must
    agree with it. Raises BadEnvelope("signature")."""
    alg = message.header.get(_ALG)
    if type(alg) is not int or alg != alg_of(key):
        raise BadEnvelope("signature", "alg is not the one of this key")
    if not _is_genuine(key, message.signature, _to_be_signed(message.protected, message.payload)):
        raise BadEnvelope("signature", "the signature is not of this key over these bytes")


def verify_sign1(data: bytes, key_for: Callable[[bytes], PublicKey | None]) -> tuple[dict[Any, Any], bytes]:
    """Verify a COSE_Sign1 with the key its kid names; return `(protected header, payload)`.

    `key_for(kid)` answers None for a stranger. Raises BadEnvelope with reason "malformed", "critical", "kid" or
    "signature".
    """
    message = split_sign1(data)
    kid = message.kid
    key = key_for(kid) if kid is not None else None
    if key is None:
        raise BadEnvelope("kid", f"no key is known by the id {quoted(kid.hex()) if kid is not None else 'none'}")
    verify(message, key)
    return message.header, message.payload


def open_envelope(data: bytes, key_for: Callable[[bytes], PublicKey | None]) -> Envelope:
    """Verify a hub's message and read its lane header. Raises BadEnvelope as `verify_sign1`, or "malformed"."""
    header, payload = verify_sign1(data, key_for)
    hub, epoch, lane, number = place_of(header)
    content_type, _ = extra_of(header)
    return Envelope(hub, epoch, lane, number, header[_KID], content_type, payload, header)


def extra_of(header: dict[Any, Any]) -> tuple[int | str, dict[Any, Any]]:
    """Content type of a protected header, and what of it is neither that nor place, key and algorithm. Raises
    BadEnvelope("malformed")."""
    content_type = header.get(_CONTENT_TYPE)
    if type(content_type) is not int and not isinstance(content_type, str):
        raise BadEnvelope("malformed", "the header lacks a content type")
    common = (_ALG, _CONTENT_TYPE, _KID, PLACE)
    return content_type, {label: value for label, value in header.items() if label not in common}


def place_of(header: dict[Any, Any]) -> tuple[str, int, str, int]:
    """`(hub, epoch, lane, number)` of a protected header. Raises BadEnvelope("malformed")."""
    place = header.get(PLACE)
    if (
        isinstance(place, list)
        and len(place) == 4
        and isinstance(place[0], str)
        and isinstance(place[2], str)
        and type(place[1]) is int
        and type(place[3]) is int
        and place[1] >= 0
        and place[3] >= 1
    ):
        return place[0], place[1], place[2], place[3]
    raise BadEnvelope("malformed", "the header lacks hub, epoch, lane and number")


def _is_genuine(key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
            return True
        if len(signature) != 2 * _P256_COORDINATE:
            return False
        r, s = (int.from_bytes(half, "big") for half in (signature[:_P256_COORDINATE], signature[_P256_COORDINATE:]))
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        return True
    except (InvalidSignature, ValueError):
        return False
