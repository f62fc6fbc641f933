# SPDX-License-Identifier: GPL-3.0-or-later
"""An NCP on a wire, in an event loop: one timer, nothing to do when nothing happens."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from .ezsp.ash import FLAG, XOFF, XON
from .ezsp.ncp import Ncp
from .line import Line

BITS_PER_BYTE: Final = 10
CHUNK: Final = 16  # bytes at a time on a paced line


class Paced:
    """Delays bytes as a serial line of `baud` does; 0 lets them through at once."""

    def __init__(self, baud: int, out: Callable[[bytes], None]) -> None:
        self._s_per_byte = BITS_PER_BYTE / baud if baud else 0.0
        self._out = out
        self._waiting: deque[bytes] = deque()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        if not data:
            return
        if not self._s_per_byte:
            self._out(data)
            return
        self._waiting.extend(data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
        self._go()

    def clear(self) -> None:
        self._waiting.clear()

    def stop(self) -> None:
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None and self._waiting:
            start = max(loop.time(), self._free_at)
            self._free_at = start + len(self._waiting[0]) * self._s_per_byte
            self._timer = loop.call_at(self._free_at, self._arrived)

    def _arrived(self) -> None:
        self._timer = None
        if self._waiting:
            self._out(self._waiting.popleft())
        self._go()


class Bench:
    """Connects an Ncp to a Line. `corrupt` is the chance that a byte is damaged, each way."""

    def __init__(self, ncp: Ncp, *, baud: int = 0, seed: int = 0) -> None:
        self.ncp = ncp
        self.corrupt = 0.0
        # Of whole frames, each way: the chance of each to be lost or to come twice, and how late all of them are.
        self.lose = self.double = self.delay_s = 0.0
        self._cut = {"in": bytearray(), "out": bytearray()}  # of a frame whose end has not come yet
        self.line_bytes = {"from_host": 0, "to_host": 0}
        self._line: Line | None = None
        self._dice = random.Random(seed)
        self._inwards = Paced(baud, self._to_ncp)
        self._outwards = Paced(baud, self._to_line)
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._boots = 0

    def attach(self, line: Line) -> None:
        self._line = line

    def received(self, data: bytes) -> None:
        """The line has bytes from the host."""
        self._mistreat("in", data, self._inwards.put)

    def hold(self, held: bool) -> None:
        """The NCP asks the host not to send (XOFF), or lets it (XON)."""
        if self._line is not None:
            self._line.write(bytes((XOFF if held else XON,)))

    def _mistreat(self, way: str, data: bytes, go: Callable[[bytes], None]) -> None:
        """Lose, double and delay whole frames; pass everything on at once where nothing of that is asked for."""
        if not data:
            return
        cut = self._cut[way]
        if not (self.lose or self.double or self.delay_s) and not cut:
            go(data)
            return
        cut += data
        while (end := cut.find(FLAG)) >= 0:
            frame = bytes(cut[: end + 1])
            del cut[: end + 1]
            if self._dice.random() < self.lose:
                continue
            for _ in range(1 + (self._dice.random() < self.double)):
                if self.delay_s:
                    asyncio.get_running_loop().call_later(self.delay_s, go, frame)
                else:
                    go(frame)

    def changed(self) -> None:
        """Something was done to the NCP or the air: let it take effect."""
        self.ncp.pump(asyncio.get_running_loop().time())
        self._flush()

    def stop(self) -> None:
        self._inwards.stop()
        self._outwards.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _to_ncp(self, data: bytes) -> None:
        self.line_bytes["from_host"] += len(data)
        self.ncp.receive(self._damage(data), asyncio.get_running_loop().time())
        self._flush()

    def _to_line(self, data: bytes) -> None:
        self.line_bytes["to_host"] += len(data)
        if self._line is not None:
            self._line.write(self._damage(data))

    def _damage(self, data: bytes) -> bytes:
        if not self.corrupt:
            return data
        return bytes(o ^ self._dice.randint(1, 255) if self._dice.random() < self.corrupt else o for o in data)

    def _flush(self) -> None:
        boots = self.ncp.counters.get("boots", 0)
        if boots != self._boots and self._line is not None:
            self._boots = boots
            self._outwards.clear()
            self._cut["out"].clear()
            self._line.flush_host()
        self._mistreat("out", self.ncp.bytes_to_send(), self._outwards.put)
        self._arm()

    def _arm(self) -> None:
        due = self.ncp.get_timer()
        if due == self._due and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        # The loop may wake a clock tick early; the machine must find its own deadline passed.
        now = max(asyncio.get_running_loop().time(), self._due or 0.0)
        self.ncp.handle_timer(now)
        self._flush()
