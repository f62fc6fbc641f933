"""The loop of the meter's port: pyserial <-> the listener and the meter. Whatever the port does, the hub goes on."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import serial

from drivers.clock import monotonic
from drivers.conditions import ConditionTable
from drivers.meter.cipher import Keys
from drivers.meter.listener import AUTO, Listener
from drivers.meter.reader import MeterReader
from drivers.meter.records import Found, SendBytes
from drivers.meter.state_file import StateFile
from hub.core.backoff import Backoff, Pace

if TYPE_CHECKING:
    from hub.wire.admin import MeterAnswer, MeterFigures

log = logging.getLogger(__name__)

MISSING, SILENT, UNREADABLE, GARBLED = "meter-missing", "meter-silent", "meter-unreadable", "meter-garbled"
_SILENT_AFTER_S = 60.0
_PACE = Pace(first_s=1.0, cap_s=30.0)
_OVERDUE_S = 120.0  # four times what it waits at most
_SAVE_EVERY_S = 3600.0


class MeterPort:
    """`reading(client, quantity, text, flags)`: a value to take into custody (see reader.MeterReading); `power(watts)`:
    the household's power, as often as the meter says it. Both are called on the loop.

    path: a tty, a link to one below /dev/serial/by-id, or socket://HOST:PORT. keys: where the meter encrypts. address:
    of a meter that answers to its own alone (IEC 62056-21). remember: the file for what was found out. patience_s: how
    long nothing is no fault; a third of it, for what speaks and cannot be read.
    """

    def __init__(
        self,
        path: str,
        protocol: str,
        health: ConditionTable,
        record_event: Callable[[str, dict[str, Any]], Any],
        *,
        reading: Callable[[str, str, str, int], None],
        power: Callable[[float], None],
        keys: Keys | None = None,
        address: str = "",
        remember: Path | None = None,
        patience_s: float = _SILENT_AFTER_S,
    ) -> None:
        self._path = path
        self._protocol = protocol
        self._health = health
        self._record_event = record_event
        self._reading = reading
        self._power = power
        self._keys = keys
        self._address = address
        self.alive: Callable[[float], None] = lambda within_s: None  # told within how long it will be told again
        self._patience_s = patience_s
        self._file = StateFile(remember)
        self._found_before, memory = self._file.load()
        self._meter = MeterReader(memory)
        self._serial: serial.SerialBase | None = None
        self._listener: Listener | None = None
        self._wake = asyncio.Event()
        self._error: Exception | None = None
        self._is_up = False
        self._heard_at: float | None = None  # when a telegram was believed
        self._bytes_at = self._silent_since = monotonic()
        self._saved_at = monotonic()
        self._must_save = False
        self._unreadable = ""

    async def run(self) -> None:
        """Until cancelled: open the port, read it, open it again when it went away."""
        backoff = Backoff(_PACE, steady_s=_PACE.cap_s)
        try:
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
                backoff.lived(monotonic() - began)
                await asyncio.sleep(backoff.next_delay_s())
        finally:
            self._save()

    def _open(self, listener: Listener) -> serial.SerialBase:
        """The port, for us alone: a second program that reads it would get half of each telegram."""
        options: dict[str, Any] = {"timeout": 0, "write_timeout": 0}
        if "://" not in self._path:
            options["exclusive"] = True
        line = listener.line
        return serial.serial_for_url(self._path, baudrate=line.baudrate, parity=line.parity, **options)

    async def _live(self) -> None:
        listener = self._listener = Listener(
            self._protocol, monotonic(), keys=self._keys, first=self._found_before, address=self._address
        )
        port = self._open(listener)
        self._serial, self._error = port, None
        loop = asyncio.get_running_loop()
        try:
            descriptor = port.fileno()
            loop.add_reader(descriptor, self._readable)
        except BaseException:
            port.close()
            raise
        self._health.clear_condition(MISSING)
        self._silent_since = self._bytes_at = monotonic()
        try:
            while self._error is None:
                self.alive(_OVERDUE_S)
                self._take(listener.handle_timer(monotonic()))
                self._act()
                self._look_around()
                if self._must_save:
                    await asyncio.to_thread(self._save)
                self._wake.clear()
                delay_s = min(listener.get_timer() - monotonic(), self._patience_s / 4)
                # Not wait_for(): before Python 3.12 it may swallow a cancellation that comes as it ends.
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.01, delay_s)):
                        await self._wake.wait()
            raise self._error
        finally:
            loop.remove_reader(descriptor)
            port.close()
            self._serial = None

    def _readable(self) -> None:
        assert self._serial is not None and self._listener is not None
        try:
            data = self._serial.read(4096)
        except (OSError, serial.SerialException, TypeError) as error:  # TypeError: pyserial, of a port just closed
            self._error = error if isinstance(error, OSError) else OSError(str(error))
            self._wake.set()
            return
        if data:
            self._bytes_at = monotonic()
        self._take(self._listener.receive(data, monotonic()))
        self._wake.set()

    def _act(self) -> None:
        assert self._serial is not None and self._listener is not None
        for action in self._listener.take_actions():
            if isinstance(action, SendBytes):
                self._serial.write(action.data)
            else:
                self._serial.baudrate = action.baudrate
                if self._serial.parity != action.parity:
                    self._serial.parity = action.parity

    def _take(self, found: list[Found]) -> None:
        now = monotonic()
        for item in found:
            outcome = self._meter.take(item, now)
            if outcome.unreadable:
                self._unreadable = outcome.unreadable
            for event, fields in outcome.events:
                self._record_event(event, fields)
                self._must_save = True
            for reading in outcome.readings:
                self._reading(*reading)
            if outcome.control_w is not None:
                self._power(outcome.control_w)
            if outcome.is_heard:
                self._heard(now)

    def _heard(self, now: float) -> None:
        assert self._listener is not None
        self._heard_at = self._silent_since = now
        self._unreadable = ""
        self._health.clear_condition(SILENT, UNREADABLE)
        if self._found_before != self._listener.setting:
            self._found_before = self._listener.setting
            self._must_save = True
        if not self._is_up and self._meter.counters["telegrams"]:
            self._is_up = True
            fields = {
                "ident": self._meter.ident,
                "protocol": self._meter.protocol,
                "meter_number": self._meter.memory.number,
            }
            self._record_event("meter.up", {**fields, "line": self._line()})

    def _look_around(self) -> None:
        now = monotonic()
        if self._meter.is_garbled():
            share = self._meter.bad_share() or 0.0
            self._health.raise_condition(GARBLED, f"{share:.0%} of the last, {self._meter.last_fault}")
        else:
            self._health.clear_condition(GARBLED)
        if self._unreadable and now - self._silent_since > self._patience_s / 3:
            self._health.raise_condition(UNREADABLE, self._unreadable)
            self._health.clear_condition(SILENT)
            self._tell_lost("unreadable")
        elif now - self._silent_since > self._patience_s:
            self._health.raise_condition(SILENT)
            self._tell_lost("silent")
        if "://" in self._path and now - self._bytes_at > self._patience_s:
            raise OSError("nothing came for a minute")  # the far end may be long gone, and TCP would never say so
        if now - self._saved_at > _SAVE_EVERY_S:
            self._must_save = True

    def _save(self) -> None:
        self._must_save = False
        self._saved_at = monotonic()
        try:
            self._file.save(self._found_before, self._meter.memory)
        except OSError as error:
            log.warning("what is known of the meter cannot be kept: %s", error)

    def _lost(self, error: Exception) -> None:
        self._health.clear_condition(SILENT, UNREADABLE, GARBLED)
        self._health.raise_condition(MISSING, f"{self._path}: {error}")
        self._tell_lost("missing")

    def _tell_lost(self, reason: str) -> None:
        if self._is_up:
            self._is_up = False
            self._record_event("meter.lost", {"reason": reason})

    def _line(self) -> str:
        """`9600 7E1`, as an engineer would set it."""
        if self._listener is None:
            return ""
        line = self._listener.line
        is_seven = self._meter.protocol in ("iec62056-21", "tic") and line.parity == "N"
        return f"{self._listener.rates()} {'7E1' if is_seven else f'8{line.parity}1'}"

    def status(self) -> "MeterFigures":
        """Figures for `meterhub status`."""
        if self._serial is None:
            state = "missing"
        elif self._unreadable and not self._is_up:
            state = "unreadable"
        elif self._is_up:
            state = "up"
        else:
            is_searching = self._protocol == AUTO and self._listener is not None and self._listener.spoken is None
            state = "searching" if is_searching and monotonic() - self._silent_since < self._patience_s else "silent"
        last_s = None if self._heard_at is None else round(monotonic() - self._heard_at, 1)
        protocol = self._meter.protocol or self._protocol
        figures = self._meter.figures()
        said = {
            "state": state, "protocol": protocol, "configured": self._protocol, "line": self._line(), "last_s": last_s,
            "unreadable": self._unreadable, **figures,
        }  # fmt: skip
        return cast("MeterFigures", said)

    def details(self) -> "MeterAnswer":
        """All that the meter says, for the engineer in front of it (`meterhub meter`); not for a support bundle."""
        return cast("MeterAnswer", {**self.status(), "path": self._path, **self._meter.details()})
