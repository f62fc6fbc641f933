"""Local recovery: a new list of operators for one hub, signed by its manufacturer, brought by a field engineer.

For a hub that nobody can command any more. A COSE_Sign1 (RFC 9052), tag 18, protected header
`{1: alg, 3: "application/vnd.meterhub.recovery+cbor", 4: kid}`, payload a deterministic CBOR map
`{"hub": hub id, "iat": UTC epoch seconds, "by": who asked for it, "operators": operators.toml}`. `kid`: SHA-256 of the
key (SubjectPublicKeyInfo, DER), first 8 bytes. The key is the one in `control.recovery_key_file`, a certificate or a
public key in PEM: the authority of the provisioning station, unless the utility has put another in its place.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from hub.wire.printable import quoted
from hub.wire.uplink.cbor import BadCbor, decode, encode
from hub.wire.uplink.envelope import BadEnvelope, PublicKey, Signer, alg_of, sign_sign1, split_sign1, verify

CONTENT_TYPE = "application/vnd.meterhub.recovery+cbor"
MAX_BYTES = 16 * 1024
MAX_BY = 64
_ALG, _CONTENT_TYPE, _KID = 1, 3, 4
_MAX_TIME_S = 1 << 40
_LINE = 76


class BadRecovery(ValueError):
    """The message may not be obeyed. `reason`: a word of the same kind as a receipt's."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RecoveryMessage:
    """What the manufacturer signed. `iat`: when, UTC epoch seconds."""

    hub: str
    iat: int
    by: str
    operators: str


def read_key(pem: bytes) -> PublicKey:
    """The manufacturer's key, out of its certificate or as a public key. Raises ValueError."""
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key: Any = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)
        alg_of(key)
    except (ValueError, BadEnvelope, UnsupportedAlgorithm):
        raise ValueError("a certificate or a public key in PEM, P-256 or Ed25519") from None
    found: PublicKey = key
    return found


def kid_of_key(key: PublicKey) -> bytes:
    """What names a key: SHA-256 of it, first 8 bytes."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).digest()[:8]


def seal_recovery(signer: Signer, message: RecoveryMessage) -> bytes:
    """What the manufacturer does. `signer.kid` is `kid_of_key` of its key."""
    header = {_ALG: signer.alg, _CONTENT_TYPE: CONTENT_TYPE, _KID: signer.kid}
    claims = {"hub": message.hub, "iat": message.iat, "by": message.by, "operators": message.operators}
    return sign_sign1(signer.sign, header, encode(claims))


def open_recovery(message: bytes, key: PublicKey) -> RecoveryMessage:
    """Verify and read one. Raises BadRecovery; nothing is looked at before the signature holds."""
    try:
        sign1 = split_sign1(message, MAX_BYTES)
    except BadEnvelope as error:
        raise BadRecovery("malformed", str(error)) from None
    try:
        verify(sign1, key)
    except BadEnvelope as error:
        raise BadRecovery("bad-signature", f"not signed by the key of control.recovery_key_file: {error}") from None
    if sign1.header.get(_CONTENT_TYPE) != CONTENT_TYPE:
        raise BadRecovery("malformed", f"content type is {CONTENT_TYPE}: the key signs other things, too")
    try:
        claims = decode(sign1.payload)
    except BadCbor as error:
        raise BadRecovery("malformed", f"the claims: {error}") from None
    if not isinstance(claims, dict) or set(claims) != {"hub", "iat", "by", "operators"}:
        raise BadRecovery("malformed", "the claims are hub, iat, by and operators")
    hub, iat, by, operators = claims["hub"], claims["iat"], claims["by"], claims["operators"]
    if not all(isinstance(text, str) for text in (hub, by, operators)) or not 0 < len(by) <= MAX_BY:
        raise BadRecovery("malformed", f"hub, by and operators are texts, by of 1 to {MAX_BY} characters")
    if type(iat) is not int or not 0 <= iat < _MAX_TIME_S:
        raise BadRecovery("malformed", "iat is a time in whole seconds")
    return RecoveryMessage(hub, iat, by, operators)


def armour(message: bytes) -> str:
    """As text, to be pasted at a console: base64 in lines, and an empty line behind it."""
    text = base64.b64encode(message).decode()
    return "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE)) + "\n\n"


def unarmour(text: bytes) -> bytes:
    """The bytes of such a text, or of a file that has them as they are. Raises BadRecovery."""
    if text[:1] == b"\xd2":  # CBOR tag 18
        return text
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise BadRecovery(
            "malformed", f"neither base64 nor COSE: {quoted(text[:40].decode('ascii', 'replace'))}"
        ) from None
