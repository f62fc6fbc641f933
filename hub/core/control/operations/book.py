"""`booked`: everything up to here is in the control point's book. Custody ends there, not at the broker (promise
P1)."""

from hub.core.control.operations.base import CommandedOperation
from hub.core.control.records import Journal


class Booked(CommandedOperation):
    """No receipt: what was booked stands in the heartbeat."""

    def journal(self) -> Journal:
        return Journal(booked={lane: (place[0], place[1]) for lane, place in self.args.items()})

    def apply(self, now: float) -> None:
        """The store has it; the uplink asks there."""
