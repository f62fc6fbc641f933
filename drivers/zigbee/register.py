"""A register that only grows: which of its values can be true. No I/O.

A step that no home's supply could deliver in the time is held back until the register goes on from there: a meter that
was replaced, or set anew, does; a value from a disturbed line does not. A fall across the end of the counter is none.
"""

# 63 A on three phases and a margin: more energy an hour, in Wh, does not pass a household's fuses.
MOST_WH_PER_H = 100_000
# What a register may have run on by itself: its own rounding, what was said late.
_MARGIN_WH = 2_000
_CONFIRMED_BY = 2  # values in a row that go on from the new place


class EnergyRegister:
    """`accepts` each raw value in turn. `wh_per_count`: what one count is worth."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._candidate: tuple[int, float] | None = None
        self._agreed = 0

    def accepts(self, raw: int, bits: int, wh_per_count: float, now: float) -> bool:
        """Whether this value can follow those accepted so far. `bits`: the counter's width."""
        if self._last is None or self._follows(self._last, raw, bits, wh_per_count, now):
            self._take(raw, now)
            return True
        if self._candidate is not None and self._follows(self._candidate, raw, bits, wh_per_count, now):
            self._agreed += 1
        else:
            self._agreed = 1
        self._candidate = (raw, now)
        if self._agreed < _CONFIRMED_BY:
            return False
        self._take(raw, now)
        return True

    def _take(self, raw: int, now: float) -> None:
        self._last, self._candidate, self._agreed = (raw, now), None, 0

    @staticmethod
    def _follows(last: tuple[int, float], raw: int, bits: int, wh_per_count: float, now: float) -> bool:
        before, at = last
        step = raw - before
        if step < 0 and bits:
            step += 1 << bits  # it ran over its end, or fell: then the step is absurd
        return step * wh_per_count <= _MARGIN_WH + MOST_WH_PER_H * max(0.0, now - at) / 3600
