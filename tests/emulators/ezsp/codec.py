# SPDX-License-Identifier: GPL-3.0-or-later
"""EZSP frames to bytes and back, by the layouts in `tables.py` (UG100 §3)."""

from __future__ import annotations

from typing import Any, Final

from .tables import FIRST_SL_STATUS_VERSION, STATUS, STRUCTURES, layout

Fields = dict[str, Any]

_NUMBERS: Final = {"u8": 1, "u16": 2, "u32": 4, "i8": 1}
_BYTES: Final = {"eui": 8, "key": 16}
_LENGTHS: Final = {"lv": 1, "lv32": 4}
_STATUS_COLUMN: Final = {"status": 0, "ezsp": 1, "sl": 2}
_STRUCTURES: Final = {name: layout(text) for name, text in STRUCTURES.items()}

FRAME_CONTROL_RESPONSE: Final = 0x80
FRAME_CONTROL_CALLBACK: Final = 0x90  # response, asynchronous callback
FRAME_CONTROL_OVERFLOW: Final = 0x01
FRAME_FORMAT_1: Final = 0x01


class Truncated(Exception):
    """The frame ends before its layout does."""


class Codec:
    """Encodes and decodes field by field for one protocol version."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._wide = version >= FIRST_SL_STATUS_VERSION

    def decode(self, fields: tuple[tuple[str, str], ...], data: bytes) -> Fields:
        """The fields of a request. Bytes left over are ignored, as an NCP does. Raises Truncated."""
        values, _ = self._decode(fields, data, 0)
        return values

    def _decode(self, fields: tuple[tuple[str, str], ...], data: bytes, at: int) -> tuple[Fields, int]:
        values: Fields = {}
        for name, kind in fields:
            if kind in _STRUCTURES:
                values[name], at = self._decode(_STRUCTURES[kind], data, at)
            else:
                values[name], at = self._decode_one(kind, data, at)
        return values, at

    def _decode_one(self, kind: str, data: bytes, at: int) -> tuple[Any, int]:
        if kind == "rest":
            return data[at:], len(data)
        if kind in _LENGTHS:
            length, at = self._number(_LENGTHS[kind], data, at)
            return _take(data, at, length), at + length
        if kind in _BYTES:
            return _take(data, at, _BYTES[kind]), at + _BYTES[kind]
        number, at = self._number(_NUMBERS[kind], data, at)
        return (number - 256 if kind == "i8" and number > 127 else number), at

    @staticmethod
    def _number(size: int, data: bytes, at: int) -> tuple[int, int]:
        return int.from_bytes(_take(data, at, size), "little"), at + size

    def encode(self, fields: tuple[tuple[str, str], ...], values: Fields) -> bytes:
        """The bytes of a response; a field without a value is zero or empty, a status is given by its name."""
        out = bytearray()
        for name, kind in fields:
            value = values.get(name)
            if kind in _STRUCTURES:
                out += self.encode(_STRUCTURES[kind], value or {})
            else:
                out += self._encode_one(kind, value)
        return bytes(out)

    def _encode_one(self, kind: str, value: Any) -> bytes:
        if kind in _STATUS_COLUMN:
            return self._status(kind, "OK" if value is None else value)
        if kind in _NUMBERS:
            size, number = _NUMBERS[kind], int(value or 0)
            wrapped: int = number % 256**size
            return wrapped.to_bytes(size, "little")
        raw: bytes = bytes(value or b"")
        if kind in _BYTES:
            return raw.ljust(_BYTES[kind], b"\0")
        if kind in _LENGTHS:
            return len(raw).to_bytes(_LENGTHS[kind], "little") + raw
        return raw

    def _status(self, kind: str, value: str | int) -> bytes:
        column = 2 if self._wide else _STATUS_COLUMN[kind]
        number = value if isinstance(value, int) else STATUS[value][column]
        return number.to_bytes(4 if column == 2 else 1, "little")


def _take(data: bytes, at: int, length: int) -> bytes:
    if len(data) < at + length:
        raise Truncated(f"{at + length} bytes expected, {len(data)} there")
    return data[at : at + length]
