"""The daemon: constructs every part, in the order that serves the home first, and takes them down again.

Start-up order (design, part 4): configuration, store, gateway (the home is served), uplink, and only then the import of
the radio stack, which costs 20 MB and, on a small ARM, more than ten seconds. Nothing waits for the uplink, but the
radio for its first attempt (ten seconds at most).
"""

import asyncio
import logging
import random
import signal
import ssl
from pathlib import Path
from typing import Any

from drivers.clock import Clock, monotonic, utc_ms
from drivers.link import Link
from drivers.process import give_back_memory, share_one_arena
from drivers.systemd import notify
from drivers.tls import client_context
from drivers.udp import UdpLink
from hub.app.config import Config, ConfigError
from hub.app.startup_checks import OPERATORS_ITEM, gateway_config, operators_item, operators_of, present_identity
from hub.app.supervision import Upkeep
from hub.core.control.controller import Controller
from hub.core.control.household import METER
from hub.core.control.records import FORGOT
from hub.core.gateway.gateway import Gateway
from hub.core.health import Health
from hub.core.liveness import Vitals
from hub.core.records import MessageQueued, Sample, Seen
from hub.services.admin.queries import Report
from hub.services.admin.server import AdminServer
from hub.services.control.jobs import Errands
from hub.services.control.service import Governor
from hub.services.control.settings import ITEM as SETTINGS_ITEM
from hub.services.control.settings import Settings
from hub.services.home.bridge import Bridge
from hub.services.home.tracer import Tracer
from hub.services.identity.expiry import ITEM as EXPIRY_ITEM
from hub.services.identity.expiry import Expiry
from hub.services.identity.renewal import Renewal
from hub.services.update.loop import ITEM as UPDATE_ITEM
from hub.services.update.loop import Surroundings, Updates
from hub.services.update.slots import Slots
from hub.services.uplink.loop import Uplink
from hub.wire.keys.identity import Identity
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.uplink.envelope import seal
from hub.wire.uplink.receipt import Receipt
from hub.wire.version import VERSION
from store import Store, StoreError, factory_reset

log = logging.getLogger(__name__)

_STORE_CLOSE_S = 3.0
_UPLINK_CLOSE_S = 1.5
_UPLINK_FIRST_S = 10.0


class Daemon:
    """One hub. `run` returns when it was told to stop (SIGTERM, SIGINT)."""

    def __init__(self, config: Config, present: tuple[Identity, Path, Path]) -> None:
        """`present`: the identity that counts, and the files of its certificate and key."""
        self._present = present
        identity = present[0]
        self.config = config
        self.identity = identity
        self.health = Health()
        self.vitals = Vitals(monotonic)
        self.clock = Clock(floor_ms=int(identity.certificate.not_valid_before_utc.timestamp() * 1000))
        self.started_at = monotonic()
        self._stopping = asyncio.Event()
        self.upkeep = Upkeep(self)
        self._tasks: list[asyncio.Task[None]] = []
        self.radio: Any = None  # a ZigbeeLink, once its libraries are imported
        self.meter: Any = None  # a MeterPort, where there is one
        self.radio_failed = False
        self.failed = False

    async def run(self) -> None:
        """Start everything, serve until told to stop, stop everything. Raises ConfigError or StoreError at start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self.store = self._open_store()
        try:
            await self._start_home()
            await self._start_control()
            await self._start_uplink()
            notify(f"READY=1\nSTATUS=serving as {self.identity.hub_id}")
            await self._start_radio()
            give_back_memory()
            await self._stopping.wait()
        finally:
            notify("STOPPING=1")
            await self._stop()

    # Start, in order

    def _open_store(self) -> Store:
        hub_id = self.identity.hub_id

        def seal_message(
            lane: str, epoch: int, number: int, content_type: int | str, payload: bytes, extra: dict[str, Any] | None
        ) -> bytes:
            return seal(self.identity.signer, hub_id, epoch, lane, number, content_type, payload, extra)

        config = self.config
        if factory_reset.is_asked(config.data_dir):
            factory_reset.perform(config.data_dir)
        store = Store(
            config.data_dir,
            seal=seal_message,
            max_mb=config.max_mb,
            retention_days=config.retention_days,
            daily_write_mb=config.daily_write_mb,
            deflate=config.uplink.deflate,
            utc_ms=utc_ms,
        )
        store.start()
        store.set_clock(self.clock.offset_ms(), self.clock.is_trusted())
        reason = "factory-reset" if factory_reset.is_done(config.data_dir) else "start"
        store.record_event("hub.started", {"boot": store.boot, "version": VERSION, "reason": reason})
        return store

    async def _start_home(self) -> None:
        config = self.config
        links: list[Link] = []
        if config.udp_listen is not None:
            links.append(UdpLink(*config.udp_listen, broadcast=config.udp_advertise, networks=config.udp_networks))
        gateway = Gateway(gateway_config(config), monotonic())
        if config.radio is not None:
            gateway.link_down("zigbee")  # its adapters are not lost while its libraries are being imported
        gateway.restore(self.store.restored, monotonic())
        self.bridge = Bridge(gateway, self.store)
        self.bridge.custody_changed = self.upkeep.on_custody
        await self.bridge.start()
        for link in links:
            try:
                await self.bridge.add_link(link)
            except OSError as error:
                # The rest of the home is served; an address that is taken or gone is the engineer's to see.
                self.health.raise_condition("link-unusable", f"{link.name}: {error}")
                log.error("%s: %s", link.name, error)

    async def _start_control(self) -> None:
        """Take up the limits of before; appliances that are held hear of it before the uplink is tried."""
        state = await asyncio.wrap_future(self.store.control_state())
        if factory_reset.is_done(self.config.data_dir):
            state[FORGOT] = await self.upkeep.forget_counters()
        self.expiry = Expiry(self.store, self.health, state.pop(EXPIRY_ITEM, None))
        self.settings = Settings(self.config, self.store, state.pop(SETTINGS_ITEM, None))
        state_of_update = state.pop(UPDATE_ITEM, None)
        config = self.config = self.settings.config
        now = monotonic()
        controller = Controller(
            self.identity.hub_id,
            config.groups,
            operators_of(config, state.pop(OPERATORS_ITEM, None)),
            now,
            heartbeat_s=config.heartbeat_s,
            failsafe_w=None if isinstance(config.failsafe, str) else float(config.failsafe),
            random=random.random,
        )
        controller.operators_item = lambda text: operators_item(config, text)
        for name in controller.restore(state):
            log.error("control's item %s does not read; it is left out", name)
        changes = [record for record in self.store.restored if not isinstance(record, Seen | MessageQueued)]
        controller.observe([], changes, now)
        self.store.restored.clear()
        self.updates = self._updates(controller, state_of_update)
        self.errands = Errands(self)
        self.governor = Governor(
            controller,
            self.store,
            self.bridge,
            self.health,
            resend=lambda lane, epoch, first, last: self.uplink.send_again(lane, epoch, first, last),
            errand=self.errands.run,
            vitals=self.vitals,
        )
        self.bridge.observed = self.governor.observed
        self.bridge.orders_sent = self.governor.orders_sent

    def _updates(self, controller: Controller, kept: bytes | None) -> Updates:
        config = self.config

        def context() -> ssl.SSLContext:
            return client_context(config.uplink.ca_file, *self.renewal.adopted_files, config.uplink.crl_file)

        def receipt(cti: bytes, digest: bytes, status: str, detail: dict[str, Any]) -> Receipt:
            return controller.receipt(cti, digest, status, monotonic(), detail=detail)

        around = Surroundings(
            context, lambda: self.uplink.is_up, self.upkeep.is_radio_up, self.upkeep.ailment, receipt, random.random
        )
        updates = Updates(
            config.data_dir / "update", Slots(config.slots_dir), self.store, self.health, around,
            max_octets=config.update_max_mb << 20, octets_per_s=config.update_kb_s * 1000,
            well_s=config.update_well_s, uplink_s=config.update_uplink_s, spread_s=config.update_spread_s, kept=kept,
        )  # fmt: skip
        updates.forget_unless(controller.jobs)
        return updates

    async def _start_uplink(self) -> None:
        config = self.config
        loop = asyncio.get_running_loop()
        self.uplink = Uplink(
            config.uplink,
            self.identity,
            self.store,
            self.health,
            heartbeat_s=config.heartbeat_s,
            version=VERSION,
            groups=config.groups,
            command=self.governor.command,
            traffic_file=config.data_dir / "uplink-traffic.json",
            renewal=self._renewal(),
            vitals=self.vitals,
        )

        def changed(what: set[str]) -> None:
            if "epoch" in what:
                self.upkeep.look.set()
            self.uplink.store_changed(what)

        def on_change(what: set[str]) -> None:  # on the writer's thread
            try:
                loop.call_soon_threadsafe(changed, what)
            except RuntimeError:  # the loop is closed: the hub stops
                pass

        self.store.on_change = on_change
        self.tracer = Tracer(self.bridge)
        self.uplink.tap = self.tracer.uplink
        self.report = Report(self)
        self.admin = AdminServer(config.run_dir / "admin.sock", self.report.handlers(), config.admin_group)
        try:
            await self.admin.start()
        except OSError as error:
            raise ConfigError(f"{config.source}: hub.run_dir: {config.run_dir}: {error.strerror or error}") from None
        self.settings.apply = lambda changed: self.uplink.reconfigure(changed.uplink, changed.heartbeat_s)
        self.settings.is_up = lambda: self.uplink.has_session_since_reconfigured
        self.governor.set_clock(self.clock.offset_ms() / 1000, self.clock.is_trusted())
        self._spawn(self.governor.run(), "control")
        self._spawn(self.uplink.run(), "uplink")
        if config.uplink.est_url is not None:
            self._spawn(self.renewal.run(), "renewal")
        self._spawn(self.updates.mark_good(), "slots")
        self._spawn(self.upkeep.watch(), "watch")
        self._spawn(self.upkeep.feed_watchdog(), "watchdog")
        self._start_meter()

    def _renewal(self) -> Renewal:
        def adopted(identity: Identity) -> None:
            self.identity = identity  # what is sealed from now on

        files, folder = self.config.uplink, self.config.data_dir
        self.renewal = Renewal(
            files.est_url,
            files.ca_file,
            folder,
            self._present,
            self.health,
            self.store.record_event,
            adopted,
            random.random,
        )
        return self.renewal

    def _start_meter(self) -> None:
        if self.config.meter is None:
            return
        from drivers.meter import MeterPort  # a hub without a port to the meter does without pyserial

        def power(watts: float) -> None:
            # The plan hears each telegram; what of it is worth keeping, and sending, is the port's to say.
            self.governor.observed([Sample(METER, "power", monotonic(), round(watts * 10), -1)], [])

        self.meter = MeterPort(
            self.config.meter.path,
            self.config.meter.protocol,
            self.health,
            self.store.record_event,
            reading=lambda quantity, text: self.bridge.take_reading(METER, quantity, text),
            power=power,
        )
        self.meter.alive = lambda within_s: self.vitals.expect("meter", within_s)
        self._spawn(self.meter.run(), "meter")

    async def _start_radio(self) -> None:
        if self.config.radio is None:
            return
        self.health.raise_condition("radio-starting")
        await self._let_uplink_go_first()
        if self._stopping.is_set():
            return
        # The import alone takes seconds on the target: in a thread, so that the home and the uplink go on meanwhile.
        try:
            zigbee = await asyncio.to_thread(_import_zigbee)
            radio = zigbee.ZigbeeLink(
                self.config.radio, self.config.data_dir, self.health, self.store.record_event, self._trusted_utc
            )
            radio.reading = self.bridge.take_reading
            await self.bridge.add_link(radio)
        except Exception as error:
            # Whatever those libraries think of: UDP, the uplink and control are worth more than a restart.
            log.exception("the radio's software does not load")
            self.radio_failed = True
            self.health.clear_condition("radio-starting")
            self.health.raise_condition("radio-unusable", repr(error)[:200])
            return
        self.radio = radio
        self.governor.on_price = self._tell_prices
        self._tell_prices()

    async def _let_uplink_go_first(self) -> None:
        """On a small ARM the import below and a first TLS handshake take twice as long beside each other."""
        reasons = [asyncio.ensure_future(event.wait()) for event in (self.uplink.has_tried, self._stopping)]
        await asyncio.wait(reasons, timeout=_UPLINK_FIRST_S, return_when=asyncio.FIRST_COMPLETED)
        for reason in reasons:
            reason.cancel()

    def _trusted_utc(self) -> float | None:
        return utc_ms() / 1000 if self.clock.is_trusted() else None

    def _tell_prices(self) -> None:
        table = self.governor.controller.bulletin.table("price")
        if table is not None:
            # Displays keep the newer of two tables: told again, it is newer.
            self.radio.tell_prices(table["currency"], [tuple(step) for step in table["steps"]], utc_ms() // 1000)

    def start_anew(self) -> None:
        """End in good order; whoever started the hub starts it again."""
        self._stopping.set()

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_task_end)
        self._tasks.append(task)

    def _on_task_end(self, task: "asyncio.Task[None]") -> None:
        # A loop of the hub never ends by itself: if one does, systemd starts the hub anew, which is known to work.
        if not task.cancelled() and not self._stopping.is_set():
            log.critical("the %s loop ended: %r", task.get_name(), task.exception())
            self.failed = True
            self._stopping.set()

    # Stop, in reverse

    async def _stop(self) -> None:
        if hasattr(self, "uplink"):
            self.uplink.stop()
            uplink = [task for task in self._tasks if task.get_name() == "uplink"]
            await asyncio.wait(uplink, timeout=_UPLINK_CLOSE_S)
        for task in self._tasks:
            task.cancel()
        if hasattr(self, "admin"):
            await self.admin.close()
        if hasattr(self, "bridge"):
            await self.bridge.close()
        self.store.record_event("hub.stopped", {"boot": self.store.boot, "reason": "stop"})
        await asyncio.to_thread(self.store.close, _STORE_CLOSE_S)
        await asyncio.sleep(0)  # answers that the last commit released


def _import_zigbee() -> Any:
    from drivers import zigbee

    return zigbee


def run_daemon(config: Config) -> int:
    """Run a hub until it is told to stop; exit status 0, or 1 when it has to be started anew. Raises ConfigError."""
    share_one_arena()
    try:
        present = present_identity(config)
    except HardwareError as error:
        # A module that starts late, or has to be reset: systemd tries again, each time later.
        log.critical("%s: uplink.key_file: %s", config.source, error)
        return 1

    async def main() -> int:
        daemon = Daemon(config, present)
        await daemon.run()
        return 1 if daemon.failed else 0

    try:
        return asyncio.run(main())
    except StoreError as error:
        raise ConfigError(f"{config.source}: hub.data_dir: {error}") from None
