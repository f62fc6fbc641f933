"""Interviews that failed: asked again with growing patience, and told once. No I/O.

zigpy interviews a device when it joins and gives up at the first question without an answer; then nothing of the device
is served until it joins again.
"""

from hub.core.backoff import Pace

PACE = Pace(first_s=5.0, cap_s=3600.0, factor=5.0)


class Interviews:
    """Devices (IEEE addresses) whose interview is owed."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, int]] = {}  # when to try again, how often it failed
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._due)

    def failed(self, ieee: str, now: float) -> bool:
        """An interview ended without success. Whether that is to be told: the first time of a trouble."""
        _, tries = self._due.get(ieee, (now, 0))
        self._due[ieee] = (now + PACE.ceiling_s(tries), tries + 1)
        is_new = ieee not in self._told
        self._told.add(ieee)
        return is_new

    def owed(self, ieee: str, now: float) -> None:
        """A device that was never interviewed is there, from an earlier life."""
        self._due.setdefault(ieee, (now + PACE.first_s, 0))

    def succeeded(self, ieee: str) -> None:
        self._due.pop(ieee, None)
        self._told.discard(ieee)

    forget = succeeded

    def take_due(self, now: float) -> list[str]:
        """Who is to be asked now; each comes again through `failed`, or later by itself."""
        due = [ieee for ieee, (at, _) in self._due.items() if at <= now]
        for ieee in due:
            tries = self._due[ieee][1]
            self._due[ieee] = (now + PACE.cap_s, tries)
        return due

    def failing(self) -> list[str]:
        """Who has failed and not succeeded since."""
        return sorted(ieee for ieee, (_, tries) in self._due.items() if tries)
