"""Smart Energy displays on the radio: they are told the price when it changes, and whenever they ask."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from zigpy import types as t

from drivers.clock import monotonic
from drivers.zigbee import messaging
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
        self.counters = {"questions": 0, "prices_told": 0, "messages_told": 0}
        self._message: messaging.DisplayText | None = None

    def attach(self, application: Application) -> None:
        self._application = application
        self._announce()
        if self._message is not None and self._message.applies(monotonic()):
            self._say(self._message)

    def detach(self) -> None:
        self._application = None
        for task in self._tasks:
            task.cancel()

    def tell(self, table: PriceTable) -> None:
        """These prices count from now on, or another step of them has begun: the same table keeps its event id."""
        if table[:2] != self._table[:2]:
            self._table = table
        self._announce()

    def show(self, text: str, message_id: int, duration_s: float | None) -> None:
        """This is to be read on every display for so long (None: until something else is): in place of what was."""
        self._message = messaging.DisplayText(
            message_id, text, None if duration_s is None else monotonic() + duration_s
        )
        self._say(self._message)

    def take_back(self) -> None:
        """What was to be read counts no more."""
        message, self._message = self._message, None
        if message is not None and message.applies(monotonic()):
            self._tell_all(messaging.CLUSTER, lambda tsn: messaging.cancel_message(message.message_id, tsn))

    def _say(self, message: messaging.DisplayText) -> None:
        told = self._tell_all(messaging.CLUSTER, lambda tsn: messaging.display_message(message, monotonic(), tsn))
        self.counters["messages_told"] += told

    def question(self, packet: t.ZigbeePacket) -> None:
        """A device asks (smart_energy.is_question, messaging.is_question)."""
        if self._application is None or len(self._tasks) >= _WAITING_MOST:
            return
        self.counters["questions"] += 1
        if packet.cluster_id == messaging.CLUSTER:
            frames = messaging.answers(packet.data.serialize(), self._message, monotonic())
        else:
            frames = answers(int(packet.cluster_id), packet.data.serialize(), self._table, self._utc())
        place = (int(packet.profile_id), int(packet.cluster_id), int(packet.dst_ep or 0), int(packet.src_ep or 0))
        assert packet.src is not None
        self._spawn(self._send(self._application, packet.src, place, frames))

    def _announce(self) -> None:
        table, utc = self._table, self._utc()
        self.counters["prices_told"] += self._tell_all(PRICE, lambda tsn: announcement(table, utc, tsn))

    def _tell_all(self, cluster_id: int, frame_of: Callable[[int], bytes | None]) -> int:
        """Send a frame to every device that is a client of this cluster; to how many."""
        application, told = self._application, 0
        if application is None:
            return 0
        for device, endpoint in application.clients_of(cluster_id):
            frame = frame_of(application.get_sequence())
            if frame is not None:
                place = (int(endpoint.profile_id or 0), cluster_id, _our_endpoint(endpoint), endpoint.endpoint_id)
                address = t.AddrModeAddress(t.AddrMode.NWK, device.nwk)
                self._spawn(self._send(application, address, place, [frame]))
                told += 1
        return told

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
