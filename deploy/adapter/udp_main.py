# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop around `Adapter` for boards that reach the hub over UDP (Wi-Fi, Thread, Ethernet), and for the unix port."""

import gc
import select
import socket
import time

from .adapter import Adapter

_MAX_DATAGRAM = 256  # what the hub has to say to an adapter is far shorter
# Below half of what ticks_ms counts before it wraps (2**30 ms, twelve days), and often enough for any watchdog.
_LONGEST_WAIT_MS = 5000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1000000


def _difference(late: int, early: int) -> int:
    return late - early


def _pause_ms(wait_ms: int) -> None:
    time.sleep(wait_ms / 1000)


# MicroPython counts milliseconds that wrap; CPython, where an adapter can be tried, has a clock that does not.
_ticks_ms = getattr(time, "ticks_ms", _monotonic_ms)
_ticks_diff = getattr(time, "ticks_diff", _difference)
_sleep_ms = getattr(time, "sleep_ms", _pause_ms)


class TickClock:
    """Milliseconds since it was made, in an int that never wraps; look at it at least every six days."""

    def __init__(self) -> None:
        self._ms = 0
        self._last = _ticks_ms()

    def ms(self) -> int:
        ticks = _ticks_ms()
        self._ms += _ticks_diff(ticks, self._last)
        self._last = ticks
        return self._ms


class UdpSocket:
    """A socket that hears the hub alone. A network that is away is no error: the machine repeats what was lost."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._poller = select.poll()
        self._socket: socket.socket | None = None
        # One buffer for as long as the board runs: a fresh one for each datagram leaves a small heap in pieces.
        self._buffer = memoryview(bytearray(_MAX_DATAGRAM))
        self._begin = self._end = 0  # of what was received and not handed on yet

    def open(self) -> bool:
        self.close()
        try:
            address = socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_DGRAM)[0][-1]
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.connect(address)
            self._socket.setblocking(False)
            self._poller.register(self._socket, select.POLLIN)
        except OSError:  # the name does not resolve, no route: it is tried again with the next datagram
            self.close()
        return self._socket is not None

    def close(self) -> None:
        self._begin = self._end = 0
        if self._socket is not None:
            try:
                self._poller.unregister(self._socket)
            except (OSError, KeyError):  # it was not registered yet
                pass
            self._socket.close()
            self._socket = None

    def send(self, datagram: bytes) -> None:
        if self._socket is None and not self.open():
            return
        try:
            assert self._socket is not None
            self._socket.send(datagram)
        except OSError:
            self.close()

    def receive(self) -> "bytes | None":
        """The next datagram that is there, or None."""
        if self._begin == self._end:
            self._begin, self._end = 0, self._fill()
        begin, end = self._begin, self._end
        if begin == end:
            return None
        # MicroPython's sockets fill the whole buffer, if need be from several datagrams: each says how long it is
        # (MQTT-SN 1.2, 5.2.1). What says nonsense is the machine's to ignore.
        size = self._buffer[begin]
        self._begin = begin + size if 2 <= size <= end - begin else end
        return bytes(self._buffer[begin : self._begin])

    def _fill(self) -> int:
        """How many bytes the socket had for the buffer."""
        if self._socket is None:
            return 0
        try:
            if hasattr(self._socket, "recv_into"):
                return self._socket.recv_into(self._buffer)
            return self._socket.readinto(self._buffer) or 0  # type: ignore[attr-defined]  # None: nothing there
        except OSError:  # nothing there, or the hub's port was closed for a moment
            return 0

    def wait(self, wait_ms: int) -> None:
        """Until a datagram is there, or for so long."""
        if self._socket is None:
            _sleep_ms(wait_ms)
        else:
            self._poller.poll(wait_ms)


class Loop:
    """Drives one adapter.

    doze(ms): how to wait while nobody can reach it, say machine.lightsleep; it may return early, and ticks_ms must go
    on meanwhile. feed(): called each turn, for a watchdog: without one a program that hangs could hold a load for ever.
    """

    def __init__(
        self, adapter: Adapter, link: UdpSocket, doze: "object" = None, feed: "object" = None,
        clock: "TickClock | None" = None,
    ) -> None:  # fmt: skip
        self._adapter, self._link, self._doze, self._feed = adapter, link, doze, feed
        self._clock = clock or TickClock()
        self._failures = 0
        self.shortages = 0  # turns that found no memory
        adapter.start(0)

    def turn(self) -> None:
        """Wait for the next thing to do, and do it.

        A turn that finds no memory is left, and the next one has what the garbage gave back. What was not said is said
        again by its own timer, as if a datagram had been lost; a restriction ends all the same.
        """
        try:
            self._turn()
        except MemoryError:
            self.shortages += 1
            gc.collect()
        if self._feed is not None:
            self._feed()  # type: ignore[operator]

    def _turn(self) -> None:
        adapter = self._adapter
        self._wait(adapter.get_timer())
        datagram = self._link.receive()
        while datagram is not None:
            adapter.receive_datagram(datagram, self._now())
            self._send()
            datagram = self._link.receive()
        due = adapter.get_timer()
        if due is not None and due <= self._now():
            adapter.handle_timer(self._now())
            self._send()
        if adapter.failures != self._failures:
            self._failures = adapter.failures
            self._link.close()  # the hub may have another address by now

    def _now(self) -> int:
        return self._clock.ms() // 1000

    def _wait(self, due: "float | None") -> None:
        wait_ms = _LONGEST_WAIT_MS if due is None else int(due) * 1000 - self._clock.ms()
        wait_ms = max(0, min(wait_ms, _LONGEST_WAIT_MS))
        if self._doze is not None and self._adapter.is_idle:
            self._doze(wait_ms)  # type: ignore[operator]
        else:
            self._link.wait(wait_ms)

    def _send(self) -> None:
        for datagram in self._adapter.datagrams_to_send():
            self._link.send(datagram)


def run(adapter: Adapter, host: str, port: int = 10000, doze: "object" = None, feed: "object" = None) -> None:
    """Be an adapter, for ever."""
    loop = Loop(adapter, UdpSocket(host, port), doze, feed)
    while True:
        loop.turn()
