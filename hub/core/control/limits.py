"""The life of a household limit: a table, and the limits that are not over yet.

A limit is a command that lasts. Its times are UTC, as the control point gave them; while the hub runs they are held on
the monotonic clock, so that a step of the wall clock neither lengthens nor shortens a restriction.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hub.wire.uplink.cbor import decode_own, encode

SCHEDULED, ACTIVE, OVER = "scheduled", "active", "over"

# (state, event) -> (state, the receipt that tells of it or ""). A pair that is not there cannot happen.
# `began`: its time came; `met`, `unmet`: what the household does about it; `ended`: its time is over; `missed`: the hub
# was off, or had no clock, for all of its time; `lost`: control lets go, because who commanded it fell silent (LPC) or
# is no operator any more, or because the clock went back behind its beginning.
LIFE: dict[tuple[str, str], tuple[str, str]] = {
    (SCHEDULED, "began"): (ACTIVE, ""),
    (SCHEDULED, "cancelled"): (OVER, "cancelled"),
    (SCHEDULED, "superseded"): (OVER, "superseded"),
    (SCHEDULED, "missed"): (OVER, "failed"),
    (SCHEDULED, "lost"): (OVER, "cancelled"),
    (ACTIVE, "met"): (ACTIVE, "applied"),
    (ACTIVE, "unmet"): (ACTIVE, "partial"),
    (ACTIVE, "ended"): (OVER, "completed"),
    (ACTIVE, "cancelled"): (OVER, "cancelled"),
    (ACTIVE, "superseded"): (OVER, "superseded"),
    (ACTIVE, "lost"): (OVER, "cancelled"),
}

MAX_LIMITS, MAX_LIMITS_EACH = 64, 16
MAX_AHEAD_S = 31 * 86400.0
IMPORT, EXPORT = "import", "export"  # EEBUS LPC and LPP


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. `starts_at`, `ends_at`: UTC epoch seconds, its random offsets included; `digest`: of its command;
    `priority`: its operator's, as it was then."""

    cti: bytes
    kid: str
    digest: bytes
    watts: float
    criticality: int
    starts_at: float
    ends_at: float
    direction: str = IMPORT
    state: str = SCHEDULED
    told: str = ""  # the last of "applied" and "partial" that a receipt said
    priority: int = 0

    def encode(self) -> bytes:
        """As the store keeps it."""
        return encode([getattr(self, name) for name in _KEPT])


_KEPT = ("kid", "digest", "watts", "criticality", "starts_at", "ends_at", "direction", "state", "told", "priority")


def decode_limit(cti: bytes, value: bytes) -> Limit:
    """Read what `encode` wrote. Raises ValueError."""
    fields: Any = decode_own(value)
    if not isinstance(fields, list) or len(fields) != len(_KEPT):
        raise ValueError("not a limit")
    return Limit(cti, *fields)


def step(limit: Limit, event: str) -> tuple[Limit, str]:
    """Take one step of the table; the receipt's status, "" for none. KeyError: the state does not know the event."""
    state, status = LIFE[limit.state, event]
    return replace(limit, state=state, told=status or limit.told), status


class LimitTable:
    """The limits that are not over. `now` is monotonic; `offset_s` = UTC - monotonic, as of when it was trusted."""

    def __init__(self) -> None:
        self._limits: dict[bytes, Limit] = {}

    def __iter__(self) -> Iterator[Limit]:
        return iter(list(self._limits.values()))

    def __len__(self) -> int:
        return len(self._limits)

    def get(self, cti: bytes) -> Limit | None:
        return self._limits.get(cti)

    def put(self, limit: Limit) -> None:
        """Keep a limit as it is now; one that is over is forgotten."""
        if limit.state == OVER:
            self._limits.pop(limit.cti, None)
        else:
            self._limits[limit.cti] = limit

    def drop(self, cti: bytes) -> None:
        """Forget a limit that is over."""
        self._limits.pop(cti, None)

    def overlapped_by(self, new: Limit) -> list[Limit]:
        """The limits that a new one supersedes: those of the same operator and direction whose time it touches (Zigbee
        DRLC: of two events that overlap, the one issued later counts). Limits of different operators stand side by
        side."""
        return [
            old
            for old in self
            if (old.kid, old.direction) == (new.kid, new.direction)
            and old.starts_at < new.ends_at
            and new.starts_at < old.ends_at
        ]

    def due(self, t: float) -> list[tuple[Limit, str]]:
        """What happens to limits at UTC `t`, in the order in which it happened."""
        found = []
        for limit in self:
            if t >= limit.ends_at:
                found.append((limit.ends_at, limit, "ended" if limit.state == ACTIVE else "missed"))
            elif limit.state == SCHEDULED and t >= limit.starts_at:
                found.append((limit.starts_at, limit, "began"))
        return [(limit, event) for _, limit, event in sorted(found, key=lambda item: item[0])]

    def next_at(self) -> float | None:
        """When `due` is worth asking again, UTC epoch seconds."""
        times = [limit.starts_at if limit.state == SCHEDULED else limit.ends_at for limit in self]
        return min(times, default=None)

    def effective(self, direction: str = IMPORT) -> Limit | None:
        """The limit that the household has to keep to: the lowest that is active."""
        active = (limit for limit in self if limit.state == ACTIVE and limit.direction == direction)
        return min(active, key=lambda limit: limit.watts, default=None)


OVER_FOR_S = 60.0  # a household may be above its limit for a moment: a kettle, a compressor's start
_SETTLE_S = 30.0
_TOLERANCE, _SLACK_W = 1.05, 15.0


@dataclass(slots=True)
class _Observed:
    """What a meter said while a limit was active."""

    since: float
    is_metered: bool = True
    is_broken: bool = False
    over_since: float | None = None


class Keeping:
    """Whether each active limit was kept, as a meter saw it: the word `kept` of its last receipt (design 3.3).

    Nothing is said of a limit through part of which the hub was off, or had no meter.
    """

    def __init__(self) -> None:
        self._observed: dict[bytes, _Observed] = {}

    def begin(self, limit: Limit, now: float, late_s: float) -> None:
        """It begins; `late_s` after its time."""
        if late_s <= _SETTLE_S:
            self._observed[limit.cti] = _Observed(now)

    def look(self, limit: Limit, meter_w: float | None, now: float) -> None:
        """What the meter says now, import positive; None: there is no fresh word of it."""
        seen = self._observed.get(limit.cti)
        if seen is None:
            return
        if meter_w is None:
            seen.is_metered &= now < seen.since + _SETTLE_S
            return
        drawn_w = meter_w if limit.direction == IMPORT else -meter_w
        if drawn_w <= limit.watts * _TOLERANCE + _SLACK_W:
            seen.over_since = None
        elif seen.over_since is None:
            seen.over_since = now
        elif now - seen.over_since >= OVER_FOR_S:
            seen.is_broken = True

    def verdict(self, limit: Limit) -> bool | None:
        """What can be said at its end; None: nothing."""
        seen = self._observed.pop(limit.cti, None)
        if seen is None:
            return None
        if seen.is_broken:
            return False
        return True if seen.is_metered else None

    def forget_all_but(self, ctis: set[bytes]) -> None:
        """Limits that are over by other ways."""
        for cti in self._observed.keys() - ctis:
            del self._observed[cti]
