"""The MQTT-SN gateway machine: datagrams and `now` in; datagrams, records to make durable and one deadline out.

No I/O, no clock. The loop that drives it (hub/services/home/bridge.py) does three things after each call: hands
`take_batch()` to the store, sends `datagrams_to_send()`, and re-arms one timer for `get_timer()`. When the store has committed or refused a
batch it says so with `committed` / `refused`; only then are the answers that promise custody sent (P1).
"""

from collections.abc import Callable, Iterable
from typing import Any

from hub.core.gateway import connections, inbound_publishing, outbound_publishing, subscribing
from hub.core.gateway import session as states
from hub.core.gateway.limits import GatewayConfig
from hub.core.gateway.router import Completion, Core
from hub.core.gateway.session import Message, SeenEntry, Session
from hub.core.gateway.v2.peer_state import Gone
from hub.core.order import Order
from hub.core.records import (
    Batch,
    MessageQueued,
    Peer,
    Restored,
    RetainedSet,
    Seen,
    SessionChanged,
    SubscriptionAdded,
    TopicRegistered,
)
from hub.wire.mqttsn.messages import (
    CONGESTION,
    TOPIC_PREDEFINED,
    Advertise,
    Connect,
    Disconnect,
    Forward,
    GwInfo,
    Malformed,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
    SearchGw,
    Subscribe,
    Unsubscribe,
    WillMsg,
    WillMsgUpd,
    WillTopic,
    WillTopicUpd,
    decode,
    encode_puback,
)
from hub.wire.mqttsn.topics import READING, route_for

_PUBLISH = b"\x0c"  # where its number is
_Handler = Callable[[Core, Session, Any, float], None]

# Messages that only a client with a session may send.
_OF_SESSION: dict[type, _Handler] = {
    Publish: inbound_publishing.on_publish,
    PubRel: inbound_publishing.on_pubrel,
    PubAck: outbound_publishing.on_puback,
    PubRec: outbound_publishing.on_pubrec,
    PubComp: outbound_publishing.on_pubcomp,
    RegAck: outbound_publishing.on_regack,
    Register: subscribing.on_register,
    Subscribe: subscribing.on_subscribe,
    Unsubscribe: subscribing.on_unsubscribe,
    WillTopicUpd: connections.on_will_topic_upd,
    WillMsgUpd: connections.on_will_msg_upd,
    Disconnect: connections.on_disconnect,
}
_OF_WILL_DIALOGUE: dict[type, _Handler] = {WillTopic: connections.on_will_topic, WillMsg: connections.on_will_msg}


class Gateway:
    """One home's gateway. See the module's docstring for how to drive it."""

    def __init__(self, config: GatewayConfig, now: float) -> None:
        self._core = Core(config)
        self._advertise_at = now if config.broadcast_links else None

    # Input

    def receive_datagram(self, peer: Peer, data: bytes, now: float) -> None:
        """Take one datagram. Anything may come: what is not understood is counted and dropped, nothing is raised."""
        core = self._core
        # While nobody speaks 2.0, what looks like a 1.2 PUBLISH (nine datagrams in ten) is one; anything else may be a
        # client's first word in 2.0.
        if (core.speakers_2_0 or data[1:2] != _PUBLISH or not 4 < len(data) < 256) and core.dialect.concerns(
            peer, data
        ):
            self._receive_2_0(peer, data, now)
            return
        try:
            message = decode(data)
        except Malformed as error:
            self._count_malformed(peer, error)
            return
        self._receive(peer, message, now)

    def _receive_2_0(self, peer: Peer, data: bytes, now: float) -> None:
        try:
            self._core.dialect.hear(peer, data, now)
        except Malformed as error:
            self._count_malformed(peer, error)
        self._interpret(now)

    def _count_malformed(self, peer: Peer, error: Malformed) -> None:
        self._core.refuse(self._core.by_peer.get(peer), f"malformed.{error}".replace(" ", "-"))

    def _interpret(self, now: float) -> None:
        """Receive what a 2.0 client has said as 1.2 has it, and send what the dialect answers by itself.

        Message by message: what the dialect makes of one depends on what the one before has done to the session.
        """
        core = self._core
        dialect = core.dialect
        while (heard := dialect.next_message()) is not None:
            peer, message = heard
            if type(message) is not Gone:
                self._receive(peer, message, now)
            elif (session := core.by_peer.get(peer)) is not None:
                session.dialect = dialect.kept(peer)
                connections.lose(core, session, now)
        for peer, answer in dialect.take_answers():
            core.send(peer, answer, as_it_is=True)

    def _receive(self, peer: Peer, message: Any, now: float) -> None:
        core = self._core
        kind = type(message)
        handler = _OF_SESSION.get(kind)
        if handler is None:
            self._receive_other(peer, message, now)
            return
        session = core.by_peer.get(peer)
        if session is None or session.state not in states.PRESENT:
            self._receive_from_absent(peer, session, message, now)
            return
        session.last_heard = now
        session.stats.frames_in += 1
        handler(core, session, message, now)

    def _receive_from_absent(self, peer: Peer, session: Session | None, message: Any, now: float) -> None:
        """From a node that is not connected only QoS -1 counts; everything else is answered DISCONNECT at once."""
        core = self._core
        if type(message) is Publish and message.qos == -1:
            if session is not None:
                inbound_publishing.on_publish(core, session, message, now)
            else:
                inbound_publishing.on_nameless_publish(core, peer, message, now)
        elif type(message) is Disconnect:
            if session is not None and session.state in (states.WILL_TOPIC, states.WILL_MSG):
                connections.on_disconnect(core, session, Disconnect(), now)
            else:
                core.send(peer, Disconnect().encode())  # it repeats a goodbye whose answer was lost
        else:
            core.present(peer)

    def _receive_other(self, peer: Peer, message: Any, now: float) -> None:
        core = self._core
        kind = type(message)
        if kind is Connect:
            connections.on_connect(core, peer, message, now)
        elif kind is PingReq:
            connections.on_pingreq(core, peer, message, now)
        elif kind is SearchGw:
            core.send(peer, GwInfo(core.config.gw_id).encode())
        elif kind is Forward:
            self._receive_forwarded(peer, message, now)
        elif kind in _OF_WILL_DIALOGUE:
            session = core.by_peer.get(peer)
            if session is None or session.state in (states.DISCONNECTED, states.LOST):
                core.present(peer)
            else:
                connections.heard(core, session, now)
                _OF_WILL_DIALOGUE[kind](core, session, message, now)
                core.arm(session)
        elif kind is PingResp:
            session = core.present(peer)
            if session is not None:
                connections.heard(core, session, now)
        else:
            core.refuse(core.by_peer.get(peer), "out-of-place")  # a message that only a gateway sends

    def _receive_forwarded(self, peer: Peer, message: Forward, now: float) -> None:
        """Section 5.5: the node behind a forwarder is a peer of its own. One forwarder deep, no further."""
        if type(peer[-1]) is bytes or not message.wireless_node_id:
            self._core.refuse(None, "forwarded-twice")
            return
        self.receive_datagram((*peer, message.wireless_node_id), message.message, now)

    def publish(self, topic: str, payload: bytes, now: float, *, qos: int = 1, retain: bool = False) -> None:
        """Publish something of the hub's own: `control/...`, `price`, `weather`, `time`, `home/...`."""
        inbound_publishing.publish_own(self._core, topic, payload, qos, retain, now)

    def give_order(self, client_id: str, order: Order, now: float) -> bool:
        """Give an order to an appliance; False when it is no client here or has not subscribed to `control/{me}`."""
        session = self._core.sessions.get(client_id)
        return session is not None and outbound_publishing.give(self._core, session, order, now)

    def take_orders_sent(self) -> list[tuple[str, Order]]:
        """`(client_id, order)` of those that went on the air since the last call: one for a sleeper waits for it."""
        sent = self._core.orders_sent
        if sent:
            self._core.orders_sent = []
        return sent

    def forget(self, client_id: str) -> bool:
        """Drop a client's session for good, so that another device may take its name; False: no such client."""
        return connections.forget(self._core, client_id)

    def take_reading(self, client_id: str, quantity: str, payload: bytes, now: float) -> None:
        """A reading of a device that is no MQTT-SN client; local subscribers get it like any other publish.

        Raises ValueError for a quantity or payload that is no reading.
        """
        route = route_for(client_id, "readings/" + quantity)
        if route.kind != READING:
            raise ValueError(f"{quantity!r} cannot be a quantity")
        inbound_publishing.act_on(
            self._core, inbound_publishing.admit(self._core, client_id, route, payload, 0, False, now), now
        )

    def committed(self, batch_id: int, now: float) -> None:
        """The store made this batch durable: send what hung on it, let its publishes take effect."""
        core = self._core
        batch, completions = core.settle(batch_id)
        if batch is not None:
            core.saved(batch)
        for completion in completions:
            session = completion.session
            entry = completion.entry
            if entry is not None:
                entry.pending = False
                if session is not None:
                    session.stats.accepted += 1
            if completion.peer is not None:
                if session is not None:
                    session.stats.frames_out += 1
                core.send(completion.peer, completion.accepted)
            if completion.publication is not None:
                inbound_publishing.act_on(core, completion.publication, now)
            if completion.then is not None:
                completion.then(now)
        if core.dialect.messages:
            self._interpret(now)  # a 2.0 CONNECT is several of 1.2: each goes on from the answer to the last

    def refused(self, batch_id: int, now: float) -> None:
        """The store could not take this batch: nothing of it counts, and its senders are told to come again."""
        core = self._core
        batch, completions = core.settle(batch_id)
        if batch is not None:
            core.owe_again(batch)
        for completion in completions:
            self._refuse(completion, now)
        if core.dialect.messages:
            self._interpret(now)

    def _refuse(self, completion: Completion, now: float) -> None:
        core = self._core
        session = completion.session
        entry = completion.entry
        if session is not None and entry is not None and session.seen.get(completion.msg_id) is entry:
            del session.seen[completion.msg_id]
        core.refuse(session, "congestion")
        refused = completion.refused
        if isinstance(refused, int):
            refused = encode_puback(refused, completion.msg_id, CONGESTION)
        if completion.peer is not None and refused:
            core.send(completion.peer, refused)
        if completion.otherwise is not None:
            completion.otherwise(now)

    def link_down(self, link: str) -> None:
        """A link's own hardware is away: its clients are not lost for being silent, nothing is sent again meanwhile."""
        self._core.link_is(link, False, 0.0)

    def link_up(self, link: str, now: float) -> None:
        """The link works (again): the clients' silence begins anew, and who can hear it learns that we are here."""
        self._core.link_is(link, True, now)
        if link in self._core.config.broadcast_links:
            self._advertise_at = now  # the ADVERTISE of our start found no link to go out by

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        core = self._core
        if self._advertise_at is not None and self._advertise_at <= now:
            self._advertise_at = now + core.config.advertise_s
            for link in core.config.broadcast_links:
                core.send((link, "*"), Advertise(core.config.gw_id, core.config.advertise_s).encode())
        while (session := core.next_due(now)) is not None:
            connections.on_due(core, session, now)
            core.arm(session)

    def restore(self, records: Iterable[Restored], now: float) -> None:
        """Take up the sessions of the last run; every client counts as just heard, whatever time has passed."""
        for record in records:
            _RESTORE[type(record)](self._core, record, now)
        for session in self._core.sessions.values():
            if session.dialect:  # all of them, before anything is said to anybody
                self._core.dialect.restore(session.client_id, session.peer, session.dialect, now)
        for session in self._core.sessions.values():
            if session.queue:
                outbound_publishing.keep_bounds(
                    self._core, session
                )  # what was dropped just before the end may still be stored
                session.put_first(session.dequeue()._replace(dup=True))
                outbound_publishing.pump(self._core, session, now)
            self._core.arm(session)

    # Output

    def take_batch(self) -> Batch | None:
        """What is to be made durable now, or None. Answer each with `committed(batch.id)` or `refused(batch.id)`."""
        return self._core.take_batch()

    def datagrams_to_send(self) -> list[tuple[Peer, bytes]]:
        """The datagrams to send now, in order. The peer `(link, "*")` means a broadcast on that link."""
        out = self._core.out
        if out:
            self._core.out = []
        return out

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called, or None. It may come early; it never comes late."""
        due = self._core.get_timer()
        if self._advertise_at is None:
            return due
        return self._advertise_at if due is None else min(due, self._advertise_at)

    # For status and the command line

    @property
    def counters(self) -> dict[str, int]:
        """What was refused, dropped, repeated or lost since the start, by reason."""
        return dict(self._core.counters)

    def sessions(self) -> list[Session]:
        """Every client the gateway knows, in order of first CONNECT. To be read, not changed."""
        return list(self._core.sessions.values())


def _restore_session(core: Core, record: SessionChanged, now: float) -> None:
    session = Session(record.client_id, tuple(record.peer), now)
    session.state = record.state
    session.may_obey_limit = True
    session.clean_session = record.clean_session
    session.duration_s = record.duration_s
    session.dialect = record.dialect
    if record.will_topic:
        session.will = (record.will_topic, record.will_message, record.will_qos, record.will_retain)
    core.sessions[record.client_id] = session
    if session.state in states.PRESENT or session.peer not in core.by_peer:
        core.by_peer[session.peer] = session  # of several that once had this address, the one that has it now


def _restore_topic(core: Core, record: TopicRegistered, now: float) -> None:
    session = core.sessions.get(record.client_id)
    if session is None:
        return
    if record.topic_id >> 16 == TOPIC_PREDEFINED:
        session.predefined_topics[record.topic_name] = record.topic_id & 0xFFFF
    else:
        session.learn_topic(record.topic_id, record.topic_name)


def _restore_subscription(core: Core, record: SubscriptionAdded, now: float) -> None:
    session = core.sessions.get(record.client_id)
    if session is not None:
        session.subscriptions[record.topic_filter] = record.qos
        core.subscriptions.add(record.client_id, record.topic_filter, record.qos)


def _restore_retained(core: Core, record: RetainedSet, now: float) -> None:
    inbound_publishing.retain(core, record.topic, record.payload, record.qos)


def _restore_message(core: Core, record: MessageQueued, now: float) -> None:
    session = core.sessions.get(record.client_id)
    if session is not None:
        session.enqueue(Message(record.seq, record.topic, record.payload, record.qos, record.retain))
        session.next_seq = max(session.next_seq, record.seq + 1)


def _restore_seen(core: Core, record: Seen, now: float) -> None:
    session = core.sessions.get(record.client_id)
    if session is not None:
        session.remember(record.msg_id, SeenEntry(record.digest, now, False, record.qos == 2, restored=True))


_RESTORE: dict[type, Callable[[Core, Any, float], None]] = {
    SessionChanged: _restore_session,
    TopicRegistered: _restore_topic,
    SubscriptionAdded: _restore_subscription,
    RetainedSet: _restore_retained,
    MessageQueued: _restore_message,
    Seen: _restore_seen,
}
