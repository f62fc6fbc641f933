"""Rows of our own: written and read with the compiled library where there is one; whatever is wrong is damage.

What a stranger may send is read by hub/wire/uplink/cbor.py; what lies in the database only we wrote.
"""

import io
from typing import Any

import cbor2

from store.errors import StoreCorrupt


def load_own(data: Any, what: str) -> Any:
    """Decode what we once encoded. Raises StoreCorrupt, naming `what`."""
    if not isinstance(data, bytes):
        raise StoreCorrupt(f"{what} is not bytes")
    stream = io.BytesIO(data)
    try:
        item = cbor2.load(stream)
    # Damage may look like dates, bignums, deep nesting: cbor2 has an error of its own kind for each.
    except (cbor2.CBORError, ValueError, TypeError, EOFError, RecursionError, ArithmeticError, MemoryError):
        raise StoreCorrupt(f"{what} does not read") from None
    if stream.tell() != len(data):
        raise StoreCorrupt(f"{what} has bytes behind its end")
    return item
