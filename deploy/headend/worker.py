"""A worker: takes packs beside others, each pack once by one of them, and makes half-hours. Any number of processes, on
any number of machines, with one PostgreSQL.

The brokers divide packs among the sessions that share a subscription (`$share`). A worker's session waits for it: what
the broker gave to one that died it gives again when that is back, and hubs are asked for what is missing meanwhile.

Where a broker has no `$share` each worker's session has all packs, and takes those of its own hubs: by a hash of their
names. All have to agree how many they are; where they did not for a while, what two took is in the book once, and what
nobody took is asked for."""

import logging
import threading
import time
from typing import NamedTuple
from zlib import crc32

from deploy.headend.brokers import Brokers
from deploy.headend.config import HeadendConfig
from deploy.headend.intake import PACK_LANES, WORKER_COUNTS, PackIntake
from deploy.headend.taking import Taker
from hub.headend.database import FAILURES
from hub.wire.printable import why

_LOG = logging.getLogger("headend")
SHARED = tuple(f"$share/ingest/meters/+/{lane}" for lane in PACK_LANES)
ALL = tuple(f"meters/+/{lane}" for lane in PACK_LANES)
_BEAT_S = 2.0
_PAUSE_S = 1.0
_DRAINED_S = 1.0


class WorkersPart(NamedTuple):
    """Which hubs are a worker's: the `number`th of `parts`, from 1."""

    number: int
    parts: int

    def has(self, topic: str) -> bool:
        """Whether the hub of `meters/{hub}/...` is in it."""
        return crc32(topic.split("/", 2)[1].encode()) % self.parts == self.number - 1


class PackWorker:
    """`name`: of its session at the brokers, the same each time it starts. `part`: where brokers do not divide. Raises
    OSError where the database or every broker is away."""

    def __init__(self, config: HeadendConfig, name: str, part: WorkersPart | None = None) -> None:
        self._name = name
        self._counts = dict.fromkeys(WORKER_COUNTS, 0)
        self._intake = PackIntake(config.place, config.max_power_w, has_columns=bool(config.columns_url))
        self._brokers = Brokers(config, f"{config.client_id}-{name}")
        self._filters = ALL if config.is_divided_by_name else SHARED
        is_ours = (lambda _topic: True) if part is None else part.has
        self._taker = Taker(self._brokers.deliveries, self._intake, self._counts, lambda _received: None, is_ours)

    def run(self, stopping: threading.Event) -> None:
        """Until it is told to stop. Its session stays, and what it holds."""
        self._brokers.start(list(self._filters))
        _LOG.info("worker %s takes packs", self._name)
        beat_at = 0.0
        while not stopping.is_set():
            try:
                self._taker.take()
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + _BEAT_S
                    self._beat()
            except FAILURES as error:
                # Nothing was acknowledged that is not durable: the broker and the hubs have it still.
                self._counts["failed"] += 1
                _LOG.error("not written, and not acknowledged: %s", why(error))
                self._intake.undo()
                stopping.wait(_PAUSE_S)
        self._end()

    def _beat(self) -> None:
        t_ms = int(time.time() * 1000)
        self._intake.book.begin()
        self._intake.distrust_revoked()
        self._intake.usage.settle_stale(t_ms)
        self._intake.note_worker(self._name, t_ms, self._counts)
        self._intake.commit()

    def leave(self) -> None:
        """For good: the brokers give it no more, what they had given is taken, and it is known no longer. Raises one of
        FAILURES."""
        self._brokers.start([], self._filters)
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _DRAINED_S:
            if self._taker.take():
                quiet_since = time.monotonic()
        self._intake.forget_worker(self._name)
        self._intake.commit()
        self._end()

    def _end(self) -> None:
        self._brokers.stop()
        self._intake.close()
