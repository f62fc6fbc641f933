"""A meter and a serial line on a virtual clock: bytes come at the line's pace, and as garbage where the host listens at
another rate or parity than the meter speaks. Nothing here is the hub's; what listens is given as a few functions."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tests.emulators.meter import even


class Port(Protocol):
    """What is at the host's end."""

    line: Any  # .baudrate and .parity

    def receive(self, data: bytes, now: float) -> list[Any]: ...
    def handle_timer(self, now: float) -> list[Any]: ...
    def get_timer(self) -> float: ...
    def take_actions(self) -> list[Any]: ...


class Line(NamedTuple):
    """What the meter speaks at. parity: "N" and "E" with eight bits, "7E" with seven."""

    baudrate: int
    parity: str = "N"

    def heard_by(self, baudrate: int, parity: str, data: bytes, chance: random.Random) -> bytes:
        """What arrives at a host that listens so."""
        if self.parity == "7E":
            data = even(data)
        as_host = "N" if self.parity == "7E" else self.parity
        if baudrate == self.baudrate and parity == as_host:
            return data
        if baudrate == self.baudrate:  # the parity bit is taken for a stop bit, or a stop bit for parity
            return bytes(byte if chance.random() < 0.4 else chance.randrange(256) for byte in data)
        count = max(1, len(data) * baudrate // self.baudrate) if baudrate < self.baudrate else len(data) * 3
        return bytes(chance.choice((0x00, 0x80, 0xE0, 0xF8, 0xFE, 0xFF, chance.randrange(256))) for _ in range(count))


class Pushing:
    """A meter that sends by itself: `telegrams` in turn, one every `every_s`."""

    def __init__(self, line: Line, telegrams: Sequence[bytes], every_s: float, first_s: float = 0.3) -> None:
        self.line = line
        self._telegrams = telegrams
        self._every_s = every_s
        self._next_at = first_s
        self._count = 0

    def hear(self, data: bytes, baudrate: int, now: float) -> None:
        """It listens to nobody."""

    def due_at(self) -> float:
        return self._next_at

    def speak(self, now: float) -> tuple[Line, bytes]:
        telegram = self._telegrams[self._count % len(self._telegrams)]
        self._count += 1
        took_s = len(telegram) * 10 / self.line.baudrate
        self._next_at = max(self._next_at + self._every_s, now + took_s + 0.1)
        return self.line, telegram


class Answering:
    """A meter of IEC 62056-21 that is asked. `mode`: "A" (300 throughout), "B" or "C" (`fast`: the faster rate).

    `sleeps`: it hears a request only after two seconds of zeros. `address`: it answers to this alone. `works`: whether
    it really can speak at the rate it announces. `framed`: with STX, ETX and BCC.
    """

    def __init__(
        self,
        lines: Sequence[str],
        *,
        mode: str = "C",
        fast: int = 9600,
        ident: str = "METER",
        sleeps: bool = False,
        address: str = "",
        works: bool = True,
        framed: bool = True,
    ) -> None:
        letters = {"C": {300: "0", 600: "1", 1200: "2", 2400: "3", 4800: "4", 9600: "5", 19200: "6"},
                   "B": {600: "A", 1200: "B", 2400: "C", 4800: "D", 9600: "E", 19200: "F"}}  # fmt: skip
        self._mode = mode
        self._fast = 300 if mode == "A" else fast
        mark = "9" if mode == "A" else letters[mode][fast]
        self._ident = f"/EMU{mark}{ident}\r\n".encode()
        body = "\r\n".join([*lines, "!", ""]).encode()
        check = 0
        for byte in body + b"\x03":
            check ^= byte
        self._message = b"\x02" + body + b"\x03" + bytes([check]) if framed else body
        self._sleeps = sleeps
        self._address = address
        self._works = works
        self._woken_at = -10.0
        self._line = Line(300, "7E")
        self._todo: list[tuple[float, Line, bytes]] = []
        self._awaits = False
        self.asked: list[bytes] = []

    def hear(self, data: bytes, baudrate: int, now: float) -> None:
        if baudrate != 300:
            return
        text = bytes(byte & 0x7F for byte in data)
        self.asked.append(text)
        if len(text) > 60 and not text.strip(b"\0"):
            self._woken_at = now + 2.2
        elif text in (b"/?!\r\n", f"/?{self._address}!\r\n".encode()):
            is_awake = not self._sleeps or 1.4 <= now - self._woken_at <= 5.0
            is_meant = not self._address or text != b"/?!\r\n"
            if is_awake and is_meant:
                self._todo.append((now + 0.6, Line(300, "7E"), self._ident))
                if self._mode != "C":
                    self._todo.append((now + 1.8, Line(self._fast, "7E"), self._message))
                self._awaits = self._mode == "C"
        elif self._awaits and text[:2] == b"\x060":
            rate = 300 if text[2:3] == b"0" else self._fast
            spoken = rate if self._works or rate == 300 else rate + 37  # a crystal that is off
            self._todo.append((now + 0.6, Line(spoken, "7E"), self._message))
            self._awaits = False

    def due_at(self) -> float:
        return self._todo[0][0] if self._todo else float("inf")

    def speak(self, now: float) -> tuple[Line, bytes]:
        _, line, data = self._todo.pop(0)
        return line, data


Spoil = Callable[[bytes, int, random.Random], bytes]


def play(
    port: Port, meter: Pushing | Answering, *, for_s: float, seed: int = 1, spoil: Spoil | None = None, step: int = 48
) -> list[tuple[float, Any]]:
    """Let both run for so long on a virtual clock; everything that was found, with its time. `spoil`: what the cable
    does to a telegram (the telegram, its number, chance)."""
    chance = random.Random(seed)
    now, number = 0.0, 0
    found: list[tuple[float, Any]] = []
    coming: list[tuple[float, Line, bytes]] = []  # pieces on their way: when they are there

    def act() -> None:
        for action in port.take_actions():
            if hasattr(action, "data"):
                meter.hear(action.data, port.line.baudrate, now)

    act()
    while now < for_s:
        times = [port.get_timer(), meter.due_at(), *[at for at, _, _ in coming[:1]]]
        now = max(now, min(times))
        if coming and coming[0][0] <= now:
            _, line, piece = coming.pop(0)
            heard = line.heard_by(port.line.baudrate, port.line.parity, piece, chance)
            found += [(now, item) for item in port.receive(heard, now)]
            act()
        elif meter.due_at() <= now and not coming:
            line, telegram = meter.speak(now)
            if spoil is not None:
                telegram = spoil(telegram, number, chance)
            number += 1
            pace_s = 10 / line.baudrate
            coming = [
                (now + (at + step) * pace_s, line, telegram[at : at + step]) for at in range(0, len(telegram), step)
            ]
        elif meter.due_at() <= now and coming:
            now = coming[0][0]
            continue
        if port.get_timer() <= now:
            found += [(now, item) for item in port.handle_timer(now)]
            act()
            if port.get_timer() <= now:
                now += 0.01
    return found
