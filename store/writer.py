"""The writer thread: it groups what is queued, commits, and answers after the fsync. It alone touches the database.

Idle means blocked on the queue, without a timeout unless something is due: a lazy batch, delivery marks, an event that
found no space.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hub.core.records import ForwardQueued
from store.engine import Group
from store.errors import StoreCorrupt, StoreError, StoreUnwritable, translate
from store.jobs import Call, Commit, Job, Note, Search, Stop, answer
from store.opening import StorePlace
from store.recovery import NEVER, RETRY_S, DatabaseRecovery, plain
from store.write_budget import WriteBudget

log = logging.getLogger(__name__)

LAZY_S = 5.0
MARKS_S = 3.0
_MAX_GROUP_ENTRIES = 16_384
_FOLLOW_S = 0.02  # at most: who sends something else beside forwards waits for no more
_SLOW_COMMIT_S = 0.001  # a board's flash takes 2 to 5 ms a sync; below this nobody feels one
_RETENTION_EVERY_S = 3600.0
_PACE_COMMITS = 16
_PACE_MARK = "wear_left_bytes"
_COUNTERS = ("readings", "unsealed", "thinned", "forwards_dropped", "packs_given_up")


class Writer(threading.Thread):
    """Owns the keeper. Everything but `jobs`, `opened` and `status` belongs to this thread."""

    def __init__(
        self, place: StorePlace, *, retention_days: float, pace: WriteBudget, tell: Callable[[set[str]], None]
    ) -> None:
        super().__init__(name="store-writer", daemon=True)
        self.place = place
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.opened: Future[bool] = Future()  # whether the database is open; StoreError when only a human can help
        self.keeper = DatabaseRecovery(place)
        self._tell = tell
        self._retention_ms = int(retention_days * 86_400_000)
        self._pace = pace
        self._pace_at = 0.0
        self._pace_commits = 0
        self._waiting: list[Commit] = []
        self._calls: list[Call] = []
        self._searches: deque[Search] = deque()
        self._stopping = False
        self._urgent = False
        self._asking = self._answered = 0  # messages that wait for this commit, and did for the last
        self._lazy_at = self._marks_at = self._retry_at = NEVER
        self._tend_at = 0.0

    def run(self) -> None:
        """Until a Stop comes."""
        try:
            self.keeper.open()
        except (StoreUnwritable, StoreCorrupt):
            pass  # the hub serves the home meanwhile; each round tries again
        except BaseException as error:
            self.opened.set_exception(error)
            return
        if self.keeper.engine is not None and _PACE_MARK in self.keeper.engine.marks:
            self._pace.resume(self.keeper.engine.marks[_PACE_MARK])
        self.opened.set_result(self.keeper.engine is not None)
        self._urgent = bool(self.keeper.own_events)
        while not self._stopping:
            try:
                self._round()
            except Exception as error:
                log.exception("the writer goes on after an unexpected error")
                self._refuse_all(self.keeper.note_error(translate(error)))
        self._finish()

    def _finish(self) -> None:
        try:
            while not self.jobs.empty():
                self._collect()
            self._act()
        except Exception as error:
            log.exception("the writer could not finish")
            self._refuse_all(self.keeper.note_error(translate(error)))
        for search in self._searches:
            answer(search.future, error=StoreError("the store is closing"))
        self.keeper.guard(lambda engine: engine.forwards.has_done and engine.drop_done_forwards())
        self._save_pace(self._pace.to_keep(time.monotonic(), at_end=True))
        self.keeper.close()
        self.keeper.meter.total()

    # --- waiting

    def _round(self) -> None:
        first = self._wait()
        if first is not None:
            self._sort(first)
        self._collect()
        self._wait_for_company()
        self._let_the_uplink_follow()
        self._act()

    def _wait(self) -> Job | None:
        due = min(self._lazy_at, self._marks_at, self._retry_at, self.keeper.reopen_at)
        if self._searches or self._urgent or self._calls:
            due = 0.0
        try:
            if due == NEVER:
                return self.jobs.get()
            left_s = due - time.monotonic()
            return self.jobs.get(timeout=left_s) if left_s > 0 else self.jobs.get_nowait()
        except queue.Empty:
            return None

    def _collect(self) -> None:
        entries = 0
        while entries < _MAX_GROUP_ENTRIES:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                return
            entries += self._sort(job)

    def _wait_for_company(self) -> None:
        """Where several are about, those whom the last commit answered speak again in a moment, and would wait for all
        of this one and the next if it began without them: half as many commits, up to twice as many messages. So a slow
        one waits while they keep coming: a sixteenth of its own time for the next, a quarter for all.
        """
        commit_s = self.keeper.commit_s
        if not self._urgent or self._stopping or commit_s < _SLOW_COMMIT_S or self._asking + self._answered <= 2:
            return
        ends_at = time.monotonic() + commit_s / 4
        while not self._stopping and self._take_more(min(commit_s / 16, ends_at - time.monotonic())):
            pass

    def _let_the_uplink_follow(self) -> None:
        """Raw forwards are taken hardly faster than they go: what is ahead would wait in the table, be read again from
        there, and cost the uplink the processor that it needs to follow. So a commit that brings some waits a moment
        where the broker's answers come and are far behind. Where none come nothing waits: it is kept until they do.
        """
        engine = self.keeper.engine
        if engine is None or not self._urgent or engine.forwards.is_followed() or not self._brings_forwards():
            return
        ends_at = time.monotonic() + _FOLLOW_S
        while not self._stopping and self._take_more(ends_at - time.monotonic()) and not engine.forwards.is_followed():
            pass

    def _take_more(self, within_s: float) -> bool:
        """Take what comes within so long, and all that came with it; False: there was no time left, or nothing came."""
        if within_s <= 0:
            return False
        try:
            self._sort(self.jobs.get(timeout=within_s))
        except queue.Empty:
            return False
        self._collect()
        return True

    def _brings_forwards(self) -> bool:
        return any(isinstance(change, ForwardQueued) for commit in self._waiting for change in commit.batch.changes)

    def _sort(self, job: Job) -> int:
        """Put a job where it waits; return about how much it adds to the group."""
        if isinstance(job, Commit):
            self._waiting.append(job)
            window_s = self._pace.window_s if job.batch.urgent else LAZY_S
            if window_s:
                self._lazy_at = min(self._lazy_at, time.monotonic() + window_s)
            else:
                self._urgent = True
            self._asking += len(job.batch.seen)
            return len(job.batch.samples) + len(job.batch.seen) + len(job.batch.changes) + 1
        if isinstance(job, Call):
            self._calls.append(job)
        elif isinstance(job, Search):
            self._searches.append(job)
        elif isinstance(job, Note):
            job.act(self.keeper)
            self._urgent = self._urgent or (bool(self.keeper.own_events) and self._retry_at == NEVER)
            self._tend_at = 0.0
        elif isinstance(job, Stop):
            self._stopping = True
        return 1

    # --- acting

    def _act(self) -> None:
        now_s = time.monotonic()
        if self.keeper.engine is None:
            self.keeper.reopen(wanted=bool(self._waiting) or any(call.writes for call in self._calls))
        if self._urgent or self._stopping or now_s >= min(self._lazy_at, self._marks_at, self._retry_at):
            commits, self._waiting = self._waiting, []
            self._answered, self._asking = self._asking, 0
            self._urgent, self._lazy_at, self._marks_at, self._retry_at = False, NEVER, NEVER, NEVER
            self._commit_all(commits)
        calls, self._calls = self._calls, []
        for call in calls:
            self._call(call)
        if self._searches:
            self._step(self._searches.popleft())
        self._after()

    def _after(self) -> None:
        """What is done once everybody has an answer."""
        self.keeper.count_commits()
        if self.keeper.engine is not None and self.keeper.engine.has_marks and self._marks_at == NEVER:
            self._marks_at = time.monotonic() + MARKS_S
        due = self._retention_ms if time.monotonic() >= self._tend_at else None
        if self.keeper.tend(due, reading=bool(self._searches)):
            self._tend_at = 0.0
        elif self._tend_at <= time.monotonic():
            self._tend_at = time.monotonic() + _RETENTION_EVERY_S
        self._keep_pace()
        # Curing something may have added an event; it is due at once.
        self._urgent = self._urgent or (bool(self.keeper.own_events) and self._retry_at == NEVER)
        news, self.keeper.news = self.keeper.news, set()
        self._tell_of(news)

    def _keep_pace(self) -> None:
        """Look at what was written, at most every second or sixteenth commit; keep what is left of the budget."""
        now_s, commits = time.monotonic(), self.keeper.counts["commits"]
        if now_s < self._pace_at and commits < self._pace_commits + _PACE_COMMITS:
            return
        self._pace_at, self._pace_commits = now_s + 1.0, commits
        change = self._pace.note(now_s, self.keeper.meter.total())
        if change is not None:
            self.keeper.add_own_event("store.wear", change._asdict(), self.place.now_ms())
        self._save_pace(self._pace.to_keep(now_s))

    def _save_pace(self, left_bytes: int | None) -> None:
        if left_bytes is not None:
            self.keeper.guard(lambda engine: engine.save_mark(_PACE_MARK, left_bytes))

    def _tell_of(self, news: set[str]) -> None:
        if news:
            try:
                self._tell(news)
            except Exception:
                log.exception("on_change failed")

    # --- commits

    def _commit_all(self, commits: list[Commit]) -> None:
        """Commit as one group; if that fails for one batch's own fault, one by one, so that each gets its answer."""
        engine, events = self.keeper.engine, list(self.keeper.own_events)
        if not commits and not events and not (engine is not None and engine.has_marks):
            return
        error = self.keeper.commit(Group([commit.batch for commit in commits], events))
        if error is None:
            if events:
                self.keeper.own_events.clear()
            self._answer(commits, None)
        elif isinstance(error, StoreUnwritable | StoreCorrupt):
            self._answer_full(commits, error)
        elif len(commits) > 1 or (commits and events):
            for commit in commits:
                self._answer([commit], self.keeper.commit(Group([commit.batch])))
            self._commit_all([])
        else:
            self._answer(commits, error)
            if events:
                self.keeper.own_events_failed()
                self._retry_at = time.monotonic() + RETRY_S

    def _answer_full(self, commits: list[Commit], error: StoreError) -> None:
        # Events and sessions may use the reserve, so they are tried once more without the bulk.
        light = [commit for commit in commits if not Group([commit.batch]).is_bulk()]
        heavy = [commit for commit in commits if Group([commit.batch]).is_bulk()]
        self._answer(heavy, error)
        if heavy and (light or self.keeper.own_events):
            self._commit_all(light)
            return
        self._answer(light, error)
        if self.keeper.own_events:
            self._retry_at = time.monotonic() + RETRY_S

    def _answer(self, commits: list[Commit], error: StoreError | None) -> None:
        if error is not None:
            self.keeper.counts["refused"] += len(commits)
            error = plain(error)
        for commit in commits:
            try:
                commit.done(commit.batch.id, error)
            except Exception:
                log.exception("a commit's callback failed")

    def _refuse_all(self, error: StoreError) -> None:
        commits, self._waiting = self._waiting, []
        calls, self._calls = self._calls, []
        self._urgent, self._lazy_at = False, NEVER
        self._answer(commits, error)
        for call in calls:
            answer(call.future, error=plain(error))

    # --- calls

    def _call(self, call: Call) -> None:
        if self.keeper.engine is None and call.without is not None:
            answer(call.future, call.without)
            return
        try:
            result = self.keeper.call(call.act, writes=call.writes)
        except StoreError as error:
            answer(call.future, error=error)
            return
        self.keeper.count_commits()
        self.keeper.news.update(call.news)
        answer(call.future, result)

    def _step(self, search: Search) -> None:
        try:
            if search.steps is None:
                search.steps = search.start(self.keeper.require())
            next(search.steps)
        except StopIteration as done:
            answer(search.future, done.value)
        except Exception as raised:
            error = self.keeper.note_error(translate(raised))
            if isinstance(error, StoreCorrupt) and self.keeper.recover(str(error)):
                search.steps = None  # from the start, with what was salvaged
                self._searches.append(search)
            else:
                answer(search.future, error=plain(error))
        else:
            self._searches.append(search)

    def status(self) -> dict[str, Any]:
        """How things stand, from any thread; who has the answer to a commit finds that commit in it."""
        keeper, engine = self.keeper, self.keeper.engine
        counted = dict.fromkeys(_COUNTERS, 0)
        if engine is not None:
            counted = {
                "readings": engine.taken,
                "unsealed": engine.unsealed,
                "thinned": engine.retention.compaction.thinned_samples,
                "forwards_dropped": engine.retention.given_up["forwards_dropped"],
                "packs_given_up": engine.retention.given_up["packs_given_up"],
            }
        return {
            **keeper.counts,
            **counted,
            "epoch": keeper.epoch,
            "boot": keeper.boot,
            "last_error": keeper.last_error,
            "commit_ms": round(keeper.commit_s * 1000, 1),
            "written_bytes": keeper.meter.total(),
            "written_source": keeper.meter.source,
        } | self._pace.status()
