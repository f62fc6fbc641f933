# SPDX-License-Identifier: GPL-3.0-or-later
"""A network co-processor: EZSP over ASH on one side, the air on the other. No I/O (UG100, UG101).

ncp.receive(bytes, now)      the line said something
ncp.handle_timer(now)         when `get_timer()` is due
ncp.bytes_to_send()           after either: what goes on the line
"""

from __future__ import annotations

from typing import Any, Final, Literal

from . import ash, messaging, networking, settings, tables
from .air import Air, Incoming, Moved, Sent
from .codec import (
    FRAME_CONTROL_CALLBACK,
    FRAME_CONTROL_OVERFLOW,
    FRAME_CONTROL_RESPONSE,
    FRAME_FORMAT_1,
    Codec,
    Fields,
    Truncated,
)
from .nv import NonVolatile, Save
from .stack import Stack

VERSION_FRAME: Final = 0x0000
# Commands that always succeed and change nothing anyone can see.
_NO_EFFECT: Final = """
    nop callback noCallbacks setBrokenRouteErrorCode setManufacturerCode setPowerDescriptor
    stopScan setSourceRouteDiscoveryMode setRadioPower setRoutingShortcutThreshold
    gpSinkTableClearAll gpClearProxyTable becomeTrustCenter updateTcLinkKey delayTest
    getLibraryStatus getDutyCycleState sendPanIdUpdate
"""
NO_EFFECT: Final = frozenset(_NO_EFFECT.split())
HANDLERS: Final = settings.HANDLERS | networking.HANDLERS | messaging.HANDLERS

Mute = Literal["", "ash", "ezsp"]


class Ncp:
    """One NCP. `version` is the EZSP protocol version it speaks, one of `tables.VERSIONS`.

    `save` gets a JSON-ready dict whenever flash or the whereabouts of devices changed; `NonVolatile.from_dict` and
    `Air.restore` take its parts back.
    """

    def __init__(
        self, nv: NonVolatile, air: Air, *, version: int = 13, save: Save | None = None, seed: int = 0
    ) -> None:
        self._frames = tables.resolve(version)
        self._names = tables.by_name(version)
        self._codec = Codec(version)
        self.version, self.nv, self.air = version, nv, air
        self.ash = ash.Ash()
        self.stack = Stack(nv, air, version, seed=seed)
        self.counters: dict[str, int] = {}
        self.muted: Mute = ""
        self._version_set = False
        self._sequence = 0
        self._save = save
        self._now = 0.0
        nv.save = lambda _state: self.save()

    # -- life ----------------------------------------------------------------------------------------------------

    def reset(self, now: float, code: int = ash.RESET_SOFTWARE) -> None:
        """Restart, by itself or because the host asked, and say why with an RSTACK."""
        self._boot(now)
        self.ash.reset(code)

    def power_cycle(self, now: float) -> None:
        """The supply went away and came back; nobody was there to hear it."""
        self._boot(now)
        self.ash.silence()

    def _boot(self, now: float) -> None:
        self._count("boots")
        self._version_set = False
        self._sequence = 0
        self.stack.boot(now)

    def save(self) -> None:
        if self._save is not None:
            self._save(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Flash and the network's devices, ready for JSON."""
        return {"version": self.version, "ncp": self.nv.to_dict(), "air": self.air.to_dict(self._now)}

    # -- the line --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the host."""
        if self.muted == "ash":
            return
        self.ash.receive(data, now)
        self._pump(now)

    def bytes_to_send(self) -> bytes:
        """Bytes for the host."""
        data = self.ash.bytes_to_send()
        return b"" if self.muted == "ash" else data

    def get_timer(self) -> float | None:
        """When `handle_timer` is due, or None."""
        timers = (self.ash.get_timer(), self.air.get_timer(), self.stack.get_timer())
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do all that is due."""
        self.ash.handle_timer(now)
        self.stack.handle_timer(now)
        self.air.handle_timer(now)
        self._pump(now)

    def pump(self, now: float) -> None:
        """After something was done to the air from outside (a device told to join, to leave)."""
        self._pump(now)

    def _pump(self, now: float) -> None:
        self._now = now
        while (event := self.ash.next_event()) is not None:
            kind, raw = event
            if kind == "reset":
                self.reset(now)
            elif kind == "data" and self.muted != "ezsp":
                self._command(raw, now)
            self._count(kind)
        self._air_events(now)
        self._send_callbacks(now)

    def _air_events(self, now: float) -> None:
        while (event := self.air.next_event()) is not None:
            if isinstance(event, Incoming):
                messaging.incoming(self.stack, event, now)
            elif isinstance(event, Sent):
                messaging.sent(self.stack, event)
            elif isinstance(event, Moved):
                self.stack.device_moved(event)
                self.air.dirty = True
            else:
                self.stack.noticed(event)
        if self.air.dirty:
            self.air.dirty = False
            self.save()

    # -- EZSP ------------------------------------------------------------------------------------------------------

    def _command(self, data: bytes, now: float) -> None:
        self._sequence = data[0]
        if len(data) == 4 and data[2] == VERSION_FRAME:
            # The first frame of every host is the version command in the oldest format (UG100 §3.3).
            values = settings.version(self.stack, {}, now)
            body = self._codec.encode(self._frames[VERSION_FRAME].response, values)
            self._version_set = data[3] == self.version
            self.ash.send(bytes((data[0], FRAME_CONTROL_RESPONSE, VERSION_FRAME)) + body, now)
            return
        if len(data) < 5 or data[2] & 0x03 != FRAME_FORMAT_1:
            self._count("bad_ezsp_frames")
            return
        number = int.from_bytes(data[3:5], "little")
        frame = self._frames.get(number)
        if frame is None or frame.name.endswith("Handler"):
            self._invalid(tables.ERROR_INVALID_FRAME_ID, now)
        elif number != VERSION_FRAME and not self._version_set:
            self._invalid(tables.ERROR_VERSION_NOT_SET, now)
        else:
            self._run(frame, data[5:], now)

    def _run(self, frame: tables.Frame, body: bytes, now: float) -> None:
        self._count(frame.name)
        try:
            args = self._codec.decode(frame.request, body)
        except Truncated:
            self._invalid(tables.ERROR_TRUNCATED, now)
            return
        if frame.number == VERSION_FRAME:
            self._version_set = args["desired"] == self.version
        if frame.name == "resetNode":
            self.reset(now)
            return
        handler = HANDLERS.get(frame.name)
        if handler is None and frame.name not in NO_EFFECT:
            self._invalid(tables.ERROR_INVALID_FRAME_ID, now)
            return
        values: Fields = {} if handler is None else handler(self.stack, args, now)
        self._write(frame, FRAME_CONTROL_RESPONSE, values, now)

    def _invalid(self, reason: int, now: float) -> None:
        self._count("invalid_commands")
        self._write(self._names["invalidCommand"], FRAME_CONTROL_RESPONSE, {"reason": reason}, now)

    def _send_callbacks(self, now: float) -> None:
        while self.stack.callbacks and self._version_set and len(self.ash.waiting) < 2 * ash.TX_WINDOW:
            name, values = self.stack.callbacks.popleft()
            if self.muted != "ezsp":
                # The number of the last command answered: no host waits for that one any more.
                self._write(self._names[name], FRAME_CONTROL_CALLBACK, values, now)

    def _write(self, frame: tables.Frame, control: int, values: Fields, now: float) -> None:
        if self.stack.overflowed:
            control |= FRAME_CONTROL_OVERFLOW
            self.stack.overflowed = False
        head = bytes((self._sequence, control, FRAME_FORMAT_1)) + frame.number.to_bytes(2, "little")
        self.ash.send(head + self._codec.encode(frame.response, values), now)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
