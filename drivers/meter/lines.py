"""Data lines with OBIS codes, as P1 telegrams and IEC 62056-21 read-outs have them. No I/O, no clock.

Sources: IEC 62056-21 section 6.1 (data sets), IEC 62056-61 (OBIS codes), DSMR 5.0.2 P1 companion standard section 6.12,
DSMR 2.2 section 6.12 (the gas value on a line of its own).
A data set is a code and groups in brackets: `1-0:1.8.1*255(001234.567*kWh)`. Medium and channel may be missing (1-0 is
meant), the last group of the code too (`32.7(241*V)`), several sets may share a line.
"""

import re
from typing import NamedTuple

from drivers.meter.records import RegisterValue

# Unit -> the unit without prefix, power of ten. A prefix is m or M, so those are read as they are written.
UNITS: dict[str, tuple[str, int]] = {
    "Wh": ("Wh", 0), "kWh": ("Wh", 3), "MWh": ("Wh", 6), "W": ("W", 0), "kW": ("W", 3), "MW": ("W", 6),
    "VA": ("VA", 0), "kVA": ("VA", 3), "VAh": ("VAh", 0), "kVAh": ("VAh", 3),
    "var": ("var", 0), "kvar": ("var", 3), "varh": ("varh", 0), "kvarh": ("varh", 3),
    "Mvar": ("var", 6), "Mvarh": ("varh", 6), "V": ("V", 0), "kV": ("V", 3), "A": ("A", 0), "mA": ("A", -3),
    "kA": ("A", 3), "Hz": ("Hz", 0), "m3": ("m3", 0), "dm3": ("m3", -3), "GJ": ("J", 9), "MJ": ("J", 6),
    "s": ("s", 0), "min": ("min", 0),
}  # fmt: skip
_LOWER = {unit.lower(): known for unit, known in UNITS.items() if unit[0] not in "mM" or unit in ("m3", "min")}

_CODE = r"(?:(\d{1,3})-(\d{1,3}):)?([0-9A-Z]{1,3}(?:[.:][0-9A-Z]{1,3}){0,2})(?:[*&.](\d{1,3}))?"
_SET = re.compile(r"[ ]*" + _CODE + r"((?:\([^()\r\n]*\))+)")
_GROUP = re.compile(r"\(([^()\r\n]*)\)")
# What a line of a telegram without a checksum has to look like.
_WHOLE_LINE = re.compile(rf"(?:{_CODE})?(?:\([ -~]*\))+(?:(?:{_CODE})(?:\([ -~]*\))+)*\Z")
_VALUE = re.compile(r"([+-]?)(\d{1,15})(?:[.,](\d{0,9}))?(?:\*([A-Za-z]{1,5}3?))?\Z")
_NUMERIC = re.compile(r"\d{1,3}[.:]\d{1,3}(?:[.:]\d{1,3})?\Z")
_STAMP = re.compile(r"\d{10}(?:\d\d)?[SWsw]?\Z")

# Registers whose unit is the same in every meter, for lines that name none: kilo where the value has a fraction (the
# Hager and EMH eHZ write `1-0:1.8.1*255(000065.7067)` and mean kWh). A whole number could be either: it is left out.
_BARE = re.compile(r"(?:([12])\.8\.\d|(?:1|2|16|21|41|61)\.7\.0|([357]2)\.7\.0|([357]1)\.7\.0)\Z")

_NINES = str.maketrans("12345678", "99999999")
_NOT_USED = 255  # of a value group (IEC 62056-61)
_MAX_LINES = 1024
_MAX_GROUPS = 256


class Lines(NamedTuple):
    """What the lines say, and whether each of them looks like one."""

    registers: dict[str, RegisterValue]
    texts: dict[str, tuple[str, ...]]
    is_whole: bool


def read_lines(body: str) -> Lines:
    """Registers and texts of a telegram's data, ident line excluded. What does not read is left out; never raises."""
    registers: dict[str, RegisterValue] = {}
    texts: dict[str, tuple[str, ...]] = {}
    is_whole = True
    joined: list[str] = []
    for line in re.split(r"[\r\n]+", body)[:_MAX_LINES]:
        line = line.strip(" \t\0")
        if not line:
            continue
        is_whole = is_whole and _WHOLE_LINE.match(line) is not None
        if line.startswith("(") and joined:
            joined[-1] += line  # the gas of DSMR 2, and logs that some meters break
        else:
            joined.append(line)
    for line in joined:
        place = 0
        while (match := _SET.match(line, place)) is not None:
            place = match.end()  # one set behind the other: what stands inside a text is no register
            medium, channel, code, period, grouped = match.groups()
            if period is not None and period != "255":
                continue  # an earlier billing period
            groups = tuple(_GROUP.findall(grouped)[:_MAX_GROUPS])
            _keep(registers, texts, medium, channel, code.replace(":", "."), groups)
    return Lines(registers, texts, is_whole)


def _keep(
    registers: dict[str, RegisterValue],
    texts: dict[str, tuple[str, ...]],
    medium: str | None,
    channel: str | None,
    code: str,
    groups: tuple[str, ...],
) -> None:
    if not _NUMERIC.match(code):
        texts.setdefault(code, groups)
        return
    numbers = [int(number) for number in code.split(".")]
    if len(numbers) == 3 and numbers[2] == _NOT_USED:
        numbers[2] = 0  # EasyMeter's powers: 1.7.255
    short = ".".join(str(number) for number in (*numbers, 0)[:3])
    prefix = "1-0" if medium is None or channel is None else f"{int(medium)}-{int(channel)}"
    key = f"{prefix}:{short}"
    texts.setdefault(key, groups)
    if short == "24.3.0" and prefix.startswith("0-") and len(groups) >= 6:  # DSMR 2 and 3
        value = read_value(f"{groups[-1]}*{groups[-2]}")
        at = groups[0]
        key = f"{prefix}:24.2.1"
    else:
        value, at = _value_of(short, groups)
    if value is not None:
        registers.setdefault(key, value._replace(at=at if _STAMP.match(at) else ""))


def _value_of(code: str, groups: tuple[str, ...]) -> tuple[RegisterValue | None, str]:
    """The first group that is a value with a unit; its time stamp is the group before it, or (demand) behind it."""
    for at, group in enumerate(groups[:3]):
        value = read_value(group)
        if value is not None and value.unit:
            return value, groups[at - 1] if at else groups[1] if len(groups) > 1 else ""
    bare = _BARE.match(code)
    if bare is None or len(groups) != 1:
        return None, ""
    value = read_value(groups[0])
    if value is None:
        return None, ""
    if bare.group(2) or bare.group(3):
        return value._replace(unit="V" if bare.group(2) else "A"), ""
    if value.exponent >= 0:
        return None, ""
    return value._replace(exponent=value.exponent + 3, unit="Wh" if bare.group(1) else "W"), ""


def read_value(text: str) -> RegisterValue | None:
    """`-0012,345*kWh` as a register; without a unit its unit is "". None: no number, or a unit that is not known."""
    match = _VALUE.match(text.strip())
    if match is None:
        return None
    sign, whole, fraction, unit = match.group(1), match.group(2), match.group(3) or "", match.group(4)
    known = ("", 0) if unit is None else UNITS.get(unit) or _LOWER.get(unit.lower())
    if known is None:
        return None
    mantissa = int(whole + fraction)
    digits = f"{whole}.{fraction}".translate(_NINES)
    return RegisterValue(-mantissa if sign == "-" else mantissa, known[1] - len(fraction), known[0], digits=digits)
