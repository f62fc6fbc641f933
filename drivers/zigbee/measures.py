"""Which ZCL attribute is which quantity (ZCL revision 8), how often it is to be reported; the first is preferred."""

from dataclasses import dataclass
from fractions import Fraction

ON_OFF = 0x0006
METERING = 0x0702
ELECTRICAL_MEASUREMENT = 0x0B04

# UnitofMeasure (ZCL 10.4.2.2.4.1): kWh and kW, binary. A gas or water meter counts other things in the same cluster.
UNIT_KWH = 0x00


@dataclass(frozen=True, slots=True)
class Measure:
    """An attribute that is worth a quantity. Names as zigpy has them.

    `missing`: the value that means none. `exponent`: the attribute's unit is 10^exponent of ours. `least_s`, `most_s`:
    between two reports; `change`: in our unit, what is worth a report in between.
    """

    quantity: str
    cluster_id: int
    attribute: str
    missing: int | None
    least_s: int
    most_s: int
    change: Fraction
    multiplier: str = ""
    divisor: str = ""
    exponent: int = 0


MEASURES = (
    Measure("state", ON_OFF, "on_off", None, 0, 600, Fraction(1)),
    Measure(
        "power", ELECTRICAL_MEASUREMENT, "active_power", -0x8000, 5, 300, Fraction(5),
        "ac_power_multiplier", "ac_power_divisor",
    ),
    Measure("power", METERING, "instantaneous_demand", -0x800000, 5, 300, Fraction(5), "multiplier", "divisor", 3),
    Measure(
        "energy", METERING, "current_summ_delivered", 0xFFFFFFFFFFFF, 30, 900, Fraction(10),
        "multiplier", "divisor", 3,
    ),
    Measure(
        "voltage", ELECTRICAL_MEASUREMENT, "rms_voltage", 0xFFFF, 30, 900, Fraction(2),
        "ac_voltage_multiplier", "ac_voltage_divisor",
    ),
    Measure(
        "current", ELECTRICAL_MEASUREMENT, "rms_current", 0xFFFF, 10, 900, Fraction(1, 10),
        "ac_current_multiplier", "ac_current_divisor",
    ),
)  # fmt: skip
CLUSTERS = frozenset(measure.cluster_id for measure in MEASURES)


def attributes_of(cluster_id: int) -> list[str]:
    """Everything to read of a cluster: values, their multipliers and divisors, the unit."""
    names: dict[str, None] = {"unit_of_measure": None} if cluster_id == METERING else {}
    for measure in MEASURES:
        if measure.cluster_id == cluster_id:
            names |= {name: None for name in (measure.attribute, measure.multiplier, measure.divisor) if name}
    return list(names)
