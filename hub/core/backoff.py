"""How long to wait before the next attempt: one rule for every loop that tries again.

Sans-IO: the caller brings the random source and says how long what it tries has lived. Only the reference adapter has
its own (deploy/adapter, on boards without this file).
"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Pace(NamedTuple):
    """Delays grow from `first_s` by `factor` with each failure in a row, up to `cap_s`, seconds.

    `drawn`: the part of a delay that is left to chance, from 0 (none) to 1 (full jitter), so that those who failed
    together do not come back together. `floor_s`: even so it is half to once this at least.
    """

    first_s: float
    cap_s: float
    floor_s: float = 0.0
    factor: float = 2.0
    drawn: float = 0.0

    def ceiling_s(self, failures: int) -> float:
        """The longest delay after so many failures before this one."""
        try:
            return min(self.cap_s, self.first_s * self.factor**failures)
        except OverflowError:  # more than a float holds
            return self.cap_s

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """A delay after so many failures before this one. `random` gives numbers in [0, 1)."""
        least_s = self.floor_s * (0.5 + random() / 2)
        return max(least_s, self.ceiling_s(failures) * (1 - self.drawn + self.drawn * random()))


def _no_chance() -> float:
    return 0.0


class Backoff:
    """Failures in a row of one thing that is tried again and again.

    `steady_s`: what lives this long has recovered, and the count starts anew; of a shorter life each `forgiven_every_s`
    takes one failure off. `cap_s`: no delay is longer, whatever the pace says.
    """

    def __init__(
        self,
        pace: Pace,
        random: Callable[[], float] = _no_chance,
        *,
        steady_s: float = math.inf,
        forgiven_every_s: float = math.inf,
        cap_s: float = math.inf,
    ) -> None:
        self._pace = pace
        self._random = random
        self._steady_s = steady_s
        self._forgiven_every_s = forgiven_every_s
        self.cap_s = cap_s
        self.failures = 0

    def next_delay_s(self, pace: Pace | None = None) -> float:
        """It failed: how long to wait, seconds. `pace`: of this kind of failure, where it has one of its own."""
        delay_s = (pace or self._pace).delay_s(self.failures, self._random)
        self.failures += 1
        return min(self.cap_s, delay_s)

    def lived(self, duration_s: float) -> None:
        """It worked for so long and came to its end."""
        forgiven = self.failures if duration_s >= self._steady_s else int(duration_s // self._forgiven_every_s)
        self.failures = max(0, self.failures - forgiven)

    def reset(self) -> None:
        """There is a reason to think that the next attempt succeeds."""
        self.failures = 0
