"""The note by which an operator vouches for an appliance's firmware: a COSE_Sign1 beside the image.

Protected header `{1: alg, 3: content type, 4: kid}`, payload a CBOR map `{"sha256": bytes, "manufacturer": n,
"type": n, "version": n}`: of the image's file, and of its OTA header (ZCL revision 8, 11.4.2). Both ends use this
module.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from hub.wire.uplink.cbor import BadCbor, decode, encode
from hub.wire.uplink.command import kid_text
from hub.wire.uplink.envelope import BadEnvelope, PublicKey, Signer, sign_sign1, split_sign1, verify

CONTENT_TYPE = "application/vnd.meterhub.firmware+cbor"
ROLE = "admin"  # of the operator who signs
MAX_BYTES = 4096
_ALG, _CONTENT_TYPE, _KID = 1, 3, 4
_SHA256_BYTES = 32


class FirmwareNote(NamedTuple):
    """What the signer says the image is."""

    sha256: bytes
    manufacturer: int
    image_type: int
    version: int


def sign_firmware(signer: Signer, kid: str, note: FirmwareNote) -> bytes:
    """The note of an image."""
    header = {_ALG: signer.alg, _CONTENT_TYPE: CONTENT_TYPE, _KID: kid.encode()}
    claims = {
        "sha256": note.sha256, "manufacturer": note.manufacturer, "type": note.image_type, "version": note.version,
    }  # fmt: skip
    return sign_sign1(signer.sign, header, encode(claims))


def open_firmware(document: bytes, key_for: Callable[[str], PublicKey | None]) -> FirmwareNote:
    """The note, once its signature has been verified. `key_for(kid)`: None for whoever is no operator that may sign.

    Raises ValueError that says what is wrong.
    """
    try:
        message = split_sign1(document, MAX_BYTES)
        key = key_for(kid_text(message.header))
        if key is None:
            raise ValueError(f"signed by nobody who is an operator with the role {ROLE}")
        verify(message, key)
        if message.header.get(_CONTENT_TYPE) != CONTENT_TYPE:
            raise ValueError("it is signed, and is no note of a firmware")
        return _note_of(decode(message.payload, floats=False))
    except (BadEnvelope, BadCbor) as error:
        raise ValueError(str(error)) from None


def _note_of(claims: Any) -> FirmwareNote:
    if not isinstance(claims, dict):
        raise ValueError("the note is a map")
    digest = claims.get("sha256")
    numbers: list[Any] = [claims.get(name) for name in ("manufacturer", "type", "version")]
    if not isinstance(digest, bytes) or len(digest) != _SHA256_BYTES:
        raise ValueError("sha256 is 32 bytes")
    if any(type(number) is not int or not 0 <= number < 1 << 32 for number in numbers):
        raise ValueError("manufacturer, type and version are whole numbers of 32 bits")
    return FirmwareNote(digest, *numbers)
