"""What goes up next, and what is on its way: a machine with a bounded window over the store's lanes.

paho ignores the broker's receive maximum and would send everything outstanding at once after a reconnect, so the window
is ours. What proves and what warns overtakes what fills: receipts, events, answers, readings.
"""

from collections import deque
from typing import NamedTuple

LANE_ORDER = ("receipts", "events", "answers", "readings")
MAX_IN_FLIGHT = 16


class Position(NamedTuple):
    """A place in a lane: after this epoch and number."""

    epoch: int
    number: int


START = Position(0, 0)


# A broker may acknowledge what it has not yet written down, and then die. What it acknowledged this shortly before a
# session broke is sent once more: repeats are byte-identical and harmless, a loss is neither (P1: not by broker loss).
TAIL_S = 30.0
MAX_TAIL = 256


class Tail:
    """What was acknowledged lately, over all sessions."""

    def __init__(self) -> None:
        self._acknowledged: deque[tuple[float, str, Position]] = deque(maxlen=MAX_TAIL)

    def acknowledged(self, lane: str, position: Position, now: float) -> None:
        """The broker took a message at `now`."""
        self._acknowledged.append((now, lane, position))

    def broke(self, now: float) -> list[tuple[str, Position]]:
        """A session ended without a word from the broker: what is to be sent again, oldest first."""
        return [(lane, position) for at, lane, position in self._acknowledged if now - at <= TAIL_S]


class Window:
    """Tracks one connection's messages by paho's message id. A new connection starts a new window."""

    def __init__(self, receive_maximum: int) -> None:
        # One place stays free for the state topic and the heartbeat, which the window does not count.
        self.size = max(1, min(MAX_IN_FLIGHT, receive_maximum - 1))
        self._in_flight: dict[int, tuple[str, Position, float]] = {}
        self._cursors = dict.fromkeys(LANE_ORDER, START)
        self.rtt_ms: float | None = None

    @property
    def room(self) -> int:
        """How many more messages may be sent now."""
        return self.size - len(self._in_flight)

    def cursor(self, lane: str) -> Position:
        """Behind what position of the lane the next message is to be looked for."""
        return self._cursors[lane]

    def sent(self, mid: int, lane: str, position: Position, now: float) -> None:
        """A message went out."""
        self._in_flight[mid] = (lane, position, now)
        if lane in self._cursors:
            self._cursors[lane] = position

    def sent_again(self, mid: int, lane: str, position: Position, now: float) -> None:
        """A message that had been delivered went out once more; the cursors stay where they are."""
        self._in_flight[mid] = (lane, position, now)

    def passed_over(self, lane: str, position: Position) -> None:
        """A message cannot be sent in this session; what is behind it can."""
        if lane in self._cursors:
            self._cursors[lane] = position

    def under_way(self, lane: str) -> int:
        """How many messages of a lane the broker has not answered."""
        return sum(sent_lane == lane for sent_lane, _, _ in self._in_flight.values())

    def acknowledged(self, mid: int, now: float) -> tuple[str, Position] | None:
        """The broker answered a message of the window; None for one the window did not send."""
        entry = self._in_flight.pop(mid, None)
        if entry is None:
            return None
        lane, position, sent_at = entry
        self.rtt_ms = (now - sent_at) * 1000
        return lane, position

    def rewind(self) -> None:
        """Everything not yet marked delivered is to be sent again, from the beginning of each lane."""
        self._cursors = dict.fromkeys(LANE_ORDER, START)
