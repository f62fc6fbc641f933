# SPDX-License-Identifier: GPL-3.0-or-later
"""The NCP's side of ASH, the framing that carries EZSP over a serial line (UG101), without any I/O.

Give it bytes and the time, take events, bytes and one deadline. Times are monotonic seconds.
"""

from __future__ import annotations

import binascii
from collections import deque
from dataclasses import dataclass
from typing import Final

FLAG: Final = 0x7E
ESCAPE: Final = 0x7D
XON: Final = 0x11
XOFF: Final = 0x13
SUBSTITUTE: Final = 0x18
CANCEL: Final = 0x1A
RESERVED: Final = frozenset((FLAG, ESCAPE, XON, XOFF, SUBSTITUTE, CANCEL))

RST: Final = 0xC0
RSTACK: Final = 0xC1
ERROR: Final = 0xC2
ASH_VERSION: Final = 2

RESET_POWER_ON: Final = 0x02
RESET_WATCHDOG: Final = 0x03
RESET_SOFTWARE: Final = 0x0B
ERROR_ACK_TIMEOUTS: Final = 0x51

DATA_FIELD_MIN: Final = 3  # UG101 §2.5
DATA_FIELD_MAX: Final = 128
TX_WINDOW: Final = 3  # fewer than 8, UG101 §5.1; small enough for every host we know
QUEUE_LIMIT: Final = 400
ACK_TIMEOUTS: Final = 5
T_RX_ACK_MIN_S: Final = 0.4  # UG101 §6: the times are parameters of the NCP
T_RX_ACK_INIT_S: Final = 0.8
T_RX_ACK_MAX_S: Final = 3.2
T_TX_ACK_DELAY_S: Final = 0.02
T_REMOTE_NOT_READY_S: Final = 1.0

Event = tuple[str, bytes]


def crc_ccitt(data: bytes) -> bytes:
    """The two check bytes of a frame, high byte first (UG101 §2.3)."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big")


def _random_sequence(length: int) -> bytes:
    """The fixed sequence that DATA fields are exclusive-ored with (UG101 §4.3)."""
    out = bytearray()
    value = 0x42
    for _ in range(length):
        out.append(value)
        value = (value >> 1) ^ (0xB8 if value & 1 else 0)
    return bytes(out)


_SEQUENCE: Final = _random_sequence(256)


def randomise(data: bytes) -> bytes:
    """Randomise a DATA field, or undo it: the operation is its own inverse."""
    return bytes(byte ^ key for byte, key in zip(data, _SEQUENCE))


def stuff(data: bytes) -> bytes:
    """Escape the reserved bytes of a whole frame (UG101 §4.2)."""
    out = bytearray()
    for byte in data:
        if byte in RESERVED:
            out += bytes((ESCAPE, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


def frame(control: int, field: bytes = b"") -> bytes:
    """One frame as it goes on the line: control byte, field, check bytes, stuffed, with its closing flag."""
    body = bytes((control,)) + field
    return stuff(body + crc_ccitt(body)) + bytes((FLAG,))


@dataclass
class _Sent:
    """A DATA frame the host has not acknowledged yet."""

    number: int
    payload: bytes
    at: float


class Ash:
    """An NCP's ASH connection.

    `receive`, then drain `next_event`: ("data", EZSP frame), ("reset", b"") when the host asks for a restart: answer
    with `reset`; ("failed", one byte: the error code) after which only a reset helps (UG101 §5 and §6).
    """

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self._out = bytearray()
        self._events: deque[Event] = deque()
        self._frame = bytearray()
        self._escaped = False
        self._discarding = False
        self._xoff = False
        self.failed_code: int | None = None
        self._connection_state()

    def _connection_state(self) -> None:
        self._tx_number = 0
        self._rx_number = 0
        self._unacked: deque[_Sent] = deque()
        self.waiting: deque[bytes] = deque()
        self._reject = False
        self._timeouts = 0
        self._t_rx_ack_s = T_RX_ACK_INIT_S
        self._ack_due: float | None = None
        self._not_ready_until: float | None = None

    # -- the host's bytes -----------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the line, any number at a time."""
        for byte in data:
            if byte == FLAG:
                self._end_of_frame(now)
            elif byte == CANCEL:
                self._drop_partial()
            elif byte == SUBSTITUTE:
                self._discarding = True
            elif byte in (XON, XOFF):
                self._xoff = byte == XOFF
            elif byte == ESCAPE:
                self._escaped = True
            elif not self._discarding:
                self._frame.append(byte ^ 0x20 if self._escaped else byte)
                self._escaped = False
                # An unbounded frame is noise; wait for the next flag.
                self._discarding = len(self._frame) > DATA_FIELD_MAX + 3

    def _drop_partial(self) -> None:
        self._frame.clear()
        self._escaped = self._discarding = False

    def _end_of_frame(self, now: float) -> None:
        body, broken = bytes(self._frame), self._discarding or self._escaped
        self._drop_partial()
        if not body and not broken:
            return  # flags may come in a row, UG101 §2.4
        if broken or len(body) < 3 or crc_ccitt(body[:-2]) != body[-2:]:
            self._count("bad_frames")
            self._send_nak()
            return
        self._frame_received(body[0], body[1:-2], now)

    def _frame_received(self, control: int, field: bytes, now: float) -> None:
        if control == RST:
            self._count("rst")
            self._events.append(("reset", b""))
        elif self.failed_code is not None:
            self._write_error()
        elif control < 0x80:
            self._acknowledged(control & 7, now)
            self._data_received(control, field, now)
        elif control & 0xE0 in (0x80, 0xA0):
            self._ack_or_nak_received(control, now)
        else:
            self._count("bad_frames")

    def _ack_or_nak_received(self, control: int, now: float) -> None:
        # nRdy asks us to hold callbacks, for at most T_REMOTE_NOTRDY (UG101 §5.8).
        self._not_ready_until = now + T_REMOTE_NOT_READY_S if control & 0x08 else None
        self._acknowledged(control & 7, now)
        if control & 0xE0 == 0xA0:
            self._count("nak_received")
            self._retransmit(now)
        self._fill_window(now)

    def _data_received(self, control: int, field: bytes, now: float) -> None:
        number, again = control >> 4, bool(control & 0x08)
        if not DATA_FIELD_MIN <= len(field) <= DATA_FIELD_MAX:
            self._count("bad_frames")
            self._send_nak()
        elif number == self._rx_number:
            self._rx_number = (number + 1) % 8
            self._reject = False
            self._ack_due = now + T_TX_ACK_DELAY_S
            self._events.append(("data", randomise(field)))
            self._fill_window(now)
        elif again:
            # Our acknowledgement was lost: say it again, do nothing twice (UG101 §5.5).
            self._count("duplicates")
            self._write_ack()
        else:
            self._count("out_of_sequence")
            self._send_nak()

    def _acknowledged(self, number: int, now: float) -> None:
        """Everything before `number` has arrived at the host."""
        numbers = [sent.number for sent in self._unacked]
        if number != self._tx_number and number not in numbers:
            return  # not in the window: ignore
        while self._unacked and self._unacked[0].number != number:
            sent = self._unacked.popleft()
            self._timeouts = 0
            measured = now - sent.at
            self._set_t_rx_ack(self._t_rx_ack_s * 7 / 8 + measured / 2)

    def _set_t_rx_ack(self, value: float) -> None:
        self._t_rx_ack_s = min(max(value, T_RX_ACK_MIN_S), T_RX_ACK_MAX_S)

    # -- towards the host --------------------------------------------------------------------------------------

    def send(self, payload: bytes, now: float) -> bool:
        """Queue one EZSP frame of 3 to 128 bytes. False: not accepted (failed, or the queue is full)."""
        if not DATA_FIELD_MIN <= len(payload) <= DATA_FIELD_MAX:
            raise ValueError(f"an EZSP frame in ASH has 3 to 128 bytes, not {len(payload)}")
        if self.failed_code is not None or len(self.waiting) >= QUEUE_LIMIT:
            self._count("refused")
            return False
        self.waiting.append(payload)
        self._fill_window(now)
        return True

    def reset(self, code: int = RESET_SOFTWARE) -> None:
        """Restart the connection and say so: an RSTACK frame with the reason (UG101 §3.2)."""
        self._out.clear()
        self._events.clear()
        self._drop_partial()
        self._xoff = False
        self.failed_code = None
        self._connection_state()
        self._write(RSTACK, bytes((ASH_VERSION, code)))

    def silence(self) -> None:
        """Forget everything without a word: the power of the NCP was cut."""
        self._out.clear()
        self._events.clear()
        self._drop_partial()
        self.failed_code = None
        self._xoff = False
        self._connection_state()

    def fail(self, code: int) -> None:
        """Enter the FAILED state: an ERROR frame now and as the answer to anything but RST (UG101 §6)."""
        self._connection_state()
        self.failed_code = code
        self._events.append(("failed", bytes((code,))))
        self._write_error()

    def _fill_window(self, now: float) -> None:
        while self.waiting and len(self._unacked) < TX_WINDOW and self._not_ready_until is None:
            sent = _Sent(self._tx_number, self.waiting.popleft(), now)
            self._tx_number = (self._tx_number + 1) % 8
            self._unacked.append(sent)
            self._write_data(sent, again=False)

    def _retransmit(self, now: float) -> None:
        for sent in self._unacked:
            sent.at = now
            self._count("retransmitted")
            self._write_data(sent, again=True)

    def _write_data(self, sent: _Sent, *, again: bool) -> None:
        self._ack_due = None  # the acknowledgement rides along (UG101 §5.3)
        self._write(sent.number << 4 | (0x08 if again else 0) | self._rx_number, randomise(sent.payload))

    def _write_ack(self) -> None:
        self._ack_due = None
        self._write(0x80 | self._rx_number)

    def _send_nak(self) -> None:
        # One NAK per rejection; further errors are silent until a good frame comes (UG101 §5.6).
        if self.failed_code is None and not self._reject:
            self._reject = True
            self._count("nak_sent")
            self._write(0xA0 | self._rx_number)

    def _write_error(self) -> None:
        assert self.failed_code is not None
        self._write(ERROR, bytes((ASH_VERSION, self.failed_code)))

    def _write(self, control: int, field: bytes = b"") -> None:
        self._out += frame(control, field)

    def bytes_to_send(self) -> bytes:
        """What is to go on the line now; nothing while the host holds us with XOFF."""
        if self._xoff:
            return b""
        out, self._out = bytes(self._out), bytearray()
        return out

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    # -- time ----------------------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` is due, or None."""
        due = [self._ack_due, self._not_ready_until]
        if self._unacked:
            due.append(self._unacked[0].at + self._t_rx_ack_s)
        return min((at for at in due if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Acknowledge late, send again, give up."""
        if self._not_ready_until is not None and now >= self._not_ready_until:
            self._not_ready_until = None
            self._fill_window(now)
        if self._unacked and now >= self._unacked[0].at + self._t_rx_ack_s:
            self._ack_timed_out(now)
        if self._ack_due is not None and now >= self._ack_due:
            self._write_ack()

    def _ack_timed_out(self, now: float) -> None:
        self._timeouts += 1
        if self._timeouts >= ACK_TIMEOUTS:
            self.fail(ERROR_ACK_TIMEOUTS)
            return
        self._set_t_rx_ack(self._t_rx_ack_s * 2)
        self._retransmit(now)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
