"""Which ZCL attribute is which quantity (ZCL revision 8), how often it is to be reported; the first is preferred."""

from dataclasses import dataclass
from fractions import Fraction

BASIC = 0x0000
GROUPS, ON_OFF = 0x0004, 0x0006
LEVEL = 0x0008
POWER_CONFIGURATION = 0x0001
ANALOG_INPUT = 0x000C
THERMOSTAT = 0x0201
TEMPERATURE, HUMIDITY = 0x0402, 0x0405
IAS_ZONE = 0x0500
METERING = 0x0702
ELECTRICAL_MEASUREMENT = 0x0B04

# UnitofMeasure (ZCL 10.4.2.2.4.1): kWh and kW, binary or as decimal digits. A gas or water meter counts other things
# in the same cluster.
UNIT_KWH, UNIT_KWH_BCD = 0x00, 0x80
UNIT_OF_MEASURE, METERING_MULTIPLIER, METERING_DIVISOR = 0x0300, 0x0301, 0x0302
INSTANTANEOUS_DEMAND = 0x0400
ENGINEERING_UNITS = 0x0075
# BACnet engineering units (ZCL 3.14.11.10): the quantity, and the factor into its unit.
ANALOG_UNITS: dict[int, tuple[str, Fraction]] = {
    47: ("power", Fraction(1)),
    48: ("power", Fraction(1000)),
    18: ("energy", Fraction(1)),
    19: ("energy", Fraction(1000)),
    5: ("voltage", Fraction(1)),
    3: ("current", Fraction(1)),
    2: ("current", Fraction(1, 1000)),
    62: ("temperature", Fraction(1)),
    29: ("humidity", Fraction(1)),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """An attribute that is worth a quantity.

    `least_s`, `most_s`: between two reports; `change`: in our unit, what is worth a report in between; `poll_s`: how
    often it is asked for where it is not reported. `scale`: the name that drivers/zigbee/exceptions.toml has for the
    pair (`multiplier`, `divisor`: attribute ids; 0: no attribute says it, the table alone does), or "" where the
    specification fixes the `factor`; `exponent`: the attribute's unit is 10^exponent of ours. `least`, `most`: values
    that cannot be true lie outside, in our unit.
    """

    quantity: str
    cluster_id: int
    attribute: int
    least_s: int
    most_s: int
    change: Fraction
    poll_s: int
    scale: str = ""
    multiplier: int = 0
    divisor: int = 0
    exponent: int = 0
    factor: Fraction = Fraction(1)
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def is_register(self) -> bool:
        return self.quantity.startswith("energy")


_HUNDREDTH = Fraction(1, 100)
_MOST_W, _MOST_V, _MOST_A = 1e6, 1000.0, 400.0


def _power(quantity: str, attribute: int) -> Measure:
    return Measure(
        quantity, ELECTRICAL_MEASUREMENT, attribute, 5, 300, Fraction(5), 10, "power", 0x0604, 0x0605,
        least=-_MOST_W, most=_MOST_W,
    )  # fmt: skip


def _voltage(quantity: str, attribute: int) -> Measure:
    return Measure(
        quantity, ELECTRICAL_MEASUREMENT, attribute, 30, 900, Fraction(2), 60, "voltage", 0x0600, 0x0601,
        least=0.0, most=_MOST_V,
    )  # fmt: skip


def _current(quantity: str, attribute: int) -> Measure:
    return Measure(
        quantity, ELECTRICAL_MEASUREMENT, attribute, 10, 900, Fraction(1, 10), 30, "current", 0x0602, 0x0603,
        least=-_MOST_A, most=_MOST_A,
    )  # fmt: skip


def _factor(quantity: str, attribute: int) -> Measure:
    return Measure(
        quantity,
        ELECTRICAL_MEASUREMENT,
        attribute,
        60,
        900,
        Fraction(1, 20),
        300,
        factor=_HUNDREDTH,
        least=-1.0,
        most=1.0,
    )


def _register(quantity: str, attribute: int) -> Measure:
    return Measure(
        quantity, METERING, attribute, 30, 900, Fraction(10), 60, "metering", METERING_MULTIPLIER, METERING_DIVISOR, 3,
        least=0.0,
    )  # fmt: skip


def _temperature(cluster_id: int) -> Measure:
    return Measure(
        "temperature", cluster_id, 0x0000, 30, 1800, Fraction(1, 5), 120, factor=_HUNDREDTH, least=-80.0, most=250.0
    )


MEASURES = (
    Measure("state", ON_OFF, 0x0000, 0, 600, Fraction(1), 30),
    # TotalActivePower has a pair of its own; where it is, ActivePower is phase A's alone.
    Measure(
        "power", ELECTRICAL_MEASUREMENT, 0x0304, 5, 300, Fraction(5), 10, "total_power", 0x0402, 0x0403,
        least=-_MOST_W, most=_MOST_W,
    ),
    _power("power", 0x050B),
    Measure(
        "power", METERING, INSTANTANEOUS_DEMAND, 5, 300, Fraction(5), 10,
        "metering", METERING_MULTIPLIER, METERING_DIVISOR, 3, least=-_MOST_W, most=_MOST_W,
    ),
    _register("energy", 0x0000),
    _register("energy.export", 0x0001),
    _voltage("voltage", 0x0505),
    _current("current", 0x0508),
    _power("power.b", 0x090B),
    _voltage("voltage.b", 0x0905),
    _current("current.b", 0x0908),
    _power("power.c", 0x0A0B),
    _voltage("voltage.c", 0x0A05),
    _current("current.c", 0x0A08),
    _factor("power_factor", 0x0510),
    _factor("power_factor.b", 0x0910),
    _factor("power_factor.c", 0x0A10),
    *(_register(f"energy.t{tier}", 0x0100 + 2 * (tier - 1)) for tier in range(1, 7)),
    *(_register(f"energy.export.t{tier}", 0x0101 + 2 * (tier - 1)) for tier in range(1, 3)),
    _temperature(TEMPERATURE),
    _temperature(THERMOSTAT),
    Measure("setpoint", THERMOSTAT, 0x0012, 1, 1800, Fraction(1, 10), 120, factor=_HUNDREDTH, least=-50.0, most=100.0),
    # PIHeatingDemand: the specification has it end at 100 (6.3.2.2.1.7), much firmware at 255. Which, nothing says.
    Measure("demand", THERMOSTAT, 0x0008, 30, 1800, Fraction(5), 300, "heating_demand", least=0.0, most=100.0),
    Measure("humidity", HUMIDITY, 0x0000, 30, 1800, Fraction(1), 300, factor=_HUNDREDTH, least=0.0, most=100.0),
    Measure(
        "battery", POWER_CONFIGURATION, 0x0021, 3600, 21600, Fraction(1), 3600, factor=Fraction(1, 2),
        least=0.0, most=100.0,
    ),
    # What an Analog Input is, its engineering units say, or drivers/zigbee/exceptions.toml.
    Measure("", ANALOG_INPUT, 0x0055, 10, 600, Fraction(1), 60),
)  # fmt: skip
# Device types (ZCL device specifications) that say plainly what an endpoint is, in the words of hub/wire/device_class.
# Most others say little: firmware takes whichever is at hand.
_SENSOR_TYPES = {
    0x0106: "light-sensor",
    0x0107: "motion-sensor",
    0x0302: "thermometer",
    0x0305: "pressure-sensor",
    0x0401: "button",  # a keypad
    0x0402: "alarm-sensor",
}
_PLUG_TYPES = (0x0009, 0x0051, 0x010A)
TUYA_PRIVATE = 0xEF00  # data points by numbers that each model gives a meaning of its own
CLUSTERS = frozenset(measure.cluster_id for measure in MEASURES) | {IAS_ZONE}


def class_of(device_type: int, inputs: frozenset[int]) -> str:
    """What an endpoint is by its device type, as far as that says what it may publish; "" where it does not."""
    if device_type in _PLUG_TYPES:
        return "plug" if ON_OFF in inputs else ""  # without a switch it is a meter under a common number
    return _SENSOR_TYPES.get(device_type, "") if ON_OFF not in inputs else ""


def scale_attributes(cluster_id: int) -> list[int]:
    """What says how a cluster's values are to be read: multipliers, divisors, the unit."""
    found = {METERING: {UNIT_OF_MEASURE: None}, ANALOG_INPUT: {ENGINEERING_UNITS: None}}.get(cluster_id, {})
    for measure in MEASURES:
        if measure.cluster_id == cluster_id and measure.divisor:
            found |= {measure.multiplier: None, measure.divisor: None}
    return list(found)


def value_attributes(cluster_id: int) -> list[int]:
    """The attributes of a cluster that are worth something."""
    return [measure.attribute for measure in MEASURES if measure.cluster_id == cluster_id]
