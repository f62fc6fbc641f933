"""What a meter says in OBIS lines, as exact readings. No I/O, no clock.

Sources: IEC 62056-21 section 6.1 (data lines), IEC 62056-61 (OBIS codes), DSMR 5.0.2 P1 companion standard, section
6.12.
A line is `1-0:1.8.1(001234.567*kWh)`; in IEC 62056-21 read-outs the group before the colon may be missing.
"""

import re
from collections.abc import Iterable

from hub.wire.uplink.reading import MAX_DIGITS, format_decimal

# Group A is 1: electricity; what stands there of other media (gas, heat) and of the meter itself (0) is not ours.
_LINE = re.compile(r"(?:1-\d{1,3}:)?(\d{1,3}\.\d{1,3}\.\d{1,3})(?:[*&]\d{1,3})?\(([^()]*)\)")
_VALUE = re.compile(r"([+-]?)(\d{1,15})(?:\.(\d{0,9}))?(?:\*([A-Za-z]+))?\Z")
# Unit -> power of ten to Wh, W, V or A.
_SCALES = {"Wh": 0, "kWh": 3, "MWh": 6, "W": 0, "kW": 3, "V": 0, "A": 0, "mA": -3}

# Quantity -> the registers that it is, first choice first; a choice is a sum of (sign, register).
_Sum = tuple[tuple[int, str], ...]
QUANTITIES: dict[str, tuple[_Sum, ...]] = {
    "power": (((1, "16.7.0"),), ((1, "1.7.0"), (-1, "2.7.0")), ((1, "1.7.0"),)),
    "energy": (((1, "1.8.0"),), tuple((1, f"1.8.{tariff}") for tariff in range(1, 5)), ((1, "1.8.1"), (1, "1.8.2"))),
    "energy.t1": (((1, "1.8.1"),),),
    "energy.t2": (((1, "1.8.2"),),),
    "energy.export": (((1, "2.8.0"),), ((1, "2.8.1"), (1, "2.8.2"))),
    "energy.export.t1": (((1, "2.8.1"),),),
    "energy.export.t2": (((1, "2.8.2"),),),
    "voltage": (((1, "32.7.0"),), ((1, "12.7.0"),)),
    "voltage.l2": (((1, "52.7.0"),),),
    "voltage.l3": (((1, "72.7.0"),),),
    "current": (((1, "31.7.0"),), ((1, "11.7.0"),)),
    "current.l2": (((1, "51.7.0"),),),
    "current.l3": (((1, "71.7.0"),),),
}

Decimal = tuple[int, int]  # mantissa, exponent


def read_lines(lines: Iterable[str]) -> dict[str, Decimal]:
    """Registers by their OBIS code without medium and channel, in Wh, W, V or A. What does not read is left out."""
    registers: dict[str, Decimal] = {}
    for line in lines:
        match = _LINE.match(line)
        value = None if match is None else _decimal(match.group(2))
        if match is not None and value is not None:
            registers.setdefault(match.group(1), value)  # behind it come values of earlier billing periods
    return registers


def _decimal(text: str) -> Decimal | None:
    match = _VALUE.match(text)
    if match is None:
        return None
    sign, whole, fraction, unit = match.group(1), match.group(2), match.group(3) or "", match.group(4)
    if unit not in _SCALES:
        return None
    mantissa, exponent = int(whole + fraction), _SCALES[unit] - len(fraction)
    return (-mantissa if sign == "-" else mantissa), exponent


def quantities_of(registers: dict[str, Decimal]) -> dict[str, str]:
    """Quantity -> its value as the text of a decimal number, as an adapter would publish it."""
    found: dict[str, str] = {}
    for quantity, choices in QUANTITIES.items():
        for terms in choices:
            if all(register in registers for _, register in terms):
                text = _text(_total([(sign, registers[register]) for sign, register in terms]))
                if text is not None:
                    found[quantity] = text
                break
    return found


def _total(terms: list[tuple[int, Decimal]]) -> Decimal:
    exponent = min(exponent for _, (_, exponent) in terms)
    return sum(sign * mantissa * 10 ** (own - exponent) for sign, (mantissa, own) in terms), exponent


def _text(value: Decimal) -> str | None:
    mantissa, exponent = value
    while exponent < 0 and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    text = format_decimal(mantissa, exponent)
    return text if len(text.strip("-").replace(".", "")) <= MAX_DIGITS else None
