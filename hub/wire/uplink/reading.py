"""Readings: what an adapter's payload on `readings/{quantity}` means, as exact integers.

A value is kept as `mantissa x 10^exponent`, never as a float: what the adapter printed is what the utility bills.
Source: design, part 3.2 (payloads) and part 3.3 (pack).
"""

import re
from typing import NamedTuple

# Quality flags of a series in a pack (design 3.3).
CLOCK_UNSYNCHRONISED = 1
THINNED = 2
IMPLAUSIBLE = 4  # a register that fell, jumped or read 0 (drivers/meter)

_FLAGS = {CLOCK_UNSYNCHRONISED: "clock not synchronised", THINNED: "thinned", IMPLAUSIBLE: "implausible"}

UNITS = {
    "power": "W",
    "energy": "Wh",
    "voltage": "V",
    "current": "A",
    "temperature": "Cel",
    "state": "",
    "limit": "W",
    "battery": "%",
    "reactive_energy": "varh",
    "peak": "W",
    "volume": "m3",
}


def unit_of(quantity: str) -> str:
    """The unit of a quantity, or "" where it has none; `energy.t1` and `energy.export` have that of `energy`."""
    return UNITS.get(quantity, "") or UNITS.get(quantity.partition(".")[0], "")


def flags_in_words(flags: int) -> str:
    """Quality flags for a reader: "thinned, implausible"; "" for none."""
    return ", ".join(word for bit, word in _FLAGS.items() if flags & bit)


# What fits a signed 64-bit integer, so that no decoder in the field has to know big numbers.
MAX_DIGITS = 18
MAX_SAMPLES_PER_PAYLOAD = 64
MAX_AGO_S = 40 * 86400

_DECIMAL = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?\Z")
_QUANTITY = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")


class Reading(NamedTuple):
    """One value of one quantity: `value = mantissa x 10^exponent`, sampled at `t_ms` (UTC epoch milliseconds)."""

    client_id: str
    quantity: str
    t_ms: int
    mantissa: int
    exponent: int
    flags: int = 0

    @property
    def value(self) -> float:
        """The value as a float, for people and plots; sums belong to the integers."""
        return decimal_to_float(self.mantissa, self.exponent)


class BadReading(ValueError):
    """The payload is not a reading; the adapter is answered with return code 0x03 and the refusal is counted."""


def decimal_to_float(mantissa: int, exponent: int) -> float:
    """`mantissa x 10^exponent`, rounded once (dividing by a power of ten is exact where multiplying by 0.1 is not)."""
    return mantissa / 10**-exponent if exponent < 0 else float(mantissa * 10**exponent)


def format_decimal(mantissa: int, exponent: int) -> str:
    """The value as the adapter would print it: `format_decimal(2301, -1) == "230.1"`."""
    if exponent >= 0:
        return str(mantissa * 10**exponent)
    digits = str(abs(mantissa)).rjust(1 - exponent, "0")
    return ("-" if mantissa < 0 else "") + digits[:exponent] + "." + digits[exponent:]


def parse_decimal(text: bytes) -> tuple[int, int]:
    """Read an ASCII decimal number as `(mantissa, exponent)`; raise BadReading for anything else."""
    if text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text), 0
    whole, _, fraction = text.partition(b".")
    if whole.isdigit() and fraction.isdigit() and len(text) <= MAX_DIGITS:  # what most adapters send
        return int(whole + fraction), -len(fraction)
    match = _DECIMAL.match(text)
    if match is None:
        raise BadReading("not a decimal number")
    sign, whole, fraction = match.group(1), match.group(2), match.group(3) or b""
    digits = whole + fraction
    if not digits or len(digits) > MAX_DIGITS:
        raise BadReading("not a decimal number of at most 18 digits")
    mantissa = int(digits)
    return (-mantissa if sign == b"-" else mantissa), -len(fraction)


def parse_payload(payload: bytes) -> list[tuple[int, int, int]]:
    """Read a readings payload as `[(ago_ms, mantissa, exponent), ...]`, in the order written.

    Two forms (design 3.2): a number, sampled now; or `SECONDS_AGO:VALUE[,SECONDS_AGO:VALUE...]` from an adapter that
    slept and buffered. Raises BadReading with a reason.
    """
    if b":" not in payload:
        mantissa, exponent = parse_decimal(payload)
        return [(0, mantissa, exponent)]
    parts = payload.split(b",")
    if len(parts) > MAX_SAMPLES_PER_PAYLOAD:
        raise BadReading("more than 64 samples in one payload")
    return [_parse_buffered(part) for part in parts]


def _parse_buffered(part: bytes) -> tuple[int, int, int]:
    ago, _, value = part.partition(b":")
    if ago.isdigit() and len(ago) <= 7:  # what most adapters send
        ago_ms = int(ago) * 1000
    else:
        seconds, scale = parse_decimal(ago)
        ago_ms = seconds * 1000 // 10**-scale
    if not 0 <= ago_ms <= MAX_AGO_S * 1000:
        raise BadReading("SECONDS_AGO is negative or more than 40 days")
    mantissa, exponent = parse_decimal(value)
    return ago_ms, mantissa, exponent


def is_quantity(name: str) -> bool:
    """Whether `name` can stand after `readings/`: one topic level, 1-32 characters of `A-Za-z0-9._-`."""
    return _QUANTITY.match(name) is not None
