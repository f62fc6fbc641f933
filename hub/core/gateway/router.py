"""What the parts of the gateway machine share: sessions, what is to be sent, what is to be made durable, timers.

The rule of custody lives here: an answer that promises something waits in a `Completion` until the batch that holds the
promise is durable (`committed`), and turns into its refusal when the store could not take it (`refused`).
"""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from hub.core.allowance import Allowance
from hub.core.gateway import session as states
from hub.core.gateway.adapter_events import EventPace
from hub.core.gateway.addresses import Addresses
from hub.core.gateway.limits import GatewayConfig, tolerated_silence_s
from hub.core.gateway.resync import Key, key_of, resync
from hub.core.gateway.session import QueuedMessage, SeenEntry, Session
from hub.core.gateway.v2.translator import Translator
from hub.core.order import Order
from hub.core.records import Batch, Change, EventRecorded, Peer, SessionRemoved
from hub.wire.mqttsn.messages import Disconnect
from hub.wire.mqttsn.topics import Subscriptions

# What is owed to the store while it refuses is bounded too.
_MAX_KEPT = 1000
_MAX_DIRTY_KEYS = 20_000
# How long after a bound was last felt the hub says so.
_PRESSURE_S = 600.0


class Publication(NamedTuple):
    """An accepted publish, ready to act on: what is retained and who gets it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    deliveries: tuple[tuple[Session, QueuedMessage], ...]


class Completion:
    """What one request still owes its sender: `accepted` once durable, `refused` if the store cannot take it.

    `refused`: the answer, or the topic id of a publish, which is refused with a PUBACK. `then` is called once durable,
    `otherwise` when refused.
    """

    __slots__ = ("accepted", "entry", "msg_id", "otherwise", "peer", "publication", "refused", "session", "then")

    def __init__(
        self,
        peer: Peer | None,
        accepted: bytes,
        refused: bytes | int,
        session: Session | None = None,
        msg_id: int = 0,
        entry: SeenEntry | None = None,
        publication: Publication | None = None,
        then: Callable[[float], None] | None = None,
        otherwise: Callable[[float], None] | None = None,
    ) -> None:
        self.peer = peer
        self.accepted = accepted
        self.refused = refused
        self.session = session
        self.msg_id = msg_id
        self.entry = entry
        self.publication = publication
        self.then = then
        self.otherwise = otherwise


class Router:
    """The gateway's tables, and the ways out of it; the parts that handle messages share it."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.sessions: dict[str, Session] = {}
        self.by_peer: dict[Peer, Session] = {}
        self.addresses = Addresses(config.limits)
        self.event_pace = EventPace()
        # By code of hub/core/health.py: when a bound was last felt, and what there is to say.
        self._pressures: dict[str, tuple[float, str]] = {}
        self.translator = Translator(self.sessions, self.by_peer, config)
        self.peers_2_0 = self.translator.table.peers  # the same table: asked for each datagram that comes or goes
        self.subscriptions = Subscriptions()
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.retained_bytes = 0
        self.classes: dict[str, str] = {}  # of clients whose class says what they may publish (hub/wire/device_class)
        self.told_out_of_class: set[tuple[str, str]] = set()  # client, quantity
        self.abouts = 0  # of the retained ones, those that say what an appliance is
        self.retaining: Counter[str] = Counter()  # new topics whose retained message is not durable yet
        self.nameless_retained = 0  # by senders without a session, in this run
        self.counters: Counter[str] = Counter()
        self.down_links: set[str] = set()
        self.out: list[tuple[Peer, bytes]] = []
        self.orders_sent: list[tuple[str, Order]] = []
        self.batch = Batch(1)
        self.completions: list[Completion] = []
        self.waiting: dict[int, list[Completion]] = {}
        self.handed_over: dict[int, Batch] = {}
        self.pending_requests = 0
        self.nameless: dict[str, Allowance] = {}
        self.rates = config.publishes_per_s or None
        # Changes that no client will repeat when the store refuses them, by identity, until they are durable.
        self._kept: dict[int, Change] = {}
        # What a refused batch would have changed; said again, as it is by then, in a later batch.
        self._dirty_keys: dict[Key, None] = {}
        self._timers: list[tuple[float, int, Session]] = []
        self._timer_count = 0

    # Sending

    def send(self, peer: Peer, datagram: bytes, as_it_is: bool = False) -> bool:
        """Hand a message to its link; False when it is longer than its hearer takes or the link carries (counted).

        A 2.0 client hears it in 2.0. `as_it_is`: these bytes are what that client is to hear.
        """
        if self.peers_2_0 and not as_it_is and peer in self.peers_2_0:
            said = self.translator.say(peer, datagram)
            if said is None:
                self.counters["too-long-for-client"] += 1
                return False
            return not said or self.send(peer, said, as_it_is=True)
        if type(peer[-1]) is bytes:  # behind a forwarder (section 5.5)
            datagram = self.translator.wrap(peer, datagram)
            peer = peer[:-1]
        limit = self.config.max_bytes.get(peer[0])
        if limit is not None and len(datagram) > limit:
            self.counters["too-long-for-link"] += 1
            return False
        self.out.append((peer, datagram))
        return True

    def send_to(self, session: Session, datagram: bytes) -> bool:
        session.stats.frames_out += 1
        return self.send(session.peer, datagram)

    # Custody

    def record(self, change: Change, urgent: bool = False) -> None:
        self.batch.changes.append(change)
        if urgent:
            self.batch.urgent = True

    def record_event(self, event: str, **fields: object) -> None:
        change = EventRecorded(event, dict(fields))
        self.keep(change)
        self.record(change, urgent=True)

    def record_adapter_event(self, event: str, now: float, client: str, **fields: object) -> None:
        """An event that anybody in the home can cause: at a pace, and beyond it together with others."""
        if self.event_pace.admits(event, client, now):
            self.record_event(event, client=client, **fields)

    def feel(self, code: str, now: float, detail: str = "") -> None:
        """A bound was felt: an engineer is to see it for a while."""
        self._pressures[code] = (now, detail)

    def pressures(self, now: float) -> dict[str, str]:
        """The bounds that were felt lately, by code."""
        return {code: detail for code, (at, detail) in self._pressures.items() if now - at <= _PRESSURE_S}

    def keep(self, change: Change) -> None:
        """Nobody would repeat this change when the store refuses it: the gateway does, up to a bound."""
        self._kept[id(change)] = change
        if len(self._kept) > _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
            self.counters["dropped.unsaved"] += 1

    def when_durable(self, completion: Completion) -> None:
        """Owe an answer until the present batch is durable."""
        self.completions.append(completion)
        self.batch.urgent = True
        self.pending_requests += 1

    @property
    def is_congested(self) -> bool:
        return self.pending_requests >= self.config.limits.pending_requests

    def take_batch(self) -> Batch | None:
        """The records gathered since the last call; the answers that hang on them wait under its id."""
        batch = self.batch
        if self._dirty_keys:
            again, self._dirty_keys = resync(self, self._dirty_keys, not self.handed_over)
            batch.changes[:0] = again
        if not batch and not self.completions:
            return None
        self.waiting[batch.id] = self.completions
        self.handed_over[batch.id] = batch
        self.completions = []
        self.batch = Batch(batch.id + 1)
        return batch

    def settle(self, batch_id: int) -> tuple[Batch | None, list[Completion]]:
        """What hung on a batch, once its fate is known."""
        completions = self.waiting.pop(batch_id, [])
        self.pending_requests -= len(completions)
        return self.handed_over.pop(batch_id, None), completions

    def saved(self, batch: Batch) -> None:
        """This batch is durable."""
        if self._kept:
            for change in batch.changes:
                self._kept.pop(id(change), None)

    def owe_again(self, batch: Batch) -> None:
        """A refused batch: what the gateway has already acted on is said again later; requests are asked again."""
        for change in batch.changes:
            if id(change) in self._kept:
                self.batch.changes.append(change)
            elif (key := key_of(change)) is not None:
                self._dirty_keys[key] = None
        while len(self._dirty_keys) > _MAX_DIRTY_KEYS:
            del self._dirty_keys[next(iter(self._dirty_keys))]
            self.counters["dropped.unsaved"] += 1
        if not batch.urgent:
            self.batch.samples[:0] = batch.samples[-_MAX_KEPT:]

    def refuse(self, session: Session | None, reason: str) -> None:
        """Count a refusal, in all and per adapter."""
        self.counters["refused." + reason] += 1
        if session is not None:
            session.stats.count_refused(reason)

    # Sessions

    def require_session(self, peer: Peer) -> Session | None:
        """The session of a peer that is connected, awake or asleep; otherwise the peer is told DISCONNECT at once."""
        session = self.by_peer.get(peer)
        if session is not None and session.state in states.PRESENT:
            return session
        self.counters["refused.not-connected"] += 1
        self.send(peer, Disconnect().encode())
        return None

    def bind(self, session: Session, peer: Peer) -> Session | None:
        """Make `peer` the address of a session; return the session that it displaced there, if another one."""
        displaced = self.by_peer.get(peer)
        if self.by_peer.get(session.peer) is session:
            del self.by_peer[session.peer]
        self.addresses.remove(session)
        session.peer = peer
        self.by_peer[peer] = session
        self.addresses.add(session)
        return displaced if displaced is not session else None

    def drop_session(self, session: Session) -> None:
        """Forget a session for good."""
        for topic_filter in session.subscriptions:
            self.subscriptions.remove(session.client_id, topic_filter)
        del self.sessions[session.client_id]
        self.addresses.remove(session)
        if self.by_peer.get(session.peer) is session:
            del self.by_peer[session.peer]
        self.record(SessionRemoved(session.client_id))

    # Timers: one lazy heap; a session that keeps talking moves no entry, its entry looks again when it comes up.

    def due_at(self, session: Session) -> float | None:
        """When this session needs attention next, or None."""
        due: float | None = None
        if session.peer[0] in self.down_links:
            return None  # it may be talking: nobody here could hear it
        if session.state in states.PRESENT and session.duration_s:
            due = session.last_heard + tolerated_silence_s(session.duration_s)
        elif session.state in (states.WILL_TOPIC, states.WILL_MSG):
            due = session.last_heard + self.config.will_dialogue_s
        if session.inflight is not None and session.state in states.ON_AIR:
            due = session.inflight.deadline if due is None else min(due, session.inflight.deadline)
        return due

    def link_is(self, link: str, up: bool, now: float) -> None:
        """A link went down, or is up again: silence on a link that is down is no fault of its clients."""
        if not up:
            self.down_links.add(link)
            return
        if link in self.down_links:
            self.down_links.discard(link)
            for session in self.sessions.values():
                if session.peer[0] == link:
                    session.last_heard = now
                    if session.inflight is not None:
                        session.inflight.deadline = now + self.config.t_retry_s
                    self.arm(session)

    def arm(self, session: Session) -> None:
        """See to it that the heap looks at this session in time."""
        due = self.due_at(session)
        if due is not None and (session.timer_at is None or due < session.timer_at):
            session.timer_at = due
            self._timer_count += 1
            heapq.heappush(self._timers, (due, self._timer_count, session))
            if len(self._timers) > 4 * len(self.sessions) + 64:
                self._sweep_timers()

    def _sweep_timers(self) -> None:
        # Entries that nothing waits for: a sleeper that wakes every minute leaves one for hours each time.
        self._timers = [e for e in self._timers if e[2].timer_at == e[0] and self.sessions.get(e[2].client_id) is e[2]]
        heapq.heapify(self._timers)

    def get_timer(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def next_due(self, now: float) -> Session | None:
        """The next session that is really due, popped from the heap; stale entries are moved on."""
        while self._timers and self._timers[0][0] <= now:
            at, _, session = heapq.heappop(self._timers)
            if session.timer_at != at or self.sessions.get(session.client_id) is not session:
                continue
            session.timer_at = None
            due = self.due_at(session)
            if due is not None and due <= now:
                return session
            self.arm(session)
        return None
