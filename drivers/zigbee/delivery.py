"""How well frames get through: per device and in all, as shares that forget the past. No I/O."""

from collections import deque

# The share looks back over about so many frames.
_MEMORY = 50
# Resets of the radio are counted by the hour.
HOUR_S = 3600.0
# So many resets within so long: it is not a single mishap any more.
UNSTABLE_RESETS = 3
UNSTABLE_WITHIN_S = 600.0


class Share:
    """The share of frames that were acknowledged."""

    def __init__(self) -> None:
        self.sent = self.delivered = 0
        self._share: float | None = None

    def count(self, *, delivered: bool) -> None:
        self.sent += 1
        self.delivered += delivered
        weight = 1 / min(self.sent, _MEMORY)
        self._share = (self._share or 0.0) * (1 - weight) + delivered * weight

    @property
    def share(self) -> float | None:
        """0 to 1, lately; None: nothing was sent."""
        return None if self._share is None else round(self._share, 3)


class Deliveries:
    """Of all devices, by IEEE address (16 hex digits)."""

    def __init__(self) -> None:
        self.all = Share()
        self._by_ieee: dict[str, Share] = {}

    def count(self, ieee: str, *, delivered: bool) -> None:
        self.all.count(delivered=delivered)
        self._by_ieee.setdefault(ieee, Share()).count(delivered=delivered)

    def share_of(self, ieee: str) -> float | None:
        found = self._by_ieee.get(ieee)
        return None if found is None else found.share

    def forget(self, ieee: str) -> None:
        self._by_ieee.pop(ieee, None)


class Resets:
    """When the radio went, for the last hour."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=10_000)

    def count(self, now: float) -> None:
        self._at.append(now)

    def in_last(self, duration_s: float, now: float) -> int:
        return sum(1 for at in self._at if now - at <= duration_s)

    def is_unstable(self, now: float) -> bool:
        """Whether it goes again and again."""
        return self.in_last(UNSTABLE_WITHIN_S, now) >= UNSTABLE_RESETS
