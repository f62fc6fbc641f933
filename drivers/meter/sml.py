"""SML 1.04: what German meters push. Bytes and `now` in, read-outs out; no I/O, no clock.

Source: BSI TR-03109-1, annex IV (Smart Message Language 1.04), sections 6 (binary encoding) and 8 (transport protocol,
version 1); DLMS UA Blue Book, table 2 (units). Status words: EDL (bit 5: energy flows out) and FNN Basiszaehler (bit
11).

A transport file ends in a CRC over all of it; nothing of one whose CRC is wrong is looked at. A decoder of our own:
docs/decisions/meter-decoders.md says why.
"""

import re
from typing import Any

from drivers.meter.checks import crc16_kermit, crc16_x25
from drivers.meter.records import CRC, Bad, Found, Readout, RegisterValue, code_of

MAX_BYTES = 8_192  # a file of twenty registers and a signature is 500
_ESCAPE, _BEGIN = b"\x1b" * 4, b"\x1b" * 4 + b"\x01" * 4
_DEPTH = 12
_MAX_ITEMS = 4_096
_LOST_S = 3.0

# Unit's number (DLMS UA) -> its name and the power of ten to it.
UNITS = {
    8: ("deg", 0), 13: ("m3", 0), 27: ("W", 0), 28: ("VA", 0), 29: ("var", 0), 30: ("Wh", 0), 31: ("VAh", 0),
    32: ("varh", 0), 33: ("A", 0), 35: ("V", 0), 44: ("Hz", 0),
}  # fmt: skip

_GET_LIST_RESPONSE = 0x0701
_FLOWS_OUT_EDL, _FLOWS_OUT_FNN = 1 << 5, 1 << 11
_EMH, _DZG = b"EMH", b"DZG"


class _Malformed(ValueError):
    """The bytes are no SML."""


class Sml:
    """The framer."""

    protocol = "sml"

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._looked_at = 0
        self._heard_at = 0.0

    def receive(self, data: bytes, now: float) -> list[Found]:
        self._buffer += data
        self._heard_at = now
        found: list[Found] = []
        while True:
            begin = self._buffer.find(_BEGIN)
            if begin < 0:
                self._drop(max(0, len(self._buffer) - 7))
                return found
            self._drop(begin)
            item = self._next()
            if item is None:
                break
            found.append(item)
        if len(self._buffer) > MAX_BYTES:
            found.append(self._bad("it is too long", len(_BEGIN)))
        return found

    def handle_timer(self, now: float) -> list[Found]:
        if self.get_timer() is None or now - self._heard_at < _LOST_S:
            return []
        return [self._bad("it broke off", len(self._buffer))]

    def get_timer(self) -> float | None:
        return self._heard_at + _LOST_S if self._buffer.startswith(_BEGIN) else None

    def _next(self) -> Found | None:
        """The file at the buffer's begin, once it is whole."""
        place = max(self._looked_at, len(_BEGIN))
        while (mark := self._buffer.find(_ESCAPE, place)) >= 0:
            if mark + 8 > len(self._buffer):
                break
            kind = bytes(self._buffer[mark + 4 : mark + 8])
            if kind == _ESCAPE:
                place = self._looked_at = mark + 8  # four bytes 1B of the data, doubled
                continue
            if kind[0] == 0x1A:
                return self._file(mark + 8)
            if kind == b"\x01" * 4:
                return self._bad("it broke off", mark)
            place = self._looked_at = mark + 1  # data that ends in 1B before an escape sequence
        return None

    def _file(self, end: int) -> Found:
        raw = bytes(self._buffer[:end])
        check = int.from_bytes(raw[-2:], "little")
        if check not in (crc16_x25(raw[:-2]), crc16_kermit(raw[:-2])):
            return self._bad("the CRC is wrong", end)
        self._drop(end)
        padding = raw[-3]
        body = re.sub(rb"(?:\x1b{4}){2}", _ESCAPE, raw[len(_BEGIN) : -8])
        if padding > 3:
            return Bad("it is malformed", raw)
        try:
            return _readout(body[: len(body) - padding], raw)
        except _Malformed:
            return Bad("it is malformed", raw)

    def _bad(self, reason: str, length: int) -> Bad:
        raw = bytes(self._buffer[:length])
        self._drop(length)
        return Bad(reason, raw)

    def _drop(self, length: int) -> None:
        if length:
            del self._buffer[:length]
            self._looked_at = 0


class _SmlReader:
    """SML's binary encoding: values are bytes, int, bool or list; "not set" is None."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0
        self._items = 0

    def read(self, depth: int = 0) -> Any:
        self._items += 1
        if depth > _DEPTH or self._items > _MAX_ITEMS or self.place >= len(self._data):
            raise _Malformed
        begin = self.place
        byte = self._data[begin]
        kind, length = byte & 0x70, byte & 0x0F
        while byte & 0x80:
            self.place += 1
            if self.place >= len(self._data) or self.place - begin > 3:
                raise _Malformed
            byte = self._data[self.place]
            length = length << 4 | byte & 0x0F
        self.place += 1
        if kind == 0x70:
            return [self.read(depth + 1) for _ in range(min(length, _MAX_ITEMS))]
        if begin + length == self.place - 1:  # 0x00: the end of a message
            return None
        content = self._data[self.place : begin + length]
        if begin + length > len(self._data) or begin + length < self.place:
            raise _Malformed
        self.place = begin + length
        if kind == 0x00:
            return content or None
        if kind == 0x40 and len(content) == 1:
            return content != b"\0"
        if kind in (0x50, 0x60) and 1 <= len(content) <= 8:
            return Number(content, kind == 0x50)
        raise _Malformed

    def is_at_end(self) -> bool:
        return not self._data[self.place :].strip(b"\0")


class Number(int):
    """An integer that remembers how many bytes it had; DZG's fault can only be seen by that."""

    width: int

    def __new__(cls, content: bytes, is_signed: bool) -> "Number":
        number = super().__new__(cls, int.from_bytes(content, "big", signed=is_signed))
        number.width = len(content)
        return number


def _readout(body: bytes, raw: bytes) -> Found:
    reader = _SmlReader(body)
    registers: dict[str, RegisterValue] = {}
    texts: dict[str, tuple[str, ...]] = {}
    status: int | None = None
    server = b""
    while not reader.is_at_end():
        message = reader.read()
        if message is None:
            continue
        # transaction, group, abort on error, body, CRC (of the message; the file's is over all), end
        if not isinstance(message, list) or len(message) != 6:
            raise _Malformed
        choice = message[3]
        if not isinstance(choice, list) or len(choice) != 2 or choice[0] != _GET_LIST_RESPONSE:
            continue
        response = choice[1]
        if not isinstance(response, list) or len(response) < 5 or not isinstance(response[4], list):
            raise _Malformed
        server = response[1] if isinstance(response[1], bytes) else server
        for entry in response[4]:
            status = _keep(entry, server, registers, texts, status)
    if server and "1-0:0.0.9" not in texts and "1-0:96.1.0" not in texts:
        texts["1-0:96.1.0"] = (_printed(server),)
    _find_power(registers, texts, status)
    ident = (texts.get("1-0:96.50.1") or texts.get("129-129:199.130.3") or ("",))[0]
    return Readout("sml", ident, CRC, registers, texts, raw, status)


def _keep(
    entry: Any,
    server: bytes,
    registers: dict[str, RegisterValue],
    texts: dict[str, tuple[str, ...]],
    status: int | None,
) -> int | None:
    """One SML_ListEntry: name, status, time, unit, scaler, value, signature. Returns the status word known so far."""
    if not isinstance(entry, list) or len(entry) < 6 or not isinstance(entry[0], bytes) or len(entry[0]) != 6:
        return status
    name, own_status, unit, scaler, value = entry[0], entry[1], entry[3], entry[4], entry[5]
    key = code_of(name)
    if isinstance(own_status, Number) and status is None and name[3] == 8:
        status = int(own_status)
    if isinstance(value, bytes):
        texts.setdefault(key, (_printed(value),))
        return status
    known = UNITS.get(unit) if isinstance(unit, Number) else None
    if name[5] != 255 or known is None or not isinstance(value, Number):
        return status
    exponent = 0 if scaler is None else int(scaler) if isinstance(scaler, Number) else 99
    if -9 <= exponent <= 9:
        amended = _amend(value, key, server, status)
        if amended is not None:
            registers.setdefault(key, RegisterValue(amended, exponent + known[1], known[0]))
    return status


def _amend(value: Number, key: str, server: bytes, status: int | None) -> int | None:
    """Some DZG meters send a positive power of two or three bytes as if it were signed: 356.24 W arrive as -299.12. The
    status word says which way the energy flows; where there is none, such a value could be either: it is left out."""
    if not server[2:].startswith(_DZG) or not key.endswith(".7.0") or value >= 0:
        return int(value)
    if status is None or value.width >= 4:
        return None if status is None else int(value)
    return int(value) if status & _FLOWS_OUT_FNN else int(value) + (1 << 8 * value.width)


def _find_power(registers: dict[str, RegisterValue], texts: dict[str, tuple[str, ...]], status: int | None) -> None:
    """EMH's meters say how much (15.7.0, without a sign), and in the status word which way."""
    size = registers.get("1-0:15.7.0")
    is_emh = texts.get("129-129:199.130.3") == ("EMH",)
    if size is None or not is_emh or status is None or "1-0:16.7.0" in registers or size.mantissa < 0:
        return
    sign = -1 if status & _FLOWS_OUT_EDL else 1
    registers["1-0:16.7.0"] = size._replace(mantissa=sign * size.mantissa)


def _printed(value: bytes) -> str:
    """A text as it is; a server id as it is printed on the meter (DIN 43863-5: `1 ESY 11 03 599653`); else
    hexadecimal."""
    if len(value) == 10 and value[0] in (0x09, 0x0A) and value[2:5].isalpha() and value[2:5].isascii():
        number = int.from_bytes(value[6:10], "big")
        return f"{value[1] & 0x0F}{value[2:5].decode('ascii')}{value[5]:02X}{number:08d}"
    if value and all(32 <= byte < 127 for byte in value):
        return value.decode("ascii").strip()
    return value.hex().upper()
