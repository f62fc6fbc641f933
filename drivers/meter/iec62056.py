"""IEC 62056-21 (formerly IEC 1107): the hub asks, the meter identifies itself, both change to a faster rate, the meter
sends its registers once. A machine: bytes and `now` in, bytes, rates and read-outs out.

Source: IEC 62056-21:2002 section 6.3 (messages), 6.4 (modes A to D) and annex B (wake-up of battery-operated meters):
the baud rate character of the identification tells the mode: a digit means mode C (the hub acknowledges, then both
change), A to F mode B (both change at once), anything else mode A (300 baud throughout). Mode D, a meter that sends
unasked, is heard by the same framer (telegrams.py).
"""

from drivers.meter.checks import seven_bits, with_parity
from drivers.meter.records import Bad, Found, Readout, SendBytes, SetLine
from drivers.meter.telegrams import Telegrams

START_BAUDRATE = 300
_MODE_C = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
_MODE_B = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}
_BITS = 10  # a character: start, seven bits, parity, stop

POLL_EVERY_S = 15.0  # a read-out is fresh enough for the plan of a load limit (METER_FRESH_S of hub/core/control)
_ANSWER_S = 4.0  # reaction time (1.5 s) and a 20 character identification at 300 baud, and some patience
_REACTION_S = 0.2  # the least pause before the acknowledgement
_SILENCE_S = 2.5  # between two characters (1.5 s in the standard)
_LONGEST_S = 120.0  # a long read-out at 300 baud
_WAKE_UP, _WAKE_UP_PAUSE_S = b"\0" * 66, 1.6  # 2.2 s of zeros at 300 baud
_MAX_ADDRESS = 32

IDLE, WAKING, IDENTIFYING, ACKNOWLEDGING, SWITCHING, READING = (
    "idle", "waking", "identifying", "acknowledging", "switching", "reading",
)  # fmt: skip
# (state, event) -> state; a pair that is not there changes nothing.
TRANSITIONS: dict[tuple[str, str], str] = {
    (IDLE, "wake"): WAKING,
    (IDLE, "due"): IDENTIFYING,
    (WAKING, "due"): IDENTIFYING,
    (IDENTIFYING, "mode-a"): READING,
    (IDENTIFYING, "mode-b"): READING,
    (IDENTIFYING, "mode-c"): ACKNOWLEDGING,
    (ACKNOWLEDGING, "due"): SWITCHING,
    (SWITCHING, "due"): READING,
    **{(state, "failed"): IDLE for state in (IDENTIFYING, READING)},
    # A meter that sends unasked may do so at any moment.
    **{(state, "complete"): IDLE for state in (IDLE, WAKING, IDENTIFYING, ACKNOWLEDGING, SWITCHING, READING)},
}

Action = SendBytes | SetLine


class Iec62056:
    """Reads one meter's optical or serial port, again and again.

    `address`: the meter's own, where several share a line. `baudrate`: what it is asked at; a few meters know no 300.
    `wakes`: the first request is preceded by a wake-up already.
    """

    def __init__(self, now: float, *, address: str = "", baudrate: int = START_BAUDRATE, wakes: bool = False) -> None:
        self.unanswered = 0  # in a row
        self.was_asked = False  # the last read-out was an answer
        self.state = IDLE
        self._request = b"/?" + address.encode("ascii", "ignore")[:_MAX_ADDRESS] + b"!\r\n"
        self._start = baudrate
        self._rate = self._fast = baudrate
        self._actions: list[Action] = []
        self._framer = Telegrams()
        self._ident = b""
        self._failed_at_rate = 0  # read-outs that failed at the announced rate, in a row: then it stays at the first
        self._due_at = self._began_at = now
        self._must_wake = wakes

    def receive(self, data: bytes, now: float) -> list[Found]:
        """Bytes from the line; what they completed."""
        if self.state == IDENTIFYING:
            self._ident += data
            rest = self._identify(now)
            if rest is None:
                return []
            data = rest
        elif self.state == READING:
            self._due_at = min(now + _SILENCE_S, self._began_at + _LONGEST_S)
        elif self.state != IDLE:
            return []  # an echo of what was sent, or noise
        return self._took(self._framer.receive(data, now), now)

    def _took(self, found: list[Found], now: float) -> list[Found]:
        for at, item in enumerate(found):
            if isinstance(item, Readout):
                self.unanswered = 0
                self.was_asked = self.state == READING
                if self.was_asked:
                    found[at] = item._replace(protocol="iec62056-21")
                if self.state == READING and self._rate != self._start:
                    self._failed_at_rate = 0
                self._end("complete", now)
            elif isinstance(item, Bad) and self.state == READING:
                self._fail(now)
        return found

    def _move(self, event: str, due_at: float) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._due_at = due_at

    def _identify(self, now: float) -> bytes | None:
        """`/XXXZ identification CR LF`; an optical head gives back our own request before it. Returns what is to be
        framed, or None while the line is not whole."""
        text = seven_bits(self._ident)
        begin = text.rfind(b"/")
        end = text.find(b"\n", begin)
        if begin < 0 or end < 0 or text.startswith(b"/?", begin):
            self._ident = self._ident[-256:]
            return None
        line, rest = self._ident[begin : end + 1], self._ident[end + 1 :]
        mark = text[begin + 4 : begin + 5].decode("ascii", "replace")
        self._ident = b""
        self._framer = Telegrams()
        self._framer.receive(line, now)
        if mark in _MODE_C and not rest.strip(b"\r\n\0"):
            self._ident = line
            self._fast = _MODE_C[mark] if self._failed_at_rate % 2 == 0 else self._start
            self._move("mode-c", now + _REACTION_S)
            return None
        self._fast = _MODE_B.get(mark, self._start)
        self._move("mode-b" if mark in _MODE_B else "mode-a", now + _SILENCE_S)
        self._set_rate(self._fast)
        return rest

    def _set_rate(self, baudrate: int) -> None:
        if baudrate != self._rate:
            self._rate = baudrate
            self._actions.append(SetLine(baudrate))

    def _fail(self, now: float) -> None:
        if self.state == IDENTIFYING:
            self.unanswered += 1
            self._must_wake = self.unanswered % 2 == 1
        elif self._fast != self._start or self._failed_at_rate:
            self._failed_at_rate += 1
        self._end("failed", now)

    def _end(self, event: str, now: float) -> None:
        self._ident = b""
        if event == "failed":
            self._framer = Telegrams()
        pause_s = _SILENCE_S if event == "complete" else 0.5
        self._move(event, max(self._began_at + (POLL_EVERY_S if event == "complete" else 0.0), now + pause_s))
        self._set_rate(self._start)

    def handle_timer(self, now: float) -> list[Found]:
        """Do what is due; what silence completed."""
        found: list[Found] = []
        timer = self._framer.get_timer()
        if timer is not None and now >= timer:
            found = self._took(self._framer.handle_timer(now), now)
        if now < self._due_at:
            return found
        if self.state == IDLE and self._must_wake:
            self._must_wake = False
            self._move("wake", now + len(_WAKE_UP) * _BITS / self._rate + _WAKE_UP_PAUSE_S)
            self._actions.append(SendBytes(_WAKE_UP))
        elif self.state in (IDLE, WAKING):
            self._began_at, self._ident = now, b""
            self._move("due", now + len(self._request) * _BITS / self._rate + _ANSWER_S)
            self._actions.append(SendBytes(with_parity(self._request)))
        elif self.state == ACKNOWLEDGING:
            mark = self._ident[4:5] if self._fast != self._start or self._failed_at_rate % 2 == 0 else b"0"
            message = b"\x060" + seven_bits(mark) + b"0\r\n"  # normal protocol, this rate, read-out
            self._move("due", now + len(message) * _BITS / self._rate + 0.02)
            self._actions.append(SendBytes(with_parity(message)))
        elif self.state == SWITCHING:
            self._move("due", now + _ANSWER_S)
            self._set_rate(self._fast)
        else:
            self._fail(now)
        return found

    def get_timer(self) -> float:
        timer = self._framer.get_timer()
        return self._due_at if timer is None else min(self._due_at, timer)

    def rates(self) -> str:
        """`300` or `300/9600`: what it is asked at, and what it answers at."""
        return str(self._start) if self._fast == self._start else f"{self._start}/{self._fast}"

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
