"""The service's own thread: takes what hubs send, makes it durable, then tells the broker; sends what is due; does what
the API asks. It alone writes to the database."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from deploy.headend.brokers import Brokers
from deploy.headend.clearing import Clearer
from deploy.headend.columns import ColumnWriter
from deploy.headend.config import HeadendConfig
from deploy.headend.control_point import ControlPoint
from deploy.headend.intake import PACK_LANES
from deploy.headend.registry import certificates_of, issued_in
from deploy.headend.taking import Taker
from deploy.headend.worker_processes import WorkerProcesses
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import FAILURES
from hub.headend.inbox import Received
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.printable import why
from hub.wire.uplink.envelope import FileSigner

_LOG = logging.getLogger("headend")
_OTHER_LANES = ("state", "events", "receipts", "heartbeat")
_LOOK_FOR_HUBS_S = 30.0
_FIRST_BOOKED_S = 10.0
_ASK_S = 30.0
T = TypeVar("T")


def subscriptions(workers: int) -> tuple[list[str], list[str]]:
    """What the service's own session listens to, and what it does no longer: packs are the workers' where there are
    any. What hubs are, do and answer stays in one hand, in its order."""
    packs, others = ([f"meters/+/{lane}" for lane in lanes] for lanes in (PACK_LANES, _OTHER_LANES))
    return (others, packs) if workers else ([*others, *packs], [])


class _Question(NamedTuple):
    do: Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]
    answer: "Future[Any]"


class Service:
    """Start it, `ask` it, stop it. `heard`: called in its thread for each message of a hub once it is durable."""

    def __init__(self, config: HeadendConfig, signer: FileSigner, heard: Callable[[Received], None]) -> None:
        self._config = config
        self._signer = signer
        self._heard = heard
        self._questions: queue.SimpleQueue[_Question] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="control point")
        self.counts = {"messages": 0, "readings": 0, "faults": 0, "repeats": 0, "commits": 0, "sent": 0, "failed": 0,
                       "worker_starts": 0, "column_readings": 0, "column_failures": 0, "missing": 0,
                       "clearing_failures": 0}  # fmt: skip

    def start(self) -> None:
        """Raises OSError, sqlite3.Error where the database or the broker cannot be had."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def ask(self, do: Callable[[ControlPoint], tuple[T, list[CommandToSend]]], within_s: float = _ASK_S) -> T:
        """Do it in a transaction; what it returns to be published goes once that is durable. Raises what was raised,
        and TimeoutError where its turn did not come in time: then it is not done, and who asks again has it once."""
        answer: Future[T] = Future()
        self._questions.put(_Question(do, answer))
        try:
            return answer.result(within_s)
        except TimeoutError:
            if answer.cancel():
                raise
        return answer.result()  # it is being done

    def _run(self) -> None:
        config = self._config
        try:
            point = ControlPoint(
                config.place, config.operator_kid, self._signer, second_person_above=config.second_person_above,
                max_power_w=config.max_power_w, gap_after_s=config.gap_after_s, has_columns=bool(config.columns_url),
                callback_hosts=config.callback_hosts,
            )  # fmt: skip
            brokers = Brokers(config)
            worker = _ServiceLoop(config, point, brokers, self._questions, self.counts, self._heard)
            worker.enrol()
            brokers.start(*subscriptions(config.workers))
        except (*FAILURES, ValueError) as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            worker.loop(self._stopping)
        finally:
            worker.stop()
            brokers.stop()
            point.close()


class _ServiceLoop:
    """What lives in the thread: the only one that writes."""

    def __init__(
        self, config: HeadendConfig, point: ControlPoint, brokers: Brokers,
        questions: "queue.SimpleQueue[_Question]", counts: dict[str, int], heard: Callable[[Received], None],
    ) -> None:  # fmt: skip
        self._config, self._point, self._brokers = config, point, brokers
        self._questions, self._counts = questions, counts
        self._enrolled_at: dict[str, float] = {}  # file -> when it was changed last
        self._taker = Taker(brokers.deliveries, point, counts, heard)
        self._workers = WorkerProcesses(config.file, config.workers, is_divided_by_name=config.is_divided_by_name)
        self._columns = ColumnWriter(config.place, config.columns_url) if config.columns_url else None
        self._clearer = Clearer(config.place, config.keep)
        if self._columns is not None:
            self._columns.start()
        self._clearer.start()

    def loop(self, stopping: threading.Event) -> None:
        booked_every_s = self._config.booked_every_s
        now = time.monotonic()
        due_at, enrol_at, booked_at = now, now + _LOOK_FOR_HUBS_S, now + min(_FIRST_BOOKED_S, booked_every_s)
        while not stopping.is_set():
            try:
                self._taker.take()
                self._answer()
                now = time.monotonic()
                if now >= due_at:
                    due_at = now + 1.0
                    self._workers.look()
                    self._counts["worker_starts"] = self._workers.starts
                    if self._columns is not None:
                        self._counts |= self._columns.counts
                    self._counts |= self._clearer.counts
                    self._publish(self._point.due(now, int(time.time())))
                    self._counts["missing"] = self._point.missing
                if now >= booked_at:
                    booked_at = now + booked_every_s
                    self._publish(self._point.bookings(int(time.time())))
                if now >= enrol_at:
                    enrol_at = now + _LOOK_FOR_HUBS_S
                    self.enrol()
            except (*FAILURES, HardwareError) as error:
                # Nothing was acknowledged that is not durable: the broker and the hubs have it still.
                self._counts["failed"] += 1
                _LOG.error("not written, and not acknowledged: %s", why(error))
                self._point.undo()
                self._refuse(error)
                stopping.wait(1.0)

    def _refuse(self, error: Exception) -> None:
        """Who asks while nothing can be written hears so at once."""
        with suppress(queue.Empty):
            while True:
                question = self._questions.get_nowait()
                if question.answer.set_running_or_notify_cancel():
                    question.answer.set_exception(error)

    def stop(self) -> None:
        self._workers.stop()
        if self._columns is not None:
            self._columns.stop()
        self._clearer.stop()

    def _answer(self) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except queue.Empty:
                return
            if not question.answer.set_running_or_notify_cancel():
                continue  # who asked has given up
            try:
                self._point.book.begin()
                answer, sends = question.do(self._point)
                self._publish(sends)
            except Exception as error:
                self._point.undo()
                question.answer.set_exception(error)
            else:
                question.answer.set_result(answer)

    def _publish(self, sends: list[CommandToSend]) -> None:
        self._point.commit()
        self._brokers.send(sends)
        self._counts["sent"] += len(sends)

    def enrol(self) -> None:
        """Hubs that the station has made since."""
        added = 0
        sources: list[tuple[Path, Callable[[Path], Iterator[bytes]]]]
        sources = [(journal, issued_in) for journal in self._config.journals]
        if self._config.certificates is not None:
            sources.append((self._config.certificates, certificates_of))
        for place, read in sources:
            try:
                changed = place.stat().st_mtime
                if self._enrolled_at.get(str(place)) == changed:
                    continue
                added += self._point.enrol(read(place), place.name)
                self._enrolled_at[str(place)] = changed
            except OSError as error:
                _LOG.warning("hubs are not read from there: %s", why(error))
        self._point.commit()
        if added:
            _LOG.info("%d hubs are new", added)
