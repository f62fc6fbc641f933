"""ZCL appliances: plugs, meters, thermostats, sensors that speak no MQTT-SN. Interviewed by zigpy; the rest is here."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zigpy import types as t
from zigpy.device import ZigbeeDevice
from zigpy.exceptions import ZigbeeException
from zigpy.zcl import Cluster

from drivers.clock import monotonic
from drivers.conditions import ConditionTable
from drivers.zigbee import asking, ias
from drivers.zigbee.address import CLIENT_PREFIX, client_id_of, hex_of
from drivers.zigbee.appliance import PROFILES, Shape, ZclAppliance
from drivers.zigbee.application import Application, HubDevice
from drivers.zigbee.budget import ReportBudget
from drivers.zigbee.channel import ClusterPlace, SwitchPlace, ZclReading
from drivers.zigbee.frames import HOME_AUTOMATION, LIGHT_LINK, zcl_answer
from drivers.zigbee.holding import NOT_THERE, Holding, order
from drivers.zigbee.interviews import Interviews
from drivers.zigbee.kept import RecordsFile
from drivers.zigbee.load_control import CLUSTER as LOAD_CONTROL
from drivers.zigbee.measures import BASIC, GROUPS, IAS_ZONE, LEVEL, ON_OFF
from drivers.zigbee.switching import Switches, Switching
from hub.core.backoff import Pace
from hub.core.records import Change
from hub.wire.zigbee import zcl

if TYPE_CHECKING:
    from hub.wire.admin import AdapterRow

log = logging.getLogger(__name__)

TakeReading = Callable[[str, str, str], None]
RecordEvent = Callable[[str, dict[str, Any]], Any]

# A cluster that does not answer now (asleep, switched off at the wall) is tried again; the last one for good.
_PACE = Pace(first_s=2.0, cap_s=3600.0, factor=6.0)
_AT_A_TIME = 4  # half of what the radio takes
# The air's budget for questions: one a second for all appliances together, and few of them without an answer yet.
POLL_SPACING_S = 1.0
_POLLS_UNDER_WAY = 3
_TICK_S = 1.0
_REVIEW_S = 60.0
_SAVE_AFTER_S = 10.0
_ZONE_ID = 0
_ON_OFF_ATTRIBUTE, _OFF, _ON = 0x0000, 0x00, 0x01
_MANUFACTURER, _MODEL, _SOFTWARE = 0x0004, 0x0005, 0x4000
# Who comes back is told anew what to report, this often at most: battery devices come back whenever they have lost
# their parent. None is passed over: who was told a moment ago may have been without power since.
_TOLD_AGAIN_S, _SLEEPY_TOLD_AGAIN_S = 15.0, 3600.0
# A meter that sleeps and wants a mirror asks for it as soon as it is here; one that does not is asked after that.
_WANTS_MIRROR_S = 60.0
_IDENTIFIED_BY = 1  # after the interview asked twice, it is waited for so many more times


class Appliances:
    """All ZCL appliances of the home. It outlives the radio's applications: `attach` and `detach` say which there is.

    `reading(client_id, quantity, text)` gets every value as decimal text in the hub's units (design 3.2).
    """

    def __init__(
        self,
        reading: TakeReading,
        observed: Callable[[list[Change]], None],
        record_event: RecordEvent,
        health: ConditionTable,
        data_dir: Path,
        is_mirrored: Callable[[str], bool] = lambda _ieee: False,
    ) -> None:
        """`observed(changes)`: what appliances that can be held are and do, as an adapter would have said it.
        `is_mirrored`: whether this device (its IEEE address) reports to a mirror, and is asked nothing."""
        self._is_mirrored = is_mirrored
        self._reading = reading
        self._record_event = record_event
        self._health = health
        self._kept = RecordsFile(data_dir)
        self._by_ieee: dict[str, ZclAppliance] = {}
        self._budgets: dict[str, ReportBudget] = {}
        self._devices: dict[str, ZigbeeDevice] = {}
        self._configuring: dict[str, asyncio.Task[None]] = {}
        self._told_at: dict[str, float] = {}  # when a device was last told what to report
        self._tell_at: dict[str, float] = {}  # when one that came back is to be told anew
        self._waited_for: set[str] = set()  # meters that were given their time to ask for a mirror
        self._interviews = Interviews()
        self._application: Application | None = None
        self._turn = asyncio.Semaphore(_AT_A_TIME)
        self._ticking: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._polling: set[tuple[str, ClusterPlace]] = set()
        self._holding = Holding(self, reading, observed, record_event)
        self.switching = Switching(self, data_dir)
        self._next_poll_at = self._review_at = 0.0
        self._save_at: float | None = None
        self._saving = asyncio.Lock()

    # The radio comes and goes

    def attach(self, application: Application) -> None:
        """There is a network: take up its devices, and hear of new ones."""
        self._application = application
        application.add_listener(self)
        now = monotonic()
        for device in list(application.devices.values()):
            if not isinstance(device, ZigbeeDevice) or device.nwk == application.state.node_info.nwk:
                continue
            if device.is_initialized:
                self._take_up(device, is_back=False)
            else:
                self._interviews.owed(hex_of(device.ieee), now)
        self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="zigbee-appliances")
        self.switching.attach(application)

    def detach(self) -> None:
        """The radio is gone."""
        self.switching.detach()
        if self._application is not None:
            self._application.remove_listener(self)
            self._application = None
        for task in (self._ticking, *self._configuring.values(), *self._polls):
            if task is not None:
                task.cancel()
        self._ticking = None
        self._configuring.clear()
        self._polling.clear()
        self._devices.clear()
        self._holding.present(())

    # What zigpy tells (the names are its own; whatever is raised here, it swallows)

    def raw_device_initialized(self, device: ZigbeeDevice) -> None:
        """A device was interviewed for the first time."""
        ieee = hex_of(device.ieee)
        appliance = self._appliance_of(device)
        if appliance.is_known:
            self._record_event("adapter.joined", {"client": client_id_of(ieee), "link": "zigbee"})
        self._tell_withheld(appliance)

    def device_initialized(self, device: ZigbeeDevice) -> None:
        """A device is interviewed, or came back: it may have forgotten its bindings."""
        self._interviews.succeeded(hex_of(device.ieee))
        self.switching.came_back(hex_of(device.ieee))
        self._review_at = 0.0
        self._take_up(device, is_back=True)

    def returned(self, device: ZigbeeDevice) -> None:
        """A device says that it is there, under the address that it had (application.py): it may have been without
        power, and have forgotten its bindings."""
        ieee = hex_of(device.ieee)
        appliance = self._by_ieee.get(ieee)
        if appliance is None or device.initializing:
            return
        pause_s = _SLEEPY_TOLD_AGAIN_S if appliance.is_sleepy else _TOLD_AGAIN_S
        self._tell_at.setdefault(ieee, max(monotonic(), self._told_at.get(ieee, float("-inf")) + pause_s))

    def _tell_returned(self, now: float) -> None:
        for ieee in [ieee for ieee, at in self._tell_at.items() if at <= now]:
            del self._tell_at[ieee]
            device = None if self._application is None else self._application.device_of(ieee)
            if device is not None and device.is_initialized:
                self._take_up(device, is_back=True)

    def device_init_failure(self, device: ZigbeeDevice) -> None:
        """An interview failed. What is known of the endpoints is enough; without them it is tried again, and told."""
        ieee = hex_of(device.ieee)
        if device.is_initialized and self._application is not None:
            self._application.device_initialized(device)
            return
        if isinstance(device, HubDevice):
            device.interviews_failed += 1
        if self._interviews.failed(ieee, monotonic()):
            self._record_event("adapter.interview_failed", {"client": client_id_of(ieee)})
            self._review()

    def device_left(self, device: ZigbeeDevice) -> None:
        ieee = hex_of(device.ieee)
        self._interviews.forget(ieee)
        self.switching.went(ieee)
        appliance = self._by_ieee.get(ieee)
        if appliance is not None:
            appliance.left()
            self._stop_configuring(ieee)
            self._devices.pop(ieee, None)
            self._record_event("adapter.left", {"client": appliance.client_id, "reason": "left the network"})

    def handle_message(self, device: ZigbeeDevice, *_frame: Any) -> None:
        """A frame of a known device that is not the tunnel's."""
        appliance = self._by_ieee.get(hex_of(device.ieee))
        if appliance is not None:
            appliance.heard(monotonic())

    # Taking up a device

    def _appliance_of(self, device: ZigbeeDevice) -> ZclAppliance:
        """What is known of a device, with its shape as it is now."""
        ieee = hex_of(device.ieee)
        appliance = self._by_ieee.get(ieee)
        if appliance is None:
            appliance = self._by_ieee[ieee] = ZclAppliance(ieee, self._kept.records.get(ieee))
            self._budgets[ieee] = ReportBudget()
        shapes = {
            int(endpoint.endpoint_id): Shape(
                int(endpoint.profile_id or 0), int(endpoint.device_type or 0), frozenset(map(int, endpoint.in_clusters))
            )
            for endpoint in device.non_zdo_endpoints
        }
        sleepy = device.node_desc is not None and bool(device.node_desc.is_end_device)
        appliance.describe(device.manufacturer, device.model, shapes, sleepy=sleepy)
        return appliance

    def _take_up(self, device: ZigbeeDevice, *, is_back: bool) -> None:
        """`is_back`: it joined, or rejoined, just now; else it was here before the radio started."""
        ieee = hex_of(device.ieee)
        appliance = self._appliance_of(device)
        if not appliance.places or self._application is None or self._is_mirrored(ieee):
            return
        if appliance.may_want_mirror and ieee not in self._waited_for:
            self._waited_for.add(ieee)
            self._tell_at[ieee] = monotonic() + _WANTS_MIRROR_S
            return
        self._devices[ieee] = device
        self._holding.found_held(appliance)
        if not is_back:
            appliance.trust_reports(monotonic())
        self._stop_configuring(ieee)
        if is_back:
            self._told_at[ieee] = monotonic()
            self._tell_at.pop(ieee, None)
        work = self._configure(appliance, device, told_anew=is_back or not appliance.is_told)
        self._configuring[ieee] = asyncio.get_running_loop().create_task(work, name=f"configure-{ieee}")

    def is_owed(self, ieee: str) -> bool:
        """Whether there is still something to ask this device, or to tell it."""
        task = self._configuring.get(ieee)
        return ieee in self._tell_at or (task is not None and not task.done())

    def _stop_configuring(self, ieee: str) -> None:
        task = self._configuring.pop(ieee, None)
        if task is not None:
            task.cancel()

    async def _configure(self, appliance: ZclAppliance, device: ZigbeeDevice, *, told_anew: bool) -> None:
        """Read each cluster, then have each report. What fails in one is that one's, and tried again alone."""
        unread, unconfigured = list(appliance.places), list(appliance.places) if told_anew else []
        tries, must_ask = 0, told_anew or appliance.software is None  # who comes back may have other software

        def wants_software() -> bool:
            return must_ask and appliance.exceptions.by_software

        while unread or unconfigured or wants_software():
            async with self._turn:
                # Before it is known what is wrong about its kind, that would be taken for true: it is asked once more.
                is_known = appliance.model is not None or await self._identify(appliance, device)
                if is_known or tries >= _IDENTIFIED_BY:
                    if wants_software():
                        waiting = appliance.unsure_places()
                        must_ask = not await self._ask_software(appliance, device)
                        if not must_ask:  # what was withheld for want of it
                            unread += [place for place in waiting if place not in unread]
                            unconfigured += [place for place in waiting if told_anew and place not in unconfigured]
                    unread = [place for place in unread if not await self._learn(appliance, device, place, tries)]
                    self._emit(appliance, appliance.settle(monotonic()))
                    unconfigured = [
                        place
                        for place in unconfigured
                        if place in unread or not await self._have_reported(appliance, device, place)
                    ]
            if not unread and not unconfigured and not wants_software():
                break
            await asyncio.sleep(_PACE.ceiling_s(tries))
            tries += 1
        if told_anew and not appliance.is_told:
            appliance.is_told = appliance.changed = True
            self._emit(appliance, ())

    async def _identify(self, appliance: ZclAppliance, device: ZigbeeDevice) -> bool:
        """Who made it, and what it is: without that the table of exceptions does not apply. Whether it is known."""
        clusters = _basic_clusters(device)
        texts = await _texts_of(appliance, clusters, [_MANUFACTURER, _MODEL])
        if texts and texts.get(_MODEL):
            device.manufacturer, device.model = texts.get(_MANUFACTURER), texts[_MODEL]
            self._appliance_of(device)
        return texts is not None or not clusters

    async def _ask_software(self, appliance: ZclAppliance, device: ZigbeeDevice) -> bool:
        """Which version its software has, where its kind's values depend on that. Whether it was answered."""
        clusters = _basic_clusters(device)
        texts = await _texts_of(appliance, clusters, [_SOFTWARE])
        if texts is not None:
            appliance.has_software(texts.get(_SOFTWARE) or "")
        return texts is not None or not clusters

    async def _learn(self, appliance: ZclAppliance, device: ZigbeeDevice, place: ClusterPlace, tries: int) -> bool:
        """Read a cluster. The first time no question is repeated: a cluster that never answers keeps others waiting."""
        cluster = _cluster(device, place)
        if cluster is None:
            return True
        try:
            if place.cluster == IAS_ZONE:
                await self._enrol(appliance, device, cluster, place)
                return True
            answer = await asking.read(
                cluster, appliance.questions(place), retries=0 if not tries else 1, singly=tries > 1
            )
        except asyncio.CancelledError:
            raise
        except Exception as error:  # it does not answer, refuses, or answers nonsense
            log.debug("reading %s of %s: %r", place, appliance.client_id, error)
            return False
        now = monotonic()
        appliance.absent(place, answer.absent)
        self._emit(appliance, appliance.take(place, answer.records, now))
        appliance.polled(place, now)
        return True

    async def _have_reported(self, appliance: ZclAppliance, device: ZigbeeDevice, place: ClusterPlace) -> bool:
        cluster = _cluster(device, place)
        wanted = appliance.to_configure(place, monotonic())
        if cluster is None or not wanted:
            return True
        try:
            taken = await asking.configure(cluster, wanted)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.debug("configuring %s of %s: %r", place, appliance.client_id, error)
            return False
        for attribute, took in taken.items():
            appliance.configured(place, attribute, took=took)
        return True

    async def _enrol(self, appliance: ZclAppliance, device: ZigbeeDevice, cluster: Any, place: ClusterPlace) -> None:
        """Make the hub the zone's CIE (ZCL 8.2.2.2.3), enrol it unasked, and see what it says now.

        Zones enrol in one of three ways; a device that knows only another has said so, and is served all the same.
        """
        application = self._application
        if application is None:
            return
        answer = await asking.read(cluster, [ias.ZONE_STATE, ias.ZONE_TYPE, ias.ZONE_STATUS], retries=1)
        self._take_zone(appliance, *appliance.take_zone_records(place.endpoint, answer.records))
        ours: Any = application.state.node_info.ieee
        tsn = int(application.get_sequence())
        to = t.AddrModeAddress(t.AddrMode.NWK, device.nwk)
        profile = int(device.endpoints[place.endpoint].profile_id or 0)
        frame = zcl_answer(to, (profile, IAS_ZONE, 1, place.endpoint), tsn, zcl.enroll_response(tsn, _ZONE_ID))
        for step in (
            lambda: asking.write_ieee(cluster, ias.CIE_ADDRESS, t.EUI64(ours)),
            cluster.bind,
            lambda: application.send_packet(frame),
        ):
            try:
                await step()
            except NOT_THERE as error:
                log.debug("enrolling %s: %r", appliance.client_id, error)

    # What devices say

    def spontaneous(self, device: ZigbeeDevice, place: ClusterPlace, header: zcl.Header, body: bytes) -> None:
        """A report, or a command of an IAS zone, arrived (application.py)."""
        appliance = self._by_ieee.get(hex_of(device.ieee))
        if appliance is None:
            return
        now = monotonic()
        appliance.heard(now)
        if header.is_report:
            records = zcl.report(body)
            if place.cluster == IAS_ZONE:
                self._take_zone(appliance, *appliance.take_zone_records(place.endpoint, records))
            elif header.manufacturer is None:
                self._emit(appliance, appliance.take(place, records, now, reported=True))
                self._heard_switch(appliance, place, records)
        elif header.command == zcl.STATUS_CHANGE and len(body) >= 2:
            status = int.from_bytes(body[:2], "little")
            self._take_zone(appliance, *appliance.take_zone(place.endpoint, status))

    def _heard_switch(self, appliance: ZclAppliance, place: ClusterPlace, records: Iterable[zcl.Record]) -> None:
        if place.cluster == ON_OFF:
            for record in records:
                if record.attribute == _ON_OFF_ATTRIBUTE and record.number is not None:
                    self.switching.reported(SwitchPlace(appliance.ieee, place.endpoint), bool(record.number))

    def _take_zone(self, appliance: ZclAppliance, readings: Iterable[ZclReading], alarms: Iterable[str]) -> None:
        self._emit(appliance, readings)
        for text in alarms:
            if self._budgets[appliance.ieee].admits("alarm", monotonic()):
                self._record_event("adapter.alarm", {"client": appliance.client_id, "text": text})

    def _emit(self, appliance: ZclAppliance, readings: Iterable[ZclReading]) -> None:
        now = monotonic()
        budget = self._budgets[appliance.ieee]
        was_muted = budget.is_muted(now)
        readings = list(readings)
        for reading in readings:
            if budget.admits(reading.quantity, now):
                self._reading(appliance.client_id, reading.quantity, reading.text)
        self._holding.heard(appliance, readings)
        if budget.is_muted(now) and not was_muted:
            self._review_at = 0.0
        self._tell_withheld(appliance)

    def _tell_withheld(self, appliance: ZclAppliance) -> None:
        """What is withheld is told once; what was learned is saved a little later."""
        for quantity, why in appliance.withheld.items():
            if quantity not in appliance.told:
                appliance.told.add(quantity)
                appliance.changed = True
                told = {"client": appliance.client_id, "quantity": quantity, "reason": why}
                self._record_event("adapter.withheld", told)
                self._review_at = 0.0
        if appliance.changed and self._save_at is None:
            self._save_at = monotonic() + _SAVE_AFTER_S

    # Every second

    async def _tick(self) -> None:
        """Polls, interviews that are owed, conditions, what is to be saved. Ends with the radio's life."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = monotonic()
            try:
                self._poll(now)
                self._interview(now)
                self._tell_returned(now)
                self._holding.present((self._by_ieee[ieee], device) for ieee, device in self._devices.items())
                if now >= self._review_at:
                    self._review()
                if self._save_at is not None and now >= self._save_at:
                    await self.save()
            except Exception:
                log.exception("looking after the appliances")

    def _poll(self, now: float) -> None:
        """Ask the one appliance that has waited longest, at most once in POLL_SPACING_S."""
        if now < self._next_poll_at or len(self._polls) >= _POLLS_UNDER_WAY:
            return
        due: list[tuple[float, str, ClusterPlace]] = []
        for ieee in self._devices:
            appliance = self._by_ieee[ieee]
            if not appliance.is_read:
                continue
            for place in appliance.places:
                at = appliance.poll_due(place)
                if at <= now and (ieee, place) not in self._polling:
                    due.append((at, ieee, place))
        for _, ieee, place in sorted(due):
            appliance = self._by_ieee[ieee]
            attributes = appliance.to_poll(place, now)
            if not attributes:
                appliance.polled(place, now)
                continue
            self._next_poll_at = now + POLL_SPACING_S
            self._polling.add((ieee, place))
            task = asyncio.get_running_loop().create_task(self._ask(ieee, place, attributes), name=f"poll-{ieee}")
            self._polls.add(task)
            task.add_done_callback(self._polls.discard)
            return

    async def _ask(self, ieee: str, place: ClusterPlace, attributes: list[int]) -> None:
        appliance, device, answered = self._by_ieee[ieee], self._devices[ieee], False
        cluster = _cluster(device, place)
        application = self._application
        try:
            if cluster is not None and application is not None:
                async with application.request_priority(t.PacketPriority.LOW):
                    answer = await asking.read(cluster, attributes, retries=0)
                answered = True
                self._emit(appliance, appliance.take(place, answer.records, monotonic()))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.debug("polling %s: %r", appliance.client_id, error)
        finally:
            self._polling.discard((ieee, place))
        appliance.polled(place, monotonic(), answered=answered)

    def _interview(self, now: float) -> None:
        for ieee in self._interviews.take_due(now):
            device = None if self._application is None else self._application.device_of(ieee)
            if device is None:
                self._interviews.forget(ieee)
            elif not device.is_initialized and not device.initializing:
                device.schedule_initialize()

    def _review(self) -> None:
        """Conditions: who is muted, what is withheld, who cannot be interviewed."""
        now = monotonic()
        self._review_at = now + _REVIEW_S
        muted = [client_id_of(ieee) for ieee, budget in self._budgets.items() if budget.is_muted(now)]
        withheld = [
            f"{appliance.client_id} {quantity} ({why})"
            for appliance in self._by_ieee.values()
            for quantity, why in appliance.withheld.items()
        ]
        failing = [client_id_of(ieee) for ieee in self._interviews.failing()]
        for code, names in (
            ("adapter-babbles", muted),
            ("adapter-withheld", withheld),
            ("adapter-not-interviewed", failing),
        ):
            self._health.set_condition(code, bool(names), _few(names))

    async def save(self) -> None:
        """Make durable what was learned."""
        self._save_at = None
        for ieee, appliance in self._by_ieee.items():
            if appliance.changed:
                appliance.changed = False
                self._kept.records[ieee] = appliance.to_record()
        try:
            async with self._saving:  # one write at a time
                await asyncio.to_thread(self._kept.write, dict(self._kept.records))
        except OSError as error:  # with what is learned next, again
            log.warning("saving what is known of the appliances: %s", error)

    async def close(self) -> None:
        """The hub stops: what was learned last is saved."""
        self._holding.close()
        await self.switching.close()
        if self._save_at is not None or any(appliance.changed for appliance in self._by_ieee.values()):
            await self.save()

    def leave_alone(self, ieee: str) -> None:
        """It has a mirror now: a meter that sleeps and says by itself what there is to say."""
        self._stop_configuring(ieee)
        self._devices.pop(ieee, None)
        self._tell_at.pop(ieee, None)

    def forget(self, ieee: str) -> None:
        """It was removed from the network for good."""
        self._stop_configuring(ieee)
        self._interviews.forget(ieee)
        for table in (self._by_ieee, self._budgets, self._devices, self._told_at, self._tell_at):
            table.pop(ieee, None)
        self._waited_for.discard(ieee)
        self._holding.forget(ieee)
        if self._kept.records.pop(ieee, None) is not None:
            self._save_at = monotonic()

    # Questions and orders

    def rows(self) -> "list[AdapterRow]":
        """One row an appliance, with the columns of an MQTT-SN session."""
        now = monotonic()
        rows = []
        for ieee, appliance in self._by_ieee.items():
            if appliance.is_known:
                device, budget = self._devices.get(ieee), self._budgets[ieee]
                radio = {"lqi": getattr(device, "lqi", None), "rssi_dbm": getattr(device, "rssi", None)}
                more = {**radio, "muted": budget.is_muted(now), "dropped": budget.dropped}
                rows.append(cast("AdapterRow", {**appliance.row(now), **more}))
        return rows

    async def switch(self, client_id: str, on: bool) -> None:
        """Switch an appliance. Raises ValueError for one that cannot be, ConnectionError when it did not happen."""
        appliance, device = self.reachable(client_id)
        place = _switch_of(appliance)
        if place is None or _cluster(device, place) is None:
            raise ValueError(f"{client_id} has no switch")
        await self.switching.switch(SwitchPlace(appliance.ieee, place.endpoint), on)
        appliance.ask_soon(place)

    async def tell_switch(self, place: SwitchPlace, on: bool) -> None:
        """Tell one to switch itself. Raises ConnectionError when it did not."""
        appliance = self._by_ieee.get(place.ieee)
        cluster = self.cluster_at(place, ON_OFF)
        if appliance is None or cluster is None:
            raise ConnectionError(f"{client_id_of(place.ieee)} is not there")
        await order(appliance, lambda: cluster.command(_ON if on else _OFF))

    def cluster_at(self, place: SwitchPlace, cluster_id: int) -> Any:
        """zigpy's cluster of a device on the network, or None."""
        device = None if self._application is None else self._application.device_of(place.ieee)
        return None if device is None else _cluster(device, ClusterPlace(place.endpoint, cluster_id))

    def switches(self) -> Switches:
        """Who could be in a group that is switched, and who has nothing but a switch."""
        there, plain = list[SwitchPlace](), list[SwitchPlace]()
        devices = () if self._application is None else self._application.devices.values()
        for device in devices:
            if not isinstance(device, ZigbeeDevice) or device.nwk == self._coordinator_nwk:
                continue
            ieee = hex_of(device.ieee)
            for endpoint in device.non_zdo_endpoints:
                if GROUPS in endpoint.in_clusters and ON_OFF in endpoint.in_clusters:
                    there.append(SwitchPlace(ieee, int(endpoint.endpoint_id)))
                    if self._is_plain(ieee, device, endpoint):
                        plain.append(there[-1])
        return Switches(there, plain)

    @property
    def _coordinator_nwk(self) -> int:
        return 0 if self._application is None else int(self._application.state.node_info.nwk)

    def _is_plain(self, ieee: str, device: ZigbeeDevice, endpoint: Any) -> bool:
        """Whether it is switched there, hears broadcasts, and is held by nothing else: no level, no setpoint, no load
        control event."""
        appliance = self._by_ieee.get(ieee)
        if appliance is None or ieee not in self._devices or appliance.is_sleepy or appliance.exceptions.limit:
            return False
        place = _switch_of(appliance)
        takes_events = any(LOAD_CONTROL in each.out_clusters for each in device.non_zdo_endpoints)
        has_more = takes_events or LEVEL in endpoint.in_clusters
        is_of_home = endpoint.profile_id in (HOME_AUTOMATION, LIGHT_LINK)
        return place is not None and place.endpoint == endpoint.endpoint_id and is_of_home and not has_more

    async def limit(
        self, client_id: str, watts: float | None, duration_s: float, nominal_w: float | None = None
    ) -> float | None:
        """As Holding.limit (drivers/zigbee/holding.py)."""
        return await self._holding.limit(client_id, watts, duration_s, nominal_w)

    def reachable(self, client_id: str) -> tuple[ZclAppliance, ZigbeeDevice]:
        """Raises ValueError for none of ours, ConnectionError while the radio is down."""
        ieee = client_id.removeprefix(CLIENT_PREFIX)
        appliance = self._by_ieee.get(ieee)
        if appliance is None or not client_id.startswith(CLIENT_PREFIX):
            raise ValueError(f"no appliance {client_id!r}")
        device = self._devices.get(ieee)
        if device is None:
            raise ConnectionError("the radio is down")
        return appliance, device


def _switch_of(appliance: ZclAppliance) -> ClusterPlace | None:
    """Where an appliance is switched."""
    return next(
        (channel.place for channel in appliance.channels.values() if channel.quantity == "state"),
        next((place for place in appliance.places if place.cluster == ON_OFF), None),
    )


def _cluster(device: ZigbeeDevice, place: ClusterPlace) -> Cluster | None:
    endpoint = device.endpoints.get(place.endpoint)
    return None if endpoint is None else endpoint.in_clusters.get(place.cluster)


def _zcl_endpoints(device: ZigbeeDevice) -> list[Any]:
    return [endpoint for endpoint in device.non_zdo_endpoints if endpoint.profile_id in PROFILES]


def _basic_clusters(device: ZigbeeDevice) -> list[Any]:
    return [endpoint.in_clusters[BASIC] for endpoint in _zcl_endpoints(device) if BASIC in endpoint.in_clusters]


async def _texts_of(
    appliance: ZclAppliance, clusters: list[Any], attributes: list[int]
) -> dict[int, str | None] | None:
    """What the first of its Basic clusters that answers says of itself; None: no one did."""
    for cluster in clusters:
        try:
            answer = await asking.read(cluster, attributes, retries=0)
        except (TimeoutError, ZigbeeException) as error:
            log.debug("asking %s what it is: %r", appliance.client_id, error)
            continue
        return {record.attribute: record.text for record in answer.records}
    return None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
