"""The radio's state, what a failure means, and how long to wait before the next attempt. No I/O.

          start            up                       lost
off ----------> starting ------> up ------------------------> down
                |   ^  |                                       |
        missing |   |  +---------------- lost ---------------->+
                v   |                                          |
             missing+-------------------- start <--------------+
"""

from hub.core.backoff import Pace

STATES = ("off", "starting", "up", "down", "missing")
EVENTS = ("start", "up", "lost", "missing", "stop")
_TRANSITIONS = {
    ("off", "start"): "starting",
    ("down", "start"): "starting",
    ("missing", "start"): "starting",
    ("starting", "up"): "up",
    ("starting", "lost"): "down",
    ("starting", "missing"): "missing",
    ("up", "lost"): "down",
    ("up", "missing"): "missing",
}

MISSING = "radio-missing"
SILENT = "radio-silent"
REFUSING = "radio-refuses"

# A home waits for its radio: it is back in seconds once it can be. An attempt that fails takes long enough by itself.
PACE = Pace(first_s=0.2, cap_s=1.5)
# A radio that stayed up this long has recovered: the next trouble is a new one.
STEADY_S = 10.0


class RadioState:
    """Where the radio is in its life."""

    def __init__(self) -> None:
        self.state = "off"

    def on(self, event: str) -> str:
        """Take an event. What a state has no use for changes nothing; "stop" always leads to off."""
        self.state = "off" if event == "stop" else _TRANSITIONS.get((self.state, event), self.state)
        return self.state


def diagnose(error: BaseException | None) -> str:
    """The condition (hub/core/health.py) behind a failure: no port, nobody answers on it, or nothing is sent."""
    if type(error).__name__ in ("RadioRefuses", "DeliveryError"):
        return REFUSING
    cause = error.__cause__ if error is not None and error.__cause__ is not None else error
    if cause is None or (isinstance(cause, OSError) and not isinstance(cause, TimeoutError)):
        return MISSING
    return SILENT


class StartsAnew(Exception):
    """The hub itself ended the radio's life, to begin another at once; its text says why."""


def is_reset(error: BaseException | None) -> bool:
    """Whether the radio is there again in a moment: it restarted by itself (bellows' NcpFailure), or was made to."""
    return isinstance(error, StartsAnew) or getattr(error, "code", None) is not None


def reason_of(error: BaseException | None) -> str:
    """A failure in a few words, for events and conditions."""
    if error is None:
        return "the port was closed"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = getattr(getattr(error, "code", None), "name", None)  # bellows' NcpFailure: why the radio restarted
    return (code or str(error) or type(error).__name__)[:120]
