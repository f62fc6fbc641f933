"""Our own envelopes, opened without verifying them."""

from store.cbor import load_own
from store.errors import StoreCorrupt


def payload_of(envelope: bytes) -> bytes:
    """The payload of a COSE_Sign1 that this store sealed. Raises StoreCorrupt."""
    parts = getattr(load_own(envelope, "an envelope of ours"), "value", None)
    if not isinstance(parts, list | tuple) or len(parts) != 4 or not isinstance(parts[2], bytes):
        raise StoreCorrupt("an envelope of ours has no payload")
    return parts[2]
