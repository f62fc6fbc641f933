"""What has arrived, made durable and only then acknowledged: the same for the control point and for its workers."""

import logging
import queue
import time
from collections.abc import Callable
from typing import Protocol

from deploy.headend.intake import HeardMessage
from hub.headend.connection import BrokerDelivery
from hub.headend.database import UnfitValue
from hub.headend.inbox import Received
from hub.wire.printable import plain, why

_LOG = logging.getLogger("headend")
_AT_ONCE = 500
_WAIT_S = 0.02


class Takes(Protocol):
    """Where messages go: the control point, or a worker's intake."""

    def take_all(self, messages: list[HeardMessage], t_ms: int) -> list[Received]: ...

    def refuse(self, message: HeardMessage, why: str) -> Received: ...

    def commit(self) -> None: ...

    def undo(self) -> None: ...


class Taker:
    """`counts` is told what was done, `heard` each message of a hub once it is durable. `is_ours(topic)`: whether to
    take it; another is acknowledged, as somebody else has it from a session of his own."""

    def __init__(
        self, deliveries: "queue.Queue[BrokerDelivery]", takes: Takes, counts: dict[str, int],
        heard: Callable[[Received], None], is_ours: Callable[[str], bool] = lambda _topic: True,
    ) -> None:  # fmt: skip
        self._deliveries, self._takes, self._counts, self._heard = deliveries, takes, counts, heard
        self._is_ours = is_ours
        self._delivered: list[BrokerDelivery] = []  # what a broker gave and has no acknowledgement of

    def take(self) -> int:
        """What has arrived, in one transaction; then the broker has its acknowledgements. How many messages. What could
        not be written (one of database.FAILURES is raised) is taken again the next time."""
        try:
            if not self._delivered:
                self._note(self._deliveries.get(timeout=_WAIT_S))
            while len(self._delivered) < _AT_ONCE:
                self._note(self._deliveries.get_nowait())
        except queue.Empty:
            pass
        if not self._delivered:
            return 0
        taken = self._enter([HeardMessage(d.topic, d.payload, d.connection.address) for d in self._delivered])
        self._counts["commits"] += 1
        for delivery in self._delivered:
            delivery.acknowledge()
        self._delivered.clear()
        for received in taken:
            self._count(received)
            self._heard(received)
        return len(taken)

    def _note(self, delivery: BrokerDelivery) -> None:
        if self._is_ours(delivery.topic):
            self._delivered.append(delivery)
        else:
            delivery.acknowledge()

    def _enter(self, messages: list[HeardMessage]) -> list[Received]:
        t_ms = int(time.time() * 1000)
        try:
            taken = self._takes.take_all(messages, t_ms)
            self._takes.commit()
        except UnfitValue as error:
            self._takes.undo()
            if len(messages) == 1:
                return [self._takes.refuse(messages[0], why(error))]
            # One of them can never be written: the others must not wait for it for ever.
            return [received for message in messages for received in self._enter([message])]
        return taken

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
