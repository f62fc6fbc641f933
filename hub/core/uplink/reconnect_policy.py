"""When to try the broker again: full jitter, a cap in minutes, slower where the broker said no.

Sans-IO: the caller brings the time and the random source, so that 100,000 hubs can be simulated. The reason for each
row is a way in which fleets have taken their own broker down.
"""

import math
from collections.abc import Callable

from hub.core.backoff import Backoff, Pace

_FULL_JITTER = 1.0


def _pace(first_s: float, cap_s: float, floor_s: float) -> Pace:
    return Pace(first_s, cap_s, floor_s, drawn=_FULL_JITTER)


# failure: pace. The words are those of hub/core/health.py's uplink conditions.
PACES: dict[str, Pace] = {
    # Nothing answers: the broker or the network is away and comes back for everyone at once, so spread wide. The
    # figures are those of deploy/fleet: 100,000 hubs, a crash of seconds and an outage of half an hour.
    "uplink-dns": _pace(5, 300, 1),
    "uplink-unreachable": _pace(5, 300, 1),
    "uplink-lost": _pace(10, 300, 0),
    # A broker that answers but says no will say no again: a bad credential must not cost it a handshake a second.
    "uplink-server-untrusted": _pace(60, 1800, 30),
    "uplink-refused": _pace(30, 1800, 10),
    "uplink-not-authorised": _pace(120, 3600, 60),
    # Server busy, quota, rate (MQTT 5 reason codes 0x89, 0x97, 0x9F): it asked for distance.
    "uplink-busy": _pace(60, 1800, 30),
    # Use another server (0x9C, 0x9D) that we know: soon, but a whole fleet is told so in one second.
    "uplink-redirected": _pace(30, 600, 0),
    # Somebody else connects under our name (0x8E): each quick return would throw the other out again.
    "uplink-taken-over": _pace(60, 1800, 30),
    # It lets us in, and closes at the first message: that will not change by the second.
    "uplink-ends-at-message": _pace(60, 1800, 30),
    "uplink-message-refused": _pace(60, 1800, 30),
    # Something answers that is no broker: a captive portal lets go when it likes.
    "uplink-portal": _pace(30, 600, 10),
    # The other protocol version is worth one try at once; then it is an ordinary refusal.
    "uplink-protocol": _pace(1, 60, 0),
}

# A neighbourhood that regains its power boots in one second: the first attempt of a hub whose machine has just started
# is drawn from `uplink.boot_spread_s`. A hub that is only started anew (an update, an engineer) tries at once.
JUST_BOOTED_S = 300.0

# A session that lives this long ends the memory of failures; each of these steps of uptime forgives one.
STABLE_S = 120.0
FORGIVEN_EVERY_S = 10.0


def first_delay_s(machine_up_s: float, spread_s: float, random: Callable[[], float]) -> float:
    """How long to wait before the very first attempt, seconds."""
    return spread_s * random() if machine_up_s < JUST_BOOTED_S else 0.0


class ReconnectPolicy:
    """How long to wait after each kind of failure. `random` gives numbers in [0, 1).

    `cap_s`: no delay is longer, whatever the table says: for a broker that serves a hub or two (a demonstration).
    """

    def __init__(self, random: Callable[[], float], cap_s: float = math.inf) -> None:
        self.backoff = Backoff(
            PACES["uplink-lost"], random, steady_s=STABLE_S, forgiven_every_s=FORGIVEN_EVERY_S, cap_s=cap_s
        )

    def delay_s(self, failure: str) -> float:
        """How long to wait after this failure, seconds. The first try after a long healthy session comes soonest."""
        return self.backoff.next_delay_s(PACES[failure])


SHORT_S = 60.0
SHORT_IN_A_ROW = 4


class ShortSessions:
    """Sessions that a broker opened and closed again soon, without a reason; each kind in a row is a pattern.

    Served in between: a name that two clients have. Without one answer to what the hub said: a broker that does not say
    no to a message, but closes (an access list that denies every publish).
    """

    def __init__(self) -> None:
        self._served = self._unserved = 0

    def ended(self, lived_s: float, *, is_mute: bool, was_served: bool) -> str:
        """A session has ended: the condition that this has become, or "". `was_served`: a message was answered."""
        is_short = is_mute and lived_s < SHORT_S
        self._served = self._served + 1 if is_short and was_served else 0
        self._unserved = self._unserved + 1 if is_short and not was_served else 0
        if self._served >= SHORT_IN_A_ROW:
            return "uplink-taken-over"
        return "uplink-ends-at-message" if self._unserved >= SHORT_IN_A_ROW else ""
