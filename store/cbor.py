"""Reading back CBOR of our own: whatever is wrong with it is damage."""

from typing import Any

from hub.wire.uplink.cbor import BadCbor, loads_one
from store.errors import StoreCorrupt


def load_own(data: Any, what: str) -> Any:
    """Decode what we once encoded. Raises StoreCorrupt, naming `what`."""
    if not isinstance(data, bytes):
        raise StoreCorrupt(f"{what} is not bytes")
    try:
        return loads_one(data)
    except BadCbor as error:
        raise StoreCorrupt(f"{what} does not read: {error}") from None
