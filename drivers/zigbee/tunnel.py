"""MQTT-SN in APS data frames: one message a frame, on a profile, cluster and endpoint of its own."""

import asyncio
import logging
from typing import Protocol

from zigpy import types as t

from drivers.clock import monotonic
from drivers.link import Arrived, Datagrams
from drivers.zigbee.duplicates import Duplicates
from drivers.zigbee.frames import Preset
from drivers.zigbee.outbox import AirQueue

log = logging.getLogger(__name__)

# What fits one APS frame without fragmentation, network security and a source route of several hops counted.
MAX_BYTES = 60
EVERYBODY = "*"
ATTEMPTS = 2  # MQTT-SN retransmits by itself
_RETRY_DELAY_S = 0.1
# Every router keeps a broadcast for nine seconds in a table of eight (Zigbee R22, nwkNetworkBroadcastDeliveryTime).
_BROADCAST_SPACING_S = 1.0


PRESETS = {
    "native": Preset(0xC53A, 0x4D51, 0xE9),
    # The data endpoint of Digi XBee modules in transparent or API mode (Digi 90001539).
    "digi": Preset(0xC105, 0x0011, 0xE8),
}


class Air(Protocol):
    """What the tunnel needs of the radio's application."""

    def unicast(self, ieee: str, data: bytes) -> t.ZigbeePacket | None:
        """The frame for a device (16 hex digits), or None when it cannot be reached."""

    def broadcast_frame(self, data: bytes) -> t.ZigbeePacket:
        """The frame for everybody."""

    async def send_packet(self, packet: t.ZigbeePacket) -> None:
        """Put it on the air and wait for the acknowledgement. Raises TimeoutError, DeliveryError and worse."""


class Tunnel:
    """Datagrams in and out. It outlives the radio's applications: `attach` and `detach` say which one there is."""

    def __init__(self) -> None:
        self.counters = {"frames_in": 0, "frames_out": 0, "dropped": 0, "failed": 0, "retries": 0, "too_long": 0}
        self._arrived: Arrived | None = None
        self._arrivals: Datagrams = []
        self._duplicates = Duplicates()
        self._outbox = AirQueue()
        self._air: Air | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def open(self, arrived: Arrived) -> None:
        self._arrived = arrived

    def attach(self, air: Air) -> None:
        """There is a network: what waits goes out."""
        self._air = air
        self._pump()

    def detach(self) -> None:
        """The radio is gone; what is queued waits for the next one, but not for long (Outbox)."""
        self._air = None
        for task in self._sending:
            task.cancel()

    def status(self) -> dict[str, int]:
        """Figures since the start; `dropped` has all frames that were never tried."""
        return self.counters | {
            "dropped": self.counters["dropped"] + self._outbox.dropped,
            "duplicates": self._duplicates.count,
            "waiting": len(self._outbox),
        }

    def queue_age_s(self) -> float:
        """How long the frame that waits longest has waited."""
        return round(self._outbox.oldest_s(monotonic()), 1)

    def kept_s(self) -> float:
        """How long a frame has waited for the radio alone."""
        return self._outbox.kept_s(monotonic())

    # Inwards

    def receive(self, ieee: str, packet: t.ZigbeePacket, now: float) -> None:
        """A frame of the tunnel from a device that is served. What one wake-up brings is handed on together."""
        data = packet.data.serialize()
        if self._arrived is None or not data or self._duplicates.is_duplicate(ieee, packet.tsn or 0, data, now):
            return
        self.counters["frames_in"] += 1
        if not self._arrivals:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._arrivals.append((("zigbee", ieee), data))

    def _deliver(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        if self._arrived is not None:
            self._arrived(arrivals)

    # Outwards

    def send(self, datagrams: Datagrams) -> None:
        """Queue datagrams; never raises, never waits."""
        now = monotonic()
        for peer, data in datagrams:
            if len(data) > MAX_BYTES:
                self.counters["too_long"] += 1
                self.counters["dropped"] += 1
            else:
                self._outbox.put(str(peer[1]), data, now)
        self._pump()

    def _pump(self) -> None:
        while self._air is not None:
            found = self._outbox.take(monotonic())
            if found is None:
                return
            task = asyncio.get_running_loop().create_task(self._send(self._air, *found), name="zigbee-send")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, air: Air, address: str, data: bytes) -> None:
        try:
            packet = air.broadcast_frame(data) if address == EVERYBODY else air.unicast(address, data)
            if packet is None:
                self.counters["dropped"] += 1
            elif await self._attempt(air, packet):
                self.counters["frames_out"] += 1
            else:
                self.counters["failed"] += 1
            if address == EVERYBODY:
                await asyncio.sleep(_BROADCAST_SPACING_S)
        finally:
            self._outbox.done(address)
            asyncio.get_running_loop().call_soon(self._pump)

    async def _attempt(self, air: Air, packet: t.ZigbeePacket) -> bool:
        for attempt in range(ATTEMPTS):
            if attempt:
                self.counters["retries"] += 1
                await asyncio.sleep(_RETRY_DELAY_S)
            try:
                await air.send_packet(packet)
                return True
            except TimeoutError:
                # It waited seconds for the radio's verdict: a second attempt would come after the adapter's own.
                return False
            except Exception as error:  # DeliveryError; AttributeError and others when the port has just gone
                log.debug("to %s: %r", packet.dst, error)
        return False
