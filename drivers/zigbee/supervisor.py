"""Keeps a radio working: one application after another, for as long as the hub runs.

bellows never reconnects by itself: whatever happens to the radio (reset, pulled out, silent), the application is shut
down and a new one built, sooner at first, then with patience. Nothing here raises past `run`.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from drivers.clock import monotonic
from drivers.zigbee.address import hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.recovery import MISSING, SILENT, Backoff, Radio, diagnose, reason_of

log = logging.getLogger(__name__)

# Forming scans every channel, restoring a backup resets the radio several times.
_START_S = 90.0
_SHUTDOWN_S = 1.0
_LOOK_FOR_PORT_S = 0.5

RecordEvent = Callable[[str, dict[str, Any]], Any]


class Health(Protocol):
    """What the supervisor needs of hub/core/health.py."""

    def raise_condition(self, code: str, detail: str = "") -> None: ...
    def clear_condition(self, *codes: str) -> None: ...
    def set_condition(self, code: str, holds: bool, detail: str = "") -> None: ...


class Owner(Protocol):
    """Whoever uses the radio while it is up."""

    def attach(self, application: Application) -> None: ...
    def detach(self) -> None: ...


class Supervisor:
    """`build` gives a new application with its database open; `owner` gets it while the network is up."""

    def __init__(
        self,
        path: str,
        build: Callable[[], Awaitable[Application]],
        owner: Owner,
        health: Health,
        record_event: RecordEvent,
    ) -> None:
        self._path = path
        self._build = build
        self._owner = owner
        self._health = health
        self._record_event = record_event
        self._backoff = Backoff()
        self.radio = Radio()
        self.resets = 0
        self.application: Application | None = None
        self.network: dict[str, Any] = {"channel": None, "pan_id": None, "ieee": None}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._live()
                except Exception:
                    log.exception("the radio's supervisor met an error of its own")
                await self._wait(self._backoff.next_delay_s())
        finally:
            self.radio.on("stop")

    async def _live(self) -> None:
        """One life of the radio, from opening its port to its end."""
        self._starting()
        application: Application | None = None
        try:
            application = await self._build()
            await self._start(application)
            if application.rewritten:
                self._formed(application)
                return
            self._up(application)
            began = monotonic()
            error = await asyncio.shield(application.lost)
            self._backoff.lived(monotonic() - began)
        except Exception as failure:
            error = failure
        finally:
            was_up = self.radio.state == "up"
            self._owner.detach()
            self.application = None
            await self._shut_down(application)
        self._down(error, was_up)

    async def _start(self, application: Application) -> None:
        start = asyncio.ensure_future(application.startup(auto_form=application.has_database))
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.wait({start, application.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                raise application.lost.result() or ConnectionResetError("the port was closed")
            await start
        finally:
            start.cancel()
            await asyncio.wait({start}, timeout=_SHUTDOWN_S)

    @staticmethod
    async def _shut_down(application: Application | None) -> None:
        if application is None:
            return
        for step in (application.shutdown, application.close_database):
            try:
                async with asyncio.timeout(_SHUTDOWN_S):
                    await step()
                return
            except Exception as error:  # half of it may be gone already
                log.debug("shutting the radio down: %r", error)

    # What the world is told

    def _starting(self) -> None:
        if self.radio.state == "off":
            self._health.raise_condition("radio-starting")
        self.radio.on("start")

    def _formed(self, application: Application) -> None:
        self._read_network(application)
        if application.formed:
            self._record("radio.formed", {key: self.network[key] for key in ("channel", "pan_id")})

    def _read_network(self, application: Application) -> None:
        state = application.state
        self.network = {
            "channel": int(state.network_info.channel),
            "pan_id": f"0x{int(state.network_info.pan_id):04X}",
            "ieee": hex_of(state.node_info.ieee),
        }

    def _up(self, application: Application) -> None:
        self._read_network(application)
        self.radio.on("up")
        self.application = application
        self._health.clear_condition("radio-starting", MISSING, SILENT)
        self._record("radio.up", dict(self.network))
        log.info("the radio is up: channel %s, PAN %s", self.network["channel"], self.network["pan_id"])
        self._owner.attach(application)

    def _down(self, error: BaseException | None, was_up: bool) -> None:
        condition, reason = diagnose(error), reason_of(error)
        self.radio.on("missing" if condition == MISSING else "lost")
        if was_up:
            self.resets += 1
            self._record("radio.down", {"reason": reason})
        # A reset is over in a fraction of a second: it is a condition only when the next start fails too.
        if condition == MISSING or not was_up:
            self._health.clear_condition("radio-starting", MISSING, SILENT)
            self._health.raise_condition(condition, reason)
        else:
            self._health.raise_condition("radio-starting")
        log.warning("the radio is down: %s", reason)

    def _record(self, event: str, fields: dict[str, Any]) -> None:
        try:
            self._record_event(event, fields)
        except Exception:
            log.exception("recording %s", event)

    async def _wait(self, delay_s: float) -> None:
        """Wait; less when the port was not there and appears."""
        deadline = monotonic() + delay_s
        was_there = self._is_there()
        while (left_s := deadline - monotonic()) > 0:
            await asyncio.sleep(min(left_s, _LOOK_FOR_PORT_S))
            is_there = self._is_there()
            if is_there and not was_there:
                self._backoff.reset()
                return
            was_there = is_there

    def _is_there(self) -> bool:
        # A path with a scheme is somebody else's port: it can only be tried.
        return "://" in self._path or os.path.exists(self._path)
