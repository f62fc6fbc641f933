"""Reading back CBOR of our own: whatever is wrong with it is damage."""

from typing import Any

import cbor2

from store.errors import StoreCorrupt


def load_own(data: Any, what: str) -> Any:
    """Decode what we once encoded. Raises StoreCorrupt, naming `what`."""
    if not isinstance(data, bytes):
        raise StoreCorrupt(f"{what} is not bytes")
    try:
        return cbor2.loads(data)
    # cbor2 has a dozen ways to refuse damaged bytes: its own errors, bad dates under tags, odd keys, deep nesting.
    except (cbor2.CBORError, ValueError, TypeError, EOFError, RecursionError, ArithmeticError) as error:
        raise StoreCorrupt(f"{what} does not read: {error}") from None
