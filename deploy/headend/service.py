"""The service's own thread: takes what hubs send, makes it durable, then tells the broker; sends what is due; does what
the API asks. It alone writes to the database."""

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from deploy.headend.brokers import Brokers
from deploy.headend.config import HeadendConfig
from deploy.headend.control_point import ControlPoint
from deploy.headend.registry import certificates_of, issued_in
from hub.headend.bookkeeper import CommandToSend
from hub.headend.connection import BrokerDelivery
from hub.headend.inbox import Received
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.printable import plain, why
from hub.wire.uplink.envelope import FileSigner

_LOG = logging.getLogger("headend")
_AT_ONCE = 500
_TOPICS = ("state", "readings", "events", "receipts", "answers", "heartbeat")
_LOOK_FOR_HUBS_S = 30.0
_FIRST_BOOKED_S = 10.0
T = TypeVar("T")


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
        self.counts = {"messages": 0, "readings": 0, "faults": 0, "repeats": 0, "commits": 0, "sent": 0, "failed": 0}

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

    def ask(self, do: Callable[[ControlPoint], tuple[T, list[CommandToSend]]]) -> "Future[T]":
        """Do it in a transaction; what it returns to be published goes once that is durable. The answer, or what was
        raised, is in the future."""
        answer: Future[T] = Future()
        self._questions.put(_Question(do, answer))
        return answer

    def _run(self) -> None:
        config = self._config
        try:
            point = ControlPoint(
                config.data_dir, config.operator_kid, self._signer, second_person_above=config.second_person_above,
                max_power_w=config.max_power_w, gap_after_s=config.gap_after_s,
                callback_hosts=config.callback_hosts,
            )  # fmt: skip
            brokers = Brokers(config)
            worker = _Worker(config, point, brokers, self._questions, self.counts, self._heard)
            worker.enrol()
            brokers.start([f"meters/+/{topic}" for topic in _TOPICS])
        except (OSError, sqlite3.Error, ValueError) as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            worker.loop(self._stopping)
        finally:
            brokers.stop()
            point.close()


class _Worker:
    """What lives in the thread: the only one that writes."""

    def __init__(
        self, config: HeadendConfig, point: ControlPoint, brokers: Brokers,
        questions: "queue.SimpleQueue[_Question]", counts: dict[str, int], heard: Callable[[Received], None],
    ) -> None:  # fmt: skip
        self._config, self._point, self._brokers = config, point, brokers
        self._questions, self._counts, self._heard = questions, counts, heard
        self._enrolled_at: dict[str, float] = {}  # file -> when it was changed last
        self._delivered: list[BrokerDelivery] = []  # what a broker gave and has no acknowledgement of

    def loop(self, stopping: threading.Event) -> None:
        booked_every_s = self._config.booked_every_s
        now = time.monotonic()
        due_at, enrol_at, booked_at = now, now + _LOOK_FOR_HUBS_S, now + min(_FIRST_BOOKED_S, booked_every_s)
        while not stopping.is_set():
            try:
                self._take()
                self._answer()
                now = time.monotonic()
                if now >= due_at:
                    due_at = now + 1.0
                    self._publish(self._point.due(now, int(time.time())))
                if now >= booked_at:
                    booked_at = now + booked_every_s
                    self._publish(self._point.bookings(int(time.time())))
                if now >= enrol_at:
                    enrol_at = now + _LOOK_FOR_HUBS_S
                    self.enrol()
            except (sqlite3.Error, OSError, HardwareError) as error:
                # Nothing was acknowledged that is not durable: the broker and the hubs have it still.
                self._counts["failed"] += 1
                _LOG.error("not written, and not acknowledged: %s", why(error))
                self._point.undo()
                stopping.wait(1.0)

    def _take(self) -> None:
        """What has arrived, in one transaction; then the broker has its acknowledgements. What could not be written is
        taken again the next time."""
        deliveries = self._brokers.deliveries
        try:
            if not self._delivered:
                self._delivered.append(deliveries.get(timeout=0.02))
            while len(self._delivered) < _AT_ONCE:
                self._delivered.append(deliveries.get_nowait())
        except queue.Empty:
            pass
        if not self._delivered:
            return
        t_ms = int(time.time() * 1000)
        taken = [
            self._point.take(delivery.topic, delivery.payload, t_ms, delivery.connection.address)
            for delivery in self._delivered
        ]
        self._point.commit()
        self._counts["commits"] += 1
        for delivery in self._delivered:
            delivery.acknowledge()
        self._delivered.clear()
        for received in taken:
            self._count(received)
            self._heard(received)

    def _count(self, received: Received) -> None:
        counts = self._counts
        counts["messages"] += 1
        if received.fault:
            counts["faults"] += 1
            _LOG.warning("%s %s: %s", plain(received.hub), plain(received.kind), received.fault)
        elif received.is_new:
            counts["readings"] += len(received.readings)
        else:
            counts["repeats"] += 1

    def _answer(self) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except queue.Empty:
                return
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
