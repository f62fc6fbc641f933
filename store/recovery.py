"""Keeps an open database in the writer's hands: opens it, makes space, sets it aside when it is damaged, goes on.

Nothing raised by the database ends the writer; it becomes a StoreError for whoever asked, and is counted.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hub.core.backoff import Backoff, Pace
from hub.core.records import EventRecorded, ForwardQueued
from hub.wire.uplink.event import encode_event
from store.engine import Engine, Group, OwnEvent
from store.epoch_file import settled_epoch
from store.errors import StoreCorrupt, StoreError, StoreFull, StoreUnwritable, translate
from store.meter import WriteMeter
from store.opening import StorePlace, note_closed, note_moved, open_engine, set_aside
from store.reserve_file import Ballast

RETRY_S = 30.0
_DAMAGED = Pace(RETRY_S, cap_s=1800.0)
_WANTED_S = 2.0
_EVENT_TRIES = 20
MAX_OWN_EVENTS = 256
# Damage that comes back at once is a failing medium: salvaging over and over would only wear it out.
SALVAGE_EVERY_S = 60.0
NEVER = float("inf")


class DatabaseRecovery:
    """The engine and what cures it. Belongs to the writer thread."""

    def __init__(self, place: StorePlace) -> None:
        self.place = place
        self.engine: Engine | None = None
        self.epoch = self.boot = 0  # of the engine; while there is none, of the last one
        self.own_events: deque[OwnEvent] = deque()
        self.counts = {"commits": 0, "refused": 0, "errors": 0, "salvaged": 0}
        self.last_error = ""
        self.last_kind: type[StoreUnwritable] = StoreFull  # of what keeps the database from being written
        self.news: set[str] = set()
        self.reopen_at = self._wanted_at = NEVER
        # It opened only after the hub had started without it, and holds what a start takes up (sessions, messages seen,
        # limits, counters). It is closed again and takes nothing: going on beside it would double and forget.
        self.is_late = False
        self._known: dict[str, bytes] | None = None  # what control had kept in a database that was set aside
        self._damaged = Backoff(_DAMAGED)
        self.meter = WriteMeter()
        self.commit_s = 1.0  # how long a commit takes, a moving average of about eight; unknown counts as slow
        self._ballast = Ballast(place.data_dir, place.budget.ballast_bytes)
        self._clock: tuple[int, bool] | None = None
        self._salvaged_at = -NEVER
        self._is_tight = False
        self._event_tries = 0

    # --- life

    def open(self) -> None:
        """Open the database. Raises StoreError; after StoreUnwritable and StoreCorrupt (a medium on which not even a
        new database reads) it is tried again by itself."""
        try:
            try:
                self.engine = open_engine(self.place)
            except StoreUnwritable:
                self._ballast.drop()
                self.engine = open_engine(self.place)
        except (StoreUnwritable, StoreCorrupt) as error:
            self.note_error(error)
            self._put_off(is_damage=isinstance(error, StoreCorrupt))
            raise
        self.epoch, self.boot = self.engine.epoch, self.engine.boot
        self.reopen_at = NEVER
        self._damaged.reset()
        self._ballast.keep()
        self.place.untold.clear()
        for fields in self.engine.untold:
            self.counts["salvaged"] += 1
            self.add_own_event("store.salvaged", fields, self.place.now_ms())
        if self._clock is not None:
            self.take_clock(*self._clock)
        if self._known is not None:
            known, self._known = self._known, None
            self.guard(lambda engine: engine.keep_control(known))

    def _put_off(self, *, is_damage: bool) -> None:
        """Say when to try again: a medium on which not even a new database reads is not worn out by trying."""
        now_s = time.monotonic()
        self._wanted_at = NEVER if is_damage else now_s + _WANTED_S
        self.reopen_at = now_s + (self._damaged.next_delay_s() if is_damage else RETRY_S)

    def reopen(self, *, wanted: bool) -> None:
        """Try again what did not open, if it is time; sooner where somebody wants to commit and space was all that
        lacked."""
        if self.is_late or time.monotonic() < (min(self.reopen_at, self._wanted_at) if wanted else self.reopen_at):
            return
        was_open = self.epoch > 0
        try:
            self.open()
            self.news.add("epoch")
            if not was_open and self.require().holds_a_past():
                self.is_late = True
                self.close()
                self.last_error = "the database could be opened again: the hub starts anew to take up what it holds"
        except (StoreUnwritable, StoreCorrupt):
            pass
        except Exception as error:
            self._put_off(is_damage=False)
            self.note_error(translate(error))

    def close(self) -> None:
        """Close for good. From here on a missing WAL is no loss."""
        if self.engine is None:
            return
        try:
            note_closed(self.place, self.engine.epoch)
            self.engine.close()
        except Exception as error:
            self.note_error(translate(error))
        self.engine = None

    def require(self) -> Engine:
        """The engine; StoreUnwritable while there is none."""
        if self.engine is None:
            raise self.last_kind(self.last_error or "the database could not be opened")
        return self.engine

    def recover(self, reason: str) -> bool:
        """Set the damaged database aside and go on with what could be salvaged. False when that was just done."""
        now_s = self.place.now_ms() / 1000
        if now_s - self._salvaged_at < SALVAGE_EVERY_S:
            return False
        self._salvaged_at = now_s
        if self.engine is not None:
            self._known = self.engine.control
            self._clock = self.engine.boots[self.engine.boot]
            with suppress(sqlite3.Error, UnicodeDecodeError):
                self.engine.close()
        self.engine = None
        try:
            set_aside(self.place, reason)
            self.open()
            self.news.add("epoch")
        except Exception as error:
            if self.reopen_at == NEVER:  # `open` was not even tried
                self._put_off(is_damage=isinstance(error, StoreCorrupt))
                self.note_error(translate(error))
            return False
        return True

    # --- space

    def free_space(self, engine: Engine) -> None:
        """The file system is full: give back the ballast, start the WAL over with it, and prune when the database has
        no free page left. Until there is room for the ballast again the database lives within its file."""
        if self._is_tight and self._ballast.fits():
            self._loosen(engine)
            return
        self._ballast.drop()
        self._is_tight = True
        with suppress(sqlite3.Error):
            engine.db.checkpoint(force=True)
        engine.db.stop_growing()
        if engine.db.free_pages() < engine.budget.slice_pages:
            engine.make_room(max(1, engine.db.used_pages()))

    def _loosen(self, engine: Engine) -> None:
        self._is_tight = False
        engine.db.limit_pages(engine.budget.hard_pages)

    def _with_space(self, group: Group) -> None:
        engine = self.require()
        limit = engine.budget.bulk_pages if group.is_bulk() else engine.budget.hard_pages
        if engine.db.may_use(limit) and not engine.make_room(limit):
            raise StoreFull("store.max_mb is used up and nothing may be pruned")
        try:
            self._time(engine, group)
        except Exception as raised:
            if not isinstance(translate(raised), StoreUnwritable):
                raise
            self.free_space(engine)
            engine.commit_group(group)

    # --- work

    def _time(self, engine: Engine, group: Group) -> None:
        begun_s = time.monotonic()
        engine.commit_group(group)
        self.commit_s += (time.monotonic() - begun_s - self.commit_s) / 8

    def _note_commit(self, group: Group) -> None:
        self.count_commits()
        self.meter.note(64 * len(group.batches))
        self._note_news(group)

    def count_commits(self) -> None:
        """Every one of them: groups of adapters' messages, packs sealed, marks, what is pruned and condensed."""
        if self.engine is not None:
            self.counts["commits"] += self.engine.db.take_commits()

    def commit(self, group: Group) -> StoreError | None:
        """Take a group into custody; the error when nothing of it was stored."""
        try:
            self._with_space(group)
        except Exception as raised:
            error = self.note_error(translate(raised))
            if isinstance(error, StoreCorrupt) and self.recover(str(error)):
                return self.commit(Group(group.batches, list(self.own_events) if group.own_events else []))
            return error
        self._note_commit(group)
        return None

    def call(self, act: Callable[[Engine], Any], *, writes: bool) -> Any:
        """Do one thing with the engine, once more after a cure. Raises StoreError."""
        try:
            return act(self.require())
        except Exception as raised:
            error = self.note_error(translate(raised))
            if not self._may_pass_now(error, writes):
                raise plain(error) from raised
        try:
            return act(self.require())
        except Exception as raised:
            raise plain(self.note_error(translate(raised))) from raised

    def _may_pass_now(self, error: StoreError, writes: bool) -> bool:
        if isinstance(error, StoreCorrupt):
            return self.recover(str(error))
        if isinstance(error, StoreUnwritable) and writes and self.engine is not None:
            self.guard(self.free_space)
            return True
        return False

    def guard(self, act: Callable[[Engine], Any]) -> Any:
        """Do some housekeeping that nobody waits for; None when it failed."""
        if self.engine is None:
            return None
        try:
            return act(self.engine)
        except Exception as raised:
            error = self.note_error(translate(raised))
            if isinstance(error, StoreCorrupt):
                self.recover(str(error))
            return None

    def tend(self, retention_ms: int | None, *, reading: bool = False) -> bool:
        """Housekeeping after a round: checkpoint, pruning, merging (not while somebody is `reading` the log in slices).
        With `retention_ms` history is looked at too; True when there is more of it to prune."""
        if self._ballast.keep() and self._is_tight:
            self.guard(self._loosen)
        if not reading:
            self.guard(lambda engine: engine.retention.tend())
        more = retention_ms is not None and bool(
            self.guard(lambda engine: engine.retention.prune_history(retention_ms))
        )
        self.guard(lambda engine: engine.db.checkpoint())
        if self.engine is not None:
            self.news |= self.engine.news
            self.engine.news.clear()
        return more

    def _note_news(self, group: Group) -> None:
        if group.own_events:
            self.news.add("events")
        for batch in group.batches:
            if batch.samples:
                self.news.add("samples")
            for change in batch.changes:
                if isinstance(change, EventRecorded):
                    self.news.add("events")
                elif isinstance(change, ForwardQueued):
                    self.news.add("forwards")

    # --- the epoch

    def settle_epoch(self, told: tuple[int, int] | None) -> bool:
        """Move to the epoch that follows from what the broker knows (store/epoch_file.py); whether a database turned
        out to be lost. Nothing happens in an epoch that was settled before."""
        engine = self.require()
        if not engine.is_epoch_new:
            return False
        epoch, is_lost = settled_epoch(
            engine.epoch, engine.boot, told, is_first=engine.is_epoch_first, utc_s=self.place.trusted_utc_s()
        )
        loss: dict[str, Any] | None = None
        if is_lost and told is not None:
            reason = f"the database is lost: the broker knows this hub in epoch {told[0]}"
            loss = {"reason": reason, "kept": {}, "set_aside": ""}
        # A power cut in between must not leave a side file that is ahead of its database: that would be a loss.
        if epoch < engine.epoch:
            note_moved(self.place, epoch)
        engine.settle_epoch(epoch, loss)
        note_moved(self.place, epoch)
        if self.epoch != engine.epoch:
            self.epoch = engine.epoch
            self.news.add("epoch")
        if loss is not None:
            self.counts["salvaged"] += 1
            self.add_own_event("store.salvaged", loss, self.place.now_ms())
        return is_lost

    # --- notices

    def add_own_event(self, event: str, fields: dict[str, Any], mono_ms: int) -> None:
        """Queue an event of the hub's own; beyond the bound the newest give way, as the first tell what went wrong."""
        try:
            encode_event(mono_ms, event, fields)
        except Exception as error:
            self.note_error(translate(error))
            return
        if len(self.own_events) < MAX_OWN_EVENTS:
            self.own_events.append(OwnEvent(mono_ms, event, fields))
        else:
            self.counts["refused"] += 1

    def own_events_failed(self) -> None:
        """They could not be written, and not for want of space. Tried again; but one that never can (a key that seals
        nothing any more) must not block what is behind it for ever."""
        self._event_tries += 1
        if self._event_tries >= _EVENT_TRIES:
            self._event_tries = 0
            self.own_events.popleft()

    def take_clock(self, offset_ms: int, trusted: bool) -> None:
        """Take a clock, and write it down when it says something new."""
        if self._clock is not None and self._clock[1] and not trusted:
            return
        self._clock = (offset_ms, trusted)
        if self.engine is not None and self.engine.set_clock(offset_ms, trusted):
            self.guard(lambda engine: engine.save_clock())

    def note_error(self, error: StoreError) -> StoreError:
        """Count an error and remember its text."""
        self.counts["errors"] += 1
        self.last_error = str(error)
        if isinstance(error, StoreUnwritable):
            self.last_kind = type(error)
        return error


def plain(error: StoreError) -> StoreError:
    """The error as callers know it: damage is the store's own matter."""
    return StoreError(str(error)) if isinstance(error, StoreCorrupt) else error
