"""Looks after the hub that runs: its clock, certificate, store and loops; feeds the watchdog; says what ails it."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import cbor2

from drivers.clock import monotonic, utc_ms
from drivers.data_at_rest import encryption_of, is_encryption_promised
from drivers.systemd import notify, watchdog_interval_s
from hub.core.control.records import FORGOT, Journal
from store import StoreError, StoreFull, factory_reset

if TYPE_CHECKING:
    from hub.app.daemon import Daemon

log = logging.getLogger(__name__)

_CLOCK_PERIOD_S = 30.0
_LOOK_AFTER_LOOPS_S = 300.0  # where nobody watches, for the condition alone
# A hub that has lived so long is no short life to the unit's back-off (deploy/systemd/meterhub.service).
_LIVED_S = 600.0
STARTS_FILE = "starts"


class Upkeep:
    """The watch over one daemon."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        self.look = asyncio.Event()  # something happened that the watch should see to now

    async def watch(self) -> None:
        """Every half minute: the clock, the certificate, the store."""
        daemon = self._daemon
        self._check_at_rest()
        while True:
            self.look.clear()
            trusted = daemon.clock.is_trusted()
            daemon.store.set_clock(daemon.clock.offset_ms(), trusted)
            daemon.governor.set_clock(daemon.clock.offset_ms() / 1000, trusted)
            daemon.health.set_condition("clock-untrusted", not trusted)
            await daemon.expiry.look(daemon.identity.certificate, utc_ms() / 1000, trusted)
            self._check_store()
            self._forget_starts()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look.wait(), 2.0 if daemon.health.conditions() else _CLOCK_PERIOD_S)

    def _check_at_rest(self) -> None:
        """Once: what a folder rests on does not change while it is mounted."""
        folder = self._daemon.config.data_dir
        if is_encryption_promised():
            self._daemon.health.set_condition("data-unencrypted", encryption_of(folder) is None, str(folder))

    def _check_store(self) -> None:
        if self._daemon.store.is_late:
            log.critical("the hub starts anew: its database could not be opened before, and can be now")
            self._daemon.start_anew()
        health = self._daemon.health
        status = self._daemon.store.status()
        health.set_condition("store-salvaged", status["salvaged"] > 0, "see the event store.salvaged")
        if not self._daemon.store.epoch:  # there is no database yet
            health.raise_condition("store-full", status["last_error"])
        health.set_condition("store-wear", status["stretched"], f"up to {status['window_s']} s now")
        errors = self._daemon.bridge.internal_errors
        health.set_condition("internal-error", errors > 0, f"{errors} in the gateway; see the journal")

    def _forget_starts(self) -> None:
        if monotonic() - self._daemon.started_at >= _LIVED_S:
            with suppress(OSError):
                (self._daemon.config.run_dir / STARTS_FILE).unlink(missing_ok=True)

    def on_custody(self, error: Exception | None) -> None:
        """The store's last word on custody."""
        health = self._daemon.health
        health.set_condition("store-full", isinstance(error, StoreFull), str(error))
        health.set_condition("store-failing", error is not None and not isinstance(error, StoreFull), str(error))

    async def feed_watchdog(self) -> None:
        """Fed from the loop that serves the home, and only while all others live: the uplink's and control's by their
        own word, the writer and the admin socket by asking them as an engineer would."""
        interval_s = watchdog_interval_s()
        while True:
            stuck = self._daemon.vitals.overdue()
            try:
                await self._daemon.admin.probe()
            except (OSError, TimeoutError, ValueError) as error:
                stuck.append(f"admin socket or store ({error!r})")
            self._daemon.health.set_condition("loop-stuck", bool(stuck), ", ".join(stuck))
            if stuck:
                log.critical("the watchdog is not fed: %s", ", ".join(stuck))
            else:
                notify("WATCHDOG=1")
            await asyncio.sleep(_LOOK_AFTER_LOOPS_S if interval_s is None else interval_s)

    async def forget_counters(self) -> bytes:
        """A factory reset took the operators' counters: what was commanded before it must not pass once more."""
        item = cbor2.dumps(None)  # as the store has it where a database was lost
        with suppress(StoreError):
            await asyncio.wrap_future(self._daemon.store.commit_control(Journal(kept={FORGOT: item})))
            factory_reset.take_done(self._daemon.config.data_dir)
        return item

    def is_radio_up(self) -> bool:
        """Whether there is a radio that works."""
        radio = self._daemon.radio
        return radio is not None and radio.status()["state"] == "up"

    def ailment(self, with_radio: bool) -> str:
        """What is wrong with the hub itself, "" for nothing. An outage outside is no ailment."""
        if stuck := self._daemon.vitals.overdue():
            return f"stuck: {', '.join(stuck)}"
        failing = [it for it in self._daemon.health.conditions() if it.code in ("store-failing", "loop-stuck")]
        if failing:
            return failing[0].text
        return "the radio does not come up" if with_radio and not self.is_radio_up() else ""
