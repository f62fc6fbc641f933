"""What happened at the meter, read off what it says: an exchange, power failures, voltage outside its limits, the peaks
of past months. No I/O, no clock. What was known is kept in `Memory`, over the hub's restarts: a power failure takes the
hub down, too."""

from dataclasses import dataclass, field
from typing import Any

from drivers.meter.quantities import Meaning

Event = tuple[str, dict[str, Any]]


@dataclass
class Memory:
    """What a hub remembers of its meter. registers: the last values of those that count up. wh_exponent: what they are
    counted in, of a meter that does not say it (list_scales.py)."""

    number: str = ""
    registers: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    failure: str = ""  # when the last power failure of the meter's log ended
    month: str = ""  # the last month whose peak is known
    wh_exponent: int | None = None

    def take(self, meaning: Meaning, registers: dict[str, str]) -> list[Event]:
        """Compare, tell, and remember. registers: of `meaning`, those that count up."""
        events: list[Event] = []
        if meaning.number and meaning.number != self.number:
            if self.number:
                fields = {
                    "old_number": self.number,
                    "new_number": meaning.number,
                    "last_registers": dict(self.registers),
                    "first_registers": registers,
                }
                events.append(("meter.replaced", fields))
                self.registers, self.counts, self.failure, self.month = {}, {}, "", ""
            self.number = meaning.number
        self.registers = {**self.registers, **registers}
        events += self._failures(meaning)
        events += self._voltages(meaning)
        self.counts = {**self.counts, **meaning.counts}
        events += self._months(meaning)
        return events

    def _grown(self, meaning: Meaning, name: str) -> bool:
        count = meaning.counts.get(name)
        return count is not None and name in self.counts and count > self.counts[name]

    def _failures(self, meaning: Meaning) -> list[Event]:
        newest = max(meaning.failures, key=lambda failure: failure.ended, default=None)
        is_new = newest is not None and newest.ended > self.failure
        was_known = bool(self.failure or self.counts)
        if is_new and newest is not None:
            self.failure = newest.ended
        has_grown = self._grown(meaning, "power_failures") or self._grown(meaning, "long_power_failures")
        if not was_known or not (has_grown or is_new):
            return []
        fields: dict[str, Any] = {
            name: meaning.counts[name] for name in ("power_failures", "long_power_failures") if name in meaning.counts
        }
        if is_new and newest is not None:
            fields.update(ended=newest.ended, duration_s=newest.duration_s)
        return [("meter.power_failed", fields)]

    def _voltages(self, meaning: Meaning) -> list[Event]:
        return [
            ("meter.voltage_sag" if name.startswith("sags") else "meter.voltage_swell",
             {"phase": int(name[-1]), "count": count})
            for name, count in meaning.counts.items()
            if name.startswith(("sags", "swells")) and self._grown(meaning, name)
        ]  # fmt: skip

    def _months(self, meaning: Meaning) -> list[Event]:
        new = [month for month in meaning.months if month[0] > self.month]
        if not new:
            return []
        self.month = max(month[0] for month in new)
        return [("meter.peaks", {"peaks": [list(month) for month in new]})]
