"""Signs of life: each loop says when it will be back, and whoever is late is known by name.

A loop that waits is not dead, so nobody is asked to come by every second, which would wake an idle hub for nothing: it
says, before it waits, within how long it will speak again. A machine: the time comes from the caller.
"""

from collections.abc import Callable


class Liveness:
    """Who is expected back, and when. `now`: the clock that never jumps, seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._due_at: dict[str, float] = {}

    def expect(self, loop: str, within_s: float) -> None:
        """A loop is alive, and will say so again within this many seconds."""
        self._due_at[loop] = self._now() + within_s

    def overdue(self) -> list[str]:
        """The loops that have not kept their word."""
        now = self._now()
        return [loop for loop, due_at in self._due_at.items() if now > due_at]
