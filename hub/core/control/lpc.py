"""Whether the control point is there: the states of EEBUS LPC 1.0, and the dead-man's switch.

LPC restarts limited; this hub may never be why an appliance is off, so the failsafe is `release` unless the utility
configured watts, and it ends after two hours by itself (promise P4). A control point that never sent a heartbeat is not
missed: its limits end by their own time.
"""

INIT = "init"
CONTROLLED = "unlimited-controlled"
LIMITED = "limited"
FAILSAFE = "failsafe"
AUTONOMOUS = "unlimited-autonomous"

# (state, event) -> state; a pair that is not there changes nothing.
# `heard`: a heartbeat or a command of the limiting role; `limited`/`unlimited`: a limit applies / none does any more;
# `silent`: two heartbeat periods without one; `waited`: the state's own time is over.
TRANSITIONS: dict[tuple[str, str], str] = {
    (INIT, "heard"): CONTROLLED,
    (INIT, "limited"): LIMITED,
    (INIT, "waited"): AUTONOMOUS,
    (CONTROLLED, "limited"): LIMITED,
    (CONTROLLED, "silent"): FAILSAFE,
    (LIMITED, "unlimited"): CONTROLLED,
    (LIMITED, "silent"): FAILSAFE,
    (FAILSAFE, "heard"): CONTROLLED,
    (FAILSAFE, "limited"): LIMITED,
    (FAILSAFE, "waited"): AUTONOMOUS,
    (AUTONOMOUS, "heard"): CONTROLLED,
    (AUTONOMOUS, "limited"): LIMITED,
}

INIT_S = 120.0  # LPC: without control for 120 s after a start it may go autonomous
FAILSAFE_S = 7200.0  # LPC: the failsafe duration is 2 to 24 h


class Watch:
    """Where the hub stands towards its control point. Times are the machine's `now`."""

    def __init__(self, heartbeat_s: float, failsafe_w: float | None, now: float) -> None:
        self.state = INIT
        self.since = now
        self.failsafe_w = failsafe_w
        self._silence_s = 2 * heartbeat_s
        self._heartbeat_at: float | None = None  # None: this control point sends none

    def step(self, event: str, now: float) -> bool:
        """Take one step; True when the state changed."""
        state = TRANSITIONS.get((self.state, event), self.state)
        if state == self.state:
            return False
        self.state, self.since = state, now
        return True

    def heartbeat(self, now: float) -> None:
        """The control point says that it is there, and from now on it is missed when it does not."""
        self._heartbeat_at = now

    def heard(self, now: float) -> None:
        """A command is as good a sign of life as a heartbeat, but makes nobody miss one."""
        if self._heartbeat_at is not None:
            self._heartbeat_at = now

    def due(self, now: float) -> str | None:
        """The event whose time has come, or None."""
        at = self.due_at()
        if at is None or now < at:
            return None
        return "silent" if self.state in (CONTROLLED, LIMITED) else "waited"

    def due_at(self) -> float | None:
        """When something is due if nothing is heard."""
        if self.state in (CONTROLLED, LIMITED):
            return None if self._heartbeat_at is None else self._heartbeat_at + self._silence_s
        if self.state == INIT:
            return self.since + INIT_S
        return self.since + FAILSAFE_S if self.state == FAILSAFE else None

    def own_limit_w(self) -> float | None:
        """What the failsafe itself holds the household to, or None."""
        return self.failsafe_w if self.state in (INIT, FAILSAFE) else None
