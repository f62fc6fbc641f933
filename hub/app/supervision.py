"""Looks after the hub that runs: its clock, certificate, store and loops; feeds the watchdog; says what is wrong
locally."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.x509 import Certificate

from drivers.board import is_filter_missing
from drivers.clock import Clock, monotonic, utc_ms
from drivers.data_at_rest import encryption_of, is_encryption_promised
from drivers.flash import FlashLife, FlashWear
from drivers.process import let_go_of_code, trim_heap
from drivers.systemd import notify, watchdog_interval_s
from hub.core.control.records import Journal
from hub.core.day_history import DayHistory, HistoryPoint
from hub.core.gateway import session as states
from hub.core.gateway.session import Session
from hub.core.health import Health
from hub.core.liveness import Liveness
from hub.services.identity.expiry import Expiry
from hub.wire.keys.operators import Operators
from hub.wire.printable import plain
from hub.wire.uplink.cbor import encode
from store import Store, StoreError, StoreFailing, StoreFull, StoreReadOnly

log = logging.getLogger(__name__)

_LET_GO_S = 600.0
_CLOCK_PERIOD_S = 30.0
_LOOK_AFTER_LOOPS_S = 300.0  # where nobody watches, for the condition alone
# A hub that has lived so long is no short life to the unit's back-off (deploy/systemd/meterhub.service).
_LIVED_S = 600.0
_MANY_STARTS = 3
_WITHOUT_AN_END = ("store-salvaged", "internal-error")
_TOLD_S = 86400.0
_ROOM_BYTES = 256 * 1024
_MISSED_AFTER_S = _OLD_AFTER_S = 86400.0
# What the home's loop may say of strangers, by code of hub/core/health.py.
PRESSURES = (
    "adapters-crowded", "adapters-full", "adapter-out-of-class", "retained-full", "nameless-full", "home-flooded",
)  # fmt: skip
STARTS_FILE = "starts"
_SLOW_MS = 1500.0, 500.0  # a commit, of late: when it is said, and when it is over
_KNOWN_AFTER = 8  # commits
_WORN_PERCENT = 90
FLASH_ITEM = "flash"  # what the flash last said of itself
_LOCAL = ("store-failing", "store-read-only", "loop-stuck")
OPERATOR_WARNED_S = 30 * 86400.0
_UNWRITABLE = ("store-full", "store-read-only", "store-failing")


def note_custody(health: Health, error: Exception | None, data_dir: Path) -> None:
    """The store's last word on custody, as one condition or none."""
    code = "" if error is None else _unwritable(error, data_dir)
    for each in _UNWRITABLE:
        health.set_condition(each, each == code, str(error))


def _unwritable(error: Exception, data_dir: Path) -> str:
    """The condition that a failed commit shows as. Where SQLite only says that a write failed, the file system tells
    why."""
    if isinstance(error, StoreFull):
        return "store-full"
    if isinstance(error, StoreReadOnly):
        return "store-read-only"
    if isinstance(error, StoreFailing):
        with suppress(OSError):
            around = os.statvfs(data_dir)
            if around.f_flag & os.ST_RDONLY:
                return "store-read-only"
            if around.f_bavail == 0:
                return "store-full"
    return "store-failing"


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked after. `probe()`: ask the hub as an engineer would; `set_clock(offset_s, is_trusted)`:
    control's; `internal_errors()`: of the gateway; `pressures()`: bounds that strangers made felt; `is_radio_up()`:
    whether there is a radio that works; `household()`: the watts that it draws, and those it is held to, None for none;
    `flash_told`: what the store has of FLASH_ITEM."""

    data_dir: Path
    run_dir: Path
    started_at: float
    store: Store
    health: Health
    liveness: Liveness
    clock: Clock
    expiry: Expiry
    certificate: Callable[[], Certificate]
    set_clock: Callable[[float, bool], None]
    operators: Callable[[], Operators]
    trial_until: Callable[[], float | None]
    operators_changed: Callable[[], bool]
    internal_errors: Callable[[], int]
    sessions: Callable[[], list[Session]]
    pressures: Callable[[], dict[str, str]]
    is_radio_up: Callable[[], bool]
    household: Callable[[], tuple[float | None, float | None]]
    probe: Callable[[], Awaitable[None]]
    start_anew: Callable[[], None]
    flash_told: bytes | None = None


class Supervision:
    """The watch over one hub."""

    def __init__(self, watched: Watched) -> None:
        self._hub = watched
        self._salvaged = self._errors = self._unfiltered = 0
        self._told: dict[str, tuple[int, float]] = {}  # how often raised, and when last
        self._flash = FlashLife(watched.data_dir)
        self._flash_told = watched.flash_told
        self.history = DayHistory()
        self._let_go_at = monotonic() + _LET_GO_S
        self.look = asyncio.Event()  # something happened that the watch should see to now

    async def watch(self) -> None:
        """Every half minute: the clock, the certificate, the store."""
        hub = self._hub
        self._check_at_rest()
        while True:
            self.look.clear()
            trusted = hub.clock.is_trusted()
            hub.store.set_clock(hub.clock.offset_ms(), trusted)
            hub.set_clock(hub.clock.offset_ms() / 1000, trusted)
            hub.health.set_condition("clock-untrusted", not trusted)
            self._check_operators(utc_ms() / 1000, trusted)
            self._check_adapters()
            await hub.expiry.look(hub.certificate(), utc_ms() / 1000, trusted)
            self._check_filter()
            self._check_store()
            await self._check_queue()
            await self._try_custody()
            self._look_at_starts()
            self._let_go()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look.wait(), 2.0 if hub.health.conditions() else _CLOCK_PERIOD_S)

    def _let_go(self) -> None:
        """What a flood or an exchange of certificates took and nobody needs any more."""
        if monotonic() >= self._let_go_at:
            self._let_go_at = monotonic() + _LET_GO_S
            trim_heap()
            let_go_of_code()

    def _check_at_rest(self) -> None:
        """Once: what a folder rests on does not change while it is mounted."""
        folder = self._hub.data_dir
        if is_encryption_promised():
            self._hub.health.set_condition("data-unencrypted", encryption_of(folder) is None, str(folder))

    def _check_filter(self) -> None:
        """Missed twice in a row: while the board starts, the filter may come after the hub."""
        self._unfiltered = self._unfiltered + 1 if is_filter_missing() else 0
        self._hub.health.set_condition("packet-filter-missing", self._unfiltered > 1)

    def _check_store(self) -> None:
        hub = self._hub
        if hub.store.is_late:
            log.critical("the hub starts anew: its database could not be opened before, and can be now")
            hub.start_anew()
        health, status = hub.health, hub.store.status()
        if status["salvaged"] > self._salvaged:
            self._salvaged = status["salvaged"]
            health.raise_condition("store-salvaged", "see the event store.salvaged")
        if not hub.store.epoch:  # there is no database yet
            note_custody(health, hub.store.trouble, hub.data_dir)
        slow_ms = _SLOW_MS[1] if health.holds("store-slow") else _SLOW_MS[0]
        commit_ms = status["commit_ms"]
        is_slow = bool(hub.store.epoch and status["commits"] >= _KNOWN_AFTER and commit_ms > slow_ms)
        health.set_condition("store-slow", is_slow, f"{commit_ms / 1000:.1f} s a commit")
        self._check_flash()
        health.set_condition("store-wear", status["stretched"], f"up to {status['window_s']} s now")
        felt = hub.pressures()
        for code in PRESSURES:
            health.set_condition(code, code in felt, felt.get(code, ""))
        errors = hub.internal_errors()
        if errors > self._errors:
            self._errors = errors
            health.raise_condition("internal-error", f"{errors} in the gateway; see the journal")
        for code in _WITHOUT_AN_END:
            self._let_pass(code)

    def _check_flash(self) -> None:
        """Its own word on its age: a condition near its end, and an event at each step."""
        wear = self._flash.wear(monotonic())
        life, pre_eol = wear
        says = f"{life} % of it is used" if life is not None else "how much of it is used it does not say"
        if pre_eol not in (None, "normal"):
            says += f", its blocks in reserve: {pre_eol}"
        is_worn = (life is not None and life >= _WORN_PERCENT) or pre_eol in ("warning", "urgent")
        self._hub.health.set_condition("store-worn", is_worn, f"{says}, by its own registers")
        item = encode([life, pre_eol])
        if item == self._flash_told or wear == (None, None) or not self._hub.store.epoch:
            return
        self._flash_told = item
        fields = {name: value for name, value in wear._asdict().items() if value is not None}
        asyncio.wrap_future(
            self._hub.store.commit_control(Journal(kept={FLASH_ITEM: item}, events=[("flash.aged", fields)]))
        ).add_done_callback(lambda done: done.exception())  # where nothing can be written, that is told of

    def flash(self) -> FlashWear:
        """For `meterhub status`."""
        return self._flash.wear(monotonic())

    def _let_pass(self, code: str) -> None:
        """What happened, and is over, is told for a day after it happened last."""
        times, now = self._hub.health.times_raised(code), monotonic()
        known, since = self._told.get(code, (0, now))
        if times != known:
            self._told[code] = (times, now)
        elif now - since > _TOLD_S:
            self._hub.health.clear_condition(code)

    def _check_operators(self, t: float, trusted: bool) -> None:
        """Who may command, and for how long still: an operator whose time ends unseen cannot be replaced from afar."""
        health, operators = self._hub.health, self._hub.operators()
        ending = [
            operator.kid
            for operator in operators.values()
            if operator.not_after is not None and trusted and t > operator.not_after - OPERATOR_WARNED_S
        ]
        health.set_condition("operators-not-loaded", self._hub.operators_changed())
        health.set_condition("operator-expires-soon", bool(ending), plain(", ".join(ending)))
        admins = [operator for operator in operators.values() if "admin" in operator.roles]
        gone = trusted and bool(admins) and not any(operator.may("admin", t) for operator in admins)
        health.set_condition("operators-without-admin", gone, plain(", ".join(operator.kid for operator in admins)))
        until = self._hub.trial_until()
        health.set_condition("operators-on-trial", until is not None, "" if until is None else f"until {until:.0f}")

    def _check_adapters(self) -> None:
        """Who was in the home and is not heard any more. Who said goodbye, or was forgotten, is missed by nobody."""
        health, now = self._hub.health, monotonic()
        present = [session for session in self._hub.sessions() if session.state != states.DISCONNECTED]
        lost = [session for session in present if session.state == states.LOST]
        is_all = bool(lost) and len(lost) == len(present)
        health.set_condition("adapters-silent", is_all, f"{len(lost)} of {len(present)}")
        gone = [session.client_id for session in lost if now - session.last_heard > _MISSED_AFTER_S]
        health.set_condition("adapter-silent", bool(gone), plain(", ".join(gone)))

    async def _check_queue(self) -> None:
        """How old the oldest reading is, wherever it waits; and a row of the day's history."""
        try:
            lanes = await asyncio.wrap_future(self._hub.store.queue_status())
        except StoreError:
            return  # it is told of already
        oldest_s = float(lanes["readings"]["oldest_s"])
        days = f"{oldest_s / 86400:.1f} days"
        self._hub.health.set_condition("readings-old", oldest_s > _OLD_AFTER_S, f"the oldest for {days}")
        household_w, limit_w = self._hub.household()
        self.history.note(
            HistoryPoint(
                utc_ms(),
                lanes["readings"]["pending"],
                lanes["events"]["pending"],
                lanes["receipts"]["pending"],
                lanes["answers"]["pending"],
                lanes["readings"].get("unsealed", 0),
                oldest_s,
                household_w,
                limit_w,
            )
        )

    async def _try_custody(self) -> None:
        """Whether a medium that took nothing takes something again: nobody may be asking it to."""
        hub = self._hub
        if not hub.store.epoch or not any(hub.health.holds(code) for code in _UNWRITABLE):
            return
        with suppress(OSError):
            around = os.statvfs(hub.data_dir)
            if hub.health.holds("store-full") and around.f_bavail * around.f_frsize < _ROOM_BYTES:
                return  # a small write may find room, a reading's none
        try:
            await asyncio.wrap_future(hub.store.try_to_write())
        except StoreError as error:
            note_custody(hub.health, error, hub.data_dir)
        else:
            note_custody(hub.health, None, hub.data_dir)

    def _look_at_starts(self) -> None:
        """The unit counts how often it had to start the hub; a life of ten minutes ends the count."""
        hub, file = self._hub, self._hub.run_dir / STARTS_FILE
        starts = 0
        with suppress(OSError, ValueError):
            if monotonic() - hub.started_at >= _LIVED_S:
                file.unlink(missing_ok=True)
            else:
                starts = int(file.read_text())
        hub.health.set_condition("hub-restarts", starts >= _MANY_STARTS, f"{starts} times")

    async def feed_watchdog(self) -> None:
        """Fed from the loop that serves the home, and only while all others live: the uplink's and control's by their
        own word, the writer and the admin socket by asking them as an engineer would."""
        interval_s = watchdog_interval_s()
        while True:
            stuck = self._hub.liveness.stuck()
            # Twice: the machine may have slept over the first.
            fault = await self._probe() and await self._probe()
            if fault:
                stuck.append(fault)
            self._hub.health.set_condition("loop-stuck", bool(stuck), ", ".join(stuck))
            if stuck:
                log.critical("the watchdog is not fed: %s", ", ".join(stuck))
            else:
                notify("WATCHDOG=1")
            await asyncio.sleep(_LOOK_AFTER_LOOPS_S if interval_s is None else interval_s)

    async def _probe(self) -> str:
        """What is wrong with admin socket or store, "" for nothing."""
        try:
            await self._hub.probe()
        except (OSError, TimeoutError, ValueError) as error:
            return f"admin socket or store ({error!r})"
        return ""

    def local_fault(self, with_radio: bool) -> str:
        """What is wrong with the hub itself, "" for nothing. An outage outside is no local fault."""
        if stuck := self._hub.liveness.stuck():
            return f"stuck: {', '.join(stuck)}"
        failing = [it for it in self._hub.health.conditions() if it.code in _LOCAL]
        if failing:
            return failing[0].text
        return "the radio does not come up" if with_radio and not self._hub.is_radio_up() else ""
