"""Addresses as the rest of the hub writes them: an IEEE address is 16 hex digits, most significant first."""

from zigpy import types as t

CLIENT_PREFIX = "zb-"


def hex_of(ieee: t.EUI64) -> str:
    """`0011223344556677` for 00:11:22:33:44:55:66:77."""
    return bytes(ieee.serialize())[::-1].hex()


def ieee_of(text: str) -> t.EUI64:
    """The address that `hex_of` printed. Raises ValueError for anything else."""
    raw = bytes.fromhex(text)
    if len(raw) != 8:
        raise ValueError(f"an IEEE address has 16 hex digits: {text!r}")
    ieee: t.EUI64 = t.EUI64.deserialize(raw[::-1])[0]
    return ieee


def client_id_of(ieee: str) -> str:
    """The ClientId under which a ZCL device's readings appear (design 3.2)."""
    return CLIENT_PREFIX + ieee
