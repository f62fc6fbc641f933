"""Linky's TIC (télé-information client), historic and standard mode. Bytes and `now` in, read-outs out; no I/O, no
clock.

Source: Enedis-NOI-CPT_54E, sections 5 (frames: STX groups ETX; a group is LF label SP data SP checksum CR, in standard
mode with HT and, in some, a time stamp) and 6.2 (labels). 1200 or 9600 baud, 7E1.

A frame counts only when each of its groups is right: a sum of tariffs of which one is missing would be wrong.
Apparent power (PAPP, SINSTS) is VA, not W: it is shown, and is no `power`.
"""

import re

from drivers.meter.checks import parity_of, seven_bits
from drivers.meter.records import PARITY, Bad, Found, Readout, RegisterValue

MAX_BYTES = 4_096  # a standard frame is 1,200
_LOST_S = 5.0
_STX, _ETX, _EOT = b"\x02", b"\x03", b"\x04"
_GROUP = re.compile(rb"\n([A-Z][A-Z0-9+-]{1,8})([ \t])([^\r\n]{0,120})\2([ -_])\r")
_NUMBER = re.compile(r"[0-9]{1,12}\Z")
_STAMP = re.compile(r"[A-Za-z ]\d{12}\Z")
_LAYERS = ("BASE", "HCHC", "HCHP", "EJPHN", "EJPHPM", "BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR")

# Label -> code, unit, power of ten.
_CODES: dict[str, tuple[str, str, int]] = {
    "BASE": ("1-0:1.8.0", "Wh", 0), "HCHC": ("1-0:1.8.1", "Wh", 0), "HCHP": ("1-0:1.8.2", "Wh", 0),
    "EJPHN": ("1-0:1.8.1", "Wh", 0), "EJPHPM": ("1-0:1.8.2", "Wh", 0),
    **{label: (f"1-0:1.8.{tariff}", "Wh", 0) for tariff, label in enumerate(_LAYERS[5:], 1)},
    "EAST": ("1-0:1.8.0", "Wh", 0), "EAIT": ("1-0:2.8.0", "Wh", 0),
    **{f"EASF{tariff:02d}": (f"1-0:1.8.{tariff}", "Wh", 0) for tariff in range(1, 10)},
    **{f"ERQ{quadrant}": (f"1-0:{4 + quadrant}.8.0", "varh", 0) for quadrant in range(1, 5)},
    **{f"IRMS{phase}": (f"1-0:{11 + 20 * phase}.7.0", "A", 0) for phase in range(1, 4)},
    **{f"URMS{phase}": (f"1-0:{12 + 20 * phase}.7.0", "V", 0) for phase in range(1, 4)},
    "IINST": ("1-0:31.7.0", "A", 0),
    **{f"IINST{phase}": (f"1-0:{11 + 20 * phase}.7.0", "A", 0) for phase in range(1, 4)},
    "PAPP": ("1-0:9.7.0", "VA", 0), "SINSTS": ("1-0:9.7.0", "VA", 0), "SINSTI": ("1-0:10.7.0", "VA", 0),
    "PREF": ("0-0:17.0.0", "VA", 3),
}  # fmt: skip


class Tic:
    """The framer."""

    protocol = "tic"

    def __init__(self) -> None:
        self._raw = bytearray()
        self._heard_at = 0.0

    def receive(self, data: bytes, now: float) -> list[Found]:
        self._raw += data
        self._heard_at = now
        found: list[Found] = []
        while True:
            text = seven_bits(bytes(self._raw))
            begin = text.find(_STX)
            if begin < 0:
                self._raw.clear()
                return found
            end = text.find(_ETX, begin)
            again = text.rfind(_STX, begin + 1, end if end >= 0 else len(text))
            if again > begin:
                if text[begin + 1 : begin + 2] == b"\n":
                    found.append(Bad("it broke off", bytes(self._raw[begin:again])))
                begin = again
            if end < 0:
                del self._raw[:begin]
                break
            frame, raw = text[begin + 1 : end], bytes(self._raw[begin : end + 1])
            del self._raw[: end + 1]
            if frame.startswith(b"\n") and _EOT not in frame:  # the frames of other protocols begin otherwise
                found.append(_frame(frame, raw))
        if len(self._raw) > MAX_BYTES:
            self._raw.clear()
            found.append(Bad("it is too long", b""))
        return found

    def handle_timer(self, now: float) -> list[Found]:
        if self.get_timer() is not None and now - self._heard_at >= _LOST_S:
            self._raw.clear()
        return []

    def get_timer(self) -> float | None:
        return self._heard_at + _LOST_S if self._raw else None


def _frame(frame: bytes, raw: bytes) -> Found:
    if parity_of(raw) == "broken":
        return Bad("the parity is wrong", raw)
    registers: dict[str, RegisterValue] = {}
    texts: dict[str, tuple[str, ...]] = {}
    place = 0
    while place < len(frame):
        match = _GROUP.match(frame, place)
        if match is None or not _is_right(match):
            return Bad("a group's checksum is wrong", raw)
        place = match.end()
        label = match.group(1).decode("ascii")
        parts = tuple(part.decode("ascii", "replace") for part in match.group(3).split(match.group(2)))
        if len(parts) > 1 and match.group(2) == b"\t" and not _STAMP.match(parts[0]):
            return Bad("a group's time stamp is none", raw)
        texts.setdefault(label, parts)
        code = _CODES.get(label)
        if code is not None:
            if not _NUMBER.match(parts[-1]):  # six bits of sum do not see the seventh
                return Bad("a group's value is no number", raw)
            registers.setdefault(code[0], RegisterValue(int(parts[-1]), code[2], code[1]))
    number = (texts.get("ADSC") or texts.get("ADCO") or ("",))[0]
    if not number or not registers:
        return Bad("it has no address", raw)
    texts["C.1.0"] = (number,)
    return Readout("tic", "Linky" if "ADSC" in texts else "TIC", PARITY, registers, texts, raw)


def _is_right(match: re.Match[bytes]) -> bool:
    """The sum of label, separator and data, in standard mode of the second separator too, in six bits and from
    space."""
    label, separator, data, check = match.groups()
    total = sum(label) + sum(separator) + sum(data) + (sum(separator) if separator == b"\t" else 0)
    return bool(check[0] == (total & 0x3F) + 0x20)
