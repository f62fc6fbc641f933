"""Smart Energy displays on the radio: they are told the price when it changes, and whenever they ask."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from zigpy import types as t
from zigpy.device import ZigbeeDevice

from drivers.zigbee.application import Application
from drivers.zigbee.frames import zcl_answer
from drivers.zigbee.smart_energy import ENDPOINT, NO_PRICES, PRICE, PROFILE, PriceTable, announcement, answers

log = logging.getLogger(__name__)

_WAITING_MOST = 64  # answers under way: a display that asks without end must not have the radio


class Displays:
    """It outlives the radio's applications. `utc`: UTC epoch seconds, or None while the clock is not trustworthy."""

    def __init__(self, utc: Callable[[], float | None]) -> None:
        self._utc = utc
        self._table = NO_PRICES
        self._application: Application | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.counters = {"questions": 0, "prices_told": 0}

    def attach(self, application: Application) -> None:
        self._application = application
        self._announce()

    def detach(self) -> None:
        self._application = None
        for task in self._tasks:
            task.cancel()

    def tell(self, table: PriceTable) -> None:
        """These prices count from now on, or another step of them has begun: the same table keeps its event id."""
        if table[:2] != self._table[:2]:
            self._table = table
        self._announce()

    def question(self, packet: t.ZigbeePacket) -> None:
        """A device asks (smart_energy.is_question)."""
        if self._application is None or len(self._tasks) >= _WAITING_MOST:
            return
        self.counters["questions"] += 1
        frames = answers(int(packet.cluster_id), packet.data.serialize(), self._table, self._utc())
        place = (int(packet.profile_id), int(packet.cluster_id), int(packet.dst_ep or 0), int(packet.src_ep or 0))
        assert packet.src is not None
        self._spawn(self._send(self._application, packet.src, place, frames))

    def _announce(self) -> None:
        application = self._application
        if application is None:
            return
        for device in application.devices.values():
            frame = announcement(self._table, self._utc(), application.get_sequence())
            if frame is None or not isinstance(device, ZigbeeDevice):
                continue
            for endpoint in device.non_zdo_endpoints:
                if PRICE in endpoint.out_clusters:
                    place = (int(endpoint.profile_id or 0), PRICE, _our_endpoint(endpoint), endpoint.endpoint_id)
                    address = t.AddrModeAddress(t.AddrMode.NWK, device.nwk)
                    self._spawn(self._send(application, address, place, [frame]))
                    self.counters["prices_told"] += 1

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="zigbee-display")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(
        self, application: Application, to: t.AddrModeAddress, place: tuple[int, int, int, int], frames: list[bytes]
    ) -> None:
        for frame in frames:
            try:
                await application.send_packet(zcl_answer(to, place, application.get_sequence(), frame))
            except Exception as error:  # it is away or asleep: it will ask again
                log.debug("to display %s: %r", to, error)
                return


def _our_endpoint(endpoint: Any) -> int:
    return ENDPOINT if endpoint.profile_id == PROFILE else 1
