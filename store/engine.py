"""What the writer thread does with the open database. One transaction a method; the memory follows what was committed.

Nothing here waits or catches: sqlite3 errors and StoreCorrupt go up to the writer, which decides.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from hub.core.control.records import FORGOT, Journal
from hub.core.records import Batch, Change, EventRecorded, ForwardQueued, Restored, Seen
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.event import CONTENT_TYPE as EVENT_TYPE
from hub.wire.uplink.event import encode_event
from hub.wire.uplink.pack import CONTENT_TYPE as PACK_TYPE
from hub.wire.uplink.pack import deflate_pack, encode_pack
from hub.wire.uplink.pack_form import PackForm
from hub.wire.uplink.reading import Reading
from store.control import UNTOLD, Chain, read_items, read_untold, renumber, write_items, write_journal, write_loss
from store.database import PAGE_SIZE, Database
from store.epoch_file import EPOCH_FIRST, EPOCH_NEW
from store.errors import StoreFull, TooManyNames
from store.forwards import Forwards
from store.gaps import Gaps
from store.gateway_tables import apply_changes, restore_records
from store.last_seen import seen_marks
from store.logbody import decode_points, decode_seen, encode_body, seen_of
from store.logview import LogView
from store.outbox import BOOKED, Outbox, Sealed, SealFunction, Span
from store.retention import Retention
from store.space import DUP_WINDOW_S, DupWindow, SpaceBudget
from store.transaction import EngineTransaction

MAX_PACK_BYTES = 192 * 1024  # with its envelope well below MAX_ENVELOPE_BYTES of hub/wire/uplink/envelope.py
_PACKED_BYTES = 8  # what a reading in a pack may take, to have room for the pack
_FORGET_EVERY_MS = 60_000  # how often the log is looked through for names that nobody needs any more
_CLOCK_STEP_MS = 100  # a smaller change of the offset is not worth a page


@dataclass
class OwnEvent:
    """An event of the hub itself, on the monotonic clock until it is sealed."""

    mono_ms: int
    event: str
    fields: dict[str, Any]


@dataclass
class Group:
    """What one transaction takes into custody."""

    batches: list[Batch]
    own_events: list[OwnEvent] = field(default_factory=list)

    def is_bulk(self) -> bool:
        """Whether it holds what must leave the reserve alone."""
        return any(batch.samples or batch.seen or _has_forward(batch) for batch in self.batches)


def _has_forward(batch: Batch) -> bool:
    return any(isinstance(change, ForwardQueued) for change in batch.changes)


class Engine(LogView):
    """The open database and what of it is kept in memory. Belongs to the writer thread."""

    def __init__(
        self,
        db: Database,
        seal: SealFunction,
        budget: SpaceBudget,
        now_ms: Callable[[], int],
        offset_ms: int,
        *,
        pack_form: Callable[[], PackForm] = PackForm,
    ) -> None:
        super().__init__(db)
        self._pack_form = pack_form
        self.budget = budget
        self.now_ms = now_ms
        self.outbox = Outbox(db, seal, self.epoch, self.marks)
        self.pruned_samples = self.marks.get("pruned_samples", 0)
        self.taken: int = self.pruned_samples + self.count_samples(0)
        self.forwards = Forwards(db)
        self.window = DupWindow(now_ms(), self._next_seq)
        self.retention = Retention(self)
        self.news: set[str] = set()  # lanes that got something besides what was asked for
        self.chain = Chain(db)
        self.control = read_items(db)  # kept in memory, too, should the database be damaged under it
        self._forget_at_ms = 0
        self.untold = read_untold(db)  # salvages; the next events of the hub's own tell of them
        self.boot += 1
        self._begin_boot(offset_ms)

    def _begin_boot(self, offset_ms: int) -> None:
        with self.db.transaction():
            self.db.run("hub_put", (self.epoch, self.boot))
            self.db.run("boot_put", (self.boot, offset_ms, 0))
            self.db.run("boots_prune", (self.boot,))
            self.db.run("mark_drop_seen")
            if self.log_is_empty:
                self.db.run("series_clear")
                self.db.run("client_clear")
        self.boots[self.boot] = (offset_ms, False)
        self.saved_clock = (offset_ms, False)

    # --- clock

    def utc_ms(self) -> int:
        """UTC now, as far as this boot knows."""
        return self.now_ms() + self.boots[self.boot][0]

    def set_clock(self, offset_ms: int, trusted: bool) -> bool:
        """Take a clock; True when it is worth writing down. A trusted clock is not replaced by an untrusted one."""
        if self.boots[self.boot][1] and not trusted:
            return False
        self.boots[self.boot] = (offset_ms, trusted)
        saved_ms, saved_trust = self.saved_clock
        return trusted != saved_trust or abs(offset_ms - saved_ms) >= _CLOCK_STEP_MS

    def save_clock(self) -> None:
        """Write this boot's clock down."""
        clock = self.boots[self.boot]
        with self.transaction():
            self.db.run("boot_put", (self.boot, *clock))
        self.saved_clock = clock

    # --- transactions

    def transaction(self) -> EngineTransaction:
        """A transaction; what memory knows of numbers and of pruning goes back when it does."""
        return EngineTransaction(self)

    def commit_group(self, group: Group) -> None:
        """Take a group into custody: all of it or, when this raises, nothing."""
        batches, marks = group.batches, None
        now_ms = self.now_ms()
        samples, body = self._encode(now_ms, batches)
        has_entries = any(batch.samples or batch.seen for batch in batches)
        if self.outbox.marks_dirty:
            marks = self.outbox.encode_marks()
        changes = [change for batch in batches for change in batch.changes]
        gone: list[int] = []
        try:
            with self.transaction():
                self._save_names()
                if has_entries or marks is not None:
                    self.db.do("log_add", (self._next_seq, self.boot, now_ms, samples, body, marks))
                self._apply(changes)
                for own in group.own_events:
                    self._seal_event(own.event, own.fields, own.mono_ms)
                if self.untold and group.own_events:
                    self.db.run("control_drop", (UNTOLD,))
                gone = self.forwards.drop_done(now_ms)
        except BaseException:
            self.forwards.committed(False)
            raise
        self.names.saved()
        self.forwards.committed(True)
        if gone:
            self.forwards.dropped(gone, now_ms)
        if group.own_events:
            self.untold = []
        self.db.note_written(len(body), len(changes))
        if has_entries or marks is not None:
            self.outbox.marks_dirty = False
            self._note_row(now_ms, samples, len(body))

    def _encode(self, now_ms: int, batches: list[Batch]) -> tuple[int, bytes]:
        try:
            return encode_body(self.names, now_ms, batches)
        except TooManyNames:
            if now_ms < self._forget_at_ms:
                raise
            self._forget_at_ms = now_ms + _FORGET_EVERY_MS
            self._forget_names()
            return encode_body(self.names, now_ms, batches)

    def _forget_names(self) -> None:
        """Keep the names that a row of the log still needs."""
        while self.retention.prune_log(pressed=True):
            pass
        series, clients = set[int](), set[int]()
        for _, _, mono_ms, _, body in self.db.run("log_from", (self.first_seq,)):
            series.update(point.series for point in decode_points(mono_ms, body)[0])
            clients.update(head >> 2 for head, _, _ in seen_of(body))
        old_series, old_clients = self.names.keep(series, clients)
        with self.transaction():
            self.db.many("series_drop", old_series)
            self.db.many("client_drop", old_clients)

    def _save_names(self) -> None:
        if self.names.unsaved_series:
            self.db.many("series_add", self.names.unsaved_series)
        if self.names.unsaved_clients:
            self.db.many("client_add", self.names.unsaved_clients)

    def _note_row(self, now_ms: int, samples: int, size: int) -> None:
        self.taken += samples
        self.unsealed += samples
        if self.window.note(now_ms, self._next_seq, size):
            self.retention.look_at_log()
        self._next_seq += 1

    def _apply(self, changes: list[Change]) -> None:
        plain = [change for change in changes if not isinstance(change, EventRecorded)]
        if plain:
            apply_changes(self.db, plain, self.forwards.put)
        for change in changes:
            if isinstance(change, EventRecorded):
                self._seal_event(change.event, change.fields, self.now_ms())

    def _seal_event(self, event: str, fields: dict[str, Any], mono_ms: int) -> None:
        offset_ms, trusted = self.boots[self.boot]
        known = fields if trusted else {**fields, "clock": "unsynchronised"}
        t_ms = mono_ms + offset_ms
        self.outbox.add("events", t_ms, EVENT_TYPE, encode_event(t_ms, event, known))

    def append(self, lane: str, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None) -> Sealed:
        """Seal one message into a lane."""
        self._require_room()
        with self.transaction():
            sealed = self.outbox.add(lane, self.utc_ms(), content_type, payload, extra)
        self.db.note_written(len(sealed.body), 0)
        return sealed

    def _require_room(self) -> None:
        """Raise StoreFull when the reserve is used up, too, and nothing may give way."""
        if self.db.used_pages() >= self.budget.hard_pages and not self.make_room(self.budget.hard_pages):
            raise StoreFull("store.max_mb is used up and nothing may be pruned")

    def commit_control(self, journal: Journal) -> list[Sealed]:
        """Make one step of control durable; return the receipts as they were sealed."""
        self._require_room()
        chain = copy(self.chain)
        now_ms = self.now_ms()
        booked = self.outbox.book(journal.booked)
        with self.transaction():
            sealed, items = write_journal(self.db, self.outbox, chain, journal, self.utc_ms())
            if booked:
                self.db.many("mark_put", [(BOOKED + lane, key) for lane, key in booked.items()])
            for event, fields in journal.events:
                self._seal_event(event, fields, now_ms)
        self.chain = chain
        self.outbox.booked_up_to(booked)
        self._note_items(items)
        self.db.note_written(sum(len(message.body) for message in sealed), len(journal.kept) + len(sealed))
        return sealed

    @property
    def is_epoch_new(self) -> bool:
        """Whether nothing was sent in this epoch yet, and the one before is not remembered."""
        return self.marks.get(EPOCH_NEW) == self.epoch and not self.outbox.has_delivered()

    @property
    def is_epoch_first(self) -> bool:
        """Whether nothing says that there ever was another database."""
        return self.marks.get(EPOCH_FIRST) == self.epoch

    def settle_epoch(self, epoch: int, loss: dict[str, Any] | None) -> None:
        """Number on in `epoch`, and what was numbered in this one anew: nobody was sent any of it. `loss`: fields of
        the event that tells of a database that is lost."""
        before, outbox, chain, items = self.epoch, self.outbox, self.chain, dict[str, bytes | None]()
        untold = [*self.untold, loss] if loss is not None else self.untold
        try:
            with self.transaction():
                self.db.run("mark_put", (EPOCH_NEW, 0))
                if epoch != before:
                    self.db.run("hub_put", (epoch, self.boot))
                    chain, items = renumber(self.db, outbox, epoch, self.control)
                if loss is not None:
                    write_loss(self.db, untold)
                    items[FORGOT] = encode(None)
        except BaseException:
            outbox.epoch = before
            raise
        self.marks[EPOCH_NEW] = 0
        self.epoch, self.chain, self.untold = epoch, chain, untold
        self._note_items(items)

    def _note_items(self, items: Mapping[str, bytes | None]) -> None:
        for name, value in items.items():
            if value is None:
                self.control.pop(name, None)
            else:
                self.control[name] = value

    def keep_control(self, known: Mapping[str, bytes]) -> None:
        """Write down what control had kept in a database that was damaged while it was open: nothing of it is missing,
        so the word that some may be (FORGOT) goes, unless it had been there before."""
        items = {FORGOT: None, **dict.fromkeys(self.control.keys() - known.keys()), **known}
        with self.transaction():
            write_items(self.db, items)
        self._note_items(items)

    def drop_done_forwards(self) -> bool:
        """Drop what the broker has of the raw forwards, now; whether there was any."""
        with self.transaction():
            gone = self.forwards.drop_done(self.now_ms(), all_of_them=True)
        self.forwards.dropped(gone, self.now_ms())
        return bool(gone)

    @property
    def has_marks(self) -> bool:
        """Whether something was delivered that is not written down yet."""
        return self.outbox.marks_dirty or self.forwards.has_done

    # --- sealing

    def seal_pack(self, max_readings: int) -> Sealed | None:
        """Seal the oldest unsealed samples as one pack and move the position, in one transaction. None while the epoch
        is not settled: a pack is immutable."""
        if self.is_epoch_new:
            return None
        limit = max(1, max_readings)
        self._tell_of_losses()
        # Before anything is taken: making room may rewrite the rows that a pack is made of.
        limit_pages = self.budget.hard_pages - (limit * _PACKED_BYTES // PAGE_SIZE + 8)
        if self.db.used_pages() >= limit_pages:
            self.make_room(limit_pages)
        form = self._pack_form()
        while True:
            taken, upto, gaps = self._take_samples(limit)
            readings = form.in_steps(taken)
            if not readings:
                self.position = upto  # rows of seen entries alone; finding that out again costs nothing
                return None
            payload = encode_pack(readings)
            if len(payload) <= MAX_PACK_BYTES or limit == 1:
                break
            limit = max(1, min(limit, len(readings)) // 2)
        payload, extra = deflate_pack(payload) if form.deflate else (payload, {})
        times = [reading.t_ms for reading in readings]
        with self.transaction():
            if self.db.used_pages() >= self.budget.bulk_pages:
                self.retention.prune_rows(pressed=True)
            pack = self.outbox.seal_pack(self.utc_ms(), PACK_TYPE, payload, extra)
            series = {(reading.client_id, reading.quantity) for reading in readings}
            self.outbox.add_pack(pack, Span(min(times), max(times), *upto), sorted(series))
            for fields in gaps.fields():
                self._seal_gap(fields)
        self.position = upto
        self.unsealed -= len(readings)
        self.db.note_written(len(pack.body), 0)
        self.retention.look_at_log()
        return pack

    def _take_samples(self, limit: int) -> tuple[list[Reading], tuple[int, int], Gaps]:
        seq, index = self.position
        readings: list[Reading] = []
        upto, gaps = self.position, Gaps()
        for row_seq, boot, mono_ms, _, body in self.db.run("log_from", (seq,)):
            row, dropped, resolution_s = self.row_readings(boot, mono_ms, body)
            start = index if row_seq == seq else 0
            if dropped and not start:
                gaps.add(row, dropped, resolution_s)
            taken = row[start : start + limit - len(readings)]
            readings += taken
            end = start + len(taken)
            upto = (row_seq + 1, 0) if end >= len(row) else (row_seq, end)
            if len(readings) >= limit:
                break
        return readings, upto, gaps

    def _tell_of_losses(self) -> None:
        untold = self.retention.untold()
        if untold:
            told = self.retention.told()
            with self.transaction():
                self.write_marks(told)
                for fields in untold:
                    self._seal_gap(fields)
            self.retention.given_up.update(told)

    def _seal_gap(self, fields: dict[str, Any]) -> None:
        self._seal_event("store.gap", fields, self.now_ms())
        self.news.add("events")

    # --- space (store/retention.py)

    def make_room(self, goal_pages: int) -> bool:
        """Give way until fewer than `goal_pages` are used; whether that was reached."""
        return self.retention.make_room(goal_pages)

    def write_marks(self, more: Mapping[str, int]) -> None:
        """Write where everything has come to (inside a transaction): rows that carried it may be about to go."""
        marks = {
            **self.outbox.marks(),
            "next_seq": self._next_seq,
            "sealed_seq": self.position[0],
            "sealed_index": self.position[1],
            "pruned_samples": self.pruned_samples,
            **more,
        }
        self.db.many("mark_put", list(marks.items()))

    def save_mark(self, name: str, value: int) -> None:
        """Keep one position or total by itself."""
        with self.transaction():
            self.db.run("mark_put", (name, value))
        self.db.note_written(0, 1)

    def note_rewritten(self, gone: int) -> None:
        """Rows became others, with so many samples fewer."""
        self.pruned_samples += gone
        self.unsealed -= gone
        self.rewrites += 1

    # --- restart

    def restore(self) -> list[Restored]:
        """What the gateway needs back: its tables, and the seen entries of the duplicate window."""
        return [*restore_records(self.db), *self._restore_seen()]

    def holds_a_past(self) -> bool:
        """Whether there is anything that a hub takes up as it starts."""
        return bool(self.control.keys() - {FORGOT}) or bool(self.restore())

    def _restore_seen(self) -> Iterator[Seen]:
        """Of each client its last one, however old, and whatever the duplicate window holds."""
        since = self._window_start()
        last = {seen.client_id: seen for seen in seen_marks(dict(self.db.run("marks_all")))}
        # Rows that are older and not pruned or merged yet: merging keeps them few.
        for _, _, _, _, body in self.db.run("log_span", (max(self.first_seq, self.retention.compaction.upto), since)):
            last |= {seen.client_id: seen for seen in decode_seen(self.names, body)}
        recent: list[Seen] = []
        for _, _, _, _, body in self.db.run("log_from", (since,)):
            recent += decode_seen(self.names, body)
        newer = {seen.client_id for seen in recent}
        yield from (seen for seen in last.values() if seen.client_id not in newer)
        yield from recent

    def _window_start(self) -> int:
        # Within the last boot its own clock says; an earlier boot's rows are no older than its last row, so one whole
        # window of each is kept. How long the hub was off in between is not counted: rather too many than too few.
        newest: dict[int, int] = {}
        start = self._next_seq
        for seq, boot, mono_ms in self.db.run("log_backward"):
            if newest.setdefault(boot, mono_ms) - mono_ms > DUP_WINDOW_S * 1000:
                break
            start = seq
        return start

    def close(self) -> None:
        """Close the database."""
        self.db.close()
