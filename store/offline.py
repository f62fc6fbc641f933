"""A read-only view of a stopped hub's data_dir, for `meterhub queue|readings|events` without a daemon."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from hub.wire.uplink.reading import Reading
from store.database import Database, open_read_only
from store.errors import StoreBusy, StoreCorrupt, StoreError, translate
from store.history import ReadingsQuery, Wanted, find_readings, finish, newest_events
from store.logview import LogView, note_unsealed
from store.opening import DB_NAME
from store.outbox import Outbox, Sealed
from store.queries import LANES

if TYPE_CHECKING:
    from hub.wire.admin import QueueAnswer

T = TypeVar("T")


def _no_seal(*_: object) -> bytes:
    raise StoreError("the offline view does not seal")


class OfflineStore:
    """The same questions as `Store` answers, answered at once. Raises StoreError: the hub is running, there is no
    database, it is damaged (the hub salvages it when it starts)."""

    def __init__(self, data_dir: Path) -> None:
        self._path = Path(data_dir) / DB_NAME
        if not self._path.exists():
            raise StoreError(f"there is no database in {data_dir}")
        self._wal = Path(f"{self._path}-wal")
        self._extras = [path for path in (self._wal, Path(f"{self._path}-shm")) if not path.exists()]
        self._db: Database | None = None
        self._view = self._guard(self._open)
        self._outbox = self._guard(lambda: Outbox(self._view.db, _no_seal, self._view.epoch, self._view.marks))

    def _open(self) -> LogView:
        # Without a WAL nothing is pending and the file can be read as it lies; with one, SQLite has to look into it,
        # and takes the lock that a running hub holds.
        self._db = open_read_only(self._path, immutable=not self._wal.exists())
        self._db.identify()
        return LogView(self._db)

    def _guard(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except (sqlite3.Error, StoreCorrupt) as raised:
            self.close()
            error = translate(raised)
            if isinstance(error, StoreBusy):
                raise StoreError(f"the hub is running and has {self._path} open: ask the daemon") from None
            raise StoreError(f"{self._path} does not read: {error}") from None

    def close(self) -> None:
        """Close, and remove what SQLite left beside the database for the sake of looking."""
        if self._db is not None:
            self._db.close()
            self._db = None
            for path in self._extras:
                path.unlink(missing_ok=True)

    def __enter__(self) -> "OfflineStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        """The epoch the hub was in."""
        return self._view.epoch

    @property
    def boot(self) -> int:
        """The number of its last boot."""
        return self._view.boot

    def readings(self, **query: Unpack[ReadingsQuery]) -> list[Reading]:
        """As `Store.readings`."""
        return self._guard(lambda: finish(find_readings(self._view, Wanted(**query))))

    def events(self, limit: int) -> list[dict[str, Any]]:
        """As `Store.events`."""
        return self._guard(lambda: newest_events(self._view.db, limit))

    def unsent(self, lane: str, epoch: int, after_number: int, limit: int) -> list[Sealed]:
        """As `Store.unsent`."""
        return self._guard(lambda: self._outbox.unsent(lane, epoch, after_number, limit))

    def sealed_range(self, lane: str, epoch: int, first: int, last: int) -> list[Sealed]:
        """As `Store.sealed_range`."""
        return self._guard(lambda: self._outbox.between(lane, epoch, first, last))

    def queue_status(self) -> "QueueAnswer":
        """As `Store.queue_status`."""
        utc_ms = time.time_ns() // 1_000_000
        status = self._guard(lambda: {lane: self._outbox.status(lane, utc_ms) for lane in LANES})
        note_unsealed(status["readings"], self._view, utc_ms)
        return cast("QueueAnswer", status)
