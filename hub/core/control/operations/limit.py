"""`limit`: the household is held to so many watts for a while, drawn or fed in."""

from collections.abc import Mapping
from typing import Any

from hub.core.control.authority import Accepted
from hub.core.control.limits import (
    IMPORT,
    MAX_AHEAD_S,
    MAX_LIMITS,
    MAX_LIMITS_EACH,
    Limit,
)
from hub.core.control.operations.base import CommandedOperation, Desk, Unable
from hub.core.control.records import LIMIT, Journal

_DEFAULT_CRITICALITY = 5


class LimitHousehold(CommandedOperation):
    """Supersedes what the same operator asked for the same time; limits of several operators hold side by side."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        self._limit = self._wanted()
        self._superseded = desk.limits.overlapped_by(self._limit)
        self._displaced = self._make_room()

    def _wanted(self) -> Limit:
        t, args, command = self.t(), self.args, self.command
        start = args.get("start", t)
        if start > t + MAX_AHEAD_S:
            raise Unable("bad-args", f"start: at most {MAX_AHEAD_S / 86400:.0f} days ahead")
        if start + args["duration"] <= t:
            raise Unable("expired", "the limit's time is over")
        # Start and end move together, so that a fleet neither drops nor returns at one moment; where the end has a
        # spread of its own, it moves by that (Zigbee DRLC: random end).
        starts_at = start + self.desk.random() * args.get("randomise", 0)
        ends_at = (starts_at if "randomise_end" not in args else start) + args["duration"]
        ends_at += self.desk.random() * args.get("randomise_end", 0)
        direction = args.get("direction", IMPORT)
        watts = float(args["watts"])
        if direction == IMPORT:
            watts = max(watts, self.desk.floor_w)
        criticality = args.get("criticality", _DEFAULT_CRITICALITY)
        return Limit(
            command.cti, command.kid, self.verdict.digest, watts, criticality, starts_at, max(ends_at, starts_at + 1),
            direction, priority=self.verdict.operator.priority,
        )  # fmt: skip

    def _make_room(self) -> list[Limit]:
        """Nobody fills the table for the others: each operator has its share, and when the table is full whoever
        counts for more is heard (design 3.3)."""
        left = [limit for limit in self.desk.limits if limit not in self._superseded]
        own = sum(limit.kid == self.kid for limit in left)
        if own >= MAX_LIMITS_EACH:
            raise Unable("too-many", f"{MAX_LIMITS_EACH} limits of this operator are waiting already")
        if len(left) < MAX_LIMITS:
            return []
        lesser = [limit for limit in left if limit.priority < self._limit.priority]
        if not lesser:
            raise Unable("too-many", f"{MAX_LIMITS} limits are waiting already, none of a lower priority")
        return [min(lesser, key=lambda limit: (limit.priority, -limit.starts_at))]

    def journal(self) -> Journal:
        limit = self._limit
        journal = Journal(kept={LIMIT + limit.cti.hex(): limit.encode()})
        detail: dict[str, Any] = {"start": round(limit.starts_at, 3), "end": round(limit.ends_at, 3)}
        if limit.watts != self.args["watts"]:
            detail["floor_w"] = round(limit.watts)
        self.tell(journal, "accepted", detail)
        for old in self._superseded:
            self.desk.journal_end(old, "superseded", self.now, journal)
        for old in self._displaced:
            self.desk.journal_end(old, "cancelled", self.now, journal, "displaced")
        return journal

    def apply(self, now: float) -> None:
        for old in [*self._superseded, *self._displaced]:
            self.desk.limits.drop(old.cti)
        self.desk.limits.put(self._limit)
        self.desk.heard(self.kid, now, decision=True)
