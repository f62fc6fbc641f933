"""How long a batch that somebody waits for may wait for company: the write budget of the flash. No I/O, no clock.

A durable commit costs some 6 KB of flash whether it holds one reading or fifty (`python -m tests.bench.wear`), so the
only thing that saves flash is fewer commits, and what that costs is an adapter's time: a battery device keeps its radio
on until its PUBACK comes. So nobody waits (window 0) while the budget allows; at the few readings a second of a home,
windows below a second would save next to nothing anyway. When the bytes left of the day's budget fall below one half,
the window grows in proportion, up to MAX_WINDOW_S, and settles where commits cost what the budget refills.
"""

from typing import Any, NamedTuple

# An adapter repeats a PUBLISH after T_retry, 10 to 15 seconds (MQTT-SN 1.2, 7.2): it must be answered well before.
MAX_WINDOW_S = 5.0
_DAY_S = 86_400.0
# Below the one the window grows; back above the other it is over: in between nobody is told anything twice.
_STRETCH_BELOW, _RELAX_ABOVE = 0.5, 0.6
# What is left is written down this often, and at the end, where it is no longer about what was written down last.
_KEPT_EVERY_S, _ABOUT = 3600.0, 0.01


class Change(NamedTuple):
    """The budget began or ceased to make adapters wait."""

    stretched: bool
    window_s: float


class WriteBudget:
    """A bucket of bytes: it holds one day's budget, refills evenly, and is emptied by what is written."""

    def __init__(self, base_window_s: float, daily_bytes: float) -> None:
        self._base_window_s = base_window_s
        self.daily_bytes = daily_bytes  # 0: no budget
        self.left_bytes = float(daily_bytes)
        self._seen: tuple[float, int] | None = None
        self._kept_bytes = self.left_bytes  # a full bucket is what a database without a word of it means
        self._keep_at_s: float | None = None
        self.stretched = False

    def resume(self, left_bytes: float) -> None:
        """Go on with what the last boot had left; the time in between is not known, and not counted. Nothing is told:
        if adapters wait now, they did before."""
        self._kept_bytes = left_bytes
        self._set(left_bytes)
        self.stretched = self.left_bytes < _STRETCH_BELOW * self.daily_bytes

    def _set(self, left_bytes: float) -> None:
        # Overdrawn by a day at most, so that one bad day does not cost a week.
        self.left_bytes = max(-self.daily_bytes, min(self.daily_bytes, left_bytes))

    def to_keep(self, now_s: float, *, at_end: bool = False) -> int | None:
        """What `resume` is to be given by the next boot, when it is time to write that down; else None."""
        if not self.daily_bytes:
            return None
        if self._keep_at_s is None:
            self._keep_at_s = now_s + _KEPT_EVERY_S
        if not at_end and now_s < self._keep_at_s:
            return None
        self._keep_at_s = now_s + _KEPT_EVERY_S
        if abs(self.left_bytes - self._kept_bytes) <= _ABOUT * self.daily_bytes:
            return None
        self._kept_bytes = self.left_bytes
        return int(self.left_bytes)

    def note(self, now_s: float, written_bytes: int) -> Change | None:
        """`written_bytes`: in all since the start. Tells when the state changes."""
        if not self.daily_bytes:
            return None
        before_s, before_bytes = self._seen or (now_s, 0)
        self._seen = (now_s, written_bytes)
        refill = (now_s - before_s) * self.daily_bytes / _DAY_S
        self._set(self.left_bytes + refill - (written_bytes - before_bytes))
        level = self.left_bytes / self.daily_bytes
        if level < _STRETCH_BELOW if not self.stretched else level >= _RELAX_ABOVE:
            self.stretched = not self.stretched
            return Change(self.stretched, self.window_s)
        return None

    @property
    def window_s(self) -> float:
        """How long to wait for company, now."""
        if not self.daily_bytes:
            return self._base_window_s
        missing = max(0.0, _STRETCH_BELOW - self.left_bytes / self.daily_bytes) / _STRETCH_BELOW
        return max(self._base_window_s, MAX_WINDOW_S * min(1.0, missing))

    def status(self) -> dict[str, Any]:
        """`window_s`: how long an urgent batch waits now; `stretched`: whether that is for the budget's sake."""
        return {"window_s": round(self.window_s, 3), "stretched": self.stretched}
