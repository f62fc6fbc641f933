"""How fast a backlog of readings may go: bounded, so that what must be fresh is never stuck behind what is old.

Sans-IO. Two bounds. A rate: a fleet that was cut off for a day must not flood the utility the moment it is back, and a
home's line is shared. And how much may be under way: what proves and warns is sent before readings, but cannot overtake
what already lies in the modem's buffers, so on a slow line one pack at a time is under way.
"""

import math

# An answer that takes longer than this says that the line is slow, or its buffers full.
SLOW_ANSWER_S = 2.0
_BURST_S = 1.0


class Drain:
    """Paces the packs of one session. `rate_bytes_s` 0: as fast as the line and the window allow."""

    def __init__(self, rate_bytes_s: float) -> None:
        self._rate_bytes_s = rate_bytes_s
        self._free_at = 0.0
        self._under_way: dict[int, float] = {}  # message id: when it was sent
        self._is_slow = False

    def may_send(self, now: float) -> bool:
        """Whether a pack may go now."""
        return self.due_at(now) <= now

    def due_at(self, now: float) -> float:
        """When the next pack may go; infinity while an answer has to come first."""
        if self._under_way and (self._is_slow or self._oldest_s(now) > SLOW_ANSWER_S):
            return math.inf
        return max(now, self._free_at)

    def sent(self, mid: int, size: int, now: float) -> None:
        """A pack went out."""
        self._under_way[mid] = now
        if self._rate_bytes_s > 0:
            self._free_at = max(self._free_at, now - _BURST_S) + size / self._rate_bytes_s

    def answered(self, mid: int, now: float) -> None:
        """The broker answered; ids of other messages are ignored."""
        sent_at = self._under_way.pop(mid, None)
        if sent_at is not None:
            self._is_slow = now - sent_at > SLOW_ANSWER_S

    def _oldest_s(self, now: float) -> float:
        return now - next(iter(self._under_way.values()))
