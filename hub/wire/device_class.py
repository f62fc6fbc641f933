"""What a device may publish, by the class that it says it is of (design 3.2): a thermometer counts no energy, a kettle
feeds nothing in, and none of them is the meter.

A class that is not in the table, or none at all, may publish any quantity. The names are those of `about/{me}`.
"""

import json
from typing import Any

# Who says that it is this claims to be the meter, which is read at its own port: such an `about` is refused.
METER = "meter"

# First parts of a quantity ("energy.t1": the whole, then "energy"); the longest that is in a table decides.
_TARIFFS = tuple(f"energy{way}.t{number}" for way in ("", ".export") for number in range(1, 10))
_METERS_OWN = frozenset((*_TARIFFS, "reactive_energy", "peak"))
_NOT_OF_A_PLUG = _METERS_OWN | {"volume"}
_NOT_OF_A_LOAD = _METERS_OWN | {"energy.export"}
# It has a battery, whose voltage it may tell.
_NOT_OF_A_SENSOR = _METERS_OWN | {"energy", "power", "current", "power_factor", "volume", "limit"}

_GENERATORS = ("battery", "solar", "ev-charger")
_LOADS = (
    "water-heater", "pool-pump", "heat-pump", "air-conditioner", "heater", "dryer", "washing-machine", "dishwasher",
    "oven", "hob", "kettle", "medical", "fridge", "freezer", "alarm", "lighting", "lift", "router",
)  # fmt: skip
_SENSORS = (
    "thermometer", "hygrometer", "light-sensor", "pressure-sensor", "motion-sensor", "contact-sensor", "alarm-sensor",
    "display", "button",
)  # fmt: skip

NOT_PUBLISHED: dict[str, frozenset[str]] = {
    "plug": _NOT_OF_A_PLUG,
    **dict.fromkeys(_GENERATORS, _METERS_OWN),
    **dict.fromkeys(_LOADS, _NOT_OF_A_LOAD),
    **dict.fromkeys(_SENSORS, _NOT_OF_A_SENSOR),
}


def read_about(about: bytes) -> tuple[str, dict[str, Any]]:
    """The class that an `about/{me}` names, "" where it names none, and all that it says; what does not read says
    nothing."""
    try:
        said = json.loads(about)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        said = {}
    name = said.get("class")
    return name if isinstance(name, str) else "", said


def class_of(about: bytes) -> str:
    """The class that an `about/{me}` names; "" where it names none, or does not read."""
    return read_about(about)[0]


def may_publish(class_name: str, quantity: str) -> bool:
    """Whether a device of this class may publish readings of this quantity."""
    refused = NOT_PUBLISHED.get(class_name)
    if refused is None:
        return True
    name = quantity
    while name not in refused:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return True
    return False
