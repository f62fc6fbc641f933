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

from drivers.clock import Clock, monotonic, utc_ms
from drivers.data_at_rest import encryption_of, is_encryption_promised
from drivers.flash import life_used_percent
from drivers.systemd import notify, watchdog_interval_s
from hub.core.health import Health
from hub.core.liveness import Liveness
from hub.services.identity.expiry import Expiry
from hub.wire.keys.operators import Operators
from hub.wire.printable import plain
from store import Store, StoreFailing, StoreFull, StoreReadOnly

log = logging.getLogger(__name__)

_CLOCK_PERIOD_S = 30.0
_LOOK_AFTER_LOOPS_S = 300.0  # where nobody watches, for the condition alone
# A hub that has lived so long is no short life to the unit's back-off (deploy/systemd/meterhub.service).
_LIVED_S = 600.0
# What the home's loop may say of strangers, by code of hub/core/health.py.
PRESSURES = ("adapters-crowded", "adapters-full", "retained-full", "nameless-full", "home-flooded")
STARTS_FILE = "starts"
_SLOW_MS = 1500.0, 500.0  # a commit, of late: when it is said, and when it is over
_KNOWN_AFTER = 8  # commits
_WORN_PERCENT = 90
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
    whether there is a radio that works."""

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
    internal_errors: Callable[[], int]
    pressures: Callable[[], dict[str, str]]
    is_radio_up: Callable[[], bool]
    probe: Callable[[], Awaitable[None]]
    start_anew: Callable[[], None]


class Supervision:
    """The watch over one hub."""

    def __init__(self, watched: Watched) -> None:
        self._hub = watched
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
            await hub.expiry.look(hub.certificate(), utc_ms() / 1000, trusted)
            self._check_store()
            self._forget_starts()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look.wait(), 2.0 if hub.health.conditions() else _CLOCK_PERIOD_S)

    def _check_at_rest(self) -> None:
        """Once: what a folder rests on does not change while it is mounted."""
        folder = self._hub.data_dir
        if is_encryption_promised():
            self._hub.health.set_condition("data-unencrypted", encryption_of(folder) is None, str(folder))

    def _check_store(self) -> None:
        hub = self._hub
        if hub.store.is_late:
            log.critical("the hub starts anew: its database could not be opened before, and can be now")
            hub.start_anew()
        health, status = hub.health, hub.store.status()
        health.set_condition("store-salvaged", status["salvaged"] > 0, "see the event store.salvaged")
        if not hub.store.epoch:  # there is no database yet
            note_custody(health, hub.store.trouble, hub.data_dir)
        slow_ms = _SLOW_MS[1] if health.holds("store-slow") else _SLOW_MS[0]
        commit_ms = status["commit_ms"]
        is_slow = bool(hub.store.epoch and status["commits"] >= _KNOWN_AFTER and commit_ms > slow_ms)
        health.set_condition("store-slow", is_slow, f"{commit_ms / 1000:.1f} s a commit")
        worn = life_used_percent(hub.data_dir)
        is_worn = worn is not None and worn >= _WORN_PERCENT
        health.set_condition("store-worn", is_worn, f"{worn} % of it is used, by its own register")
        health.set_condition("store-wear", status["stretched"], f"up to {status['window_s']} s now")
        felt = hub.pressures()
        for code in PRESSURES:
            health.set_condition(code, code in felt, felt.get(code, ""))
        errors = hub.internal_errors()
        health.set_condition("internal-error", errors > 0, f"{errors} in the gateway; see the journal")

    def _check_operators(self, t: float, trusted: bool) -> None:
        """Who may command, and for how long still: an operator whose time ends unseen cannot be replaced from afar."""
        health, operators = self._hub.health, self._hub.operators()
        ending = [
            operator.kid
            for operator in operators.values()
            if operator.not_after is not None and trusted and t > operator.not_after - OPERATOR_WARNED_S
        ]
        health.set_condition("operator-expires-soon", bool(ending), plain(", ".join(ending)))
        admins = [operator for operator in operators.values() if "admin" in operator.roles]
        gone = trusted and bool(admins) and not any(operator.may("admin", t) for operator in admins)
        health.set_condition("operators-without-admin", gone, plain(", ".join(operator.kid for operator in admins)))
        until = self._hub.trial_until()
        health.set_condition("operators-on-trial", until is not None, "" if until is None else f"until {until:.0f}")

    def _forget_starts(self) -> None:
        if monotonic() - self._hub.started_at >= _LIVED_S:
            with suppress(OSError):
                (self._hub.run_dir / STARTS_FILE).unlink(missing_ok=True)

    async def feed_watchdog(self) -> None:
        """Fed from the loop that serves the home, and only while all others live: the uplink's and control's by their
        own word, the writer and the admin socket by asking them as an engineer would."""
        interval_s = watchdog_interval_s()
        while True:
            stuck = self._hub.liveness.overdue()
            try:
                await self._hub.probe()
            except (OSError, TimeoutError, ValueError) as error:
                stuck.append(f"admin socket or store ({error!r})")
            self._hub.health.set_condition("loop-stuck", bool(stuck), ", ".join(stuck))
            if stuck:
                log.critical("the watchdog is not fed: %s", ", ".join(stuck))
            else:
                notify("WATCHDOG=1")
            await asyncio.sleep(_LOOK_AFTER_LOOPS_S if interval_s is None else interval_s)

    def local_fault(self, with_radio: bool) -> str:
        """What is wrong with the hub itself, "" for nothing. An outage outside is no local fault."""
        if stuck := self._hub.liveness.overdue():
            return f"stuck: {', '.join(stuck)}"
        failing = [it for it in self._hub.health.conditions() if it.code in _LOCAL]
        if failing:
            return failing[0].text
        return "the radio does not come up" if with_radio and not self._hub.is_radio_up() else ""
