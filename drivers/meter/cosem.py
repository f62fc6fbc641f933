"""What a DLMS/COSEM meter pushes: a data notification's list of registers. No I/O, no clock.

Sources: IEC 62056-5-3 (Green Book) 9.5 (data-notification, tag 15; A-XDR encoding of data); the Norwegian NVE/NEK lists
and the utilities' descriptions of their HAN ports: Aidon (code, value, scaler and unit of each), Kaifa KFM_001 (a list
by position), Kamstrup V0001 (codes and values; their scales are judged by list_scales.py); the Swiss utilities'
descriptions of the customer interface (a list of what is pushed, then the values in that order: IEC 62056-6-2, class
40, push_object_list). A decoder of our own: docs/decisions/meter-decoders.md.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from drivers.meter.records import RegisterValue, code_of
from drivers.meter.sml import UNITS

DATA_NOTIFICATION = 0x0F
_DEPTH = 12
_MAX_ITEMS = 2_048


class MalformedCosem(ValueError):
    """The bytes are no data notification."""


class Pushed(NamedTuple):
    """What a notification says; see records.Readout."""

    ident: str
    registers: dict[str, RegisterValue]
    texts: dict[str, tuple[str, ...]]


class _Enum(int):
    """A DLMS enumeration: a unit, where one is expected."""


class _CosemReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0
        self._items = 0

    def take(self, length: int) -> bytes:
        content = self._data[self.place : self.place + length]
        if len(content) != length:
            raise MalformedCosem
        self.place += length
        return content

    def length(self) -> int:
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if not 1 <= first & 0x7F <= 2:
            raise MalformedCosem
        return int.from_bytes(self.take(first & 0x7F), "big")

    def is_at_end(self) -> bool:
        return self.place >= len(self._data)

    def read(self, depth: int = 0) -> Any:
        """One value: None, list, bool, int, _Enum, float, str or bytes."""
        self._items += 1
        if depth > _DEPTH or self._items > _MAX_ITEMS:
            raise MalformedCosem
        tag = self.take(1)[0]
        if tag in (1, 2):
            count = self.length()
            code = self._bare_code() if tag == 2 and count in (2, 3) else b""
            items: list[Any] = [code] if code else []
            return items + [self.read(depth + 1) for _ in range(count - len(items))]
        if tag in _WHOLE:
            width, is_signed = _WHOLE[tag]
            return int.from_bytes(self.take(width), "big", signed=is_signed)
        if tag in _FLOAT:
            return struct.unpack(_FLOAT[tag], self.take(4 if tag == 23 else 8))[0]
        if tag in (9, 10, 12):
            content = self.take(self.length())
            return content if tag == 9 else content.decode("ascii", "replace")
        if tag in _OPAQUE:
            return self.take(_OPAQUE[tag])
        if tag == 4:
            return self.take((self.length() + 7) // 8)
        if tag == 0:
            return None
        if tag == 3:
            return self.take(1) != b"\0"
        if tag == 22:
            return _Enum(self.take(1)[0])
        raise MalformedCosem

    def _bare_code(self) -> bytes:
        """The code at a structure's begin where it is not a byte string by the book, else b"": an attribute descriptor
        without a tag (the Czech interface: class, code, attribute), or tag and length changed about (ZMF100)."""
        ahead = self._data[self.place : self.place + 9]
        if _DESCRIPTOR.match(ahead):
            self.place += 9
            return ahead[2:8]
        if _CHANGED_ABOUT.match(ahead):
            self.place += 8
            return ahead[2:8]
        return b""


_DESCRIPTOR = re.compile(rb"\x00[\x01\x03\x04\x08\x28\x46\x47].{5}\xff[\x01-\x08]", re.DOTALL)
_CHANGED_ABOUT = re.compile(rb"\x06\x09\x01\x00.\x07\x00\xff", re.DOTALL)

_WHOLE = {5: (4, True), 6: (4, False), 15: (1, True), 16: (2, True), 17: (1, False), 18: (2, False), 20: (8, True),
          21: (8, False)}  # fmt: skip
_FLOAT = {23: ">f", 24: ">d"}
_OPAQUE = {13: 1, 25: 12, 26: 5, 27: 4}


def read_notification(data: bytes, ident: str = "", maker: str = "") -> Pushed:
    """A data notification (tag 15); `ident`: what the meter called itself before; `maker`: three letters of its system
    title. Raises Malformed."""
    reader = _CosemReader(data)
    if reader.take(1)[0] != DATA_NOTIFICATION:
        raise MalformedCosem
    reader.take(4)  # long invoke id and priority
    length = reader.length()
    if length == 9:  # some meters put the tag of a byte string before its length
        length = reader.length()
    if length not in (0, 12):
        raise MalformedCosem
    reader.take(length)
    body = reader.read()
    if not isinstance(body, list):
        raise MalformedCosem
    if body and _is_object_list(body):
        return _by_object_list(body)
    head = _printed(body[0]) if body and isinstance(body[0], bytes | str) else ""
    if head.startswith(_KAIFA):
        return _by_position(body)
    if ident.startswith(_KAIFA) and len(body) == 1 and type(body[0]) is int:
        return Pushed(ident, {"1-0:1.7.0": RegisterValue(body[0], 0, "W")}, {})  # its shortest list
    pushed = Pushed(head if head.startswith(KAMSTRUP) else "", {}, {})
    scales = _SCALES[KAMSTRUP] if pushed.ident else _WITHOUT_SCALES if maker == _LANDIS or _is_czech(body) else {}
    _walk(body, pushed.registers, pushed.texts, scales)
    version = next((pushed.texts[key][0] for key in _VERSIONS if key in pushed.texts), "")
    if version.startswith(_KAIFA):
        _walk(body, pushed.registers, pushed.texts, _SCALES[_KAIFA])
    for number in ("1-1:0.0.5", "1-1:0.0.1"):
        if pushed.ident and number in pushed.texts:
            pushed.texts.setdefault("0-0:96.1.0", pushed.texts[number])
    return pushed._replace(ident=(pushed.ident or version)[:64])


def _walk(
    items: list[Any],
    registers: dict[str, RegisterValue],
    texts: dict[str, tuple[str, ...]],
    scales: Mapping[str, tuple[str, int]],
) -> None:
    """Code, value and, where it is there, (scaler, unit): nested or one behind the other. `scales`: of meters that send
    neither, C.D.E -> unit and power of ten."""
    place = 0
    while place < len(items):
        item = items[place]
        place += 1
        if isinstance(item, list):
            _walk(item, registers, texts, scales)
            continue
        if not isinstance(item, bytes) or len(item) != 6 or item[5] != 255 or place >= len(items):
            continue
        value = items[place]
        if isinstance(value, list):
            continue
        place += 1
        key = code_of(item)
        code = key.partition(":")[2]
        if isinstance(value, bytes | str):
            texts.setdefault(key, (_printed(value),))
        elif isinstance(value, int) and not isinstance(value, bool | _Enum):
            scale = items[place] if place < len(items) else None
            if isinstance(scale, list):
                register = _scaled(value, scale)
            else:
                unit, exponent = scales.get(code, ("", 0))
                register = RegisterValue(value, exponent, unit) if unit else None
            if register is not None:
                if item[0] == 0 and _ENERGY.match(code) and register.unit in ("Wh", "varh"):
                    key = f"1-0:{code}"  # so they are written by the ZMF100
                registers.setdefault(key, register)
            elif code.startswith("0.0."):
                texts.setdefault(key, (str(value),))


def _scaled(value: int, scale: list[Any]) -> RegisterValue | None:
    if len(scale) != 2 or type(scale[0]) is not int or not isinstance(scale[1], _Enum) or not -9 <= scale[0] <= 9:
        return None
    known = UNITS.get(int(scale[1]))
    return None if known is None else RegisterValue(value, scale[0] + known[1], known[0])


_ENERGY = re.compile(r"[1-8]\.8\.\d\Z")
_VERSIONS = ("1-1:0.2.129", "1-0:0.2.129", "0-0:0.2.129")
_KAIFA, KAMSTRUP = "KFM_001", "Kamstrup_V000"
_PHASES = ("21.7.0", "41.7.0", "61.7.0", "22.7.0", "42.7.0", "62.7.0")
_VOLTS, _AMPERES = ("32.7.0", "52.7.0", "72.7.0"), ("31.7.0", "51.7.0", "71.7.0")


def _table(energy: int, current: int, voltage: int) -> dict[str, tuple[str, int]]:
    """C.D.E -> unit and power of ten."""
    return {
        **dict.fromkeys(("1.7.0", "2.7.0", *_PHASES), ("W", 0)),
        **dict.fromkeys(("3.7.0", "4.7.0"), ("var", 0)),
        **dict.fromkeys(("1.8.0", "2.8.0"), ("Wh", energy)),
        **dict.fromkeys(("3.8.0", "4.8.0"), ("varh", energy)),
        **dict.fromkeys(_AMPERES, ("A", current)),
        **dict.fromkeys(_VOLTS, ("V", voltage)),
    }


# What meters mean that send values without scale or unit (Kamstrup's HAN specification 5512-2584, by which not all of
# its meters keep: list_scales.py; Kaifa's list).
_SCALES = {KAMSTRUP: _table(1, -2, 0), _KAIFA: _table(0, -3, -1)}
_POWERS, _ENERGIES = ("1.7.0", "2.7.0", "3.7.0", "4.7.0"), ("", "1.8.0", "2.8.0", "3.8.0", "4.8.0")
_ONE, _THREE = _AMPERES[:1] + _VOLTS[:1], _AMPERES + _VOLTS
# Kaifa's list by position: number of elements -> what each is, behind version, number and type.
_POSITIONS = {9: _POWERS + _ONE, 13: _POWERS + _THREE, 14: _POWERS + _ONE + _ENERGIES, 18: _POWERS + _THREE + _ENERGIES}


def _by_position(body: list[Any]) -> Pushed:
    shape = _POSITIONS.get(len(body))
    if shape is None:
        raise MalformedCosem
    registers = {}
    for value, code in zip(body[3:], shape, strict=True):
        if code and type(value) is int:
            unit, exponent = _SCALES[_KAIFA][code]
            registers[f"1-0:{code}"] = RegisterValue(value, exponent, unit)
    return Pushed(_printed(body[0])[:64], registers, {"0-0:96.1.0": (_printed(body[1]),)})


def _is_object_list(body: list[Any]) -> bool:
    """Whether the first value says what the others are: (class, code, attribute, index) of each, itself included."""
    objects = body[0]
    return (
        isinstance(objects, list)
        and len(objects) == len(body) > 1
        and all(
            isinstance(one, list) and len(one) == 4 and isinstance(one[1], bytes) and len(one[1]) == 6
            for one in objects
        )
    )


# Pushes by the code of their setup: Iskraemeco's and Landis+Gyr's E360, in tenths of a volt and hundredths of an
# ampere; Landis+Gyr's E450 and E570, whose amperes differ and so are left out. Energy is Wh and varh, power W and var.
_TARIFFS = {f"{code}.8.{tariff}": ("Wh" if code < 3 else "varh", 0) for code in range(1, 9) for tariff in range(10)}
_WHOLE_UNITS = {**_table(0, 0, 0), **_TARIFFS}
_PUSHES = {
    "0-6:25.9.0": {**_table(0, -2, -1), **_TARIFFS},
    "0-8:25.9.0": {code: scale for code, scale in _WHOLE_UNITS.items() if scale[0] != "A"},
}
# Landis+Gyr's E450 in Austria and the Czech distributors' interface (RS-485): watts and watt hours; the rest is out.
_WITHOUT_SCALES = {code: scale for code, scale in _WHOLE_UNITS.items() if scale[0] not in ("V", "A")}
_LANDIS = "LGZ"


def _is_czech(body: list[Any]) -> bool:
    """(1, the list of what is pushed, each with its attribute descriptor)."""
    return len(body) == 2 and isinstance(body[0], _Enum) and int(body[0]) == 1 and isinstance(body[1], list)


_VALUE_OF = (1, 3, 4)  # classes (data, register, extended register) whose second attribute is a value


def _by_object_list(body: list[Any]) -> Pushed:
    objects = body[0]
    setup = code_of(objects[0][1])
    scales = _PUSHES.get(setup, {})
    pushed = Pushed("", {}, {})
    for (kind, code, attribute, _), value in zip(objects[1:], body[1:]):
        key = code_of(code)
        if kind not in _VALUE_OF or attribute != 2 or code[5] != 255:
            continue
        if isinstance(value, bytes | str):
            pushed.texts.setdefault(key, (_printed(value),))
        elif type(value) is int and key.partition(":")[2] in scales:
            unit, exponent = scales[key.partition(":")[2]]
            pushed.registers.setdefault(key, RegisterValue(value, exponent, unit))
    return pushed


def _printed(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\0") or value
        return text.decode("ascii") if text and all(32 <= byte < 127 for byte in text) else text.hex().upper()
    return "".join(character for character in str(value) if " " <= character <= "~").strip()[:64]
