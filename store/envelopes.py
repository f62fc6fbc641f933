"""Our own envelopes, opened without verifying them."""

from typing import Any

from hub.wire.uplink.pack import inflate_pack
from store.cbor import load_own
from store.errors import StoreCorrupt


def payload_of(envelope: bytes) -> bytes:
    """The payload of a COSE_Sign1 that this store sealed. Raises StoreCorrupt."""
    parts = getattr(load_own(envelope, "an envelope of ours"), "value", None)
    if not isinstance(parts, list | tuple) or len(parts) != 4 or not isinstance(parts[2], bytes):
        raise StoreCorrupt("an envelope of ours has no payload")
    return parts[2]


def pack_of(envelope: bytes) -> bytes:
    """The pack in a message of lane readings, inflated where need be. Raises StoreCorrupt, BadPack."""
    return inflate_pack(_header_of(envelope), payload_of(envelope))


def _header_of(envelope: bytes) -> dict[Any, Any]:
    parts = getattr(load_own(envelope, "an envelope of ours"), "value", None)
    header = load_own(parts[0], "its header") if isinstance(parts, list | tuple) and parts else None
    if not isinstance(header, dict):
        raise StoreCorrupt("an envelope of ours has no header")
    return header


def place_of(envelope: bytes) -> tuple[int, int]:
    """Epoch and number in the header of a COSE_Sign1 that this store sealed. Raises StoreCorrupt."""
    header = _header_of(envelope)
    if type(header.get("e")) is not int or type(header.get("n")) is not int:
        raise StoreCorrupt("an envelope of ours has no epoch and number")
    return header["e"], header["n"]
