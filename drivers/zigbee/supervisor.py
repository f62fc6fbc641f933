"""Keeps a radio working: one application after another, for as long as the hub runs.

bellows never reconnects by itself: whatever happens to the radio (reset, pulled out, silent), the application is shut
down and a new one built, sooner at first, then with patience. Nothing here raises past `run`.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from drivers.clock import monotonic
from drivers.conditions import ConditionTable
from drivers.zigbee.address import hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.delivery import HOUR_S, Resets
from drivers.zigbee.recovery import MISSING, PACE, REFUSING, SILENT, STEADY_S, RadioState, diagnose, is_reset, reason_of
from hub.core.backoff import Backoff

log = logging.getLogger(__name__)

# Forming scans every channel, restoring a backup resets the radio several times.
_START_S = 90.0
_SHUTDOWN_S = 1.0
_LOOK_FOR_PORT_S = 0.5
_STEADY_LOOK_S = 30.0

RecordEvent = Callable[[str, dict[str, Any]], Any]


class Owner(Protocol):
    """Whoever uses the radio while it is up."""

    async def accept(self, application: Application) -> bool:
        """Whether the radio has the home's network. False: it has been given that, and starts anew."""

    def rewritten(self, application: Application) -> None:
        """The radio was given a network: a new one, or the home's."""

    def attach(self, application: Application) -> None: ...
    def detach(self) -> None: ...


class Supervisor:
    """`build` gives a new application with its database open; `owner` gets it while the network is up."""

    def __init__(
        self,
        path: str,
        build: Callable[[], Awaitable[Application]],
        owner: Owner,
        health: ConditionTable,
        record_event: RecordEvent,
    ) -> None:
        self._path = path
        self._build = build
        self._owner = owner
        self._health = health
        self._record_event = record_event
        self._backoff = Backoff(PACE, steady_s=STEADY_S)
        self.radio = RadioState()
        self.resets = 0
        self._gone = Resets()
        self._is_unstable = False
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
            if not self._is_there():  # the database need not be loaded to find that out
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            application = await self._build()
            await self._start(application)
            if application.rewritten:
                self._formed(application)
                return
            if not await self._owner.accept(application):
                self._formed(application)
                return
            await application.prove()
            self._up(application)
            began = monotonic()
            error = await self._life(application)
            self._backoff.lived(monotonic() - began)
        except Exception as failure:
            error = failure
        finally:
            was_up = self.radio.state == "up"
            self._owner.detach()
            self.application = None
            await self._shut_down(application)
        self._down(error, was_up)

    async def _life(self, application: Application) -> BaseException | None:
        """Until it ends; meanwhile it may prove that it is steady again."""
        while True:
            done, _ = await asyncio.wait({application.lost}, timeout=_STEADY_LOOK_S)
            if done:
                return application.lost.result()
            self._look_whether_steady()

    def _look_whether_steady(self) -> None:
        if self._is_unstable and not self._gone.is_unstable(monotonic()):
            self._is_unstable = False
            self._health.clear_condition("radio-unstable")
            self._record("radio.up", dict(self.network))

    @property
    def resets_last_hour(self) -> int:
        return self._gone.in_last(HOUR_S, monotonic())

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
        try:
            async with asyncio.timeout(_SHUTDOWN_S):
                await application.shutdown(db=False)
        except Exception as error:  # half of it may be gone already
            log.debug("shutting the radio down: %r", error)
        await application.close_database()

    # What the world is told

    def _starting(self) -> None:
        if self.radio.state == "off":
            self._health.raise_condition("radio-starting")
        self.radio.on("start")

    def _formed(self, application: Application) -> None:
        self._read_network(application)
        self._owner.rewritten(application)
        event = "radio.formed" if application.formed else "radio.restored"
        self._record(event, {key: self.network[key] for key in ("channel", "pan_id")})

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
        self._health.clear_condition("radio-starting", MISSING, SILENT, REFUSING)
        if not self._is_unstable:
            self._record("radio.up", dict(self.network))
        log.info("the radio is up: channel %s, PAN %s", self.network["channel"], self.network["pan_id"])
        self._owner.attach(application)

    def _down(self, error: BaseException | None, was_up: bool) -> None:
        condition, reason = diagnose(error), reason_of(error)
        self.radio.on("missing" if condition == MISSING else "lost")
        if was_up:
            self._went(reason)
        # A reset is over in a fraction of a second: it is a condition only when the next start fails too.
        if not was_up or not is_reset(error):
            self._health.clear_condition("radio-starting", MISSING, SILENT, REFUSING)
            self._health.raise_condition(condition, reason)
        else:
            self._health.raise_condition("radio-starting")
        log.warning("the radio is down: %s", reason)

    def _went(self, reason: str) -> None:
        """It was up and is not. One that goes again and again is told as that, once, and not each time."""
        now = monotonic()
        self.resets += 1
        self._gone.count(now)
        if self._gone.is_unstable(now):
            resets = self._gone.in_last(HOUR_S, now)
            self._health.raise_condition("radio-unstable", f"{resets} times in an hour, last: {reason}")
            if not self._is_unstable:
                self._is_unstable = True
                self._record("radio.unstable", {"resets": resets, "reason": reason})
        if not self._is_unstable:
            self._record("radio.down", {"reason": reason})

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
