"""CBOR from strangers (RFC 8949): one data item, nothing behind it, one kind of error for all that can be wrong."""

import io
from typing import Any

import cbor2


class BadCbor(ValueError):
    """The bytes are not exactly one CBOR data item."""


def loads_one(data: bytes) -> Any:
    """Decode one data item. Raises BadCbor; also for octets that follow it, which a signature might not cover."""
    stream = io.BytesIO(data)
    try:
        item = cbor2.load(stream)
    # cbor2 lets several kinds through for hostile bytes: bad dates and numbers under tags, deep nesting, odd keys.
    except (cbor2.CBORError, ValueError, TypeError, EOFError, RecursionError, ArithmeticError, MemoryError) as error:
        raise BadCbor(f"not CBOR: {error}") from None
    if stream.tell() != len(data):
        raise BadCbor(f"{len(data) - stream.tell()} octets follow the data item")
    return item
