"""What a ZCL attribute is worth in the hub's units, exactly: integers in, decimal text out, never a float."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

# A divisor that is no product of twos and fives has no finite decimals: as many as a meter could ever mean.
MAX_DECIMALS = 6
# What hub/wire/uplink/reading.py takes of a number: a register with more is printed with fewer decimals.
MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Scale:
    """value = raw x `factor`, printed with `decimals` places: the same for every reading, so that packs stay small."""

    factor: Fraction
    decimals: int

    def text(self, raw: int) -> str:
        """The value of a raw attribute: `scale_of(1, 10).text(2301) == "230.1"`."""
        decimals = self.decimals
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


def scale_of(multiplier: int | None, divisor: int | None, exponent: int = 0) -> Scale:
    """The scale of an attribute that counts multiplier/divisor of 10^exponent units (ZCL 10.4.2.2, 4.9.2.2).

    A device without the pair, or with a zero in it, counts whole units.
    """
    factor = Fraction(multiplier or 1, divisor or 1) * Fraction(10) ** exponent
    return Scale(factor, _decimals(factor.denominator))


def _decimals(denominator: int) -> int:
    places = 0
    while 10**places % denominator:
        places += 1
        if places == MAX_DECIMALS:
            break
    return places
