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
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from drivers.board import read_board
from drivers.clock import Clock, machine_boot, monotonic, utc_ms
from drivers.link import Link
from drivers.process import give_back_memory, let_go_of_code, share_one_arena
from drivers.radio import Radio
from drivers.systemd import notify
from drivers.tls import client_context
from drivers.udp import UdpLink
from hub.app.config import Config, ConfigError, override
from hub.app.startup_checks import (
    OperatorFile,
    control_settings,
    gateway_config,
    meter_keys,
    present_identity,
    recovery_key,
    stamp_or_none,
    store_budget_mb,
)
from hub.app.supervision import FLASH_ITEM, Supervision, Watched, note_custody
from hub.core.control.controller import Controller
from hub.core.control.household import METER
from hub.core.control.records import FORGOT, OPERATORS, Journal
from hub.core.gateway.gateway import Gateway
from hub.core.health import Health
from hub.core.liveness import Liveness
from hub.core.records import MessageQueued, Sample, Seen
from hub.services.admin.asked import Asked
from hub.services.admin.queries import CHANGES, Queries
from hub.services.admin.server import AdminServer
from hub.services.control.in_hand import InHand
from hub.services.control.jobs import Jobs
from hub.services.control.service import ControlService
from hub.services.control.settings import ITEM as SETTINGS_ITEM
from hub.services.control.settings import Settings
from hub.services.home.bridge import Bridge
from hub.services.home.radio_network import ITEM as RADIO_NETWORK_ITEM
from hub.services.home.radio_network import RadioNetwork
from hub.services.home.tracer import Tracer
from hub.services.identity.announcement import ITEM as ANNOUNCED_ITEM
from hub.services.identity.announcement import announce_at_start, hand_over
from hub.services.identity.expiry import ITEM as EXPIRY_ITEM
from hub.services.identity.expiry import Expiry
from hub.services.identity.renewal import Renewal
from hub.services.update.loop import ITEM as UPDATE_ITEM
from hub.services.update.loop import RAN_ITEM, HubAround, Updates
from hub.services.update.slots import Slots
from hub.services.uplink.loop import Uplink
from hub.wire.keys.identity import Identity
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.envelope import PublicKey, seal
from hub.wire.uplink.firmware import ROLE, FirmwareNote, open_firmware
from hub.wire.uplink.receipt import Receipt
from hub.wire.version import VERSION
from store import Store, StoreError, factory_reset, owner

if TYPE_CHECKING:
    from hub.wire.admin import MeterAnswer, MeterFigures, ReloadAnswer

log = logging.getLogger(__name__)

_STORE_CLOSE_S = 3.0
_UPLINK_CLOSE_S = 1.5
_UPLINK_FIRST_S = 10.0
_LINK_AGAIN_S = 5.0
_START_IS_OVER_S = 10.0  # after the radio: the uplink is there, adapters have come back
_RADIO_AGAIN_S = 300.0
_PAST_THE_END_S = 366 * 86400.0  # a certificate may be over; ten years over is a wrong clock

Present = tuple[Identity, Path, Path]


class MeterReaderPort(Protocol):
    """The meter's port, whose libraries are imported only where there is one."""

    async def run(self) -> None: ...

    def status(self) -> "MeterFigures": ...

    def details(self) -> "MeterAnswer": ...


class Foundation:
    """What everything else stands on: the store, opened, and the home, served. `present`: the identity that counts, and
    the files of its certificate and key."""

    def __init__(self, config: Config, present: Present) -> None:
        self.config = config
        self.present = present
        self.identity = present[0]  # what is sealed with from now on; a renewal changes it
        self.started_at = monotonic()
        self.stopping = asyncio.Event()
        self.health = Health()
        self.liveness = Liveness(monotonic)
        self.board = read_board(config.slots_dir)
        certificate = self.identity.certificate
        self.clock = Clock(
            floor_ms=int(certificate.not_valid_before_utc.timestamp() * 1000),
            ceiling_ms=int((certificate.not_valid_after_utc.timestamp() + _PAST_THE_END_S) * 1000),
        )
        self.store = self._open_store()
        self.unusable: list[Link] = []  # ways into the home that could not be opened yet
        self.bridge = Bridge(self._gateway(), self.store)
        self.bridge.custody_changed = lambda error: note_custody(self.health, error, config.data_dir)

    def _open_store(self) -> Store:
        config, hub_id = self.config, self.identity.hub_id

        def seal_message(
            lane: str, epoch: int, number: int, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None
        ) -> bytes:
            return seal(self.identity.signer, hub_id, epoch, lane, number, content_type, payload, extra)

        if factory_reset.is_asked(config.data_dir):
            factory_reset.perform(config.data_dir)
        other = owner.claim(config.data_dir, hub_id)
        store = Store(
            config.data_dir,
            seal=seal_message,
            max_mb=store_budget_mb(config),
            retention_days=config.retention_days,
            daily_write_mb=config.daily_write_mb,
            pack_form=config.uplink.pack_form,
            trusted_utc_s=self.trusted_utc,
            utc_ms=utc_ms,
        )
        store.start()
        store.set_clock(self.clock.offset_ms(), self.clock.is_trusted())
        announce_at_start(store, self.identity)
        reason = "factory-reset" if factory_reset.is_done(config.data_dir) else "start"
        store.record_event("hub.started", {"boot": store.boot, "version": VERSION, "reason": reason})
        if self.board is not None and self.board.data == "memory":
            self.health.raise_condition("data-in-memory", self.board.data_why)
            store.record_event("store.in_memory", {"reason": self.board.data_why})
        if other:
            store.record_event("store.set_aside", {"hub": other, "folder": owner.folder_of(other)})
        return store

    def _gateway(self) -> Gateway:
        gateway = Gateway(gateway_config(self.config), monotonic())
        if self.config.radio is not None:
            gateway.link_down("zigbee")  # its adapters are not lost while its libraries are being imported
        gateway.restore(self.store.restored, monotonic())
        return gateway

    async def serve_home(self) -> None:
        """From here on adapters are heard and answered."""
        config = self.config
        links: list[Link] = []
        if config.udp_listen is not None:
            links.append(UdpLink(*config.udp_listen, broadcast=config.udp_advertise, networks=config.udp_networks))
        await self.bridge.start()
        for link in links:
            if not await self._add(link):
                self.unusable.append(link)

    async def _add(self, link: Link) -> bool:
        try:
            await self.bridge.add_link(link)
        except Exception as error:  # OSError, or whatever a library thinks of
            # The rest of the home is served; an address that is taken or gone is the engineer's to see.
            self.health.raise_condition("link-unusable", f"{link.name}: {error}")
            log.error("%s: %s", link.name, error)
            return False
        return True

    async def open_what_was_not(self) -> None:
        """Try the links again that could not be opened: an interface comes late, another program ends. One of the hub's
        loops."""
        while self.unusable:
            await asyncio.sleep(_LINK_AGAIN_S)
            self.unusable = [link for link in self.unusable if not await self._add(link)]
        self.health.clear_condition("link-unusable")
        await asyncio.Event().wait()

    async def control_state(self) -> dict[str, bytes]:
        """What the store kept of control and of the services."""
        state = await asyncio.wrap_future(self.store.control_state())
        if factory_reset.is_done(self.config.data_dir):
            # It took the operators' counters: what was commanded before it must not pass once more.
            item = encode(None)  # as the store has it where a database was lost
            with suppress(StoreError):
                await asyncio.wrap_future(self.store.commit_control(Journal(kept={FORGOT: item})))
                factory_reset.take_done(self.config.data_dir)
            state[FORGOT] = item
        return state

    def start_anew(self) -> None:
        """End in good order; whoever started the hub starts it again."""
        self.stopping.set()

    def trusted_utc(self) -> float | None:
        return utc_ms() / 1000 if self.clock.is_trusted() else None


class Daemon:
    """One hub. `run` returns when it was told to stop (SIGTERM, SIGINT). `state`: `Foundation.control_state()`."""

    def __init__(self, base: Foundation, state: dict[str, bytes]) -> None:
        self._base = base
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = False
        self._radio: Radio | None = None  # once its libraries are imported
        self._radio_failed = False
        store, health = base.store, base.health
        state.pop(ANNOUNCED_ITEM, None)
        self._expiry = Expiry(store, health, state.pop(EXPIRY_ITEM, None))
        self._settings = Settings(base.config, store, state.pop(SETTINGS_ITEM, None), override)
        self._config = config = self._settings.config
        state_of_update, slot_that_ran = state.pop(UPDATE_ITEM, None), state.pop(RAN_ITEM, None)
        self._flash_told = state.pop(FLASH_ITEM, None)
        self._radio_network = RadioNetwork(store, state.pop(RADIO_NETWORK_ITEM, None))
        self._controller = self._restored_controller(state)
        self._renewal = self._make_renewal()
        self._updates = self._make_updates(state_of_update, slot_that_ran)
        self._tracer = Tracer(base.bridge)
        self._control = ControlService(
            self._controller, store, base.bridge, health,
            resend=lambda lane, epoch, first, last: self._uplink.send_again(lane, epoch, first, last),
            job=lambda request: self._jobs.run(request),
            liveness=base.liveness,
            in_hand=InHand(config.run_dir),
        )  # fmt: skip
        base.bridge.observed = self._control.observed
        base.bridge.orders_sent = self._control.orders_sent
        self._uplink = self._make_uplink()
        self._uplink.tap = self._tracer.uplink
        self._settings.apply = self._apply_settings
        self._settings.is_up = lambda: self._uplink.has_session_since_reconfigured
        self._meter = None if config.meter is None else self._make_meter()
        self._queries = Queries(self._asked())
        self._jobs = Jobs(
            store, self._queries, lambda: self._radio,
            send_again=self._uplink.send_again,
            config=self._settings.change,
            update=self._updates.run,
            deflate=lambda: self._settings.config.uplink.deflate,
        )  # fmt: skip
        self._admin = AdminServer(config.run_dir / "admin.sock", self._queries.handlers(), CHANGES, config.admin_group)
        self._supervision = Supervision(self._watched())

    # Parts, in the order in which they need each other

    def _restored_controller(self, state: dict[str, bytes]) -> Controller:
        """Take up the limits of before; appliances that are held hear of it before the uplink is tried."""
        base, config, now = self._base, self._config, monotonic()
        self._operators_stamp = stamp_or_none(config.operators_file)
        book = OperatorFile(config)
        kept = state.pop(OPERATORS, None)
        controller = Controller(
            base.identity.hub_id,
            book.read(kept),
            now,
            settings=control_settings(config),
            random=random.random,
            book=book,
            recovery_key=recovery_key(config),
            machine_boot=machine_boot(config.run_dir),
        )
        controller.trial.kept = kept
        for name in controller.restore(state, now):
            log.error("control's item %s does not read; it is left out", name)
        changes = [record for record in base.store.restored if not isinstance(record, Seen | MessageQueued)]
        controller.observe([], changes, now)
        base.store.restored.clear()
        return controller

    def _make_renewal(self) -> Renewal:
        base, uplink = self._base, self._config.uplink

        def adopted(identity: Identity) -> None:
            hand_over(base.store, identity, lambda: setattr(base, "identity", identity))

        return Renewal(
            uplink.est_url, uplink.ca_file, self._config.data_dir, base.present, base.health,
            base.store.record_event, adopted, random.random, look_every_s=uplink.est_look_s,
        )  # fmt: skip

    def _make_updates(self, kept: bytes | None, ran: bytes | None) -> Updates:
        config, base = self._config, self._base

        def context() -> ssl.SSLContext:
            return client_context(config.uplink.ca_file, *self._renewal.adopted_files, config.uplink.crl_file)

        def receipt(cti: bytes, digest: bytes, status: str, detail: dict[str, Any]) -> Receipt:
            return self._controller.receipt(cti, digest, status, monotonic(), detail=detail)

        around = HubAround(
            context,
            is_up=lambda: self._uplink.is_up,
            is_radio_up=self._is_radio_up,
            local_fault=lambda with_radio: self._supervision.local_fault(with_radio),
            receipt=receipt,
            random=random.random,
        )
        updates = Updates(
            config.data_dir / "update", Slots(config.slots_dir), base.store, base.health, around,
            max_bytes=config.update_max_mb << 20, bytes_per_s=config.update_kb_s * 1000,
            well_s=config.update_well_s, uplink_s=config.update_uplink_s, spread_s=config.update_spread_s, kept=kept,
            board=base.board, ran=ran,
        )  # fmt: skip
        updates.forget_unless(self._controller.jobs)
        return updates

    def _make_uplink(self) -> Uplink:
        base, config = self._base, self._config
        uplink = Uplink(
            config.uplink,
            base.identity,
            base.store,
            base.health,
            heartbeat_s=config.heartbeat_s,
            version=VERSION,
            board=base.board,
            groups=config.groups,
            command=self._control.command,
            forgot=self._control.forget,
            traffic_file=config.data_dir / "uplink-traffic.json",
            renewal=self._renewal,
            liveness=base.liveness,
        )
        loop = asyncio.get_running_loop()

        def changed(what: set[str]) -> None:
            if "epoch" in what:
                self._supervision.look.set()
            uplink.store_changed(what)

        def on_change(what: set[str]) -> None:  # on the writer's thread
            with suppress(RuntimeError):  # the loop is closed: the hub stops
                loop.call_soon_threadsafe(changed, what)

        base.store.on_change = on_change
        return uplink

    def _make_meter(self) -> "MeterReaderPort":
        from drivers.meter.port import MeterPort  # a hub without a port to the meter does without pyserial

        base, config = self._base, self._config
        assert config.meter is not None

        def power(watts: float) -> None:
            # The plan hears each telegram; what of it is worth keeping, and sending, is the port's to say.
            self._control.observed([Sample(METER, "power", monotonic(), round(watts * 10), -1)], [])

        meter = MeterPort(
            config.meter.path,
            config.meter.protocol,
            base.health,
            base.store.record_event,
            reading=base.bridge.take_reading,
            power=power,
            keys=meter_keys(config),
            address=config.meter.address,
            remember=config.data_dir / "meter.json",
        )
        meter.alive = lambda within_s: base.liveness.expect("meter", within_s)
        return meter

    def _asked(self) -> Asked:
        base = self._base
        return Asked(
            hub_id=base.identity.hub_id,
            data_dir=self._config.data_dir,
            started_at=base.started_at,
            store=base.store,
            health=base.health,
            clock=base.clock,
            home=base.bridge,
            control=self._control,
            uplink=self._uplink,
            updates=self._updates,
            board=base.board,
            trace=self._tracer,
            radio=lambda: self._radio,
            radio_state=self._absent_radio,
            meter=self._meter,
            start_anew=base.start_anew,
            reload=self.reload,
            changes=lambda: self._settings.changes,
            flash=lambda: self._supervision.flash(),
            history=lambda: self._supervision.history,
        )

    def _watched(self) -> Watched:
        base = self._base
        return Watched(
            data_dir=self._config.data_dir,
            run_dir=self._config.run_dir,
            flash_told=self._flash_told,
            started_at=base.started_at,
            store=base.store,
            health=base.health,
            liveness=base.liveness,
            clock=base.clock,
            expiry=self._expiry,
            certificate=lambda: base.identity.certificate,
            set_clock=self._control.set_clock,
            operators=lambda: self._controller.authority.operators,
            trial_until=lambda: self._controller.trial.until,
            operators_changed=lambda: stamp_or_none(self._config.operators_file) != self._operators_stamp,
            internal_errors=lambda: base.bridge.internal_errors,
            sessions=base.bridge.gateway.sessions,
            pressures=base.bridge.pressures,
            is_radio_up=self._is_radio_up,
            household=self._household,
            probe=self._admin.probe,
            start_anew=base.start_anew,
        )

    def _household(self) -> tuple[float | None, float | None]:
        """The watts that it draws, and those it is held to."""
        now = monotonic()
        return self._controller.household.household_w(now), self._controller.status(now)["watts"]

    def _apply_settings(self, changed: Config) -> None:
        """Settings that a command changed, in force at once."""
        before, self._config = self._config, changed
        self._controller.configure(control_settings(changed), monotonic())
        self._base.store.form_packs(changed.uplink.pack_form)
        if changed.uplink.est_look_s != before.uplink.est_look_s:
            self._renewal.look_every(changed.uplink.est_look_s)
        if (changed.uplink, changed.heartbeat_s, changed.groups) != (before.uplink, before.heartbeat_s, before.groups):
            self._uplink.reconfigure(changed.uplink, changed.heartbeat_s, changed.groups)

    def reload_quietly(self) -> None:
        """SIGHUP: as `reload`; what is wrong with the file is a condition, and who commanded before still does."""
        try:
            self.reload()
        except ConfigError as error:
            log.error("%s", error)
            self._base.health.raise_condition("operators-unreadable", str(error))

    def reload(self) -> "ReloadAnswer":
        """Read the operators' file again. Raises ConfigError."""
        stamp = stamp_or_none(self._config.operators_file)
        operators = OperatorFile(self._config).read(self._controller.trial.kept)
        self._operators_stamp = stamp
        self._control.use_operators(operators)
        self._base.health.clear_condition("operators-unreadable")
        self._supervision.look.set()
        return {"operators": sorted(operators)}

    # Life

    async def run(self) -> None:
        """Start everything, serve until told to stop, stop everything. Raises ConfigError at start."""
        base = self._base
        try:
            await self._start()
            log.info(
                "serving as %s, version %s, epoch %d, boot %d",
                base.identity.hub_id, VERSION, base.store.epoch, base.store.boot,
            )  # fmt: skip
            notify(f"READY=1\nSTATUS=serving as {base.identity.hub_id}")
            is_radio_there = await self._start_radio()
            asyncio.get_running_loop().call_later(_START_IS_OVER_S, _give_back_what_starting_took)
            while not is_radio_there:
                with suppress(TimeoutError):
                    await asyncio.wait_for(base.stopping.wait(), _RADIO_AGAIN_S)
                if base.stopping.is_set():
                    break
                is_radio_there = await self._start_radio()
            await base.stopping.wait()
        finally:
            notify("STOPPING=1")
            await self._stop()

    async def _start(self) -> None:
        base, config = self._base, self._config
        try:
            await self._admin.start()
        except OSError as error:
            raise ConfigError(f"{config.source}: hub.run_dir: {config.run_dir}: {error.strerror or error}") from None
        self._control.set_clock(base.clock.offset_ms() / 1000, base.clock.is_trusted())
        self._spawn(self._control.run(), "control")
        self._spawn(self._uplink.run(), "uplink")
        if config.uplink.est_url is not None:
            self._spawn(self._renewal.run(), "renewal")
        if base.unusable:
            self._spawn(base.open_what_was_not(), "links")
        self._spawn(self._updates.mark_good(), "slots")
        self._spawn(self._supervision.watch(), "watch")
        self._spawn(self._supervision.feed_watchdog(), "watchdog")
        if self._meter is not None:
            self._spawn(self._meter.run(), "meter")

    async def _start_radio(self) -> bool:
        """False: its software does not load, now."""
        base = self._base
        if self._config.radio is None:
            return True
        base.health.raise_condition("radio-starting")
        await self._let_uplink_go_first()
        if base.stopping.is_set():
            return True
        # The import alone takes seconds on the target: in a thread, so that the home and the uplink go on meanwhile.
        try:
            zigbee = await asyncio.to_thread(_import_zigbee)
            radio = zigbee.ZigbeeLink(
                self._config.radio, self._config.data_dir, base.health, base.store.record_event, base.trusted_utc
            )
            radio.reading = base.bridge.take_reading
            radio.observed = lambda changes: self._control.observed([], changes)
            self._control.use_radio(radio)
            radio.keep_network = self._radio_network.keep
            radio.kept_network = self._radio_network.document
            radio.open_note = self._open_firmware
            radio.is_taken = self._is_told_by_meter
            await base.bridge.add_link(radio)
        except Exception as error:
            # Whatever those libraries think of: UDP, the uplink and control are worth more than a restart.
            log.exception("the radio's software does not load")
            self._radio_failed = True
            base.health.clear_condition("radio-starting")
            base.health.raise_condition("radio-unusable", repr(error)[:200])
            return False
        self._radio_failed = False
        base.health.clear_condition("radio-unusable")
        self._radio = radio
        self._tracer.radio = radio
        self._control.on_price = lambda: self._tell_prices(radio)
        self._control.on_limit = lambda: self._tell_limit(radio)
        self._tell_prices(radio)
        self._tell_limit(radio)
        return True

    def _is_told_by_meter(self, client: str) -> bool:
        """Whether the meter's own port passes on a meter of this name."""
        return self._meter is not None and any(row["client"] == client for row in self._meter.details()["others"])

    async def _let_uplink_go_first(self) -> None:
        """On a small ARM the import below and a first TLS handshake take twice as long beside each other."""
        reasons = [asyncio.ensure_future(event.wait()) for event in (self._uplink.has_tried, self._base.stopping)]
        await asyncio.wait(reasons, timeout=_UPLINK_FIRST_S, return_when=asyncio.FIRST_COMPLETED)
        for reason in reasons:
            reason.cancel()

    def _absent_radio(self) -> str:
        """What a radio that is not there yet is called."""
        if self._config.radio is None:
            return "off"
        # While its libraries are being imported, and if they cannot be.
        return "unusable" if self._radio_failed else "starting"

    def _is_radio_up(self) -> bool:
        return self._radio is not None and self._radio.status()["state"] == "up"

    def _tell_prices(self, radio: Radio) -> None:
        table = self._controller.bulletin.table("price")
        if table is not None:
            # Displays keep the newer of two tables: told again, it is newer.
            radio.tell_prices(table["currency"], [tuple(step) for step in table["steps"]], utc_ms() // 1000)

    def _open_firmware(self, note: bytes) -> FirmwareNote:
        t = self._base.trusted_utc()
        if t is None:
            raise ValueError("the clock is not trustworthy yet: who may sign cannot be judged")

        def key_for(kid: str) -> PublicKey | None:
            operator = self._controller.authority.operators.get(kid)
            return operator.public_key if operator is not None and operator.may(ROLE, t) else None

        return open_firmware(note, key_for)

    def _tell_limit(self, radio: Radio) -> None:
        held, now = self._controller.household.held, monotonic()
        duration_s = None if held is None or held.until is None else held.until - now
        radio.tell_limit(None if held is None else held.watts, utc_ms() // 1000, duration_s)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_task_end)
        self._tasks.append(task)

    def _on_task_end(self, task: "asyncio.Task[None]") -> None:
        # A loop of the hub never ends by itself: if one does, systemd starts the hub anew, which is known to work.
        if not task.cancelled() and not self._base.stopping.is_set():
            log.critical("the %s loop ended: %r", task.get_name(), task.exception())
            self.failed = True
            self._base.stopping.set()

    async def _stop(self) -> None:
        """In reverse: the utility hears of it, then nothing more is asked, then nothing more arrives."""
        self._uplink.stop()
        uplink = [task for task in self._tasks if task.get_name() == "uplink"]
        if uplink:
            await asyncio.wait(uplink, timeout=_UPLINK_CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await self._admin.close()


async def close(base: Foundation) -> None:
    """The home and the store go last: what is on its way there still gets there."""
    log.info("stopping")
    await base.bridge.close()
    base.store.record_event("hub.stopped", {"boot": base.store.boot, "reason": "stop"})
    await asyncio.to_thread(base.store.close, _STORE_CLOSE_S)
    await asyncio.sleep(0)  # answers that the last commit released


def _import_zigbee() -> Any:
    from drivers import zigbee

    return zigbee


def _give_back_what_starting_took() -> None:
    give_back_memory()
    let_go_of_code()


async def _run(config: Config, present: Present) -> int:
    base = Foundation(config, present)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, base.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # not before there is somebody to command
    try:
        await base.serve_home()
        daemon = Daemon(base, await base.control_state())
        loop.add_signal_handler(signal.SIGHUP, daemon.reload_quietly)
        await daemon.run()
    finally:
        await close(base)
    return 1 if daemon.failed else 0


def run_daemon(config: Config) -> int:
    """Run a hub until it is told to stop; exit status 0, or 1 when it has to be started anew. Raises ConfigError."""
    share_one_arena()
    try:
        present = present_identity(config)
        meter_keys(config)
    except HardwareError as error:
        # A module that starts late, or has to be reset: systemd tries again, each time later.
        log.critical("%s: uplink.key_file: %s", config.source, error)
        return 1
    try:
        return asyncio.run(_run(config, present))
    except StoreError as error:
        raise ConfigError(f"{config.source}: hub.data_dir: {error}") from None
