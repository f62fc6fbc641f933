"""The loop of the meter's port: pyserial <-> one protocol's machine. Whatever the port does, the hub goes on."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import serial

from drivers.clock import monotonic
from drivers.meter.actions import Machine, Send, SetBaudrate, Telegram
from drivers.meter.iec62056 import Iec62056
from drivers.meter.obis import quantities_of, read_lines
from drivers.meter.p1 import P1
from drivers.meter.sampling import Sampling

log = logging.getLogger(__name__)

PROTOCOLS: dict[str, Callable[[float], Machine]] = {"p1": P1, "iec62056-21": Iec62056}
MISSING, SILENT = "meter-missing", "meter-silent"
_SILENT_AFTER_S = 60.0
_RETRY_S = (1.0, 30.0)
_OVERDUE_S = 120.0  # four times what it waits at most


class Health(Protocol):
    """What the port needs of hub/core/health.py."""

    def raise_condition(self, code: str, detail: str = "") -> None: ...
    def clear_condition(self, *codes: str) -> None: ...


class MeterPort:
    """`reading(quantity, text)`: a value to take into custody; `power(watts)`: the household's power, as often as the
    meter says it. Both are called on the loop."""

    def __init__(
        self,
        path: str,
        protocol: str,
        health: Health,
        record_event: Callable[[str, dict[str, Any]], Any],
        *,
        reading: Callable[[str, str], None],
        power: Callable[[float], None],
    ) -> None:
        self._path = path
        self._protocol = protocol
        self._health = health
        self._record_event = record_event
        self._reading = reading
        self._power = power
        self.alive: Callable[[float], None] = lambda within_s: None  # told within how long it will be told again
        self._sampling = Sampling()
        self._serial: serial.Serial | None = None
        self._machine: Machine | None = None
        self._wake = asyncio.Event()
        self._error: Exception | None = None
        self._heard_at: float | None = None
        self._silent_since = monotonic()
        self._ident = ""
        self._counters: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled: open the port, read it, open it again when it went away."""
        delay_s = _RETRY_S[0]
        while True:
            began = monotonic()
            try:
                await self._live()
            except (OSError, serial.SerialException, ValueError) as error:
                self._lost(error)
            except Exception as error:
                log.exception("the meter's port met an error of its own")
                self._lost(error)
            self.alive(_OVERDUE_S)
            delay_s = _RETRY_S[0] if monotonic() - began > _RETRY_S[1] else min(delay_s * 2, _RETRY_S[1])
            await asyncio.sleep(delay_s)

    async def _live(self) -> None:
        machine = self._machine = PROTOCOLS[self._protocol](monotonic())
        machine.counters.update(self._counters)
        port = serial.serial_for_url(self._path, baudrate=machine.baudrate, timeout=0, write_timeout=0)
        self._serial, self._error = port, None
        loop = asyncio.get_running_loop()
        descriptor = port.fileno()
        loop.add_reader(descriptor, self._readable)
        self._health.clear_condition(MISSING)
        self._silent_since = monotonic()
        try:
            while self._error is None:
                self.alive(_OVERDUE_S)
                machine.handle_timer(monotonic())
                self._act()
                self._look_for_silence()
                self._wake.clear()
                delay_s = min(machine.get_timer() - monotonic(), _SILENT_AFTER_S / 4)
                try:
                    await asyncio.wait_for(self._wake.wait(), max(0.01, delay_s))
                except TimeoutError:
                    pass
            raise self._error
        finally:
            loop.remove_reader(descriptor)
            port.close()
            self._serial = None
            self._counters = machine.counters

    def _readable(self) -> None:
        assert self._serial is not None and self._machine is not None
        try:
            data = self._serial.read(4096)
        except (OSError, serial.SerialException, TypeError) as error:  # TypeError: pyserial, of a port just closed
            self._error = error if isinstance(error, OSError) else OSError(str(error))
            self._wake.set()
            return
        self._machine.receive(data, monotonic())
        self._wake.set()

    def _act(self) -> None:
        assert self._serial is not None and self._machine is not None
        for action in self._machine.take_actions():
            if isinstance(action, Send):
                self._serial.write(action.data)
            elif isinstance(action, SetBaudrate):
                self._serial.baudrate = action.baudrate
            else:
                self._take(action)

    def _take(self, telegram: Telegram) -> None:
        values = quantities_of(read_lines(telegram.lines))
        if not values:
            return
        now = monotonic()
        if self._heard_at is None:
            self._ident = telegram.ident[:64]
            self._record_event("meter.up", {"ident": self._ident, "protocol": self._protocol})
        self._heard_at = self._silent_since = now
        self._health.clear_condition(SILENT)
        for quantity, text in self._sampling.choose(values, now).items():
            self._reading(quantity, text)
        if "power" in values:
            self._power(float(values["power"]))

    def _look_for_silence(self) -> None:
        if monotonic() - self._silent_since > _SILENT_AFTER_S:
            self._health.raise_condition(SILENT)
            self._tell_lost("silent")

    def _lost(self, error: Exception) -> None:
        self._health.clear_condition(SILENT)
        self._health.raise_condition(MISSING, f"{self._path}: {error}")
        self._tell_lost("missing")

    def _tell_lost(self, reason: str) -> None:
        if self._heard_at is not None:
            self._heard_at = None
            self._record_event("meter.lost", {"reason": reason})

    def status(self) -> dict[str, Any]:
        """Figures for `meterhub status`."""
        state = "missing" if self._serial is None else "silent" if self._heard_at is None else "up"
        counters = self._counters if self._machine is None else self._machine.counters
        last_s = None if self._heard_at is None else round(monotonic() - self._heard_at, 1)
        return {"state": state, "protocol": self._protocol, "ident": self._ident, "last_s": last_s, **counters}
