"""Signs of life: each loop says when it will be back, and whoever is late is known by name.

A loop that waits is not dead, so nobody is asked to come by every second, which would wake an idle hub for nothing: it
says, before it waits, within how long it will speak again. A machine: the time comes from the caller.
"""

from collections.abc import Callable

# A loop that lives speaks within moments of the machine's waking.
AWAKE_S = 5.0


class Liveness:
    """Who is expected back, and when. `now`: the clock that never jumps, seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._due_at: dict[str, float] = {}
        self._seen_late: dict[str, tuple[float, float]] = {}  # when it was due, when it was first seen to be late

    def expect(self, loop: str, within_s: float) -> None:
        """A loop is alive, and will say so again within this many seconds."""
        self._due_at[loop] = self._now() + within_s

    def overdue(self) -> list[str]:
        """The loops that have not kept their word."""
        now = self._now()
        return [loop for loop, due_at in self._due_at.items() if now > due_at]

    def stuck(self) -> list[str]:
        """The loops that are late and were so at a look some seconds ago: what is late only once is a machine that
        slept, was stopped or paused: everybody is late at the same moment, and nobody is soon after."""
        now = self._now()
        seen = {}
        for loop in self.overdue():
            due_at = self._due_at[loop]
            known_due_at, at = self._seen_late.get(loop, (due_at, now))
            seen[loop] = (due_at, at if known_due_at == due_at else now)
        self._seen_late = seen
        return [loop for loop, (_, at) in self._seen_late.items() if now - at >= AWAKE_S]
