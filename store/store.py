"""The store: what the hub took custody of, durable before anybody is told so. See `Store`."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from hub.core.control.records import FORGOT, Journal
from hub.core.records import Batch, Restored
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.pack_form import PackForm
from hub.wire.uplink.reading import Reading
from store.database import PAGE_SIZE
from store.engine import Engine
from store.errors import StoreBusy, StoreError, StoreUnwritable
from store.forwards import RawForward, take_fresh
from store.history import ReadingsQuery, Wanted, find_readings, newest_events
from store.jobs import Call, Commit, Done, Job, Note, Search, Stop
from store.logview import note_unsealed
from store.opening import StorePlace, check_folder
from store.outbox import Sealed, SealFunction, check_lane, row_id
from store.queries import LANES
from store.space import MIB, make_budget
from store.write_budget import WriteBudget
from store.writer import Writer

if TYPE_CHECKING:
    from hub.wire.admin import QueueAnswer, StoreFigures


def _utc_ms() -> int:
    return time.time_ns() // 1_000_000


class Store:
    """One data_dir's database and the thread that writes it.

    `seal(lane, epoch, number, content_type, payload, extra)` makes an envelope with the hub's id and key. `monotonic`
    is the clock of `Sample.sampled_s`. `group_window_s`: how long an urgent batch waits for company;
    `daily_write_mb`: what may be written to flash in a day before that window grows (store/write_budget.py), 0 = any.
    `pack_form`: how packs are made smaller. `trusted_utc_s()`: UTC seconds, None while the clock is
    not to be believed: what a first epoch is made of.
    Everything that returns a Future is executed on the writer thread and fails with StoreError (store/errors.py).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        seal: SealFunction,
        max_mb: float = 256,
        retention_days: float = 400,
        group_window_s: float = 0.0,
        daily_write_mb: float = 0,
        pack_form: PackForm | None = None,
        trusted_utc_s: Callable[[], float | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        utc_ms: Callable[[], int] = _utc_ms,
    ) -> None:
        self.on_change: Callable[[set[str]], None] | None = None
        self.restored: list[Restored] = []
        self._monotonic = monotonic
        budget = make_budget(max_mb, PAGE_SIZE)
        self._place = StorePlace(
            Path(data_dir), seal, budget, self._mono_ms, utc_ms, pack_form or PackForm(), trusted_utc_s
        )
        pace = WriteBudget(group_window_s, daily_write_mb * MIB)
        self._writer = Writer(self._place, retention_days=retention_days, pace=pace, tell=self._changed)
        self._closed = False
        self._gate = threading.Lock()  # nothing is queued behind the Stop

    def _mono_ms(self) -> int:
        return int(self._monotonic() * 1000 + 0.5)

    def start(self) -> None:
        """Open, salvage or create the database and start writing. Raises StoreError, one line, for what only a human
        can cure: data_dir is not writable, another hub has it."""
        check_folder(self._place.data_dir)
        self._writer.start()
        try:
            is_open = self._writer.opened.result()
        except StoreBusy:
            raise StoreError(f"data_dir {self._place.data_dir}: another hub has the database open") from None
        except StoreError as error:
            raise StoreError(f"data_dir {self._place.data_dir}: {error}") from None
        if is_open:
            # What does not read even after a salvage must not keep the hub from serving the home.
            with suppress(StoreError):
                self.restored = self._ask(lambda engine: engine.restore()).result()

    def form_packs(self, form: PackForm) -> None:
        """How the packs sealed from now on are made smaller."""
        self._place.pack_form = form

    @property
    def epoch(self) -> int:
        """The epoch of what is sealed now; it grows when a damaged database is set aside. 0 before start()."""
        return self._writer.keeper.epoch

    @property
    def boot(self) -> int:
        """How many times this database was opened."""
        return self._writer.keeper.boot

    @property
    def is_epoch_new(self) -> bool:
        """Whether the broker is to be asked what it knows of this hub before anything is sent: see `settle_epoch`."""
        engine = self._writer.keeper.engine
        return engine is not None and engine.is_epoch_new

    def settle_epoch(self, told: tuple[int, int] | None) -> "Future[bool]":
        """Say what the hub's own retained `state` tells, epoch and boot (None: nothing): a hub that does not remember
        its last epoch goes on above it, and what it numbered until now is numbered anew. Whether that shows that a
        database is lost, and with it what control kept (FORGOT). Nothing happens where the epoch is not new."""
        keeper = self._writer.keeper
        return self._ask(lambda _engine: keeper.settle_epoch(told), writes=True)

    @property
    def trouble(self) -> StoreUnwritable:
        """What kept the database from being written last."""
        return self._writer.keeper.last_kind(self._writer.keeper.last_error)

    @property
    def is_late(self) -> bool:
        """Whether the database could be opened only after start(), and what it holds can only be taken up by a hub that
        starts anew; until then nothing is taken into custody."""
        return self._writer.keeper.is_late

    def close(self, timeout_s: float = 5.0) -> None:
        """Commit what waits, checkpoint, close."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._writer.jobs.put(Stop())
        if self._writer.ident is not None:
            self._writer.join(timeout_s)

    def _put(self, job: Job) -> bool:
        with self._gate:
            if not self._closed:
                self._writer.jobs.put(job)
            return not self._closed

    def _changed(self, news: set[str]) -> None:
        if self.on_change is not None:
            self.on_change(news)

    # --- custody

    def commit(self, batch: Batch, done: Done) -> None:
        """Make a batch durable, all of it or nothing. `done(batch.id, None)` comes on the writer thread after fsync;
        `done(batch.id, StoreError)` when nothing of it was stored. Urgent batches are grouped with
        whatever else waits; others wait for the next urgent one, at most five seconds."""
        if not self._put(Commit(batch, done)):
            done(batch.id, StoreError("the store is closed"))

    def record_event(self, event: str, fields: dict[str, Any]) -> None:
        """Record an event of the hub's own at once. Never raises; waits in memory (256 at most) while there is no
        space."""
        now_ms = self._mono_ms()
        self._put(Note(lambda keeper: keeper.add_own_event(event, dict(fields), now_ms)))

    def set_clock(self, offset_ms: int, trusted: bool) -> None:
        """UTC milliseconds = monotonic milliseconds + offset_ms, for everything taken in this boot, also before. A
        trusted clock is not replaced by an untrusted one."""
        self._put(Note(lambda keeper: keeper.take_clock(offset_ms, trusted)))

    # --- lanes

    def seal_pack(self, max_readings: int = 4000) -> "Future[Sealed | None]":
        """Seal the oldest unsealed samples as the next pack of lane readings; None when there are none, or the epoch is
        new. A sample is in exactly one pack, whatever happens in between."""
        return self._ask(lambda engine: engine.seal_pack(max_readings), writes=True)

    def append(
        self, lane: str, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None = None
    ) -> "Future[Sealed]":
        """Seal one message into a lane (receipts, answers, events)."""
        if check_lane(lane) == "readings":
            raise StoreError("lane readings takes packs only: seal_pack")
        return self._ask(lambda engine: engine.append(lane, content_type, payload, extra), news=(lane,), writes=True)

    def commit_control(self, journal: Journal) -> "Future[list[Sealed]]":
        """Make one step of control durable, all of it or nothing; the receipts as they were sealed and chained."""
        lanes = {"receipts": journal.receipts, "answers": journal.answers, "events": journal.events}
        news = tuple(lane for lane, messages in lanes.items() if messages)
        return self._ask(lambda engine: engine.commit_control(journal), news=news, writes=True)

    def change_key(self, last: Journal, use: Callable[[], None], first: Journal) -> "Future[None]":
        """Seal `last`, call `use` on the writer thread, seal `first`: nothing is sealed in between. What cannot be
        sealed does not keep `use` from being called; the future has the error."""

        def change(engine: Engine) -> None:
            engine.commit_control(last)
            use()
            engine.commit_control(first)

        future: Future[None] = self._ask(change, news=("events",), writes=True)
        future.add_done_callback(lambda done: use() if done.exception() is not None else None)
        return future

    def control_state(self) -> "Future[dict[str, bytes]]":
        """What control kept, by name; without a database, that it may have forgotten (hub/core/control/records.py)."""
        return self._ask(lambda engine: dict(engine.control), without={FORGOT: encode(None)})

    def unsent(self, lane: str, epoch: int, after_number: int, limit: int) -> "Future[list[Sealed]]":
        """Undelivered messages of a lane strictly after (epoch, after_number), ordered by (epoch, number)."""
        return self._ask(lambda engine: engine.outbox.unsent(lane, epoch, after_number, limit))

    def delivered(self, lane: str, epoch: int, number: int) -> "Future[None]":
        """A message was delivered; in any order. Durable with the next commit, or within a few seconds."""
        return self._ask(lambda engine: engine.outbox.mark(lane, epoch, number, engine.now_ms()))

    def unbooked(self, lane: str, after: tuple[int, int], within_s: float, limit: int) -> "Future[list[Sealed]]":
        """What the broker acknowledged and nobody booked, at least `within_s` ago; strictly after (epoch, number)."""

        def look(engine: Engine) -> list[Sealed]:
            key, within_ms = row_id(*after), int(within_s * 1000)
            return engine.outbox.unbooked(lane, key, within_ms, engine.now_ms(), engine.utc_ms(), limit)

        return self._ask(look, without=[])

    def sealed_range(self, lane: str, epoch: int, first: int, last: int) -> "Future[list[Sealed]]":
        """Messages `first` to `last` of an epoch, as far as they are still kept: byte for byte as sealed."""
        return self._ask(lambda engine: engine.outbox.between(lane, epoch, first, last))

    def forwards(self, after_id: int, limit: int) -> "Future[list[RawForward]]":
        """Raw forwards that wait, beyond an id: `(id, topic, payload)`."""
        return self._ask(lambda engine: engine.forwards.beyond(after_id, limit))

    def fresh_forwards(self, after_id: int, limit: int) -> list[RawForward]:
        """The same of what has just been committed, at once: what follows right after an id. Nothing where there may
        be older ones: `forwards` has them. For one caller at a time."""
        engine = self._writer.keeper.engine
        return take_fresh(engine.forwards.fresh, after_id, limit) if engine is not None else []

    @property
    def newest_forward(self) -> int:
        """The id of the newest raw forward."""
        engine = self._writer.keeper.engine
        return engine.forwards.newest_id if engine is not None else 0

    def forwards_done(self, forward_ids: Sequence[int]) -> "Future[None]":
        """The broker has these raw forwards. Durable within a few seconds; until then a new session passes over them,
        and a hub that dies sends them once more."""
        engine = self._writer.keeper.engine
        if engine is not None:
            engine.forwards.heard(forward_ids)
        return self._ask(lambda engine: engine.forwards.done(forward_ids, engine.now_ms()))

    # --- questions

    def readings(self, **query: Unpack[ReadingsQuery]) -> "Future[list[Reading]]":
        """The readings that a query asks for, sealed or not. Answered in slices, so adapters do not wait for it."""

        def start(engine: Engine) -> Generator[None, None, list[Reading]]:
            return find_readings(engine, Wanted(**query))

        future: Future[list[Reading]] = Future()
        if not self._put(Search(start, future)):
            future.set_exception(StoreError("the store is closed"))
        return future

    def events(self, limit: int) -> "Future[list[dict[str, Any]]]":
        """The newest `limit` events, oldest of them first: their maps, with `epoch` and `number` added."""
        return self._ask(lambda engine: newest_events(engine.db, limit))

    def queue_status(self) -> "Future[QueueAnswer]":
        """`{lane: {"pending": messages, "oldest_s": age or 0, "next": number, "acknowledged", "booked": up to which
        number}}`; readings also have "unsealed"."""
        nothing: dict[str, float] = {"pending": 0, "oldest_s": 0, "next": 1, "acknowledged": 0, "booked": 0}
        return self._ask(_queue_status, without={lane: dict(nothing, unsealed=0) for lane in LANES})

    def try_to_write(self) -> "Future[None]":
        """Write what is there once more, durably: whether the medium takes anything. The future has the error."""
        return self._ask(lambda engine: engine.save_clock(), writes=True)

    def status(self) -> "StoreFigures":
        """A snapshot, from any thread: bytes on disk, written_bytes (see store/meter.py), readings taken in total,
        commits, refused, errors, last_error, salvaged, epoch, boot; readings thinned and forwards dropped for want of
        space; window_s and stretched (store/write_budget.py)."""
        names = ("hub.db", "hub.db-wal", "ballast")
        sizes = [_size(self._place.data_dir / name) for name in names]
        said = {**self._writer.status(), "bytes": sum(sizes), "max_bytes": self._place.budget.max_bytes}
        return cast("StoreFigures", said)

    def _ask(
        self, act: Callable[[Engine], Any], *, news: tuple[str, ...] = (), writes: bool = False, without: Any = None
    ) -> "Future[Any]":
        future: Future[Any] = Future()
        if not self._put(Call(act, future, news, writes, without)):
            future.set_exception(StoreError("the store is closed"))
        return future


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _queue_status(engine: Engine) -> "QueueAnswer":
    utc_ms = engine.utc_ms()
    status = {lane: engine.outbox.status(lane, utc_ms) for lane in LANES}
    note_unsealed(status["readings"], engine, utc_ms)
    return cast("QueueAnswer", status)
