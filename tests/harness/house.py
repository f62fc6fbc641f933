"""The real uplink over a real store, in this process: what it does to a peer, and what it says of itself."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.pki import DevelopmentAuthority
from hub.core.health import Health
from hub.core.records import Batch, Sample
from hub.core.uplink.config import UplinkConfig
from hub.services.identity.announcement import hand_over
from hub.services.identity.renewal import Renewal, newest_identity
from hub.services.uplink.loop import Uplink
from hub.wire.keys.identity import Identity
from hub.wire.uplink.envelope import seal
from store import Store
from tests.harness.newborn import newborn
from tests.harness.waiting import DEFAULT_TIMEOUT_S, wait_for

# What of the settings is the uplink's own and not of its configuration.
_OPTIONS = ("heartbeat_s", "silence_s", "traffic_file", "machine_up_s", "random_source")

_STOP_S = 15.0  # shorter than any wait for a broker (session.py: CONNECT_TIMEOUT_S), which `stop` must cut


class House:
    """A store and the uplink above it, in a thread with a loop of its own. `random` 0: the shortest of all delays.

    `is_lost`: the folder is not one where a hub was before. `utc_s`: of a clock that is trusted, None: there is none.
    """

    def __init__(self, directory: Path, authority: DevelopmentAuthority, ports: list[int], **settings: Any) -> None:
        pki = authority.directory
        options: dict[str, Any] = {
            name: settings.pop(name)
            for name in (
                "heartbeat_s",
                "silence_s",
                "traffic_file",
                "liveness",
                "machine_up_s",
                "random_source",
                "groups",
            )
            if name in settings
        }
        is_lost, utc_s = settings.pop("is_lost", False), settings.pop("utc_s", None)
        hosts = settings.pop("hosts", [("localhost", port) for port in ports])
        files = {"ca_file": authority.ca_file, "cert_file": pki / "hub.pem", "key_file": pki / "hub.key"}
        config = UplinkConfig(hosts=tuple(hosts), **{**files, "pack_interval_s": 0.1, **settings})
        present = newest_identity(config.cert_file, config.key_file, directory / "data")
        self.identity = identity = present[0]

        def sealed(lane: str, epoch: int, number: int, kind: int | str, payload: bytes, extra: Any) -> bytes:
            return seal(self.identity.signer, identity.hub_id, epoch, lane, number, kind, payload, extra)

        if not is_lost:
            newborn(directory / "data")
        self.store = Store(
            directory / "data", seal=sealed, max_mb=64, pack_form=config.pack_form, trusted_utc_s=lambda: utc_s
        )
        self.store.start()
        self.health = Health()
        self.commands: list[bytes] = []
        self.forgot = 0  # how often control was told that it may have forgotten
        self.held: list[Callable[[], None]] = []  # what acknowledges a command that begins with "hold"
        self._ready = threading.Event()
        self.renewal = Renewal(
            config.est_url, config.ca_file, directory / "data", present, self.health, self.store.record_event,
            self._adopted, random=lambda: 0.0, look_every_s=config.est_look_s,
        )  # fmt: skip
        options = {
            "heartbeat_s": 60,
            "machine_up_s": lambda: 1e6,
            "random_source": lambda: 0.0,
            "renewal": self.renewal,
            **options,
        }
        self._parts = (config, identity, options)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(DEFAULT_TIMEOUT_S)

    def _adopted(self, identity: Identity) -> None:
        hand_over(self.store, identity, lambda: setattr(self, "identity", identity))

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        config, identity, options = self._parts
        self.uplink = Uplink(
            config, identity, self.store, self.health, version="test", command=self._command, forgot=self._forget,
            **options,
        )  # fmt: skip
        self.store.on_change = self._tell
        self._ready.set()
        renewing = asyncio.create_task(self.renewal.run())
        await self.uplink.run()
        renewing.cancel()

    def _tell(self, what: set[str]) -> None:
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.uplink.store_changed, what)

    def _command(self, message: bytes, acknowledge: Callable[[], None]) -> None:
        self.commands.append(message)
        if message.startswith(b"stumble") and self.commands.count(message) == 1:
            raise RuntimeError("whoever takes commands has a fault")
        if message.startswith(b"hold"):
            self.held.append(acknowledge)
        else:
            acknowledge()

    def _forget(self) -> None:
        self.forgot += 1

    def let_go(self) -> None:
        """Acknowledge the commands that were held."""
        for acknowledge in self.held:
            self.loop.call_soon_threadsafe(acknowledge)
        self.held.clear()

    def status(self) -> dict[str, Any]:
        """What `meterhub status` would show."""

        async def ask() -> dict[str, Any]:
            return dict(self.uplink.status())

        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(DEFAULT_TIMEOUT_S)

    def wait_state(self, state: str) -> None:
        wait_for(f"the uplink to be {state}", lambda: self.status()["state"] == state)

    def wait_condition(self, code: str) -> str:
        """Wait until a condition holds; its text."""

        def text() -> str | None:
            return next((c.text for c in self.health.conditions() if c.code == code), None)

        found = wait_for(f"the condition {code}", text)
        assert found is not None
        return found

    def read(self, count: int, *, first: int = 0, per_commit: int = 50) -> None:
        """Take readings `first` to `first + count - 1` of one appliance into custody; each value is its number."""
        done = threading.Semaphore(0)
        batches = 0
        for begin in range(first, first + count, per_commit):
            batch = Batch(begin)
            batch.urgent = True
            batch.samples = [
                Sample("boiler", "power", float(i), i, 0) for i in range(begin, min(begin + per_commit, first + count))
            ]
            self.store.commit(batch, lambda _id, _error: done.release())
            batches += 1
        for _ in range(batches):
            assert done.acquire(timeout=DEFAULT_TIMEOUT_S)

    def event(self, boot: int = 0) -> None:
        """Record an event that is told apart by `boot`."""
        self.store.record_event("hub.stopped", {"boot": boot, "reason": "test"})

    def pending(self) -> int:
        lanes = self.store.queue_status().result(DEFAULT_TIMEOUT_S)
        rows = (lanes["readings"], lanes["events"], lanes["receipts"], lanes["answers"])
        return sum(row["pending"] for row in rows) + lanes["readings"].get("unsealed", 0)

    def wait_drained(self) -> None:
        wait_for("an empty queue", lambda: self.pending() == 0)

    def stop(self) -> None:
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.uplink.stop)
            self._thread.join(_STOP_S)
        assert not self._thread.is_alive(), "the uplink does not stop"
        self.store.close()
