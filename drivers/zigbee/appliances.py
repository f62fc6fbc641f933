"""ZCL appliances: plugs and meters that speak no MQTT-SN. Interviewed by zigpy; bound, read and switched here."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from zigpy.device import ZigbeeDevice
from zigpy.exceptions import ZigbeeException
from zigpy.zcl import AttributeReportedEvent, Cluster
from zigpy.zcl.foundation import Status

from drivers.clock import monotonic
from drivers.zigbee.address import CLIENT_PREFIX, client_id_of, hex_of
from drivers.zigbee.appliance import Appliance
from drivers.zigbee.application import Application
from drivers.zigbee.measures import CLUSTERS, ON_OFF
from drivers.zigbee.reporting import configure

log = logging.getLogger(__name__)

Reading = Callable[[str, str, str], None]
RecordEvent = Callable[[str, dict[str, Any]], Any]

# An appliance that does not answer now (asleep, switched off at the wall) is tried again; the last one for good.
RETRY_S = (2.0, 10.0, 60.0, 600.0, 3600.0)
_AT_A_TIME = 2
_SWITCH_TIMEOUT_S = 12.0


class Appliances:
    """All ZCL appliances of the home. It outlives the radio's applications: `attach` and `detach` say which there is.

    `reading(client_id, quantity, text)` gets every value as decimal text in the hub's units (design 3.2).
    """

    def __init__(self, reading: Reading, record_event: RecordEvent) -> None:
        self._reading = reading
        self._record_event = record_event
        self._by_ieee: dict[str, Appliance] = {}
        self._application: Application | None = None
        self._turn = asyncio.Semaphore(_AT_A_TIME)

    def attach(self, application: Application) -> None:
        """There is a network: take up its devices, and hear of new ones."""
        self._application = application
        application.add_listener(self)
        for device in list(application.devices.values()):
            if isinstance(device, ZigbeeDevice) and device.nwk != application.state.node_info.nwk:
                self._take_up(device)

    def detach(self) -> None:
        """The radio is gone."""
        if self._application is not None:
            self._application.remove_listener(self)
            self._application = None
        for appliance in self._by_ieee.values():
            appliance.let_go()

    # What zigpy tells (the names are its own; whatever is raised here, it swallows)

    def raw_device_initialized(self, device: ZigbeeDevice) -> None:
        """A device was interviewed for the first time."""
        if _clusters(device):
            self._record_event("adapter.joined", {"client": client_id_of(hex_of(device.ieee)), "link": "zigbee"})

    def device_initialized(self, device: ZigbeeDevice) -> None:
        """A device is interviewed, or came back: it may have forgotten its bindings."""
        self._take_up(device)

    def device_left(self, device: ZigbeeDevice) -> None:
        appliance = self._by_ieee.get(hex_of(device.ieee))
        if appliance is not None:
            appliance.left()
            self._record_event("adapter.left", {"client": appliance.client_id, "reason": "left the network"})

    def handle_message(self, device: ZigbeeDevice, *_frame: Any) -> None:
        """A frame of a known device that is not the tunnel's."""
        appliance = self._by_ieee.get(hex_of(device.ieee))
        if appliance is not None:
            appliance.heard(monotonic())

    # Reports

    def _take_up(self, device: ZigbeeDevice) -> None:
        clusters = _clusters(device)
        if not clusters or self._application is None:
            return
        ieee = hex_of(device.ieee)
        appliance = self._by_ieee.setdefault(ieee, Appliance(ieee))
        appliance.take_up(device)

        def reported(event: AttributeReportedEvent) -> None:
            self._take(appliance, event.cluster_id, event.attribute_name, event.value)

        for cluster in clusters:
            appliance.on_release(cluster.on_event(AttributeReportedEvent.event_type, reported))
        task = asyncio.get_running_loop().create_task(self._configure(appliance, clusters), name=f"configure-{ieee}")
        appliance.on_release(task.cancel)

    async def _configure(self, appliance: Appliance, clusters: list[Cluster]) -> None:
        tries = 0
        while True:
            try:
                async with self._turn:
                    for cluster_id, values in (await configure(clusters, appliance.sources)).items():
                        for name, value in values.items():
                            self._take(appliance, cluster_id, name, value)
                return
            except Exception as error:  # it does not answer, refuses, or answers nonsense
                log.debug("configuring %s: %r", appliance.client_id, error)
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    def _take(self, appliance: Appliance, cluster_id: int, name: str | None, value: Any) -> None:
        found = appliance.value_of(cluster_id, name, value)
        if found is not None:
            self._reading(appliance.client_id, *found)

    # Questions and orders

    def rows(self) -> list[dict[str, Any]]:
        """One row an appliance, with the columns of an MQTT-SN session."""
        now = monotonic()
        return [appliance.row(now) for appliance in self._by_ieee.values()]

    async def switch(self, client_id: str, on: bool) -> None:
        """Switch an appliance. Raises ValueError for one that cannot be, ConnectionError when it did not happen."""
        appliance = self._by_ieee.get(client_id.removeprefix(CLIENT_PREFIX))
        device = appliance.device if appliance is not None else None
        if appliance is None or not client_id.startswith(CLIENT_PREFIX):
            raise ValueError(f"no appliance {client_id!r}")
        if device is None:
            raise ConnectionError("the radio is down")
        cluster = next((cluster for cluster in _clusters(device) if cluster.cluster_id == ON_OFF), None)
        if cluster is None:
            raise ValueError(f"{client_id} has no switch")
        appliance.frames_out += 1
        try:
            async with asyncio.timeout(_SWITCH_TIMEOUT_S):
                answer = await cluster.command(0x01 if on else 0x00)
        except (TimeoutError, ZigbeeException, AttributeError) as error:
            raise ConnectionError(f"{client_id} does not answer: {error!r}") from None
        status = getattr(answer, "status", Status.SUCCESS)
        if status != Status.SUCCESS:
            raise ConnectionError(f"{client_id} refuses: {status!r}")


def _clusters(device: ZigbeeDevice) -> list[Cluster]:
    """The clusters that make a device an appliance, the first of each kind."""
    found: dict[int, Cluster] = {}
    for endpoint in device.non_zdo_endpoints:
        for cluster_id in CLUSTERS & set(endpoint.in_clusters):
            found.setdefault(cluster_id, endpoint.in_clusters[cluster_id])
    return list(found.values())
