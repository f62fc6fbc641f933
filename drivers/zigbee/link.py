"""The Zigbee link: what the bridge and the daemon see of the radio. It joins supervisor, tunnel and appliances."""

import asyncio
import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zigpy import types as t
from zigpy.backups import NetworkBackup
from zigpy.device import ZigbeeDevice
from zigpy.util import convert_install_code

from drivers.clock import monotonic
from drivers.conditions import ConditionTable
from drivers.link import Arrived, Datagrams
from drivers.radio import ApsFrame, FrameTap
from drivers.zigbee import service
from drivers.zigbee.address import hex_of, ieee_of
from drivers.zigbee.appliances import Appliances
from drivers.zigbee.application import Application
from drivers.zigbee.channel import ClusterPlace
from drivers.zigbee.delivery import Deliveries
from drivers.zigbee.displays import Displays
from drivers.zigbee.firmware import Firmware, OpenNote
from drivers.zigbee.loads import Loads
from drivers.zigbee.members import Members
from drivers.zigbee.mirrors import Mirrors
from drivers.zigbee.network import RAISED_AGAIN, HomeNetwork
from drivers.zigbee.recovery import StartsAnew, reason_of
from drivers.zigbee.settings import DATABASE, RadioSettings, preset_of, zigpy_config
from drivers.zigbee.smart_energy import PriceStep, PriceTable
from drivers.zigbee.supervisor import Supervisor
from drivers.zigbee.survey import PERIOD_S, ChannelSurvey, quietest
from drivers.zigbee.tunnel import MAX_BYTES, Tunnel
from hub.core.records import Change
from hub.wire.zigbee import zcl

if TYPE_CHECKING:
    from hub.wire.admin import (
        AdapterRow,
        ChannelRow,
        KeyAnswer,
        MoveAnswer,
        NeighbourRow,
        RadioAnswer,
        RemoveAnswer,
        RestoreAnswer,
    )

log = logging.getLogger(__name__)

# A device that joins in the last second announces itself a little later.
_JOIN_GRACE_S = 10.0
_SNAPSHOT_SOON_S, _SNAPSHOT_PERIOD_S, _SNAPSHOT_LOOK_S = 5.0, 3600.0, 1.0
_LEAVE_S = 10.0
_LOOK_FOR_DATABASE_S = 60.0
# A move that nobody asked for is told so long before.
_MOVE_NOTICE_S = 3600.0
_SURVEY_LOOK_S = 60.0
# So many frames in a row without an acknowledgement speak of the counter, not of a device.
_UNPROVED_AFTER = 6
_RAISED_MOST = 64 * RAISED_AGAIN
_t: Any = t  # zigpy's integers carry no annotations of their constructors
# Fewer frames than this get through, of so many at least: the network is in trouble, not a device.
_POOR_SHARE, _JUDGED_FROM = 0.5, 30
# A frame that has waited so long for the radio alone says that it carries less than it is given; it is dropped after
# twice that (outbox.py).
_SLOW_S, _SWIFT_S = 5.0, 1.0
_SHUT = -_JOIN_GRACE_S  # when a window closed that never was: before the monotonic clock began
_DISK_TROUBLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
)


class ZigbeeLink:
    """Adapters and appliances on Zigbee. Peers are `("zigbee", 16 hex digits)`, everybody is `("zigbee", "*")`.

    `reading(client_id, quantity, decimal text)` is called for what ZCL appliances report, `observed(changes)` for what
    appliances that can be held are and do, as an adapter would have said it; set them before `start`.
    """

    name = "zigbee"
    max_bytes: int | None = MAX_BYTES

    def __init__(
        self,
        config: RadioSettings,
        data_dir: Path,
        health: ConditionTable,
        record_event: Callable[[str, dict[str, Any]], Any],
        utc: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`utc`: UTC epoch seconds, None while the clock is not trustworthy."""
        self.reading: Callable[[str, str, str], None] = lambda *_reading: None
        self.observed: Callable[[list[Change]], None] = lambda changes: None
        self.changed: Callable[[bool], None] = lambda is_up: None
        self.tap: FrameTap | None = None
        self.is_up = False
        self._config = config
        self._data_dir = data_dir
        self.preset = preset_of(config)
        self._tunnel = Tunnel()
        self._members = Members(data_dir)
        self._appliances = Appliances(
            lambda *reading: self.reading(*reading),
            lambda changes: self.observed(changes),
            record_event,
            health,
            data_dir,
            lambda ieee: ieee in self._mirrors,
        )
        # Whether the meter's own port tells a meter of this name; the daemon sets it.
        self.is_taken: Callable[[str], bool] = lambda client: False
        self._mirrors = Mirrors(
            lambda *reading: self.reading(*reading),
            record_event,
            lambda client: self.is_taken(client),
            utc,
            data_dir,
        )
        self._displays = Displays(utc)
        self._loads = Loads(
            record_event, lambda changes: self.observed(changes), lambda *reading: self.reading(*reading)
        )
        # Who verifies the notes of firmware for appliances (firmware.py); until there is somebody, none is offered.
        self.open_note: OpenNote | None = None
        self._firmware = Firmware(data_dir, lambda: self.open_note, health, record_event)
        self._supervisor = Supervisor(config.path, self._build, self, health, record_event)
        self._counts = {"malformed": 0, "refused": 0, "address_conflicts": 0}
        self._deliveries = Deliveries()
        self._is_poor = self._is_slow = False
        self._health = health
        self._strangers_dropped = 0
        self._network = HomeNetwork(data_dir)
        # Whoever keeps a second copy of the network's snapshot sets these before `start`: it gets each, and gives it
        # back.
        self.keep_network: Callable[[dict[str, Any]], None] = lambda document: None
        self.kept_network: Callable[[], dict[str, Any] | None] = lambda: None
        self._utc = utc
        self._record_event = record_event
        self._unproved: int | None = (
            None  # a restored network that nobody has acknowledged: what its counter was raised by
        )
        self._unacknowledged = 0
        self._snapshot_at: float | None = None
        self._snapshots: asyncio.Task[None] | None = None
        self._surveys: asyncio.Task[None] | None = None
        self._channels = ChannelSurvey()
        self._survey_at = monotonic() + PERIOD_S
        self._moving: asyncio.Task[None] | None = None
        self._move_to: int | None = None
        self._move_at = 0.0
        self._rotating = asyncio.Lock()
        self._rejoins_until = float("-inf")
        self._open_until = _SHUT
        self._open_for: str | None = None  # the one device that the window is open for
        self._task: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    # The link (drivers/link.py)

    async def start(self, arrived: Arrived) -> None:
        """Begin; the radio comes up whenever it can."""
        self._tunnel.open(arrived)
        self._network.offer(self.kept_network())
        self._task = asyncio.get_running_loop().create_task(self._supervisor.run(), name="zigbee-supervisor")

    def send(self, datagrams: Datagrams) -> None:
        self._tunnel.send(datagrams)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        if self._moving is not None:
            self._moving.cancel()
        if self._saving is not None:
            await asyncio.wait({self._saving})
        await self._appliances.close()
        await self._mirrors.close()
        self._firmware.close()

    def status(self) -> "RadioAnswer":
        figures = self._tunnel.status()
        figures["dropped"] += self._counts["refused"] + self._counts["malformed"] + self._dropped_of_strangers()
        said = {
            "state": self._supervisor.radio.state,
            **self._supervisor.network,
            "resets": self._supervisor.resets,
            "resets_last_hour": self._supervisor.resets_last_hour,
            "delivered_share": self._deliveries.all.share,
            "queue_age_s": self._tunnel.queue_age_s(),
            **figures,
            **self._counts,
            "members": len(self._members),
            "move_to": self._move_to,
            "move_in_s": None if self._move_to is None else max(0, round(self._move_at - monotonic())),
            "permit_s": max(0, round(self._open_until - monotonic())),
            "displays": dict(self._displays.counters),
            "firmware": self._firmware.status(),
            "devices": self._devices(),
        }
        if mirrors := self._mirrors.status():
            said["mirrors"] = mirrors
        if (group := self._appliances.switching.figures()) is not None:
            said["group"] = group
        return cast("RadioAnswer", said)

    # What else the daemon asks for

    async def permit(self, duration_s: int, ieee: str | None = None, install_code: str | None = None) -> None:
        """Let devices join for a while (1 to 254 s); with an install code (its CRC included) that one device alone.

        `ieee`: 16 hex digits as on the label; `install_code`: hex digits. Raises ValueError for what cannot be, and
        while the radio is not up.
        """
        application = self._application()
        if (ieee is None) != (install_code is None):
            raise ValueError("an install code belongs to one device: give ieee and install_code, or neither")
        only = None
        if ieee is not None and install_code is not None:
            only = (ieee_of(ieee), convert_install_code(bytes.fromhex(install_code)))
        self._open_until, self._open_for = monotonic() + duration_s, ieee
        try:
            await application.permit(duration_s, only=only)
        except Exception as error:
            self._open_until = _SHUT
            raise ValueError(f"the radio did not open the network: {reason_of(error)}") from error

    def appliances(self) -> "list[AdapterRow]":
        """Rows for `meterhub adapters`: the devices that speak ZCL and no MQTT-SN."""
        return self._appliances.rows()

    async def switch(self, client_id: str, on: bool) -> None:
        """Switch a ZCL appliance. Raises ValueError for one that cannot be, ConnectionError when it did not happen."""
        await self._appliances.switch(client_id, on)

    async def limit(
        self, client_id: str, watts: float | None, duration_s: float, nominal_w: float | None = None
    ) -> float | None:
        """Hold a ZCL appliance to so many watts for so long; None lets go. What it is held to. Raises as `switch`.

        One with a level of amperes gets that, a heater a lower setpoint (holding.py); a load control device a share of
        `nominal_w`, without which only nothing (0 W) can be asked of it. Each lets go when the time has passed.
        """
        if not self._loads.can_hold(client_id):
            return await self._appliances.limit(client_id, watts, duration_s, nominal_w)
        if watts is not None and watts > 0 and not nominal_w:
            raise ValueError(f"how much {client_id} draws is not known: no share of it can be asked for")
        share = None if watts is None else max(0.0, min(1.0, watts / nominal_w if nominal_w else 0.0))
        held_w = None if share is None else share * (nominal_w or 0.0)
        await self._loads.hold(client_id, share, duration_s, held_w)
        return held_w

    async def hold(self, client_id: str, share: float | None, duration_s: float) -> None:
        """Hold a Smart Energy load control device to a share (0 to 1) of what it draws, for so long; None lets go.

        It lets go by itself when the time has passed, in whole minutes. Raises as `switch` does.
        """
        await self._loads.hold(client_id, share, duration_s)

    async def scan(self) -> "list[ChannelRow]":
        """How loud each channel is. Raises ValueError, like all that follow, while the radio is not up."""
        return await service.scan(self._application())

    async def draw(self) -> "list[NeighbourRow]":
        """Who hears whom."""
        return await service.draw(self._application())

    async def back_up(self) -> dict[str, Any]:
        """The network, keys included."""
        return await service.back_up(self._application())

    async def restore(self, document: Any) -> "RestoreAnswer":
        """Put a network that was backed up into this radio; its devices are let in. Raises ValueError for no backup."""
        backup = service.read_backup(document)
        application = self._application()
        self._members.add(service.devices_of(backup))
        self._save_members()
        self._network.document = None  # this is the home's network from now on
        await asyncio.to_thread(self._network.write, self._network.note(backup, {}, self._utc()))
        await service.restore(application, backup)
        return {"devices": len(service.devices_of(backup)), "channel": int(backup.network_info.channel)}

    def tell_prices(self, currency: str, steps: list[tuple[float, float, float]], event_id: int) -> None:
        """Tell Smart Energy displays what applies from now on: steps of start (UTC epoch s), duration (s), price per
        kWh; a newer table has a greater `event_id`."""
        self._displays.tell(PriceTable(currency, tuple(PriceStep(*step) for step in steps), event_id))

    def tell_limit(self, watts: float | None, message_id: int, duration_s: float | None) -> None:
        """Tell Smart Energy displays what the household must keep to, and for how long; None: to nothing. A newer limit
        has a greater `message_id`."""
        if watts is None:
            self._displays.take_back()
        else:
            self._displays.show(f"Your home is limited to {watts:.0f} W", message_id, duration_s)

    def _application(self) -> Application:
        application = self._supervisor.application
        if application is None:
            raise ValueError(f"the radio is not up: it is {self._supervisor.radio.state}")
        return application

    # The supervisor's owner

    async def _build(self) -> Application:
        database = self._data_dir / DATABASE
        try:
            application = await self._open(database)
        except OSError:
            raise
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_TROUBLE:
                # The file is not at fault. The network lives in the radio, and who may speak in the members' file: the
                # home is served without the database, until that can be opened again.
                log.error("%s: %s; going on without it", database, error)
                self._health.raise_condition("radio-database", str(error))
                return await self._open(None)
            await asyncio.to_thread(_set_aside, database, error)
            application = await self._open(database)
        self._health.clear_condition("radio-database")
        return application

    async def _open(self, database: Path | None) -> Application:
        application = Application(zigpy_config(self._config, database), self)
        await application.open_database()
        application.forms_anew = self._network.is_to_be_formed
        backup = None if application.forms_anew else self._network.to_restore(self._utc(), self._unproved or 0)
        if backup is not None:
            application.restores(backup)
        self._members.add(hex_of(ieee) for ieee in application.devices)
        return application

    async def accept(self, application: Application) -> bool:
        found = application.backups.from_network_state()
        if self._network.is_same(found):
            self._health.set_condition("radio-other-network", False)
            return True
        home = self._network.to_restore(self._utc())
        assert home is not None
        pans = {"found": _pan(found), "pan_id": _pan(home)}
        log.error("the radio has network %s, the home's is %s: it is put back", pans["found"], pans["pan_id"])
        self._health.set_condition("radio-other-network", True, f"{pans['found']} instead of {pans['pan_id']}")
        self._record_event("radio.other_network", pans)
        await application.put_back(home)
        return False

    def rewritten(self, application: Application) -> None:
        if application.formed:
            self._network.formed()
            self._appliances.switching.forget()
            self._unproved = None
        else:
            self._unproved = self._unproved or 0
            self._unacknowledged = 0

    async def _keep_snapshots(self, application: Application) -> None:
        """The network's snapshot: soon after the start, after each join, every hour. It ends with the radio's life."""
        self._snapshot_at = monotonic() + _SNAPSHOT_SOON_S
        while True:
            await asyncio.sleep(_SNAPSHOT_LOOK_S)
            self._judge_queue()
            if self._snapshot_at is None or monotonic() < self._snapshot_at:
                continue
            self._snapshot_at = monotonic() + _SNAPSHOT_PERIOD_S
            try:
                await self._take_snapshot(application)
            except Exception as error:  # the next one may succeed
                log.warning("taking the network's snapshot: %r", error)

    async def _look_for_database(self, application: Application) -> None:
        """While the home is served without it: once it can be opened, the radio's life begins anew, with it."""
        while not application.has_database:
            await asyncio.sleep(_LOOK_FOR_DATABASE_S)
            if await asyncio.to_thread(_can_be_written, self._data_dir / DATABASE):
                application.connection_lost(StartsAnew("its database can be opened again"))
                return

    def _judge_queue(self) -> None:
        kept_s = self._tunnel.kept_s()
        if not self._is_slow and kept_s >= _SLOW_S:
            self._is_slow = True
            self._health.raise_condition("radio-slow", f"{kept_s:.0f} s")
        elif self._is_slow and kept_s < _SWIFT_S:
            self._is_slow = False
            self._health.clear_condition("radio-slow")

    async def _take_snapshot(self, application: Application) -> None:
        backup = await application.backups.create_backup(load_devices=True)
        devices = {ieee: int(device["nwk"], 16) for ieee, device in self._devices().items()}
        document = self._network.note(backup, devices, self._utc())
        await asyncio.to_thread(self._network.write, document)
        self.keep_network(document)

    def _meet_again(self, application: Application) -> None:
        """Devices that belong to the network and that the database has lost: they are asked for, before they speak."""
        for ieee, nwk in self._network.devices().items():
            if ieee in self._members and application.device_of(ieee) is None:
                application.handle_join(_t.NWK(nwk), ieee_of(ieee), None, handle_rejoin=False)

    def _judge_counter(self, is_delivered: bool) -> None:
        """A restored network is proved by the first acknowledgement. Without one its counter is too low still."""
        application = self._supervisor.application
        if self._unproved is None or application is None:
            return
        self._unacknowledged += 1
        if is_delivered:
            self._unproved = None
        elif self._unacknowledged >= _UNPROVED_AFTER and self._unproved < _RAISED_MOST:
            self._unproved += RAISED_AGAIN
            self._unacknowledged = 0
            log.warning("nobody acknowledges since the network was restored: its frame counter is raised")
            application.create_task(self._raise_counter(application), "raise_counter")

    async def _raise_counter(self, application: Application) -> None:
        backup = self._network.to_restore(self._utc(), self._unproved or 0)
        if backup is not None:
            await service.restore(application, backup)

    async def remove(self, ieee: str) -> "RemoveAnswer":
        """Take a device off the network for good: it is told to leave, and is no member. Raises ValueError."""
        application = self._application()
        device = application.device_of(ieee)
        if device is None and ieee not in self._members:
            raise ValueError(f"no device {ieee!r} belongs to this network")
        told = False
        await self._appliances.switching.remove(ieee)
        if device is not None:
            leave: Any = device.zdo.leave
            try:
                async with asyncio.timeout(_LEAVE_S):
                    await leave(remove_children=False)
                told = True
            except Exception as error:  # it is away: it is not let in again all the same
                log.info("%s was not told to leave: %r", ieee, error)
            application.devices.pop(device.ieee, None)
            device.on_remove()
            application.listener_event("device_removed", device)
        self._members.discard(ieee)
        self._appliances.forget(ieee)
        self._mirrors.forget(ieee)
        self._deliveries.forget(ieee)
        self._save_members()
        self._snapshot_at = monotonic()
        return {"ieee": ieee, "told": told}

    async def rotate_key(self) -> "KeyAnswer":
        """Give the network another key: whoever had the one before and is no member hears nothing any more. It takes
        half a minute; battery devices that slept through it come back within a day. Raises ValueError."""
        application = self._application()
        if self._rotating.locked():
            raise ValueError("the network's key is being changed already")
        async with self._rotating:
            key = secrets.token_bytes(16)
            # Before it is so: a hub that dies now must not take its own network for another.
            await self._take_snapshot(application)
            document = self._network.expect_key(key)
            if document is not None:
                await asyncio.to_thread(self._network.write, document)
                self.keep_network(document)
            try:
                sequence = await application.rotate_key(key)
            except Exception as error:
                raise ValueError(f"the network's key was not changed: {error!r}") from error
            self._rejoins_until = application.rejoins_until
            await self._take_snapshot(application)
            self._record_event("radio.key_rotated", {"sequence": sequence})
            return {"sequence": sequence}

    async def move(self, channel: int | None, in_s: float) -> "MoveAnswer":
        """Move the network to another channel (11 to 26; None: the quietest) after a while. Raises ValueError."""
        application = self._application()
        ours = int(application.state.network_info.channel)
        if channel is None:
            channel = quietest(await _energies(application), ours)
        if not 11 <= channel <= 26 or channel == ours:
            raise ValueError(f"a channel from 11 to 26, and not {ours}, where the network is, is expected")
        self._plan_move(channel, in_s, "asked")
        return {"channel": channel, "in_s": round(in_s)}

    def _plan_move(self, channel: int, in_s: float, reason: str) -> None:
        if self._moving is not None:
            self._moving.cancel()
        self._move_at, self._move_to = monotonic() + in_s, channel
        self._record_event("radio.channel_planned", {"to": channel, "in_s": round(in_s), "reason": reason})
        self._moving = asyncio.get_running_loop().create_task(self._move(channel, in_s), name="zigbee-move")

    async def _move(self, channel: int, in_s: float) -> None:
        await asyncio.sleep(in_s)
        try:
            await self._move_now(channel)
        finally:
            self._move_to = None

    async def _move_now(self, channel: int) -> None:
        application = self._supervisor.application
        if application is None:
            log.warning("the network is not moved to channel %s: the radio is not up", channel)
            return
        before = int(application.state.network_info.channel)
        try:
            await application.move_to(channel)
            await self._take_snapshot(application)
        except Exception as error:
            log.warning("moving the network to channel %s: %r", channel, error)
            return
        self._supervisor.network = self._supervisor.network | {"channel": channel}
        self._record_event("radio.channel_moved", {"channel": channel, "before": before})

    async def _survey(self, application: Application) -> None:
        """Listen once a day whether something else has our channel for good. It ends with the radio's life."""
        while True:
            if monotonic() >= self._survey_at:
                self._survey_at = monotonic() + PERIOD_S
                try:
                    ours = int(application.state.network_info.channel)
                    better = self._channels.take(await _energies(application), ours)
                    if better is not None and self._move_to is None:
                        self._plan_move(better, _MOVE_NOTICE_S, "noise")
                except Exception as error:
                    log.warning("listening to the channels: %r", error)
            await asyncio.sleep(_SURVEY_LOOK_S)

    def attach(self, application: Application) -> None:
        self._surveys = asyncio.get_running_loop().create_task(self._survey(application), name="zigbee-survey")
        if monotonic() < self._rejoins_until:
            application.create_task(_let_back(application, self._rejoins_until - monotonic()), "let_back")
        self._snapshots = asyncio.get_running_loop().create_task(self._keep_snapshots(application), name="snapshots")
        application.create_task(self._look_for_database(application), "look_for_database")
        self._meet_again(application)
        self._tunnel.attach(application)
        self._appliances.attach(application)
        self._displays.attach(application)
        self._loads.attach(application)
        self._mirrors.attach(application)
        self._firmware.attach(application)
        self.is_up = True
        self.changed(True)
        self._save_members()
        left_s = int(self._open_until - monotonic())
        if left_s > 0 and self._open_for is None:  # a window that the engineer opened outlasts a reset of the radio
            application.create_task(_reopen(application, left_s), "reopen_window")

    def detach(self) -> None:
        application = self._supervisor.application
        if application is not None:
            self._strangers_dropped += application.dropped
        for task in (self._snapshots, self._surveys):
            if task is not None:
                task.cancel()
        self._snapshots = self._surveys = None
        self._tunnel.detach()
        self._is_slow = False
        self._health.clear_condition("radio-slow")
        self._appliances.detach()
        self._displays.detach()
        self._loads.detach()
        self._mirrors.detach()
        self._firmware.detach()
        if self.is_up:
            self.is_up = False
            self.changed(False)

    def _dropped_of_strangers(self) -> int:
        application = self._supervisor.application
        return self._strangers_dropped + (0 if application is None else application.dropped)

    def _devices(self) -> dict[str, dict[str, Any]]:
        application = self._supervisor.application
        if application is None:
            return {}
        return {
            hex_of(device.ieee): {
                "nwk": f"0x{int(device.nwk):04X}",
                "lqi": device.lqi,
                "rssi_dbm": device.rssi,
                "delivered_share": self._deliveries.share_of(hex_of(device.ieee)),
            }
            for device in application.devices.values()
            if device.ieee != application.state.node_info.ieee
        }

    # The application's observer

    def admits(self, ieee: str, *, has_joined: bool) -> bool:
        if ieee in self._members:
            return True
        return has_joined and self._open_for in (None, ieee) and monotonic() < self._open_until + _JOIN_GRACE_S

    def joined(self, ieee: str) -> None:
        self._members.add([ieee])
        self._save_members()
        self._snapshot_at = min(self._snapshot_at or float("inf"), monotonic() + _SNAPSHOT_SOON_S)

    def returned(self, device: ZigbeeDevice) -> None:
        self._appliances.returned(device)

    def _save_members(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._save(), name="save-members")

    async def _save(self) -> None:
        try:
            while (members := self._members.take_unsaved()) is not None:
                await asyncio.to_thread(self._members.write, members)
        except OSError as error:  # tried again at the next join; zigpy's database has most of them too
            log.warning("saving the members: %s", error)

    def datagram(self, ieee: str, packet: t.ZigbeePacket, now: float) -> None:
        self._tunnel.receive(ieee, packet, now)

    def question(self, packet: t.ZigbeePacket) -> None:
        self._displays.question(packet)

    def spontaneous(self, device: ZigbeeDevice, place: ClusterPlace, header: zcl.Header, body: bytes) -> None:
        self._appliances.spontaneous(device, place, header, body)

    def load_control(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        self._loads.heard(device, packet, packet.data.serialize())

    def mirror(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        self._mirrors.heard(device, packet)
        ieee = hex_of(device.ieee)
        if ieee in self._mirrors:
            self._appliances.leave_alone(ieee)

    def firmware(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        self._firmware.heard(device, packet)

    def delivery(self, ieee: str, is_delivered: bool) -> None:
        self._deliveries.count(ieee, delivered=is_delivered)
        self._judge_counter(is_delivered)
        share = self._deliveries.all.share
        is_poor = self._deliveries.all.sent >= _JUDGED_FROM and share is not None and share < _POOR_SHARE
        if is_poor != self._is_poor:
            self._is_poor = is_poor
            self._health.set_condition("radio-undelivered", is_poor)

    def frame(self, way: str, packet: t.ZigbeePacket, device: ZigbeeDevice | None) -> None:
        if self.tap is None or self.preset.carries(packet):  # the tunnel's are seen as messages, by the bridge
            return
        application = self._supervisor.application
        far, is_in = (packet.src, True) if way == "in" else (packet.dst, False)
        assert far is not None
        frame = ApsFrame(
            ieee="" if device is None else hex_of(device.ieee),
            nwk=int(far.address) if isinstance(far.address, int) else 0xFFFE,
            pan_id=0xFFFF if application is None else int(application.state.network_info.pan_id),
            profile=int(packet.profile_id),
            cluster=int(packet.cluster_id),
            hub_ep=int((packet.dst_ep if is_in else packet.src_ep) or 0),
            device_ep=int((packet.src_ep if is_in else packet.dst_ep) or 0),
            counter=int(packet.tsn or 0),
            data=packet.data.serialize(),
        )
        self.tap(way, frame)

    def network_changed(self, application: Application) -> None:
        before, network = self._supervisor.network["pan_id"], application.state.network_info
        pan_id = f"0x{int(network.pan_id):04X}"
        self._supervisor.network = self._supervisor.network | {"pan_id": pan_id, "channel": int(network.channel)}
        self._snapshot_at = monotonic()
        if pan_id != before:
            self._record_event("radio.pan_id_changed", {"pan_id": pan_id, "before": before})

    def is_owed(self, device: ZigbeeDevice) -> bool:
        return self._appliances.is_owed(hex_of(device.ieee))

    def count(self, what: str) -> None:
        self._counts[what] += 1


def _pan(backup: NetworkBackup) -> str:
    return f"0x{int(backup.network_info.pan_id):04X}"


async def _energies(application: Application) -> dict[int, float]:
    """How loud each channel is, 0 to 255."""
    return {row["channel"]: float(row["energy"]) for row in await service.scan(application)}


async def _let_back(application: Application, duration_s: float) -> None:
    try:
        await application.let_back(duration_s)
    except Exception as error:  # the radio is gone again: its next life tries anew
        log.info("devices that missed the new key are not let back: %r", error)


async def _reopen(application: Application, duration_s: int) -> None:
    try:
        await application.permit(duration_s)
    except Exception as error:  # the radio is gone again: its next life tries anew
        log.info("the join window could not be opened again: %r", error)


def _can_be_written(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=1.0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error:
        return False
    return True


def _set_aside(database: Path, error: Exception) -> None:
    log.error("%s is set aside, it cannot be read: %r", database, error)
    for suffix in ("", "-wal", "-shm"):
        path = database.with_name(database.name + suffix)
        if path.exists():
            path.replace(path.with_name(path.name + ".damaged"))
