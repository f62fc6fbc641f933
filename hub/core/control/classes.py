"""What kinds of appliance there are, and what an adapter says of its own in `about/{me}` (design 3.2).

A class that is not in the table is never restricted unless its adapter says that it may be; a protected class is never
restricted whatever its adapter says (promise P4).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from hub.wire import device_class


class Traits(NamedTuple):
    """What is assumed of a class until its adapter says otherwise. Priority 0 gives way first, 9 last.

    `floor_share`: the share of its nominal power below which it stops; 1.0: it cannot run at less than all of it.
    """

    nominal_w: float
    priority: int = 5
    floor_share: float = 1.0
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    is_sheddable: bool = True
    is_protected: bool = False
    is_load: bool = True
    is_generator: bool = False


CLASSES: dict[str, Traits] = {
    # Storage of one kind or another: minutes without power are not noticed.
    "water-heater": Traits(2000, 3, min_off_s=0.0),
    "ev-charger": Traits(7200, 2, floor_share=0.19),  # 6 A of 32 A: IEC 61851-1 knows nothing less
    "battery": Traits(3000, 1, floor_share=0.05, is_generator=True),
    # Draws nothing; under an export limit it feeds in less.
    "solar": Traits(5000, 5, floor_share=0.0, is_load=False, is_generator=True),
    "pool-pump": Traits(1100, 1, min_on_s=300, min_off_s=300),
    # Compressors want to be left running, and then left resting.
    "heat-pump": Traits(2500, 4, floor_share=0.4, min_on_s=300, min_off_s=300),
    "air-conditioner": Traits(1500, 4, floor_share=0.4, min_on_s=180, min_off_s=180),
    "heater": Traits(1500, 4),
    # Somebody waits for these.
    "dryer": Traits(2500, 5),
    "washing-machine": Traits(2000, 6, min_on_s=600),
    "dishwasher": Traits(1800, 5, min_on_s=600),
    "oven": Traits(3000, 7),
    "hob": Traits(3000, 8),
    "kettle": Traits(2200, 8),
    # Never.
    "medical": Traits(0, 9, is_sheddable=False, is_protected=True),
    "fridge": Traits(0, 9, is_sheddable=False, is_protected=True),
    "freezer": Traits(0, 9, is_sheddable=False, is_protected=True),
    "alarm": Traits(0, 9, is_sheddable=False, is_protected=True),
    "lighting": Traits(0, 9, is_sheddable=False, is_protected=True),
    "lift": Traits(0, 9, is_sheddable=False, is_protected=True),
    "router": Traits(0, 9, is_sheddable=False, is_protected=True),
}
_UNKNOWN = Traits(0, 5, is_sheddable=False)
_LONGEST_S = 3600.0  # a minimum on or off time beyond it is a mistake in the adapter
_MAX_W = 1e6


@dataclass(frozen=True, slots=True)
class Profile:
    """An appliance as the plan sees it. `nominal_w` 0: unknown."""

    class_name: str = ""
    nominal_w: float = 0.0
    priority: int = 5
    floor_w: float = 0.0
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    is_sheddable: bool = False
    is_protected: bool = False
    is_load: bool = True
    is_generator: bool = False
    is_never_off: bool = False  # it cannot be held to less than its floor


def read_about(payload: bytes) -> Profile:
    """Read `about/{me}`. What does not read counts as not said: an adapter's mistake must not restrict anybody."""
    class_name, said = device_class.read_about(payload)
    traits = CLASSES.get(class_name, _UNKNOWN)
    sheddable = said.get("sheddable")
    nominal_w = _number(said, "nominal_w", traits.nominal_w, _MAX_W)
    floor_w = _number(said, "minimum_w", nominal_w * traits.floor_share, _MAX_W)
    return Profile(
        class_name=class_name,
        nominal_w=nominal_w,
        priority=int(_number(said, "priority", traits.priority, 9)),
        floor_w=min(floor_w, nominal_w),
        min_on_s=_number(said, "min_on_s", traits.min_on_s, _LONGEST_S),
        min_off_s=_number(said, "min_off_s", traits.min_off_s, _LONGEST_S),
        is_sheddable=not traits.is_protected and (sheddable if isinstance(sheddable, bool) else traits.is_sheddable),
        # "Not to be shed" is also an appliance that no `switch` may take from its householder.
        is_protected=traits.is_protected or sheddable is False,
        is_load=traits.is_load,
        is_generator=traits.is_generator,
        is_never_off=said.get("never_off") is True,
    )


def _number(said: dict[str, Any], name: str, otherwise: float, most: float) -> float:
    value: Any = said.get(name)
    if type(value) in (int, float) and 0 <= value <= most:
        return float(value)
    return otherwise
