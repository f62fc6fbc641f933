"""Load control devices on the radio: who is held, by which event, and what they said of it."""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from zigpy import types as t
from zigpy.device import ZigbeeDevice

from drivers.clock import monotonic
from drivers.zigbee import load_control
from drivers.zigbee.address import CLIENT_PREFIX, client_id_of, hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.frames import zcl_answer
from drivers.zigbee.smart_energy import ENDPOINT, PROFILE
from hub.core.records import Change, EventRecorded, RetainedSet, SubscriptionAdded, SubscriptionRemoved

log = logging.getLogger(__name__)

_SEND_S = 12.0
# How often it is looked for devices that have not said what they are; one that does not answer, more and more seldom.
_LOOK_S = 2.0
_ASK_MOST_S = 3600.0


class Loads:
    """It outlives the radio's applications. An event lasts as long as was ordered, and ends in the appliance itself.

    `observed(changes)`: what an MQTT-SN adapter would have said of itself: what it is (`about/{me}`), that it listens
    to its orders or does so no more, that its limit is off or its householder opted out. Only a device that says what
    it is (D.2.3.2.4) is announced. `reading(client_id, "limit", W)`: what it obeys, when it says so.
    """

    def __init__(
        self,
        record_event: Callable[[str, dict[str, Any]], Any],
        observed: Callable[[list[Change]], None],
        reading: Callable[[str, str, str], None],
    ) -> None:
        self._record_event = record_event
        self._observed = observed
        self._reading = reading
        self._watts: dict[str, float] = {}  # what the events under way are worth, where that is known
        self._classes: dict[str, str] = {}  # by IEEE address
        self._announced: set[str] = set()
        self._ask_at: dict[str, tuple[float, float]] = {}  # when it is asked again, and how long that was put off
        self._looking: asyncio.Task[None] | None = None
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._application: Application | None = None
        self._events: dict[str, load_control.Event] = {}  # by IEEE address; `ends_at` on the monotonic clock
        self._opted_out: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, application: Application) -> None:
        self._application = application
        self._ask_at.clear()
        self._looking = asyncio.get_running_loop().create_task(self._look(application), name="load-control-look")

    def detach(self) -> None:
        self._application = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for ieee in list(self._announced):
            self._withdraw(ieee)

    async def _look(self, application: Application) -> None:
        """Who is there, and what it is. It ends with the radio's life."""
        while True:
            present = {}
            for device in list(application.devices.values()):
                place = _endpoint_of(device)
                if place is not None:
                    present[hex_of(device.ieee)] = (device, place)
            for ieee in self._announced - present.keys():
                self._withdraw(ieee)
            for ieee, (device, endpoint) in present.items():
                if ieee in self._classes:
                    self._announce(ieee)
                else:
                    await self._ask(application, ieee, device, endpoint)
            await asyncio.sleep(_LOOK_S)

    async def _ask(self, application: Application, ieee: str, device: ZigbeeDevice, endpoint: Any) -> None:
        at, put_off_s = self._ask_at.get(ieee, (0.0, _LOOK_S))
        if monotonic() < at:
            return
        self._ask_at[ieee] = (monotonic() + put_off_s, min(2 * put_off_s, _ASK_MOST_S))
        try:
            await self._send(application, device, endpoint, load_control.read_device_class(self._tsn()))
        except ConnectionError as error:
            log.debug("%s", error)

    def _announce(self, ieee: str) -> None:
        name = self._classes.get(ieee)
        if name and ieee not in self._announced:
            self._announced.add(ieee)
            client_id = client_id_of(ieee)
            about = json.dumps({"class": name}).encode()
            self._observed(
                [RetainedSet(f"about/{client_id}", about, 0), SubscriptionAdded(client_id, f"control/{client_id}", 0)]
            )

    def _withdraw(self, ieee: str) -> None:
        self._announced.discard(ieee)
        client_id = client_id_of(ieee)
        self._observed([SubscriptionRemoved(client_id, f"control/{client_id}")])

    def can_hold(self, client_id: str) -> bool:
        """Whether this appliance takes load control events."""
        return self._place(client_id) is not None

    async def hold(self, client_id: str, share: float | None, duration_s: float, watts: float | None = None) -> None:
        """Hold an appliance to a share (0 to 1) of what it draws, for so long; None: let it go. `watts`: what that is.

        Raises ValueError for one that cannot be, ConnectionError when it did not hear of it.
        """
        found = self._place(client_id)
        if found is None:
            raise ValueError(f"{client_id} takes no load control events")
        application, device, endpoint = found
        ieee, now = hex_of(device.ieee), monotonic()
        before = self._events.pop(ieee, None)
        self._watts.pop(ieee, None)
        timer = self._ends.pop(ieee, None)
        if timer is not None:
            timer.cancel()
        if share is None:
            if before is not None and before.ends_at > now:
                await self._send(application, device, endpoint, load_control.cancel_event(before.event_id, self._tsn()))
                self._cleared(client_id)
            return
        # The same hold renewed is another event: it supersedes what it overlaps (D.2.2.3.1.1.1).
        event = load_control.event_of(secrets.randbits(31) | 1, now + duration_s, share)
        self._opted_out.discard(ieee)
        if watts is not None:
            self._watts[ieee] = watts
        self._events[ieee] = event  # its answer may be here before the frame's acknowledgement
        # An event counts whole minutes, and one begun is one too many: the hub takes it back in time, if it lives.
        loop = asyncio.get_running_loop()
        self._ends[ieee] = loop.call_later(duration_s, lambda: self._take_back(client_id, event))
        await self._send(application, device, endpoint, load_control.load_control_event(event, now, self._tsn()))

    def _take_back(self, client_id: str, event: load_control.Event) -> None:
        found = self._place(client_id)
        ieee = client_id.removeprefix(CLIENT_PREFIX)
        if found is None or self._events.get(ieee) != event:
            return
        del self._events[ieee]
        application, device, endpoint = found
        self._spawn(self._send(application, device, endpoint, load_control.cancel_event(event.event_id, self._tsn())))

    def heard(self, device: ZigbeeDevice, packet: t.ZigbeePacket, frame: bytes) -> None:
        """A load control device spoke (load_control.is_of_client)."""
        ieee, now = hex_of(device.ieee), monotonic()
        if load_control.is_device_class(frame):
            name = load_control.device_class_of(frame)
            self._classes[ieee] = name
            if not name:
                log.info("%s does not say what it switches: it is not held by the plan", client_id_of(ieee))
            self._announce(ieee)
            return
        report = load_control.report_of(frame)
        event = self._events.get(ieee)
        if report is not None and event is not None and report.event_id == event.event_id:
            if report.status == load_control.OPT_OUT and ieee not in self._opted_out:
                self._opted_out.add(ieee)
                said = {"client": client_id_of(ieee)}
                self._record_event("limit.opted_out", said)
                self._observed([EventRecorded("limit.opted_out", said)])
            elif report.status == load_control.STARTED and ieee in self._watts:
                self._reading(client_id_of(ieee), "limit", f"{self._watts[ieee]:.0f}")
            elif report.status == load_control.COMPLETED:
                self._cleared(client_id_of(ieee))
            elif report.status in load_control.REJECTED:
                log.warning("%s refuses a load control event: 0x%02x", client_id_of(ieee), report.status)
        place = (int(packet.profile_id), load_control.CLUSTER, int(packet.dst_ep or 0), int(packet.src_ep or 0))
        application = self._application
        assert packet.src is not None
        if application is not None:
            for answer in load_control.answers(frame, event, now):
                frame_back = zcl_answer(packet.src, place, application.get_sequence(), answer)
                self._spawn(application.send_packet(frame_back))

    def _cleared(self, client_id: str) -> None:
        """It obeys nothing any more: as the empty `readings/limit` of an adapter."""
        self._observed([EventRecorded("adapter.limit_cleared", {"client": client_id})])

    def _spawn(self, sending: Coroutine[Any, Any, Any]) -> None:
        async def send() -> None:
            try:
                await sending
            except Exception as error:  # it will ask again, or its event ends by itself
                log.debug("load control: %r", error)

        task = asyncio.get_running_loop().create_task(send(), name="load-control")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tsn(self) -> int:
        return 0 if self._application is None else int(self._application.get_sequence())

    def _place(self, client_id: str) -> tuple[Application, ZigbeeDevice, Any] | None:
        application = self._application
        device = None if application is None else application.device_of(client_id.removeprefix(CLIENT_PREFIX))
        if application is None or device is None or not client_id.startswith(CLIENT_PREFIX):
            return None
        endpoint = _endpoint_of(device)
        return None if endpoint is None else (application, device, endpoint)

    @staticmethod
    async def _send(application: Application, device: ZigbeeDevice, endpoint: Any, frame: bytes) -> None:
        ours = ENDPOINT if endpoint.profile_id == PROFILE else 1
        place = (int(endpoint.profile_id or 0), load_control.CLUSTER, ours, int(endpoint.endpoint_id))
        address = t.AddrModeAddress(t.AddrMode.NWK, device.nwk)
        try:
            async with asyncio.timeout(_SEND_S):
                await application.send_packet(zcl_answer(address, place, application.get_sequence(), frame))
        except Exception as error:
            raise ConnectionError(f"{client_id_of(hex_of(device.ieee))} does not answer: {error!r}") from None


def _endpoint_of(device: ZigbeeDevice) -> Any:
    """Where a device takes load control events, or None."""
    return next((e for e in device.non_zdo_endpoints if load_control.CLUSTER in e.out_clusters), None)
