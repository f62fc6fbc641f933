"""Load control devices on the radio: who is held, by which event, and what they said of it."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any

from zigpy import types as t
from zigpy.device import ZigbeeDevice

from drivers.clock import monotonic
from drivers.zigbee import load_control
from drivers.zigbee.address import CLIENT_PREFIX, client_id_of, hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.frames import zcl_answer
from drivers.zigbee.smart_energy import ENDPOINT, PROFILE

log = logging.getLogger(__name__)

_SEND_S = 12.0


class Loads:
    """It outlives the radio's applications. An event lasts as long as was ordered, and ends in the appliance itself."""

    def __init__(self, record_event: Callable[[str, dict[str, Any]], Any]) -> None:
        self._record_event = record_event
        self._application: Application | None = None
        self._events: dict[str, load_control.Event] = {}  # by IEEE address; `ends_at` on the monotonic clock
        self._opted_out: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, application: Application) -> None:
        self._application = application

    def detach(self) -> None:
        self._application = None

    def can_hold(self, client_id: str) -> bool:
        """Whether this appliance takes load control events."""
        return self._place(client_id) is not None

    async def hold(self, client_id: str, share: float | None, duration_s: float) -> None:
        """Hold an appliance to a share (0 to 1) of what it draws, for so long; None: let it go.

        Raises ValueError for one that cannot be, ConnectionError when it did not hear of it.
        """
        found = self._place(client_id)
        if found is None:
            raise ValueError(f"{client_id} takes no load control events")
        application, device, endpoint = found
        ieee, now = hex_of(device.ieee), monotonic()
        before = self._events.pop(ieee, None)
        if share is None:
            if before is not None and before.ends_at > now:
                await self._send(application, device, endpoint, load_control.cancel_event(before.event_id, self._tsn()))
            return
        # The same hold renewed is another event: it supersedes what it overlaps (D.2.2.3.1.1.1).
        event = load_control.event_of(secrets.randbits(31) | 1, now + duration_s, share)
        self._opted_out.discard(ieee)
        self._events[ieee] = event  # its answer may be here before the frame's acknowledgement
        await self._send(application, device, endpoint, load_control.load_control_event(event, now, self._tsn()))

    def heard(self, device: ZigbeeDevice, packet: t.ZigbeePacket, frame: bytes) -> None:
        """A load control device spoke (load_control.is_of_client)."""
        ieee, now = hex_of(device.ieee), monotonic()
        report = load_control.report_of(frame)
        event = self._events.get(ieee)
        if report is not None and event is not None and report.event_id == event.event_id:
            if report.status == load_control.OPT_OUT and ieee not in self._opted_out:
                self._opted_out.add(ieee)
                self._record_event("limit.opted_out", {"client": client_id_of(ieee)})
            elif report.status in load_control.REJECTED:
                log.warning("%s refuses a load control event: 0x%02x", client_id_of(ieee), report.status)
        place = (int(packet.profile_id), load_control.CLUSTER, int(packet.dst_ep or 0), int(packet.src_ep or 0))
        application = self._application
        assert packet.src is not None
        if application is not None:
            for said in load_control.answers(frame, event, now):
                self._spawn(application, zcl_answer(packet.src, place, application.get_sequence(), said))

    def _spawn(self, application: Application, frame: t.ZigbeePacket) -> None:
        async def send() -> None:
            try:
                await application.send_packet(frame)
            except Exception as error:  # it will ask again
                log.debug("to %s: %r", frame.dst, error)

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
        for endpoint in device.non_zdo_endpoints:
            if load_control.CLUSTER in endpoint.out_clusters:
                return application, device, endpoint
        return None

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
