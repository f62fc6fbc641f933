"""The radio's application: bellows' one, which serves only members, routes the tunnel, and keeps the door shut.

It overrides where zigpy would trust anybody that answers, broadcast a question per unknown frame, or leave the
well-known key in the radio after every start.
"""

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import bellows.ash
import bellows.ezsp.protocol
import bellows.zigbee.application
import zigpy.application
from zigpy import types as t
from zigpy.backups import NetworkBackup
from zigpy.device import ZigbeeDevice
from zigpy.endpoint import Endpoint
from zigpy.endpoint import Status as EndpointStatus
from zigpy.exceptions import DeliveryError, InvalidResponse
from zigpy.zcl import ClusterType
from zigpy.zdo import types as zdo_t

from drivers.clock import monotonic
from drivers.zigbee import fragments, messaging
from drivers.zigbee.address import hex_of, ieee_of
from drivers.zigbee.background import background, give_way
from drivers.zigbee.channel import ClusterPlace
from drivers.zigbee.duplicates import Duplicates
from drivers.zigbee.frames import (
    FIRST_RESERVED_NWK,
    HOME_AUTOMATION,
    LIGHT_LINK,
    NO_NWK,
    SMART_ENERGY,
    Preset,
    as_home_automation,
    ieee_addr_req,
    is_introduction,
    is_match_of_smart_energy,
    loopback,
    nwk_of,
    tunnel_broadcast,
    tunnel_unicast,
    zcl_answer,
)
from drivers.zigbee.load_control import is_of_client
from drivers.zigbee.patience import patient_timeout
from drivers.zigbee.smart_energy import ENDPOINT as SMART_ENERGY_ENDPOINT
from drivers.zigbee.smart_energy import MIRROR_ENDPOINTS
from drivers.zigbee.smart_energy import is_question as is_question_of_price
from drivers.zigbee.strangers import Strangers
from hub.wire.zigbee import mirror, ota, zcl

log = logging.getLogger(__name__)

fragments.put_together()
give_way()

# The trust centre's key of the open join: everybody knows it (Zigbee R22, 4.4.1.2), so it lives as long as the window.
_WELL_KNOWN_KEY = t.KeyData(b"ZigBeeAlliance09")
_ANY_IEEE = t.EUI64.convert("ff:ff:ff:ff:ff:ff:ff:ff")
_NO_IEEE = t.EUI64.convert("00:00:00:00:00:00:00:00")
_POLICY_ALLOW_JOINS = 0x03  # ALLOW_JOINS | ALLOW_UNSECURED_REJOINS (EzspDecisionBitmask, EZSP 8 and later)
_POLICY_INSTALL_CODES = 0x10  # JOINS_USE_INSTALL_CODE_KEY
_POLICY_REJOINS = 0x02  # ALLOW_UNSECURED_REJOINS: under their own link key, devices that missed a new network key
_WINDOW_GRACE_S = 2.0
# A new network key is used once it has spread: a broadcast lives for 9 s (Zigbee R22, nwkNetworkBroadcastDeliveryTime),
# and a parent keeps its child's message for 7.7 s. Who missed it has a day to ask for it.
KEY_SPREAD_S, REJOINS_S = 20.0, 86_400.0
_MOVE_S = 60.0

# A radio is alive when it sends: so often it sends a frame to itself, which costs no air, and has so long for it. Asked
# twice, a death is noticed within 11 s.
WATCHDOG_PERIOD_S = 5
_LOOPBACK_S = 3.0
# zigpy commits what it has before it closes: as long as SQLite waits for somebody else's lock, and a slow disk's sync.
_CLOSE_DATABASE_S = 10.0
_LOOPBACKS = 2
# bellows gives a command ten seconds, and a radio that is being started would be waited for as long.
bellows.ezsp.protocol.EZSP_CMD_TIMEOUT = 3
# Its limits are the radio's, not a slow machine's.
for _module in (bellows.ash, bellows.ezsp.protocol, bellows.zigbee.application):
    _module.asyncio_timeout = patient_timeout
_LAST_SEEN_PERIOD_S = 60.0
_OTA, _BASIC = 0x0019, 0x0000
_COORDINATOR_NWK = 0x0000
_ZCL_PROFILES = (HOME_AUTOMATION, LIGHT_LINK, SMART_ENERGY)
# Acknowledgements of reports under way: a device that babbles must not have the radio.
_ANSWERS_MOST = 16
_ZONE_ID = 0

_t: Any = t  # zigpy's integers carry no annotations of their constructors


class Observer(Protocol):
    """Whoever owns the application."""

    preset: Preset

    def admits(self, ieee: str, *, has_joined: bool) -> bool:
        """Whether this device may be served. `has_joined`: it was given the network's key just now."""

    def joined(self, ieee: str) -> None:
        """A device that may be served is on the network, new or again."""

    def returned(self, device: ZigbeeDevice) -> None:
        """A device that is known says that it is there, under the address that it had."""

    def datagram(self, ieee: str, packet: t.ZigbeePacket, now: float) -> None:
        """A frame of the tunnel arrived."""

    def question(self, packet: t.ZigbeePacket) -> None:
        """A device asks for the price or the time."""

    def spontaneous(self, device: ZigbeeDevice, place: ClusterPlace, header: zcl.Header, body: bytes) -> None:
        """A device reports, or one of its IAS zones speaks."""

    def is_owed(self, device: ZigbeeDevice) -> bool:
        """Whether a sleeping device that checks in had better stay awake: there is something to ask or tell it."""

    def load_control(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        """A load control device speaks of an event."""

    def mirror(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        """A meter that sleeps asks for a mirror or reports to it, or somebody reads one."""

    def firmware(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        """A device asks for firmware."""

    def delivery(self, ieee: str, is_delivered: bool) -> None:
        """A frame for this device was acknowledged, or was not."""

    def frame(self, way: str, packet: t.ZigbeePacket, device: ZigbeeDevice | None) -> None:
        """A frame comes ("in") from, or goes ("out") to a device; None where it is not known, or everybody."""

    def network_changed(self, application: "Application") -> None:
        """The radio's stack took another PAN id or channel by itself; `application.state` has it."""

    def count(self, what: str) -> None:
        """Something happened that is only counted: "malformed", "refused", "address_conflicts"."""


def _forget_broken_frames() -> None:
    """Let go of earlier lives: bellows breaks off every pending frame with one and the same exception object.

    It is the default of an argument, so its traceback grows with each loss of the radio and keeps all that was running.
    """
    for default in bellows.ash.AshProtocol._cancel_pending_data_frames.__defaults__ or ():
        if isinstance(default, BaseException):
            default.__traceback__ = default.__context__ = None


def _is_question(cluster_id: int, frame: bytes) -> bool:
    """Whether a display asks something: the price, the time, the last message."""
    return is_question_of_price(cluster_id, frame) or messaging.is_question(cluster_id, frame)


def _is_for_mirror(packet: t.ZigbeePacket, frame: bytes) -> bool:
    """Whether a frame is about the mirrors of meters that sleep (Smart Energy, annex D.3), or for one."""
    if packet.profile_id != SMART_ENERGY:
        return False
    cluster_id, parsed = int(packet.cluster_id), zcl.parse(frame)
    if packet.dst_ep in MIRROR_ENDPOINTS:
        is_report = cluster_id == mirror.METERING and parsed is not None and parsed[0].is_report
        is_read = cluster_id == mirror.METERING and mirror.is_read(cluster_id, frame)
        return is_report or is_read or mirror.is_of_meter(cluster_id, frame)
    is_for_interface = packet.dst_ep == SMART_ENERGY_ENDPOINT
    is_asked = cluster_id == mirror.BASIC and mirror.is_read(cluster_id, frame)
    return is_for_interface and (is_asked or mirror.is_of_meter(cluster_id, frame))


class RadioRefuses(Exception):
    """The radio answers, and sends nothing."""


class HubEndpoint(Endpoint):
    """An endpoint that may be left out: what goes wrong in one is no reason to know nothing of the others."""

    async def initialize(self) -> None:
        try:
            await super().initialize()
        except InvalidResponse:  # it is listed and does not exist
            self.status = EndpointStatus.ENDPOINT_INACTIVE
        except (TimeoutError, DeliveryError):
            others = [other for other in self.device.non_zdo_endpoints if other.status == EndpointStatus.ZDO_INIT]
            if not others or not getattr(self.device, "interviews_failed", 0):
                raise
            self.status = EndpointStatus.ENDPOINT_INACTIVE


class HubDevice(ZigbeeDevice):
    """A device that is asked only for what the hub uses: no firmware version, no groups.

    Some answer neither, and zigpy's interview ends in failure at the first question without an answer.
    """

    interviews_failed = 0

    def add_endpoint(self, endpoint_id: int) -> Endpoint:
        endpoint = self.endpoints[endpoint_id] = HubEndpoint(self, endpoint_id)
        return endpoint

    async def request(self, profile: Any, cluster: Any, *args: Any, **kwargs: Any) -> Any:
        if cluster == _BASIC and self.initializing:
            kwargs["retries"] = 0  # who it is can be asked again (appliances.py); a mute cluster costs half a minute
        return await super().request(profile, cluster, *args, **kwargs)

    def find_cluster(self, cluster_id: int, cluster_type: ClusterType = ClusterType.Server) -> Any:
        if cluster_id == _OTA:
            raise ValueError("firmware comes by other ways")
        return super().find_cluster(cluster_id, cluster_type)

    def schedule_group_membership_scan(self) -> asyncio.Task[Any]:
        """zigpy's own groups are not used (switching.py has its own, and asks itself): nothing is asked."""
        return asyncio.get_running_loop().create_task(asyncio.sleep(0))


class Application(bellows.zigbee.application.ControllerApplication):  # type: ignore[misc]
    """One life of the radio: from opening the port to its loss. `lost` is done when it ends, with the reason."""

    _watchdog_period = WATCHDOG_PERIOD_S
    _dblistener: Any

    def __init__(self, config: dict[str, Any], observer: Observer) -> None:
        super().__init__(config)
        _forget_broken_frames()
        self.observer = observer
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.forms_anew = False  # whatever network the radio has: form another
        self.formed = False
        self.rewritten = False
        self._strangers: Strangers[t.ZigbeePacket] = Strangers()
        self._duplicates = Duplicates()
        self._answers = 0
        self._own_frames = 0
        self._joining: set[t.EUI64] = set()
        self._is_proved = False
        self._sent_at = float("-inf")  # when a frame last got through
        self._window_lock = asyncio.Lock()
        self._long = asyncio.Lock()  # a device has memory for one message in fragments
        self._reading = asyncio.Lock()  # one reads the whole of the radio at a time
        self._window: asyncio.Task[None] | None = None
        self.rejoins_until = float("-inf")  # until then whoever missed a new network key is let back

    async def connect(self) -> None:
        await super().connect()
        self._ezsp.xncp_prepare_unicast = fragments.one_by_one(self._ezsp.xncp_prepare_unicast)

    async def load_network_info(self, *, load_devices: bool = False) -> None:
        """As bellows'. With its tables it is hundreds of commands, which nobody waits for but a backup."""
        if not load_devices:
            await super().load_network_info(load_devices=False)
            return
        async with self._reading:
            with background():
                await super().load_network_info(load_devices=True)

    async def open_database(self) -> None:
        """Load the devices. Raises sqlite3.Error, OSError, or whatever a damaged row provokes; nothing stays open."""
        loading = asyncio.ensure_future(self._load_db())
        try:
            await asyncio.shield(loading)
        except BaseException:
            # Cut off in the middle, zigpy would leave a connection that nobody knows.
            await asyncio.wait({loading})
            await self.close_database()
            raise

    async def close_database(self) -> None:
        """Close it, whatever happens: one that stays open is locked for every later life and keeps the process."""
        listener = self._dblistener
        if listener is None:
            return
        self._remove_db_listeners()
        self._dblistener = None
        try:
            async with asyncio.timeout(_CLOSE_DATABASE_S):
                await listener.shutdown()
        except Exception as error:
            log.warning("closing the radio's database: %r", error)
        finally:
            listener._worker_task.cancel()  # what it has not written yet is lost
            listener._db.stop()  # does nothing where it is closed

    @property
    def has_database(self) -> bool:
        """Without one nobody knows whether a blank radio is a new one or a replacement."""
        return self._dblistener is not None

    async def add_endpoint(self, descriptor: Any) -> None:
        try:
            await super().add_endpoint(descriptor)
        except bellows.exception.StackAlreadyRunning:
            # They come last. A radio without room for them serves all but displays, or meters that sleep; one that
            # really runs already has refused the first.
            is_needed = descriptor.endpoint not in (SMART_ENERGY_ENDPOINT, *MIRROR_ENDPOINTS)
            if is_needed or len(self._created_device_endpoints) == 0:
                raise
            log.info("this radio has no room for endpoint %s, of Smart Energy", descriptor.endpoint)

    def has_endpoint(self, endpoint: int) -> bool:
        """Whether the radio had room for this one."""
        return any(created.endpoint == endpoint for created in self._created_device_endpoints)

    # The life's end

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)

    async def _watchdog_feed(self) -> None:
        # bellows asks for forty counters each time, and a radio that answers that and sends nothing is alive to it.
        if self._is_proved:
            await self.prove()
            return
        # It is being started, or has no network yet. Forming and restoring reset it, which on a socket takes seconds
        # each time: whoever is being reset is not dead.
        if self._ezsp is not None and self._ezsp.is_ezsp_running:
            async with patient_timeout(_LOOPBACK_S):
                await self._ezsp.nop()

    async def prove(self) -> None:
        """See that the radio sends. Raises what kept it from that: TimeoutError, RadioRefuses, or the port's error."""
        began = monotonic()
        for attempt in range(_LOOPBACKS):
            try:
                async with patient_timeout(_LOOPBACK_S):
                    await super().send_packet(loopback(self.get_sequence()))
                self._is_proved = True
                return
            except DeliveryError as error:
                if attempt + 1 == _LOOPBACKS and self._sent_at < began:
                    raise RadioRefuses(f"it refuses to send: {error}") from None
            except TimeoutError:
                if attempt + 1 == _LOOPBACKS and self._sent_at < began:
                    raise

    async def send_packet(self, packet: t.ZigbeePacket) -> None:
        if packet.dst is None or packet.dst.addr_mode != t.AddrMode.NWK:
            self.observer.frame("out", packet, None)
            await super().send_packet(packet)
            return
        nwk: Any = packet.dst.address
        if nwk != _COORDINATOR_NWK:
            self.observer.frame("out", packet, self.device_at(nwk))
        if nwk == _COORDINATOR_NWK:
            packet = packet.replace(extended_timeout=False)  # nobody sleeps on the way to ourselves
        try:
            await self._send_unicast(packet, nwk)
        except (DeliveryError, TimeoutError):
            self._delivered(nwk, False)
            raise
        self._sent_at = monotonic()
        self._delivered(nwk, True)

    async def _send_unicast(self, packet: t.ZigbeePacket, nwk: int) -> None:
        data = packet.data.serialize()
        takes = fragments.takes(self.device_at(nwk), len(data))
        too_long = bellows.types.sl_Status.MESSAGE_TOO_LONG
        if len(data) > fragments.FRAME_BYTES and not takes:
            raise DeliveryError(f"{len(data)} bytes for a device that takes no fragments: {too_long!r}", too_long)
        if len(data) <= fragments.FRAME_BYTES:
            try:
                await super().send_packet(packet)
                return
            except DeliveryError as error:  # a source route or the link key may have left less room
                if error.status != too_long or not takes:
                    raise
        async with self._long:
            for part in fragments.LongMessage(data).parts():
                await super().send_packet(packet.replace(data=t.SerializableBytes(part)))

    def _delivered(self, nwk: t.NWK, is_delivered: bool) -> None:
        device = self.device_at(nwk)
        if device is not None and device.ieee != self.state.node_info.ieee:
            self.observer.delivery(hex_of(device.ieee), is_delivered)

    async def initialize(self, *, auto_form: bool = False) -> None:
        if not self.forms_anew:
            await super().initialize(auto_form=auto_form)
            return
        # The radio may have a network: the one that is to be forgotten.
        await self.form_network()

    def restores(self, backup: NetworkBackup) -> None:
        """If the radio turns out to have no network, this is the one that it gets."""
        self.backups.backups = [kept for kept in self.backups.backups if kept is not backup]
        self.backups.backups.append(backup)

    async def put_back(self, backup: NetworkBackup) -> None:
        """Give the radio this network in place of its own. The next application finds it there."""
        await self.backups.restore_backup(backup, create_new=False)

    async def form_network(self, *, fast: bool = False) -> None:
        await super().form_network(fast=fast)
        self.formed = True

    async def write_network_info(self, **network: Any) -> None:
        # It resets the radio, after which nobody registers the endpoints again and bellows hears every frame twice:
        # an application that has been here is good for nothing but being followed by a new one.
        await super().write_network_info(**network)
        self.rewritten = True

    # Frames

    def packet_received(self, packet: t.ZigbeePacket) -> None:
        try:
            self._route(packet)
        except Exception as error:  # bytes from the air never raise into the serial protocol
            self.observer.count("malformed")
            log.debug("frame from %s: %r", packet.src, error)

    def _route(self, packet: t.ZigbeePacket) -> None:
        nwk = nwk_of(packet)
        if nwk == _COORDINATOR_NWK:
            # An answer of ours to ourselves, asked for again, is not the frame of before heard twice: zigpy would drop
            # it as that, and wait for half a minute. No field that it looks at is touched.
            self._own_frames = (self._own_frames + 1) & 0x7F
            packet = packet.replace(radius=self._own_frames)
        device, frame = self.device_at(nwk), packet.data.serialize()
        if nwk != _COORDINATOR_NWK:
            self.observer.frame("in", packet, device)
        if self.observer.preset.carries(packet):
            if device is None:
                self._stranger(nwk, packet)
            elif device.ieee != self.state.node_info.ieee:
                now = monotonic()
                self._touch(device, packet, now)
                self.observer.datagram(hex_of(device.ieee), packet, now)
        elif device is None and not is_introduction(packet):
            self._stranger(nwk, None)
        elif packet.dst_ep and _is_question(packet.cluster_id, frame):
            if device is not None:
                self._touch(device, packet, monotonic())
            self.observer.question(packet)
        elif device is not None and packet.dst_ep and is_of_client(packet.cluster_id, frame):
            self._touch(device, packet, monotonic())
            self.observer.load_control(device, packet)
        elif device is not None and _is_for_mirror(packet, frame):
            self._touch(device, packet, monotonic())
            if t.TransmitOptions.APS_Encryption in packet.tx_options or packet.cluster_id == mirror.BASIC:
                self.observer.mirror(device, packet)
            else:  # any plug of the home could say so
                self.observer.count("refused")
        elif device is not None and packet.dst_ep and ota.is_of_client(packet.cluster_id, frame):
            self._touch(device, packet, monotonic())
            self.observer.firmware(device, packet)
        elif device is not None and zcl.is_check_in(packet.cluster_id, frame):
            self._touch(device, packet, monotonic())
            self.answer(packet, zcl.check_in_response(frame[1], self.observer.is_owed(device)))
        elif device is not None and self._takes(device, packet):
            return
        elif not is_match_of_smart_energy(packet):
            super().packet_received(as_home_automation(packet))

    def add_device(self, ieee: t.EUI64, nwk: t.NWK) -> ZigbeeDevice:
        device = self.devices[ieee] = HubDevice(self, ieee, nwk)
        return device

    def _takes(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> bool:
        """Whether this frame is one that devices send by themselves: a report, or what an IAS zone says.

        Not zigpy's way: it converts each value to the type that it expects and drops the whole report when one does not
        fit; and it keeps every value in its database, which is flash.
        """
        if packet.profile_id not in _ZCL_PROFILES or not packet.src_ep or not device.is_initialized:
            return False
        data = packet.data.serialize()
        parsed = zcl.parse(data)
        if parsed is None:
            return False
        header, body = parsed
        is_zone = (
            packet.cluster_id == zcl.IAS_ZONE
            and header.is_for_cluster
            and header.manufacturer is None
            and header.command in (zcl.STATUS_CHANGE, zcl.ENROLL_REQUEST)
            and header.is_from_server
        )
        if not header.is_report and not is_zone:
            return False
        now = monotonic()
        self._touch(device, packet, now)
        if is_zone and header.command == zcl.ENROLL_REQUEST:
            self.answer(packet, zcl.enroll_response(header.tsn, _ZONE_ID))
        elif header.wants_default_response:
            self.answer(packet, zcl.default_response(header))
        if not self._duplicates.is_duplicate(hex_of(device.ieee), packet.tsn or 0, data, now):
            self.observer.spontaneous(device, ClusterPlace(int(packet.src_ep), int(packet.cluster_id)), header, body)
        return True

    def answer(self, packet: t.ZigbeePacket, data: bytes) -> None:
        """Say this to whoever sent a frame, soon; so many at once, and what fails is not tried again."""
        if packet.src is None or self._answers >= _ANSWERS_MOST:
            return
        place = (int(packet.profile_id), int(packet.cluster_id), int(packet.dst_ep or 0), int(packet.src_ep or 0))
        frame = zcl_answer(packet.src, place, self.get_sequence(), data)

        async def send() -> None:
            try:
                await self.send_packet(frame)
            except Exception as error:  # it is away again
                log.debug("answering %s: %r", packet.src, error)
            finally:
                self._answers -= 1

        self._answers += 1
        self.create_task(send(), "answer")

    def device_at(self, nwk: int) -> ZigbeeDevice | None:
        """The device with this NWK address, or None."""
        try:
            device: ZigbeeDevice = self.get_device(nwk=nwk)
        except KeyError:
            return None
        return device

    def clients_of(self, cluster_id: int) -> list[tuple[ZigbeeDevice, Any]]:
        """Each device with an endpoint on which it is a client of this cluster."""
        devices = [device for device in self.devices.values() if isinstance(device, ZigbeeDevice)]
        return [(d, e) for d in devices for e in d.non_zdo_endpoints if cluster_id in e.out_clusters]

    def device_of(self, ieee: str) -> ZigbeeDevice | None:
        """The device with this IEEE address (16 hex digits), or None."""
        try:
            device = self.devices.get(ieee_of(ieee))
        except ValueError:
            return None
        return device if isinstance(device, ZigbeeDevice) else None

    @staticmethod
    def _touch(device: ZigbeeDevice, packet: t.ZigbeePacket, now: float) -> None:
        device.lqi, device.rssi = packet.lqi, packet.rssi
        # Setting last_seen queues an UPDATE in another thread: once a minute says enough.
        if now - getattr(device, "touched_at", -_LAST_SEEN_PERIOD_S) >= _LAST_SEEN_PERIOD_S:
            device.touched_at = now  # type: ignore[attr-defined]
            device.last_seen = packet.timestamp

    def unicast(self, ieee: str, data: bytes) -> t.ZigbeePacket | None:
        """The tunnel's frame for a device (16 hex digits); None when it is not known, or nobody knows where it is."""
        device = self.device_of(ieee)
        if device is None or device.nwk >= FIRST_RESERVED_NWK:
            return None
        sleepy = device.node_desc is None or bool(device.node_desc.is_end_device)
        return tunnel_unicast(self.observer.preset, device.nwk, self.get_sequence(), data, sleepy=sleepy)

    def broadcast_frame(self, data: bytes) -> t.ZigbeePacket:
        """The tunnel's frame for everybody."""
        return tunnel_broadcast(self.observer.preset, self.get_sequence(), data)

    # Strangers

    @property
    def dropped(self) -> int:
        """Frames of strangers that went nowhere."""
        return self._strangers.dropped

    def _stranger(self, nwk: t.NWK, packet: t.ZigbeePacket | None) -> None:
        if self._strangers.heard(nwk, packet, monotonic()):
            self.create_task(self._ask_for_ieee(nwk), f"ask_for_ieee-{nwk:#06x}")

    async def _ask_for_ieee(self, nwk: t.NWK) -> None:
        """Whose is this address? The radio may know; else the device is asked, and it alone."""
        try:
            status, ieee = await self._ezsp.lookupEui64ByNodeId(nodeId=nwk)
            if not int(status) and ieee not in (_ANY_IEEE, _NO_IEEE):
                self.handle_join(nwk, t.EUI64(ieee), None, handle_rejoin=False)
            else:
                await self.send_packet(ieee_addr_req(nwk, self.get_sequence()))
        except Exception as error:  # the radio is going, or nobody is there
            log.debug("asking %s for its IEEE address: %r", nwk, error)

    async def _discover_unknown_device(self, nwk: t.NWK) -> None:
        # zigpy comes here for frames and route records alike, and would broadcast.
        self._stranger(nwk, None)

    def handle_relays(self, nwk: t.NWK, relays: list[t.NWK]) -> None:
        """The radio keeps its routes itself. zigpy would write each into its database, and search for strangers."""

    def _handle_id_conflict(self, nwk: t.NWK) -> None:
        """Two devices have one address. bellows takes whoever has it for gone; it takes another and announces itself
        (Zigbee R22, 3.6.1.9), and until then it is where it was."""
        self.observer.count("address_conflicts")
        log.info("two devices have the address 0x%04x", nwk)

    def ezsp_callback_handler(self, frame_name: str, args: Any) -> None:
        if frame_name == "stackStatusHandler" and self._is_proved:
            status = bellows.types.sl_Status.from_ember_status(args[0])
            if status in (
                bellows.types.sl_Status.ZIGBEE_PAN_ID_CHANGED,
                bellows.types.sl_Status.ZIGBEE_CHANNEL_CHANGED,
            ):
                self.create_task(self._look_at_network(), "look_at_network")
        super().ezsp_callback_handler(frame_name, args)

    async def _look_at_network(self) -> None:
        try:
            await self.load_network_info(load_devices=False)
        except Exception as error:  # the radio is going
            log.info("the radio changed its network, and does not say to what: %r", error)
            return
        self.observer.network_changed(self)

    # Who comes and goes

    def handle_join(self, nwk: t.NWK, ieee: t.EUI64, parent_nwk: t.NWK | None, *, handle_rejoin: bool = True) -> None:
        ieee = t.EUI64(ieee)
        has_joined = ieee in self._joining
        self._joining.discard(ieee)
        if ieee not in self.devices and not self.observer.admits(hex_of(ieee), has_joined=has_joined):
            self._strangers.refused(nwk, monotonic())
            self.observer.count("refused")
            return
        for other in self.devices.values():
            # An address is given to one device at a time: whoever had it will tell us the new one.
            if other.nwk == nwk and other.ieee != ieee:
                other.nwk = NO_NWK
        known = self.devices.get(ieee)
        is_back = isinstance(known, ZigbeeDevice) and known.is_initialized and known.nwk == nwk and handle_rejoin
        super().handle_join(nwk, ieee, parent_nwk, handle_rejoin=handle_rejoin)
        self.observer.joined(hex_of(ieee))
        if is_back and known is not None:
            # zigpy interviews who comes back under another address, and takes no notice of the others: after a power
            # cut most devices keep theirs, and some forget all that they were told.
            self.observer.returned(known)
        for packet in self._strangers.known(nwk):
            self.packet_received(packet)

    def _handle_tc_join_handler(self, nwk: t.NWK, ieee: t.EUI64, update: Any, decision: Any, parent_nwk: t.NWK) -> None:
        # The trust centre gave it the network's key just now. Who merely speaks has it from elsewhere: no member.
        self._joining.add(t.EUI64(ieee))
        super()._handle_tc_join_handler(nwk, ieee, update, decision, parent_nwk)
        self._joining.discard(t.EUI64(ieee))

    def gp_packet_received(self, packet: t.ZigbeeGpPacket) -> None:
        """Green Power has no place in this home: nothing of it is served, and nothing commissioned."""

    async def permit_gp(self, time_s: int) -> None:
        """Never open."""

    # The network's key and channel

    async def rotate_key(self, key: bytes) -> int:
        """Give the network another key (16 bytes), and use it once it has spread. Its sequence number from now on.

        Raises what the radio raises, DeliveryError where it refuses.
        """
        await self._spread("broadcastNextNetworkKey", key=t.KeyData(key))
        for device in list(self.devices.values()):
            if isinstance(device, ZigbeeDevice) and device.node_desc is not None and device.node_desc.is_end_device:
                try:  # it sleeps through broadcasts
                    await self._ezsp.unicastNwkKeyUpdate(destShort=device.nwk, destLong=device.ieee, key=t.KeyData(key))
                except Exception as error:  # not in every firmware: it is let back later
                    log.debug("the network's key for %s: %r", device.ieee, error)
        await asyncio.sleep(KEY_SPREAD_S)
        await self._spread("broadcastNetworkKeySwitch")
        await self.let_back(REJOINS_S)
        await self.load_network_info(load_devices=False)
        found = self.state.network_info.network_key
        if bytes(found.key.serialize()) != key:
            raise DeliveryError("the radio goes on with the network's key of before")
        return int(found.seq)

    async def _spread(self, command: str, **fields: Any) -> None:
        (status,) = await getattr(self._ezsp, command)(**fields)
        if int(status):
            raise DeliveryError(f"{command}: {status!r}")

    async def let_back(self, duration_s: float) -> None:
        """For so long, send the network's key to devices that rejoin under their own link key."""
        self.rejoins_until = monotonic() + duration_s
        async with self._window_lock:
            if self._window is None:
                await self._set_policy(self._resting_policy())

    async def _move_network_to_channel(self, new_channel: int, new_nwk_update_id: int) -> None:
        # Not every firmware answers this one, and zigpy would wait for that, three times. It looks for the new channel
        # afterwards.
        update = zdo_t.NwkUpdate(
            ScanChannels=_t.Channels(1 << new_channel),
            ScanDuration=zdo_t.NwkUpdate.CHANNEL_CHANGE_REQ,
            nwkUpdateId=new_nwk_update_id,
        )
        await self._device.zdo.request(zdo_t.ZDOCmd.Mgmt_NWK_Update_req, update, expect_reply=False)

    async def move_to(self, channel: int) -> None:
        """Take the whole network to another channel (11 to 26). Raises what the radio raises."""
        async with asyncio.timeout(_MOVE_S):
            await self.move_network_to_channel(channel)

    # The join window

    async def permit(
        self,
        time_s: int = 60,
        node: t.EUI64 | str | None = None,
        only: tuple[t.EUI64, t.KeyData] | None = None,
    ) -> None:
        """Open the network for `time_s` seconds, or shut it (0). A later call replaces the window of an earlier one.

        `only`: the one device that is let in, and the link key that its install code makes.

        Not bellows' own: that one lets every call, the start-up's permit(0) too, put the well-known key into the radio
        and shut the window two seconds after its own time, whoever opened it since.
        """
        async with self._window_lock:
            if self._window is not None:
                self._window.cancel()
                self._window = None
            try:
                if time_s:
                    await self._let_in(only)
                await zigpy.application.ControllerApplication.permit(self, time_s, node)
            except BaseException:
                # What kept it from opening is the reason; that the same keeps it from being shut is none.
                with contextlib.suppress(Exception):
                    await self._restore_policy()
                raise
            if time_s:
                self._window = self.create_task(self._shut_later(time_s + _WINDOW_GRACE_S), "shut_window")
            else:
                await self._restore_policy()

    async def _let_in(self, only: tuple[t.EUI64, t.KeyData] | None) -> None:
        self._strangers.reconsider()
        if only is not None:
            await self._ezsp.clearTransientLinkKeys()  # the well-known key of an earlier window would let in anybody
            await self._ezsp.add_transient_link_key(*only)
            await self._set_policy(_POLICY_ALLOW_JOINS | _POLICY_INSTALL_CODES)
            return
        await self._ezsp.add_transient_link_key(_ANY_IEEE, _WELL_KNOWN_KEY)
        await self._set_policy(_POLICY_ALLOW_JOINS)

    async def _shut_later(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with self._window_lock:
            await self._restore_policy()

    async def _restore_policy(self) -> None:
        await self._set_policy(self._resting_policy())
        try:
            await self._ezsp.clearTransientLinkKeys()
        except Exception as error:  # not in every firmware; the radio forgets them by itself after minutes
            log.debug("clearTransientLinkKeys: %r", error)

    def _resting_policy(self) -> int:
        """While the network is shut."""
        policy: int = self._ezsp.tc_policy
        return policy | _POLICY_REJOINS if monotonic() < self.rejoins_until else policy

    async def _set_policy(self, decision: int) -> None:
        if self._ezsp.ezsp_version >= 8:
            policy = bellows.types.EzspPolicyId.TRUST_CENTER_POLICY
            await self._ezsp.setPolicy(policyId=policy, decisionId=decision)
