"""What goes up next, and what is on its way: a machine with a bounded window over the store's lanes.

paho ignores the broker's receive maximum and would send everything outstanding at once after a reconnect, so the window
is ours. What proves and what warns overtakes what fills: receipts, events, answers, readings.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from hub.core.backoff import Pace

LANE_ORDER = ("receipts", "events", "answers", "readings")
MAX_IN_FLIGHT = 16
# Raw forwards are small, and each waits for the broker alone: as many as it takes, up to these. So many places are left
# to the lanes, or half where there are few.
MAX_FORWARDS_IN_FLIGHT = 256
_LEFT_TO_LANES = 8
FORWARD = "forward"


class Position(NamedTuple):
    """A place in a lane: after this epoch and number."""

    epoch: int
    number: int


START = Position(0, 0)


NOBODY = Pace(first_s=60.0, cap_s=3600.0)


class Listeners:
    """Lanes that nobody has subscribed to (PUBACK reason code 0x10, MQTT 5 section 3.4.2.1): no delivery.

    Each is asked again gently, after a minute and then after twice as long each time, up to an hour; at once when
    anything says that somebody listens.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._tries: dict[str, int] = {}

    def nobody(self, lane: str, now: float) -> None:
        """The broker took a message of this lane to nobody."""
        if now < self._until.get(lane, now):
            return  # one of those that were under way when it was noticed
        tries = self._tries[lane] = self._tries.get(lane, -1) + 1
        self._until[lane] = now + NOBODY.ceiling_s(tries)

    def somebody(self, lane: str | None = None) -> list[str]:
        """Somebody has this lane, or is there at all (None: a command, an answer to a heartbeat). The lanes that are
        worth another try."""
        if lane is not None:
            self._tries.pop(lane, None)
            return [lane] if self._until.pop(lane, None) is not None else []
        lanes = list(self._until)
        self._until.clear()
        return lanes

    def take_due(self, now: float) -> list[str]:
        """The lanes whose pause is over: they are worth another try."""
        due = [lane for lane, until in self._until.items() if now >= until]
        for lane in due:
            del self._until[lane]
        return due

    def waits(self, lane: str) -> bool:
        """Whether nothing is to be sent of this lane now."""
        return lane in self._until

    def waiting(self) -> list[str]:
        """The lanes that nobody has."""
        return sorted(self._until)

    def due_at(self) -> float | None:
        """When `take_due` is worth asking."""
        return min(self._until.values(), default=None)


class Rebooking:
    """What the broker acknowledged and nobody booked goes out again, lane by lane, oldest first, a round at a time.

    A round that brought no booking is followed by another after twice as long: a control point that keeps no book costs
    one repeat of each message, and one that books a lane again and again costs none.
    """

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self._cursors: dict[str, tuple[int, int]] = {}
        self._resting: dict[str, tuple[float, int]] = {}  # until when, and how many rounds there were

    def cursor(self, lane: str, booked: tuple[int, int]) -> tuple[int, int]:
        """Behind what place of the lane to look."""
        if booked > self._cursors.get(lane, (0, 0)):
            self._cursors[lane] = booked
            self._resting.pop(lane, None)
        return self._cursors.get(lane, booked)

    def may_look(self, lane: str, now: float) -> bool:
        return now >= self._resting.get(lane, (now, 0))[0]

    def sent(self, lane: str, place: tuple[int, int]) -> None:
        self._cursors[lane] = place

    def round_over(self, lane: str, booked: tuple[int, int], now: float, *, has_book: bool) -> None:
        """Nothing more to send now. What was sent is looked at again later, where there is a book at all."""
        if self._cursors.get(lane, booked) <= booked or not has_book:
            return
        rounds = self._resting.get(lane, (0.0, 0))[1]
        self._resting[lane] = (now + Pace(self.within_s, math.inf).ceiling_s(rounds), rounds + 1)
        self._cursors[lane] = booked


class Window:
    """Tracks one connection's messages by paho's message id. A new connection starts a new window."""

    def __init__(self, receive_maximum: int) -> None:
        # One place stays free for the state topic and the heartbeat, which the window does not count.
        self.size = max(1, min(MAX_IN_FLIGHT, receive_maximum - 1))
        self._total = max(1, min(MAX_FORWARDS_IN_FLIGHT, receive_maximum - 1))
        self._in_flight: dict[int, tuple[str, Position, float]] = {}
        self._forwards = 0
        self._cursors = dict.fromkeys(LANE_ORDER, START)
        self.rtt_ms: float | None = None

    @property
    def room(self) -> int:
        """How many more messages of the lanes may be sent now."""
        in_flight = len(self._in_flight)
        return min(self.size - (in_flight - self._forwards), self._total - in_flight)

    @property
    def forward_room(self) -> int:
        """How many more raw forwards."""
        most = max((self._total + 1) // 2, self._total - _LEFT_TO_LANES)
        return min(most - self._forwards, self._total - len(self._in_flight))

    @property
    def is_single(self) -> bool:
        """Whether one message at a time is all that the broker takes: then no place is left to anybody else."""
        return self._total == 1

    @property
    def is_empty(self) -> bool:
        """Whether the broker has answered everything."""
        return not self._in_flight

    def cursor(self, lane: str) -> Position:
        """Behind what position of the lane the next message is to be looked for."""
        return self._cursors[lane]

    def sent(self, mid: int, lane: str, position: Position, now: float) -> None:
        """A message went out."""
        self._in_flight[mid] = (lane, position, now)
        self._forwards += lane == FORWARD
        if lane in self._cursors:
            self._cursors[lane] = position

    def sent_again(self, mid: int, lane: str, position: Position, now: float) -> None:
        """A message that had been delivered went out once more; the cursors stay where they are."""
        self._in_flight[mid] = (lane, position, now)

    def passed_over(self, lane: str, position: Position) -> None:
        """A message cannot be sent in this session; what is behind it can."""
        if lane in self._cursors:
            self._cursors[lane] = position

    def acknowledged(self, mid: int, now: float) -> tuple[str, Position] | None:
        """The broker answered a message of the window; None for one the window did not send."""
        entry = self._in_flight.pop(mid, None)
        if entry is None:
            return None
        lane, position, sent_at = entry
        self._forwards -= lane == FORWARD
        self.rtt_ms = (now - sent_at) * 1000
        return lane, position

    def rewind(self, lanes: Iterable[str] = LANE_ORDER) -> None:
        """Everything not yet marked delivered is to be sent again, from the beginning of each lane."""
        for lane in lanes:
            if lane in self._cursors:
                self._cursors[lane] = START
