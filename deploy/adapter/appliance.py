# SPDX-License-Identifier: GPL-3.0-or-later
"""What the adapter sits in front of: subclass `AdapterAppliance` for your hardware.

The adapter calls it from its own loop, one call at a time, so each method has to return soon. A method that cannot do
its work raises; the adapter counts that and, where it is about an order, tries again until it has worked.
"""

# The predefined topic ids of what an adapter publishes.
POWER = 0x0001
ENERGY = 0x0002
VOLTAGE = 0x0003
CURRENT = 0x0004
TEMPERATURE = 0x0005
BATTERY = 0x0008


class AdapterAppliance:
    """A load that can be measured and held back. Numbers are int or float; a board with short floats returns int."""

    # Quantities that `set QUANTITY VALUE SECONDS` may set, such as ("temperature",).
    SETTABLE: "tuple[str, ...]" = ()

    def power_w(self) -> float:
        """What it draws now."""
        raise NotImplementedError

    def energy_wh(self) -> float:
        """Its register: what it has drawn in all."""
        raise NotImplementedError

    def set_limit(self, limit_w: "float | None") -> None:
        """Draw no more than this; None: as much as it likes. One that cannot modulate stops below its nominal power."""

    def set_on(self, on: bool) -> None:
        """False: it must be off. True: it may run again; whether it does is up to it and its owner."""

    def set_value(self, quantity: str, value: "float | None") -> None:
        """One of SETTABLE, for a while; None: back to what its owner chose."""

    def measure(self) -> "tuple[tuple[int, float, int], ...]":
        """What to publish each period: (topic id, value, decimal places)."""
        return (POWER, self.power_w(), 0), (ENERGY, self.energy_wh(), 0)
