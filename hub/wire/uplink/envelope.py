"""The envelope of everything sealed: COSE_Sign1 (RFC 9052 section 4.2) with meterhub's header (design 3.3).

Protected header: `{1: alg, 3: content type, 4: kid, "h": hub, "e": epoch, "l": lane, "n": number}`, tag 18, no
unprotected header, no external data. Both ends use this module; it knows no socket, no clock and no database.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from hub.wire.uplink.cbor import BadCbor, loads_one

COSE_SIGN1_TAG = 18  # RFC 9052 table 1
ES256 = -7  # RFC 9053 section 2.1
EDDSA = -8  # RFC 9053 section 2.2
MAX_ENVELOPE_BYTES = 256 * 1024

_ALG, _CRIT, _CONTENT_TYPE, _KID = 1, 2, 3, 4  # RFC 9052 section 3.1
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
        """Sign as COSE wants it: r || s of 32 octets each for ES256, 64 octets for EdDSA."""


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
    """The key id of a device: SHA-256 of its certificate (DER), first 8 octets (design 3.3)."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()[:8]


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return cbor2.dumps(["Signature1", protected, b"", payload])  # RFC 9052 section 4.4


def seal(
    signer: Signer,
    hub: str,
    epoch: int,
    lane: str,
    number: int,
    content_type: int | str,
    payload: bytes,
    extra: dict[str, Any] | None = None,
) -> bytes:
    """Sign one message of a lane. `extra` adds header fields (answers carry `"re"`)."""
    header: dict[Any, Any] = {
        _ALG: signer.alg,
        _CONTENT_TYPE: content_type,
        _KID: signer.kid,
        "h": hub,
        "e": epoch,
        "l": lane,
        "n": number,
    }
    protected = cbor2.dumps({**header, **(extra or {})})
    signature = signer.sign(_to_be_signed(protected, payload))
    return cbor2.dumps(cbor2.CBORTag(COSE_SIGN1_TAG, [protected, {}, payload, signature]))


def split_sign1(data: bytes) -> tuple[dict[Any, Any], bytes, bytes, bytes]:
    """Take a COSE_Sign1 apart: `(protected header, payload, signature, protected octets)`, nothing verified yet.

    Raises BadEnvelope("malformed"), or ("critical") for a header we would have to understand and do not.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise BadEnvelope("malformed", f"{len(data)} bytes are more than {MAX_ENVELOPE_BYTES}")
    message = _loads(data)
    if not (isinstance(message, cbor2.CBORTag) and message.tag == COSE_SIGN1_TAG):
        raise BadEnvelope("malformed", "not a tagged COSE_Sign1")
    parts = message.value
    if not (isinstance(parts, (list, tuple)) and len(parts) == 4):
        raise BadEnvelope("malformed", "a COSE_Sign1 has four elements")
    protected, unprotected, payload, signature = parts
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise BadEnvelope("malformed", "protected header, payload and signature are byte strings")
    if unprotected:
        raise BadEnvelope("malformed", "an unprotected header proves nothing and is not accepted")
    header = _loads(protected)
    if not isinstance(header, dict):
        raise BadEnvelope("malformed", "the protected header is a map")
    if _CRIT in header:
        raise BadEnvelope("critical", f"critical headers {header[_CRIT]!r} are not understood")
    return header, payload, signature, protected


def verify_sign1(data: bytes, key_for: Callable[[bytes], PublicKey | None]) -> tuple[dict[Any, Any], bytes]:
    """Verify a COSE_Sign1 with the key its kid names; return `(protected header, payload)`.

    `key_for(kid)` answers None for a stranger. Raises BadEnvelope with reason "malformed", "critical", "kid" or
    "signature". The key decides the algorithm, never the message: alg in the header must agree with it.
    """
    header, payload, signature, protected = split_sign1(data)
    kid = header.get(_KID)
    if isinstance(kid, str):  # RFC 9052 has bytes; an operator's kid is a text, and some tools send it as one
        kid = kid.encode()
    key = key_for(kid) if isinstance(kid, bytes) else None
    if key is None:
        raise BadEnvelope("kid", f"no key is known by the id {kid!r}")
    if header.get(_ALG) != alg_of(key):
        raise BadEnvelope("signature", "alg is not the one of this key")
    if not _is_genuine(key, signature, _to_be_signed(protected, payload)):
        raise BadEnvelope("signature", "the signature is not of this key over these bytes")
    return header, payload


def open_envelope(data: bytes, key_for: Callable[[bytes], PublicKey | None]) -> Envelope:
    """Verify a hub's message and read its lane header. Raises BadEnvelope as `verify_sign1`, or "malformed"."""
    header, payload = verify_sign1(data, key_for)
    hub, epoch, lane, number = (header.get(name) for name in "heln")
    content_type = header.get(_CONTENT_TYPE)
    if not (isinstance(hub, str) and isinstance(lane, str) and type(epoch) is int and type(number) is int):
        raise BadEnvelope("malformed", "the header lacks hub, epoch, lane or number")
    if not isinstance(content_type, (int, str)):
        raise BadEnvelope("malformed", "the header lacks a content type")
    return Envelope(hub, epoch, lane, number, header[_KID], content_type, payload, header)


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


def _loads(data: bytes) -> Any:
    try:
        return loads_one(data)
    except BadCbor as error:
        raise BadEnvelope("malformed", str(error)) from None
