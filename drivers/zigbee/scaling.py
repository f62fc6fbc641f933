"""What a ZCL attribute is worth in the hub's units, exactly: integers in, decimal text out, never a float."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

# A divisor that is no product of twos and fives has no finite decimals: as many as a meter could ever mean.
MAX_DECIMALS = 6
# What hub/wire/uplink/reading.py takes of a number: a register with more is printed with fewer decimals.
MAX_DIGITS = 18
# A number that came as a float: more decimals than this are the float's, not the sensor's.
_FLOAT_DECIMALS = 3
# No meter counts in powers of two this large: a divisor that reads so is a fault of the firmware (frient's reads 512).
_LEAST_ODD_POWER = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """value = raw x `factor`, printed with `decimals` places: the same for every reading, so that packs stay small."""

    factor: Fraction
    decimals: int

    def text(self, raw: int | Fraction) -> str:
        """The value of a raw attribute: `scale_of(1, 10).text(2301) == "230.1"`."""
        decimals = self.decimals if isinstance(raw, int) else max(self.decimals, _FLOAT_DECIMALS)
        while True:
            value = round(raw * self.factor * 10**decimals)
            digits = str(abs(value)).rjust(decimals + 1, "0")
            if len(digits) <= MAX_DIGITS or not decimals:
                break
            decimals -= 1
        sign = "-" if value < 0 else ""
        return sign + (digits if not decimals else f"{digits[:-decimals]}.{digits[-decimals:]}")

    def raw_change(self, change: Fraction) -> int:
        """A change of the value, as the attribute would show it; at least 1."""
        return max(1, ceil(change / self.factor))


def scale_of(multiplier: int, divisor: int, exponent: int = 0) -> Scale:
    """The scale of an attribute that counts multiplier/divisor of 10^exponent units (ZCL 10.4.2.2, 4.9.2.2)."""
    return fixed(Fraction(multiplier, divisor) * Fraction(10) ** exponent)


def fixed(factor: Fraction) -> Scale:
    """The scale of an attribute that counts `factor` units."""
    return Scale(factor, _decimals(factor.denominator))


def doubt_of(multiplier: int | None, divisor: int | None) -> str:
    """Why a pair that a device gave is no scale, in words; "" when it is one.

    A device that gives its divisor and has no multiplier counts in divisors: the specification's default of 1 stands
    beside something. One that gives no divisor says nothing of its scale, and 1 would be a guess.
    """
    if divisor is None:
        return "its divisor is not known"
    if divisor == 0 or multiplier == 0:
        return "its divisor or multiplier is zero"
    if divisor >= _LEAST_ODD_POWER and divisor & (divisor - 1) == 0:
        return f"its divisor reads {divisor}"
    return ""


def bcd(raw: int) -> int | None:
    """The number whose decimal digits these hexadecimal ones are (ZCL 10.4.2.2.4.1, units of 0x80 and up), or None."""
    text = f"{raw:x}"
    return int(text) if raw >= 0 and text.isdecimal() else None


def _decimals(denominator: int) -> int:
    places = 0
    while 10**places % denominator:
        places += 1
        if places == MAX_DECIMALS:
            break
    return places
