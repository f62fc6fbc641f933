"""Whether the control points are there: each operator's heartbeats, the states of EEBUS LPC 1.0, the failsafe.

LPC restarts limited; this hub may never be why an appliance is off, so the failsafe is `release` unless the utility
configured watts, and it ends after its minimum duration by itself (promise P4). An operator that never sent a heartbeat
is not missed: what it commanded ends by its own time.
"""

from collections.abc import Collection

INIT = "init"
CONTROLLED = "unlimited-controlled"
LIMITED = "limited"
FAILSAFE = "failsafe"
AUTONOMOUS = "unlimited-autonomous"

# (state, event) -> state; a pair that is not there changes nothing.
# `decided`: a heartbeat and a decision about limits were heard, both since the state began (LPC-906, 916, 918, 921);
# `limited`/`unlimited`: a limit applies / none does any more; `silent`: two periods without a heartbeat; `waited`: the
# state's own time is over.
TRANSITIONS: dict[tuple[str, str], str] = {
    (INIT, "decided"): CONTROLLED,
    (INIT, "waited"): AUTONOMOUS,
    (CONTROLLED, "limited"): LIMITED,
    (CONTROLLED, "silent"): FAILSAFE,
    (LIMITED, "unlimited"): CONTROLLED,
    (LIMITED, "silent"): FAILSAFE,
    (FAILSAFE, "decided"): CONTROLLED,
    (FAILSAFE, "waited"): AUTONOMOUS,
    (AUTONOMOUS, "decided"): CONTROLLED,
}

INIT_S = 120.0  # LPC: without control for 120 s after a start it may go autonomous
FAILSAFE_MIN_S = 7200.0  # LPC: the failsafe duration is 2 to 24 h


class Watch:
    """Where the hub stands towards those who control it. Times are the machine's `now`."""

    def __init__(
        self, heartbeat_s: float, failsafe_w: float | None, now: float, failsafe_min_s: float = FAILSAFE_MIN_S
    ) -> None:
        self.state = INIT
        self.since = now
        self.failsafe_w = failsafe_w
        self.failsafe_min_s = failsafe_min_s
        self._silence_s = 2 * heartbeat_s
        self._beats: dict[str, float] = {}  # operators that send heartbeats and are not silent
        self._known: set[str] = set()  # operators that ever sent one
        self._lpc: frozenset[str] = frozenset()
        self._beat_heard = self._decision_heard = False  # since the state began

    def configure(self, heartbeat_s: float, failsafe_w: float | None, failsafe_min_s: float) -> None:
        """Other settings, in force at once."""
        self._silence_s = 2 * heartbeat_s
        self.failsafe_w, self.failsafe_min_s = failsafe_w, failsafe_min_s

    def use_operators(self, kids: Collection[str], lpc: Collection[str]) -> None:
        """`lpc`: those whose silence is the failsafe's; none marked: everybody's that was heard."""
        self._lpc = frozenset(lpc)
        for kid in self._known - set(kids):
            self._known.discard(kid)
            self._beats.pop(kid, None)

    def restore(self, kid: str, now: float) -> None:
        """This operator sent heartbeats before the restart: it counts as just heard."""
        self._known.add(kid)
        self._beats[kid] = now

    def knows(self, kid: str) -> bool:
        """Whether this operator ever sent a heartbeat."""
        return kid in self._known

    def _counts(self, kid: str) -> bool:
        return kid in self._lpc if self._lpc else True

    def step(self, event: str, now: float) -> bool:
        """Take one step; True when the state changed."""
        state = TRANSITIONS.get((self.state, event), self.state)
        if state == self.state:
            return False
        self.state, self.since = state, now
        self._beat_heard = self._decision_heard = False
        return True

    def heard(self, kid: str, now: float, *, heartbeat: bool = False, decision: bool = False) -> None:
        """A command is as good a sign of life as a heartbeat, but makes nobody miss one who never sent any. One that
        did is missed anew from whatever it sends after its silence."""
        if heartbeat:
            self._known.add(kid)
        if kid in self._known:
            self._beats[kid] = now
        if self._counts(kid):
            self._beat_heard |= heartbeat
            self._decision_heard |= decision
        if self._beat_heard and self._decision_heard:
            self.step("decided", now)

    def take_silent(self, now: float) -> list[str]:
        """The operators that have just become silent; each is told once, until it is heard again."""
        silent = [kid for kid, at in self._beats.items() if now >= at + self._silence_s]
        for kid in silent:
            del self._beats[kid]
        if any(map(self._counts, silent)) and not any(map(self._counts, self._beats)):
            self.step("silent", now)
        return silent

    def has_waited(self, now: float) -> bool:
        """Take the step of a state whose own time is over; True when there was one."""
        at = self._waits_until()
        return at is not None and now >= at and self.step("waited", now)

    def _waits_until(self) -> float | None:
        if self.state == INIT:
            return self.since + INIT_S
        return self.since + self.failsafe_min_s if self.state == FAILSAFE else None

    def due_at(self) -> float | None:
        """When something is due if nothing is heard."""
        dues = [at + self._silence_s for at in self._beats.values()]
        waits_until = self._waits_until()
        if waits_until is not None:
            dues.append(waits_until)
        return min(dues, default=None)

    def own_limit_w(self) -> float | None:
        """What the failsafe itself holds the household to, or None."""
        return self.failsafe_w if self.state in (INIT, FAILSAFE) else None

    def own_limit_ends_at(self) -> float | None:
        """Until when, at the latest."""
        return self._waits_until()
