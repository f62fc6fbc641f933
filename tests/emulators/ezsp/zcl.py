# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of the Zigbee Cluster Library as a smart plug needs: frames, data types, general commands (ZCL rev. 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

READ, READ_RSP, WRITE, WRITE_RSP = 0x00, 0x01, 0x02, 0x04
CONFIGURE, CONFIGURE_RSP, READ_CONFIG, READ_CONFIG_RSP = 0x06, 0x07, 0x08, 0x09
REPORT, DEFAULT_RSP, DISCOVER, DISCOVER_RSP = 0x0A, 0x0B, 0x0C, 0x0D

SUCCESS: Final = 0x00
MALFORMED: Final = 0x80
UNSUP_COMMAND: Final = 0x81
UNSUPPORTED_ATTRIBUTE: Final = 0x86
READ_ONLY: Final = 0x88
INVALID_DATA_TYPE: Final = 0x8D
UNREPORTABLE: Final = 0x8C
NOT_FOUND: Final = 0x8B
UNSUPPORTED_CLUSTER: Final = 0xC3

BOOL, BITMAP8, BITMAP32, UINT8, UINT16, UINT24, UINT32, UINT48 = 0x10, 0x18, 0x1B, 0x20, 0x21, 0x22, 0x23, 0x25
INT16, INT24, INT32, ENUM8, STRING = 0x29, 0x2A, 0x2B, 0x30, 0x42
BITMAP16, ENUM16, SINGLE, DOUBLE, EUI64 = 0x19, 0x31, 0x39, 0x3A, 0xF0
FLOATS: Final = {SINGLE: "<f", DOUBLE: "<d"}

SIZES: Final = {
    BOOL: 1, BITMAP8: 1, BITMAP32: 4, UINT8: 1, UINT16: 2, UINT24: 3, UINT32: 4, UINT48: 6,
    INT16: 2, INT24: 3, INT32: 4, ENUM8: 1, BITMAP16: 2, ENUM16: 2, SINGLE: 4, DOUBLE: 8, EUI64: 8,
    0x24: 5, 0x26: 7, 0x27: 8, 0x28: 1, 0x2C: 5, 0x2D: 6, 0x2E: 7, 0x2F: 8, 0xE2: 4,
}  # fmt: skip
SIGNED: Final = frozenset(range(0x28, 0x30))
ANALOG: Final = frozenset((*range(0x20, 0x30), SINGLE, DOUBLE, 0xE2))

FRAME_CLUSTER: Final = 0x01
FRAME_MANUFACTURER: Final = 0x04
FRAME_FROM_SERVER: Final = 0x08
FRAME_NO_DEFAULT_RSP: Final = 0x10

Value = int | float | str


@dataclass(frozen=True)
class Header:
    """A ZCL header (§2.4.1)."""

    control: int
    tsn: int
    command: int
    manufacturer: int | None = None

    @property
    def for_cluster(self) -> bool:
        return bool(self.control & FRAME_CLUSTER)

    @property
    def wants_default_response(self) -> bool:
        return not self.control & FRAME_NO_DEFAULT_RSP


class Malformed(ValueError):
    """The frame ends too early, or holds a type we do not know."""


def parse(data: bytes) -> tuple[Header, bytes]:
    """Header and payload. Raises Malformed."""
    if len(data) < 3:
        raise Malformed("a ZCL header has at least 3 bytes")
    if not data[0] & FRAME_MANUFACTURER:
        return Header(data[0], data[1], data[2]), data[3:]
    if len(data) < 5:
        raise Malformed("a manufacturer's ZCL header has 5 bytes")
    return Header(data[0], data[3], data[4], int.from_bytes(data[1:3], "little")), data[5:]


def general(tsn: int, command: int, body: bytes) -> bytes:
    """A general command from a server that wants no default response."""
    return bytes((FRAME_FROM_SERVER | FRAME_NO_DEFAULT_RSP, tsn, command)) + body


def encode(kind: int, value: Value) -> bytes:
    """A value in its data type (§2.6.2); numbers out of range are clamped, as meters do."""
    if isinstance(value, str):
        text = value.encode()
        return bytes((len(text),)) + text
    if kind in FLOATS:
        return struct.pack(FLOATS[kind], value)
    size = SIZES[kind]
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if kind in SIGNED else (0, (1 << 8 * size) - 1)
    return int(min(max(value, low), high)).to_bytes(size, "little", signed=kind in SIGNED)


def decode(kind: int, data: bytes, at: int) -> tuple[Value, int]:
    """A value and where it ends. Raises Malformed."""
    if kind == STRING:
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise Malformed("a string ends early")
        return data[at + 1 : at + 1 + data[at]].decode(errors="replace"), at + 1 + data[at]
    size = SIZES.get(kind)
    if size is None or at + size > len(data):
        raise Malformed(f"no value of type 0x{kind:02x} at {at}")
    if kind in FLOATS:
        return struct.unpack(FLOATS[kind], data[at : at + size])[0], at + size
    return int.from_bytes(data[at : at + size], "little", signed=kind in SIGNED), at + size
