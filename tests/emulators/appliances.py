# SPDX-License-Identifier: GPL-3.0-or-later
"""What the adapters and plugs sit on: appliances that draw power and can be held back. No I/O, no dice, no clock.

Time is handed in, in seconds that never run backwards; power is in watts, energy in watt hours. Between two changes of
state the power is constant, so the energy register is exact however seldom anybody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

J_PER_WH: Final = 3600.0
STEPS_LIMIT: Final = 100_000  # changes of state in one call; beyond that the caller skipped years


class Appliance:
    """A load with a switch in its supply and, if it can be modulated, a limit it keeps to.

    A limit below the nominal power stops an appliance that cannot be modulated. A protected one obeys neither.
    """

    class_name: ClassVar[str] = "plug"
    modulable: ClassVar[bool] = False
    protected: ClassVar[bool] = False

    def __init__(self, nominal_w: float, *, now: float = 0.0, energy_wh: float = 0.0, min_off_s: float = 0.0) -> None:
        self.nominal_w = nominal_w
        self.min_off_s = min_off_s
        self.on = True
        self.limit_w: float | None = None
        self._t = now
        self._wh = energy_wh

    def power_w(self, now: float) -> float:
        """What it draws now."""
        self.advance(now)
        return self._draw_w()

    def energy_wh(self, now: float) -> float:
        """What it has drawn since it was made, on top of what the register said then."""
        self.advance(now)
        return self._wh

    def set_limit_w(self, limit_w: float | None, now: float) -> None:
        """Hold it to so many watts; None lifts that."""
        self.advance(now)
        if not self.protected:
            was = self._allowed()
            self.limit_w = limit_w
            self._allowance_changed(was)

    def set_supply(self, on: bool, now: float) -> None:
        """Open or close the switch in its supply."""
        self.advance(now)
        if not self.protected:
            was = self._allowed()
            self.on = on
            self._allowance_changed(was)

    def advance(self, now: float) -> None:
        """Live through the time until `now`."""
        for _ in range(STEPS_LIMIT):
            hold_s, left_s = self._hold_s(), now - self._t
            if hold_s is None or hold_s > left_s:
                self._live(left_s)
                return
            self._live(hold_s)
            self._change()
        self._t = now

    def _live(self, step_s: float) -> None:
        if step_s > 0:
            self._wh += self._draw_w() * step_s / J_PER_WH
            self._lived(step_s)
            self._t += step_s

    def _allowed(self) -> bool:
        if not self.on:
            return False
        return self.modulable or self.limit_w is None or self.limit_w >= self.nominal_w

    def _draw_w(self) -> float:
        demand = self._demand_w() if self._allowed() else 0.0
        return demand if self.limit_w is None else self._modulated_w(demand, self.limit_w)

    def _modulated_w(self, demand: float, limit_w: float) -> float:
        return min(demand, limit_w)

    def _allowance_changed(self, was: bool) -> None:
        if was != self._allowed():
            self._interrupted()

    # -- what makes one appliance different from another ---------------------------------------------------------

    def _demand_w(self) -> float:
        """What it would draw in this state if it were left alone."""
        return self.nominal_w

    def _hold_s(self) -> float | None:
        """How long this state lasts by itself; None: for good."""
        return None

    def _lived(self, step_s: float) -> None:
        """So much time passed in this state."""

    def _change(self) -> None:
        """The state has lasted as long as `_hold_s` said."""

    def _interrupted(self) -> None:
        """The supply was taken away, or given back."""


class Medical(Appliance):
    """A breathing aid: always on, never touched."""

    class_name = "medical"
    protected = True

    def __init__(self, nominal_w: float = 120.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)


class Kettle(Appliance):
    """Draws its power for three minutes after `press`, then switches itself off."""

    class_name = "kettle"
    boil_s = 180.0

    def __init__(self, nominal_w: float = 2200.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)
        self._left_s = 0.0

    def press(self, now: float) -> None:
        self.advance(now)
        self._left_s = self.boil_s

    def _demand_w(self) -> float:
        return self.nominal_w if self._left_s > 0 else 0.0

    def _hold_s(self) -> float | None:
        return self._left_s if self._left_s > 0 and self._allowed() else None

    def _lived(self, step_s: float) -> None:
        if self._allowed():
            self._left_s = max(0.0, self._left_s - step_s)

    def _change(self) -> None:
        self._left_s = 0.0


class Boiler(Appliance):
    """A tank with a thermostat: heats to `upper_c`, rests until use and losses have brought it to `lower_c`."""

    class_name = "water-heater"
    lower_c, upper_c, floor_c = 55.0, 60.0, 12.0
    use_w = 400.0

    def __init__(self, nominal_w: float = 2000.0, *, litres: float = 100.0, celsius: float = 56.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)
        self._j_per_k = litres * 4186.0
        self.celsius = celsius
        self._heating = True

    def _demand_w(self) -> float:
        return self.nominal_w if self._heating else 0.0

    def _net_w(self) -> float:
        return self._draw_w() - (self.use_w if self.celsius > self.floor_c else 0.0)

    def _hold_s(self) -> float | None:
        net_w = self._net_w()
        if net_w > 0:
            return max(0.0, self.upper_c - self.celsius) * self._j_per_k / net_w
        if net_w < 0 and not self._heating:
            return max(0.0, self.celsius - self.lower_c) * self._j_per_k / -net_w
        if net_w < 0:
            return (self.celsius - self.floor_c) * self._j_per_k / -net_w
        return None

    def _lived(self, step_s: float) -> None:
        self.celsius = max(self.floor_c, self.celsius + self._net_w() * step_s / self._j_per_k)

    def _change(self) -> None:
        if self._net_w() > 0:
            self._heating = False
        elif not self._heating:
            self._heating = True
        else:
            self.celsius = self.floor_c


class EvCharger(Appliance):
    """Charges until the car is full; below `minimum_w` (6 A) it pauses (IEC 61851-1)."""

    class_name = "ev-charger"
    modulable = True
    minimum_w = 1380.0

    def __init__(self, nominal_w: float = 7200.0, *, battery_wh: float = 40_000.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)
        self.battery_wh = battery_wh

    def _modulated_w(self, demand: float, limit_w: float) -> float:
        return min(demand, limit_w) if limit_w >= self.minimum_w else 0.0

    def _demand_w(self) -> float:
        return self.nominal_w if self.battery_wh > 0 else 0.0

    def _hold_s(self) -> float | None:
        draw_w = self._draw_w()
        return self.battery_wh * J_PER_WH / draw_w if draw_w > 0 else None

    def _lived(self, step_s: float) -> None:
        self.battery_wh = max(0.0, self.battery_wh - self._draw_w() * step_s / J_PER_WH)

    def _change(self) -> None:
        self.battery_wh = 0.0


class Cycling(Appliance):
    """Runs and rests in turn. After an interruption it rests for `min_off_s` first, as a compressor must."""

    run_s, rest_s = 600.0, 600.0

    def __init__(self, nominal_w: float, **base: Any) -> None:
        super().__init__(nominal_w, **base)
        self._running = True
        self._left_s = self.run_s

    def _demand_w(self) -> float:
        return self.nominal_w if self._running else 0.0

    def _hold_s(self) -> float | None:
        return self._left_s if self._allowed() else None

    def _lived(self, step_s: float) -> None:
        if self._allowed():
            self._left_s = max(0.0, self._left_s - step_s)

    def _change(self) -> None:
        self._running = not self._running
        self._left_s = self.run_s if self._running else self.rest_s

    def _interrupted(self) -> None:
        if self.min_off_s > 0:
            self._running, self._left_s = False, self.min_off_s


class Fridge(Cycling):
    """A compressor that runs a third of the time. Food is in it: protected."""

    class_name = "fridge"
    protected = True
    run_s, rest_s = 900.0, 1800.0

    def __init__(self, nominal_w: float = 90.0, **base: Any) -> None:
        super().__init__(nominal_w, **{"min_off_s": 300.0} | base)


class HeatPump(Cycling):
    """Modulates down to 40 % and stops below that; its compressor rests five minutes before it starts again."""

    class_name = "heat-pump"
    modulable = True
    run_s, rest_s = 2400.0, 1200.0
    minimum_share = 0.4

    def __init__(self, nominal_w: float = 2500.0, **base: Any) -> None:
        super().__init__(nominal_w, **{"min_off_s": 300.0} | base)

    def _modulated_w(self, demand: float, limit_w: float) -> float:
        return min(demand, limit_w) if limit_w >= self.minimum_share * self.nominal_w else 0.0


class Oven(Cycling):
    """Heats up for ten minutes, then holds its temperature: 36 s of every 120 s."""

    class_name = "oven"
    run_s, rest_s = 36.0, 84.0
    heat_up_s = 600.0

    def __init__(self, nominal_w: float = 3000.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)
        self._left_s = self.heat_up_s


class Plain(Appliance):
    """Whatever is plugged in: a constant power."""

    def __init__(self, nominal_w: float = 60.0, **base: Any) -> None:
        super().__init__(nominal_w, **base)


KINDS: Final[dict[str, Callable[..., Appliance]]] = {
    "boiler": Boiler,
    "ev": EvCharger,
    "fridge": Fridge,
    "heat-pump": HeatPump,
    "kettle": Kettle,
    "medical": Medical,
    "oven": Oven,
    "plain": Plain,
}


def create(kind: str, now: float, **options: Any) -> Appliance:
    """An appliance by its name in KINDS. Raises ValueError for another name, TypeError for an option it has not."""
    if kind not in KINDS:
        raise ValueError(f"no appliance {kind!r}; there are {', '.join(sorted(KINDS))}")
    return KINDS[kind](now=now, **options)
