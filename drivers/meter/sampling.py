"""Which of a meter's values are worth a reading: a P1 meter says everything each second, the uplink is costly.

A machine: values and `now` in; what to take into custody out. Control hears every telegram, whatever is kept of it.
"""

from collections.abc import Collection
from typing import NamedTuple


class SamplingRule(NamedTuple):
    """`every_s`: how often at least; a change by `change` (absolute and relative, both) is told after `least_s`."""

    every_s: float
    least_s: float
    change: float = float("inf")
    change_share: float = 0.0


_POWER = SamplingRule(10.0, 2.0, change=100.0, change_share=0.1)
_OTHER = SamplingRule(60.0, 60.0)


class Sampling:
    """What was told last of each quantity."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}

    def choose(self, values: dict[str, str], now: float, told: Collection[str] = ()) -> dict[str, str]:
        """Those of the values that are to become readings now; `told`: those that are in any case."""
        return {
            quantity: text
            for quantity, text in values.items()
            if self._is_due(quantity, float(text), now, must=quantity in told)
        }

    def _is_due(self, quantity: str, value: float, now: float, *, must: bool) -> bool:
        rule = _POWER if quantity == "power" else _OTHER
        last = self._told.get(quantity)
        if last is not None and not must:
            age_s, step = now - last[0], abs(value - last[1])
            has_changed = step >= rule.change and step >= rule.change_share * abs(last[1])
            if age_s < rule.every_s and not (has_changed and age_s >= rule.least_s):
                return False
        self._told[quantity] = (now, value)
        return True
