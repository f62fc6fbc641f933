"""Our own envelopes, opened without verifying them."""

from typing import Any

from hub.wire.uplink.envelope import BadEnvelope, Sign1, extra_of, place_of, split_sign1
from hub.wire.uplink.pack import inflate_pack
from store.errors import StoreCorrupt


def _split(envelope: bytes) -> Sign1:
    try:
        return split_sign1(envelope)
    except (BadEnvelope, TypeError) as error:  # TypeError: a cell that holds no bytes
        raise StoreCorrupt(f"an envelope of ours does not read: {error}") from None


def payload_of(envelope: bytes) -> bytes:
    """The payload of a COSE_Sign1 that this store sealed. Raises StoreCorrupt."""
    return _split(envelope).payload


def content_of(envelope: bytes) -> tuple[int | str, bytes, dict[Any, Any]]:
    """Content type, payload and extra header fields: what it was sealed from. Raises StoreCorrupt."""
    message = _split(envelope)
    try:
        content_type, extra = extra_of(message.header)
    except BadEnvelope as error:
        raise StoreCorrupt(f"an envelope of ours: {error}") from None
    return content_type, message.payload, extra


def pack_of(envelope: bytes) -> bytes:
    """The pack in a message of lane readings, inflated where need be. Raises StoreCorrupt, BadPack."""
    message = _split(envelope)
    return inflate_pack(message.header, message.payload)


def place_in(envelope: bytes) -> tuple[int, int]:
    """Epoch and number in the header of a COSE_Sign1 that this store sealed. Raises StoreCorrupt."""
    try:
        _, epoch, _, number = place_of(_split(envelope).header)
    except BadEnvelope as error:
        raise StoreCorrupt(f"an envelope of ours: {error}") from None
    return epoch, number
