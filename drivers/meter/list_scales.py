"""Kamstrup's list has neither scales nor units, and its meters do not agree on them. What its values bear out is told,
the rest is withheld. A machine: read-outs and `now` in, read-outs out; no I/O.

By the maker's description (5512-2584) a count is a volt, 10 mA, a watt or 10 Wh. Meters of one and the same list were
set otherwise: in Sweden and Switzerland a count of energy may be a Wh (and may become one overnight), newer firmware
counts hundredths of a volt, meters behind current transformers mA.
"""

from math import hypot

from drivers.meter.cosem import KAMSTRUP
from drivers.meter.quantities import number_of
from drivers.meter.records import Readout, RegisterValue

# Volts of a phase, or between two: less than a decade, so that a count of them can be one of three things alone.
_LEAST_V, _MOST_V = 46, 460
# Volts times amperes by the power: 1, where the volts are between two phases 1.7; more where one phase takes what
# another gives, which proves nothing. Less than 1 there is not, but for what changed while the list was made.
_LEAST_RATIO, _MOST_RATIO, _IMPOSSIBLE_RATIO = 0.66, 2.0, 0.4
_PROVED_FROM_VA, _JUDGED_FROM_VA = 100.0, 50.0
_UNPROVED_AFTER = 360  # lists in a row that could have borne the amperes out and did not: an hour

# What the registers counted by what the power says that flowed: both must be of some size.
_LEAST_COUNTS, _LEAST_WH = 8, 80.0
_LONGEST_GAP_S = 60.0
_WH_EXPONENTS = (1, 0)
_FITS = 2.0  # a count of 10 Wh and one of 1 Wh are told apart at a factor of three

_POWER = "its power is more than its volts and amperes make"
_CURRENT = "its power has not borne out yet what its amperes are counted in"
_ENERGY = "its power has not borne out yet whether its registers count Wh or tens of them"
_VOLTAGE = "no voltage of a home"


class ListScales:
    """One meter's. `wh_exponent`: of its registers, as it was proved before (by an earlier life of the hub, too), or
    None. `withheld`: quantity -> why, of the last list."""

    def __init__(self, number: str = "", wh_exponent: int | None = None) -> None:
        self.withheld: dict[str, str] = {}
        self._begin(number, wh_exponent if wh_exponent in _WH_EXPONENTS else None)

    def _begin(self, number: str, wh_exponent: int | None) -> None:
        self.wh_exponent = wh_exponent
        self._number = number
        self._is_current_proved = False
        self._unproved = 0
        self._flow: tuple[float, float, float] | None = None  # when, W in, W out
        self._flowed_wh = 0.0  # in and out, since the counts below were heard
        self._counts: tuple[int, int] | None = None

    def settle(self, readout: Readout, now: float) -> Readout:
        """The read-out, of what is known alone; another maker's as it is."""
        self.withheld = {}
        if not readout.ident.startswith(KAMSTRUP):
            return readout
        number = number_of(readout)
        if number and number != self._number:
            self._begin(number, None if self._number else self.wh_exponent)
        registers = dict(readout.registers)
        self._settle_voltages(registers)
        self._settle_currents(registers)
        self._settle_energies(registers, now)
        return readout._replace(registers=registers)

    def _settle_voltages(self, registers: dict[str, RegisterValue]) -> None:
        """The highest tells what all count: a phase may be dead."""
        most = max((abs(register.mantissa) for register in registers.values() if register.unit == "V"), default=0)
        exponent = next((e for e in (0, -1, -2) if _LEAST_V <= most * 10.0**e < _MOST_V), None)
        if most and exponent is None:
            self._withhold(registers, "voltage", _VOLTAGE, "V")
        for key, register in registers.items():
            if register.unit == "V" and exponent is not None:
                registers[key] = register._replace(exponent=exponent)

    def _settle_currents(self, registers: dict[str, RegisterValue]) -> None:
        value = _values_of(registers)
        phases = [(value.get(f"{c + 1}.7.0"), value.get(f"{c}.7.0")) for c in (31, 51, 71)]
        known = [(volts, amperes) for volts, amperes in phases if volts is not None and amperes is not None]
        if known and "1.7.0" in value:
            made_va = sum(volts * amperes for volts, amperes in known)
            power_va = hypot(
                value["1.7.0"] - value.get("2.7.0", 0.0), value.get("3.7.0", 0.0) - value.get("4.7.0", 0.0)
            )
            if power_va >= _JUDGED_FROM_VA and made_va < _IMPOSSIBLE_RATIO * power_va:
                self._is_current_proved = False
                self._withhold(registers, "power", _POWER, "W", "var")
            elif power_va >= _PROVED_FROM_VA:
                is_proof = _LEAST_RATIO <= made_va / power_va <= _MOST_RATIO
                self._unproved = 0 if is_proof else self._unproved + 1
                self._is_current_proved = is_proof or (self._is_current_proved and self._unproved < _UNPROVED_AFTER)
        if not self._is_current_proved:
            self._withhold(registers, "current", _CURRENT, "A")

    def _settle_energies(self, registers: dict[str, RegisterValue], now: float) -> None:
        value = _values_of(registers)
        if "1.7.0" in value:
            self._flows(now, value["1.7.0"], value.get("2.7.0", 0.0))
        counts = {key.partition(":")[2]: register.mantissa for key, register in registers.items()}
        if "1.8.0" in counts:
            self._judge_energy((counts["1.8.0"], counts.get("2.8.0", 0)))
        if self.wh_exponent is None:
            self._withhold(registers, "energy", _ENERGY, "Wh", "varh")
        for key, register in registers.items():
            if register.unit in ("Wh", "varh") and self.wh_exponent is not None:
                registers[key] = register._replace(exponent=self.wh_exponent)

    def _flows(self, now: float, in_w: float, out_w: float) -> None:
        if self._flow is None or not 0 <= now - self._flow[0] <= _LONGEST_GAP_S:
            self._counts = None
        else:
            then, was_in_w, was_out_w = self._flow
            hours = (now - then) / 3600
            self._flowed_wh += (was_in_w + in_w + was_out_w + out_w) / 2 * hours
        self._flow = (now, in_w, out_w)

    def _judge_energy(self, counts: tuple[int, int]) -> None:
        before, flowed_wh = self._counts, self._flowed_wh
        if before is None:
            self._anchor(counts)
            return
        grown = sum(counts) - sum(before)
        if min(counts[0] - before[0], counts[1] - before[1]) < 0 or grown > _FITS * (flowed_wh + _LEAST_WH):
            self.wh_exponent = None  # not what flowed, however it is counted: it may be counted otherwise from now on
        elif grown < _LEAST_COUNTS or flowed_wh < _LEAST_WH:
            if flowed_wh > 10 * _LEAST_COUNTS * 10 * _FITS:
                self.wh_exponent = None
                self._anchor(counts)
            return
        else:
            wh = flowed_wh / grown
            self.wh_exponent = next((e for e in _WH_EXPONENTS if 1 / _FITS <= wh / 10**e <= _FITS), None)
        self._anchor(counts)

    def _anchor(self, counts: tuple[int, int]) -> None:
        self._counts, self._flowed_wh = counts, 0.0

    def _withhold(self, registers: dict[str, RegisterValue], quantity: str, why: str, *units: str) -> None:
        for key in [key for key, register in registers.items() if register.unit in units]:
            del registers[key]
            self.withheld[quantity] = why


def _values_of(registers: dict[str, RegisterValue]) -> dict[str, float]:
    """By C.D.E."""
    return {key.partition(":")[2]: r.mantissa * 10.0**r.exponent for key, r in registers.items()}
