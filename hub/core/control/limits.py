"""The life of a household limit: a table, and the limits that are not over yet.

A limit is a command that lasts. Its times are UTC, as the control point gave them; while the hub runs they are held on
the monotonic clock, so that a step of the wall clock neither lengthens nor shortens a restriction.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cbor2

from hub.wire.uplink.cbor import loads_one

SCHEDULED, ACTIVE, OVER = "scheduled", "active", "over"

# (state, event) -> (state, the receipt that tells of it or ""). A pair that is not there cannot happen.
# `began`: its time came; `met`, `unmet`: what the household does about it; `ended`: its time is over; `missed`: the hub
# was off, or had no clock, for all of its time; `lost`: the control point fell silent (LPC), and control lets go.
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

MAX_LIMITS = 64
MAX_DURATION_S = 7 * 86400.0
MAX_AHEAD_S = 31 * 86400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. `starts_at`, `ends_at`: UTC epoch seconds, its random offset included; `digest`: of its command."""

    cti: bytes
    kid: str
    digest: bytes
    watts: float
    criticality: int
    starts_at: float
    ends_at: float
    state: str = SCHEDULED
    told: str = ""  # the last of "applied" and "partial" that a receipt said

    def encode(self) -> bytes:
        """As the store keeps it."""
        return cbor2.dumps(
            [self.kid, self.digest, self.watts, self.criticality, self.starts_at, self.ends_at, self.state, self.told]
        )


def decode_limit(cti: bytes, value: bytes) -> Limit:
    """Read what `encode` wrote. Raises ValueError."""
    fields: Any = loads_one(value)
    if not isinstance(fields, list) or len(fields) != 8:
        raise ValueError("not a limit")
    return Limit(cti, *fields)


def step(limit: Limit, event: str) -> tuple[Limit, str]:
    """Take one step of the table; the receipt's status, "" for none. KeyError: the state does not know the event."""
    state, status = LIFE[limit.state, event]
    return replace(limit, state=state, told=status or limit.told), status


class Limits:
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
        """The limits that a new one supersedes: those of the same operator whose time it touches (Zigbee DRLC: of two
        events that overlap, the one issued later counts). Limits of different operators stand side by side."""
        return [
            old for old in self if old.kid == new.kid and old.starts_at < new.ends_at and new.starts_at < old.ends_at
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

    def effective(self) -> Limit | None:
        """The limit that the household has to keep to: the lowest that is active."""
        return min((limit for limit in self if limit.state == ACTIVE), key=lambda limit: limit.watts, default=None)
