"""Receipts: a hub's signed word on what became of a command, each chained to the one before (design 3.3).

CWT claims `{1 iss: hub, 6 iat, "re": cti, "digest", "status", "reason", "detail", "prev", "i"}`, sealed in lane
`receipts`. `prev` is the SHA-256 of the previous receipt's whole message, so a receipt cannot be left out or rewritten.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hub.wire.uplink.cbor import decode, encode

MAX_BYTES = 64 * 1024  # what a hub seals in one of these

CONTENT_TYPE = 61
STATUSES = ("accepted", "refused", "applied", "completed", "partial", "failed", "cancelled", "superseded")
# A command with one of these is over; the others announce more.
FINAL = frozenset({"refused", "completed", "failed", "cancelled", "superseded"})
FIRST_PREV = bytes(32)
# What of `detail` is a household's consumption: not for everybody who may know what became of a command.
CONSUMPTION = frozenset({"household_w", "base_w"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt's claims. `re` is None when the command's cti could not be read; `iat` in UTC epoch seconds."""

    hub: str
    iat: int
    re: bytes | None
    digest: bytes
    status: str
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    prev: bytes = FIRST_PREV
    i: int = 1


def encode_receipt(receipt: Receipt) -> bytes:
    """The payload of a receipt's envelope."""
    if receipt.status not in STATUSES:
        raise ValueError(f"{receipt.status} is not a status of a receipt")
    return encode(
        {
            1: receipt.hub,
            6: receipt.iat,
            "re": receipt.re,
            "digest": receipt.digest,
            "status": receipt.status,
            "reason": receipt.reason,
            "detail": receipt.detail,
            "prev": receipt.prev,
            "i": receipt.i,
        }
    )


def decode_receipt(payload: bytes) -> Receipt:
    """Read a receipt's claims. Raises ValueError."""
    claims = decode(payload, max_bytes=MAX_BYTES)
    if not isinstance(claims, dict):
        raise ValueError("not a receipt: a map is expected")
    try:
        receipt = Receipt(claims[1], claims[6], claims["re"], claims["digest"], claims["status"], claims["reason"],
                          claims["detail"], claims["prev"], claims["i"])  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a receipt: {error!r}") from None
    raw = (b"" if receipt.re is None else receipt.re, receipt.digest, receipt.prev)
    texts = (receipt.hub, receipt.status, receipt.reason)
    if not all(isinstance(value, bytes) for value in raw) or not all(isinstance(value, str) for value in texts):
        raise ValueError("not a receipt: a field is of another type")
    if not all(type(number) is int for number in (receipt.iat, receipt.i)):
        raise ValueError("not a receipt: iat and i are integers")
    if receipt.status not in STATUSES or not isinstance(receipt.detail, dict):
        raise ValueError("not a receipt")
    return receipt


def chain_hash(message: bytes) -> bytes:
    """What the next receipt's `prev` is: the hash of this one's whole message, as it was sent."""
    return hashlib.sha256(message).digest()


def broken_links(receipts: Iterable[tuple[Receipt, bytes]]) -> list[int]:
    """The indices at which a chain, given as `(receipt, message)` in order, does not fit the one before."""
    broken = []
    prev, i = FIRST_PREV, 0
    for receipt, message in receipts:
        if receipt.prev != prev or receipt.i != i + 1:
            broken.append(receipt.i)
        prev, i = chain_hash(message), receipt.i
    return broken
