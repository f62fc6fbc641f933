"""IEC 62056-21 (formerly IEC 1107): the hub asks, the meter identifies itself, both change to a faster rate, the meter
sends its registers once. A machine: octets and `now` in, octets, rates and read-outs out.

Source: IEC 62056-21:2002 section 6.3 (messages) and 6.4 (modes A, B and C): the baud rate character of the
identification tells the mode: a digit means mode C (the hub acknowledges, then both change), A to F mode B (both change
at once), anything else mode A (300 baud throughout).
"""

from drivers.meter.actions import Action, Send, SetBaudrate, Telegram, clean, with_parity

REQUEST = b"/?!\r\n"
START_BAUDRATE = 300
_MODE_C = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
_MODE_B = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}
_STX, _ETX = b"\x02", b"\x03"
_MAX_OCTETS = 16_384
_BIT_S = 10 / START_BAUDRATE  # one character at 300 baud: start, seven bits, parity, stop

POLL_EVERY_S = 15.0  # a read-out is fresh enough for the plan of a load limit (METER_FRESH_S of hub/core/control)
_ANSWER_S = 4.0  # reaction time (1.5 s) and a 20 character identification at 300 baud, and some patience
_REACTION_S = 0.2  # the least pause before the acknowledgement
_SILENCE_S = 2.5  # between two characters (1.5 s in the standard)
_LONGEST_S = 120.0  # a long read-out at 300 baud

IDLE, IDENTIFYING, ACKNOWLEDGING, SWITCHING, READING = "idle", "identifying", "acknowledging", "switching", "reading"
# (state, event) -> state; a pair that is not there changes nothing.
TRANSITIONS: dict[tuple[str, str], str] = {
    (IDLE, "due"): IDENTIFYING,
    (IDENTIFYING, "mode-a"): READING,
    (IDENTIFYING, "mode-b"): READING,
    (IDENTIFYING, "mode-c"): ACKNOWLEDGING,
    (ACKNOWLEDGING, "due"): SWITCHING,
    (SWITCHING, "due"): READING,
    **{(state, "failed"): IDLE for state in (IDENTIFYING, READING)},
    (READING, "complete"): IDLE,
}


class Iec62056:
    """Reads one meter's optical or serial port, again and again."""

    def __init__(self, now: float) -> None:
        self.baudrate = START_BAUDRATE
        self.counters = {"telegrams": 0, "bad": 0, "unanswered": 0}
        self.state = IDLE
        self._actions: list[Action] = []
        self._buffer = b""
        self._ident = ""
        self._fast = START_BAUDRATE
        self._due_at = self._began_at = now

    def receive(self, data: bytes, now: float) -> None:
        if self.state not in (IDENTIFYING, READING):
            return  # an echo of what was sent, or noise
        self._buffer += clean(data)
        if self.state == IDENTIFYING:
            self._identify(now)
        else:
            self._read(now)

    def _move(self, event: str, due_at: float) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._due_at = due_at

    def _identify(self, now: float) -> None:
        """`/XXXZ identification CR LF`; an optical head gives back our own request before it."""
        begin = self._buffer.rfind(b"/")
        end = self._buffer.find(b"\n", begin)
        if begin < 0 or end < 0 or self._buffer.startswith(b"/?", begin):
            self._buffer = self._buffer[-256:]
            return
        ident = self._buffer[begin + 1 : end].decode("ascii", "replace").strip()
        self._buffer = self._buffer[end + 1 :]
        self._ident, mark = ident, ident[3:4]
        if mark in _MODE_C:
            self._fast = _MODE_C[mark]
            self._move("mode-c", now + _REACTION_S)
            return
        self._fast = _MODE_B.get(mark, START_BAUDRATE)
        self._move("mode-b" if mark in _MODE_B else "mode-a", now + _SILENCE_S)
        self._set_baudrate(self._fast)
        self._read(now)

    def _set_baudrate(self, baudrate: int) -> None:
        if baudrate != self.baudrate:
            self.baudrate = baudrate
            self._actions.append(SetBaudrate(baudrate))

    def _read(self, now: float) -> None:
        """`STX lines ! CR LF ETX BCC`: the BCC is the exclusive-or of all behind STX, ETX included."""
        self._due_at = min(now + _SILENCE_S, self._began_at + _LONGEST_S)
        begin = self._buffer.find(_STX)
        end = self._buffer.find(_ETX, begin)
        if begin < 0 or end < 0 or len(self._buffer) < end + 2:
            if len(self._buffer) > _MAX_OCTETS:
                self._fail("bad", now)
            return
        body, check = self._buffer[begin + 1 : end + 1], self._buffer[end + 1]
        parity = 0
        for octet in body:
            parity ^= octet
        if parity != check:
            self._fail("bad", now)
            return
        self.counters["telegrams"] += 1
        lines = tuple(body.decode("ascii", "replace").splitlines())
        self._actions.append(Telegram(self._ident, lines))
        self._end("complete", now)

    def _fail(self, counter: str, now: float) -> None:
        self.counters[counter] += 1
        self._end("failed", now)

    def _end(self, event: str, now: float) -> None:
        self._buffer = b""
        self._move(event, max(self._began_at + POLL_EVERY_S, now + _SILENCE_S))
        self._set_baudrate(START_BAUDRATE)

    def handle_timer(self, now: float) -> None:
        if now < self._due_at:
            return
        if self.state == IDLE:
            self._began_at, self._buffer = now, b""
            self._move("due", now + len(REQUEST) * _BIT_S + _ANSWER_S)
            self._actions.append(Send(with_parity(REQUEST)))
        elif self.state == ACKNOWLEDGING:
            acknowledgement = b"\x060" + self._ident[3:4].encode() + b"0\r\n"  # normal protocol, this rate, read-out
            self._move("due", now + len(acknowledgement) * _BIT_S + 0.02)
            self._actions.append(Send(with_parity(acknowledgement)))
        elif self.state == SWITCHING:
            self._buffer = b""
            self._move("due", now + _ANSWER_S)
            self._set_baudrate(self._fast)
        else:
            self._fail("unanswered" if self.state == IDENTIFYING else "bad", now)

    def get_timer(self) -> float:
        return self._due_at

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
