"""The home's loop: links <-> gateway machine <-> store. It decides nothing; it carries, and it never falls over."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from drivers.clock import monotonic
from drivers.link import Datagrams, Link
from hub.core.gateway.gateway import Gateway
from hub.core.order import Order
from hub.core.records import Batch, Change, Sample

log = logging.getLogger(__name__)


class Custodian(Protocol):
    """What the bridge needs of the store."""

    def commit(self, batch: Batch, done: Any) -> None:
        """Make a batch durable; `done(batch.id, error or None)` comes from the writer's thread, or at once."""


class Bridge:
    """Drives one Gateway. Everything but `_from_writer` runs on the event loop."""

    def __init__(self, gateway: Gateway, store: Custodian, clock: Callable[[], float] = monotonic) -> None:
        """`clock`: what the machine's `now` is; seconds that the event loop's timers count, too."""
        self.gateway = gateway
        self._clock = clock
        self._store = store
        self._links: dict[str, Link] = {}
        self._settled: deque[tuple[int, Exception | None]] = deque()
        self._settle_is_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self.internal_errors = 0
        # Whoever looks at the frames: called with "in" or "out" and the datagrams.
        self.tap: Callable[[str, Datagrams], None] | None = None
        # Called with the store's last word on custody when it changes: None, or why it refuses.
        self.custody_changed: Callable[[Exception | None], None] = lambda error: None
        self._custody_error: Exception | None = None
        # Called with what was handed to the store, once the answers are on their way.
        self.observed: Callable[[list[Sample], list[Change]], None] = lambda samples, changes: None
        # Called with the orders that went on the air: (client_id, order).
        self.orders_sent: Callable[[list[tuple[str, Order]]], None] = lambda orders: None

    async def start(self) -> None:
        """Begin to drive; links are added afterwards, whenever they are ready."""
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.flush()

    async def add_link(self, link: Link) -> None:
        """Open one way into the home."""
        self._links[link.name] = link

        def changed(is_up: bool) -> None:
            if is_up:
                self.gateway.link_up(link.name, self._clock())
            else:
                self.gateway.link_down(link.name)
            self.flush()

        link.changed = changed
        await link.start(self.arrived)
        changed(link.is_up)

    async def close(self) -> None:
        """Close the links: nothing more arrives. Commits under way still settle while the loop runs."""
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            await link.close()

    def pressures(self) -> dict[str, str]:
        """The bounds that strangers made felt lately: `{code of hub/core/health.py: what there is to say}`."""
        felt = self.gateway.pressures(self._clock())
        flooding = [host for link in self._links.values() for host in link.status().get("flooding", ())]
        if flooding:
            felt["home-flooded"] = ", ".join(flooding[:4]) + (" and more" if len(flooding) > 4 else "")
        return felt

    def link_status(self) -> dict[str, Any]:
        return {name: link.status() for name, link in self._links.items()}

    # Input

    def arrived(self, datagrams: Datagrams) -> None:
        """Everything that one wake-up brought, decided as one batch: one commit, one burst of answers."""
        now = self._clock()
        if self.tap is not None:
            self.tap("in", datagrams)
        receive = self.gateway.receive_datagram
        for peer, data in datagrams:
            try:
                receive(peer, data, now)
            except Exception:
                self._count_internal_error("a datagram of %d bytes from %s", len(data), peer)
        self.flush()

    def take_reading(self, client_id: str, quantity: str, text: str, flags: int = 0) -> None:
        """A reading from a device that speaks no MQTT-SN (ZCL, the meter): `text` is its decimal value, or
        `SECONDS_AGO:VALUE`; `flags` as in a pack (hub/wire/uplink/reading.py)."""
        try:
            self.gateway.take_reading(client_id, quantity, text.encode(), self._clock(), flags)
        except Exception:
            self._count_internal_error("a reading of %s from %s", quantity, client_id)
        self.flush()

    def forget(self, client_id: str) -> bool:
        """Drop a client for good (an engineer replaces the device that bore the name); False: no such client."""
        is_gone = self.gateway.forget(client_id)
        self.flush()
        return is_gone

    def _on_timer(self) -> None:
        self._timer = self._timer_at = None
        try:
            self.gateway.handle_timer(self._clock())
        except Exception:
            self._count_internal_error("a timer")
        self.flush()

    def _from_writer(self, batch_id: int, error: Exception | None) -> None:
        self._settled.append((batch_id, error))
        if get_ident() == self._thread:
            return  # refused at once, since the store is closed: `flush` goes on with it
        # On the writer's thread. One wake-up of the loop serves every batch that settled meanwhile.
        if not self._settle_is_scheduled and self._loop is not None:
            self._settle_is_scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop is closed: the hub has stopped, the commit stands all the same
                pass

    def _settle(self) -> None:
        self._settle_is_scheduled = False
        self._take_settled()
        self.flush()

    def _take_settled(self) -> bool:
        """Tell the gateway of every batch whose fate is known; False when one was refused."""
        now, is_durable = self._clock(), True
        while self._settled:
            batch_id, error = self._settled.popleft()
            try:
                if error is None:
                    self.gateway.committed(batch_id, now)
                else:
                    is_durable = False
                    self.gateway.refused(batch_id, now)
            except Exception:
                self._count_internal_error("batch %d", batch_id)
            if type(error) is not type(self._custody_error):
                self._custody_error = error
                self.custody_changed(error)
        return is_durable

    # Output

    def flush(self) -> None:
        """Hand on what the machine wants: records to the store, datagrams to their links, one timer."""
        taken: list[Batch] = []
        while (batch := self.gateway.take_batch()) is not None:
            taken.append(batch)
            self._store.commit(batch, self._from_writer)
            # A store that refuses at once is closed: what the gateway owes it, it would refuse without end.
            if not self._settled or not self._take_settled():
                break
        datagrams = self.gateway.datagrams_to_send()
        if datagrams:
            self._send(datagrams)
        self._rearm()
        sent = self.gateway.take_orders_sent()
        if sent:
            self.orders_sent(sent)
        for batch in taken:
            self.observed(batch.samples, batch.changes)

    def _send(self, datagrams: Datagrams) -> None:
        if self.tap is not None:
            self.tap("out", datagrams)
        if len(self._links) == 1:
            next(iter(self._links.values())).send(datagrams)
            return
        by_link: dict[str, Datagrams] = defaultdict(list)
        for datagram in datagrams:
            by_link[datagram[0][0]].append(datagram)
        for name, group in by_link.items():
            link = self._links.get(name)
            if link is not None:
                link.send(group)

    def _rearm(self) -> None:
        due = self.gateway.get_timer()
        if due == self._timer_at or self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = None if due is None else self._loop.call_later(max(0.0, due - self._clock()), self._on_timer)

    def _count_internal_error(self, what: str, *arguments: object) -> None:
        # Our own fault, not the sender's: the hub stays up, the count shows in `status`, the trace in the journal.
        self.internal_errors += 1
        log.exception("internal error while handling " + what, *arguments)
