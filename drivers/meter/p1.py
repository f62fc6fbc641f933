"""DSMR / ESMR P1: the meter pushes a telegram every one to ten seconds. A machine: octets and `now` in, telegrams out.

Source: DSMR 5.0.2 P1 companion standard, section 6 (`/IDENT CR LF CR LF lines ! CRC16 CR LF`; CRC-16, polynomial
x^16 + x^15 + x^2 + 1, from `/` to `!`). Meters of DSMR 2 and 3 send no CRC and run at 9600 baud: where nothing reads at
one rate, the other is tried.
"""

import re

from drivers.meter.actions import Action, SetBaudrate, Telegram, clean

_IDENT = re.compile(rb"/[A-Za-z]{3}[0-9A-Za-z]")
_MAX_OCTETS = 8192
_RATES = (115200, 9600)
_TRY_EACH_S = 25.0  # two of the slowest telegrams


def crc16(data: bytes) -> int:
    """CRC-16/ARC."""
    crc = 0
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


class P1:
    """Reads one meter's P1 port."""

    def __init__(self, now: float) -> None:
        self.baudrate = _RATES[0]
        self.counters = {"telegrams": 0, "bad": 0}
        self._buffer = b""
        self._actions: list[Action] = []
        self._retry_at = now + _TRY_EACH_S

    def receive(self, data: bytes, now: float) -> None:
        self._buffer += clean(data)
        while self._take_one(now):
            pass
        if len(self._buffer) > _MAX_OCTETS:
            self.counters["bad"] += 1
            self._buffer = b""

    def _take_one(self, now: float) -> bool:
        begin = self._buffer.find(b"/")
        if begin < 0:
            self._buffer = b""
            return False
        end = self._buffer.find(b"!", begin)
        line_end = self._buffer.find(b"\n", end)
        if end < 0 or line_end < 0:
            self._buffer = self._buffer[begin:]
            return False
        # A telegram that broke off, in the middle of a line, is followed by a whole one.
        begin = max((match.start() for match in _IDENT.finditer(self._buffer, begin, end)), default=begin)
        body, check = self._buffer[begin : end + 1], self._buffer[end + 1 : line_end].strip()
        self._buffer = self._buffer[line_end + 1 :]
        if check and not _is_crc(check, body):
            self.counters["bad"] += 1
            return True
        ident, *lines = body.decode("ascii", "replace").splitlines()
        self.counters["telegrams"] += 1
        self._retry_at = now + _TRY_EACH_S
        self._actions.append(Telegram(ident[1:].strip(), tuple(lines)))
        return True

    def handle_timer(self, now: float) -> None:
        if now < self._retry_at:
            return
        self._retry_at = now + _TRY_EACH_S
        self.baudrate = _RATES[(_RATES.index(self.baudrate) + 1) % len(_RATES)]
        self._buffer = b""
        self._actions.append(SetBaudrate(self.baudrate))

    def get_timer(self) -> float:
        return self._retry_at

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions


def _is_crc(check: bytes, body: bytes) -> bool:
    try:
        return len(check) == 4 and int(check, 16) == crc16(body)
    except ValueError:
        return False
