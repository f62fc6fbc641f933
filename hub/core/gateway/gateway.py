"""The MQTT-SN gateway machine: datagrams and `now` in; datagrams, records to make durable and one deadline out.

No I/O, no clock. The loop that drives it (hub/services/home/bridge.py) does three things after each call: hands
`take_batch()` to the store, sends `datagrams_to_send()`, and re-arms one timer for `get_timer()`. When the store has
committed or refused a batch it says so with `committed` / `refused`; only then are the answers that promise custody
sent (P1).
"""

from collections.abc import Callable, Iterable
from typing import Any

from hub.core.gateway import session as states
from hub.core.gateway.connections import Connections
from hub.core.gateway.inbound_publishing import InboundPublishing
from hub.core.gateway.limits import GatewayConfig
from hub.core.gateway.outbound_publishing import OutboundPublishing
from hub.core.gateway.router import Completion, Router
from hub.core.gateway.session import QueuedMessage, SeenEntry, Session
from hub.core.gateway.subscribing import Subscribing
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
_Handler = Callable[[Session, Any, float], None]


class Gateway:
    """One home's gateway. See the module's docstring for how to drive it."""

    def __init__(self, config: GatewayConfig, now: float) -> None:
        self._router = router = Router(config)
        self._outbound = outbound = OutboundPublishing(router)
        self._inbound = inbound = InboundPublishing(router, outbound)
        self._connections = connections = Connections(router, inbound, outbound)
        subscribing = Subscribing(router, outbound)
        # Messages that only a client with a session may send.
        self._of_session: dict[type, _Handler] = {
            Publish: inbound.on_publish,
            PubRel: inbound.on_pubrel,
            PubAck: outbound.on_puback,
            PubRec: outbound.on_pubrec,
            PubComp: outbound.on_pubcomp,
            RegAck: outbound.on_regack,
            Register: subscribing.on_register,
            Subscribe: subscribing.on_subscribe,
            Unsubscribe: subscribing.on_unsubscribe,
            WillTopicUpd: connections.on_will_topic_upd,
            WillMsgUpd: connections.on_will_msg_upd,
            Disconnect: connections.on_disconnect,
        }
        self._of_will_dialogue: dict[type, _Handler] = {
            WillTopic: connections.on_will_topic,
            WillMsg: connections.on_will_msg,
        }
        self._take_up: dict[type, Callable[[Any, float], None]] = {
            SessionChanged: self._restore_session,
            TopicRegistered: self._restore_topic,
            SubscriptionAdded: self._restore_subscription,
            RetainedSet: self._restore_retained,
            MessageQueued: self._restore_message,
            Seen: self._restore_seen,
        }
        self._advertise_at = now if config.broadcast_links else None

    # Input

    def receive_datagram(self, peer: Peer, data: bytes, now: float) -> None:
        """Take one datagram. Anything may come: what is not understood is counted and dropped, nothing is raised."""
        router = self._router
        # While nobody speaks 2.0, what looks like a 1.2 PUBLISH (nine datagrams in ten) is one; anything else may be a
        # client's first word in 2.0.
        if (router.peers_2_0 or data[1:2] != _PUBLISH or not 4 < len(data) < 256) and router.translator.concerns(
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
            self._router.translator.hear(peer, data, now)
        except Malformed as error:
            self._count_malformed(peer, error)
        self._interpret(now)

    def _count_malformed(self, peer: Peer, error: Malformed) -> None:
        self._router.refuse(self._router.by_peer.get(peer), f"malformed.{error}".replace(" ", "-"))

    def _interpret(self, now: float) -> None:
        """Receive what a 2.0 client has said as 1.2 has it, and send what the translator answers by itself.

        Message by message: what the translator makes of one depends on what the one before has done to the session.
        """
        router = self._router
        translator = router.translator
        while (heard := translator.next_message()) is not None:
            peer, message = heard
            if type(message) is not Gone:
                self._receive(peer, message, now)
            elif (session := router.by_peer.get(peer)) is not None:
                session.v2_state = translator.kept(peer)
                self._connections.lose(session, now)
        for peer, answer in translator.take_answers():
            router.send(peer, answer, as_it_is=True)

    def _receive(self, peer: Peer, message: Any, now: float) -> None:
        router = self._router
        kind = type(message)
        handler = self._of_session.get(kind)
        if handler is None:
            self._receive_other(peer, message, now)
            return
        session = router.by_peer.get(peer)
        if session is None or session.state not in states.PRESENT:
            self._receive_from_absent(peer, session, message, now)
            return
        session.last_heard = now
        session.stats.frames_in += 1
        handler(session, message, now)

    def _receive_from_absent(self, peer: Peer, session: Session | None, message: Any, now: float) -> None:
        """From a node that is not connected only QoS -1 counts; everything else is answered DISCONNECT at once."""
        router = self._router
        if type(message) is Publish and message.qos == -1:
            if session is not None:
                self._inbound.on_publish(session, message, now)
            else:
                self._inbound.on_nameless_publish(peer, message, now)
        elif type(message) is Disconnect:
            if session is not None and session.state in (states.WILL_TOPIC, states.WILL_MSG):
                self._connections.on_disconnect(session, Disconnect(), now)
            else:
                router.send(peer, Disconnect().encode())  # it repeats a goodbye whose answer was lost
        else:
            router.require_session(peer)

    def _receive_other(self, peer: Peer, message: Any, now: float) -> None:
        router = self._router
        kind = type(message)
        if kind is Connect:
            self._connections.on_connect(peer, message, now)
        elif kind is PingReq:
            self._connections.on_pingreq(peer, message, now)
        elif kind is SearchGw:
            router.send(peer, GwInfo(router.config.gw_id).encode())
        elif kind is Forward:
            self._receive_forwarded(peer, message, now)
        elif kind in self._of_will_dialogue:
            session = router.by_peer.get(peer)
            if session is None or session.state in (states.DISCONNECTED, states.LOST):
                router.require_session(peer)
            else:
                self._connections.heard(session, now)
                self._of_will_dialogue[kind](session, message, now)
                router.arm(session)
        elif kind is PingResp:
            session = router.require_session(peer)
            if session is not None:
                self._connections.heard(session, now)
        else:
            router.refuse(router.by_peer.get(peer), "out-of-place")  # a message that only a gateway sends

    def _receive_forwarded(self, peer: Peer, message: Forward, now: float) -> None:
        """Section 5.5: the node behind a forwarder is a peer of its own. One forwarder deep, no further."""
        if type(peer[-1]) is bytes or not message.wireless_node_id:
            self._router.refuse(None, "forwarded-twice")
            return
        self.receive_datagram((*peer, message.wireless_node_id), message.message, now)

    def publish(self, topic: str, payload: bytes, now: float, *, qos: int = 1, retain: bool = False) -> None:
        """Publish something of the hub's own: `control/...`, `price`, `weather`, `time`, `home/...`."""
        self._inbound.publish_own(topic, payload, qos, retain, now)

    def give_order(self, client_id: str, order: Order, now: float) -> bool:
        """Give an order to an appliance; False when it is no client here or has not subscribed to `control/{me}`."""
        session = self._router.sessions.get(client_id)
        return session is not None and self._outbound.give(session, order, now)

    def take_orders_sent(self) -> list[tuple[str, Order]]:
        """`(client_id, order)` of those that went on the air since the last call: one for a sleeper waits for it."""
        sent = self._router.orders_sent
        if sent:
            self._router.orders_sent = []
        return sent

    def forget(self, client_id: str) -> bool:
        """Drop a client's session for good, so that another device may take its name; False: no such client."""
        return self._connections.forget(client_id)

    def take_reading(self, client_id: str, quantity: str, payload: bytes, now: float, flags: int = 0) -> None:
        """A reading of a device that is no MQTT-SN client; local subscribers get it like any other publish. `flags`:
        its quality, as in a pack.

        Raises ValueError for a quantity or payload that is no reading.
        """
        route = route_for(client_id, "readings/" + quantity)
        if route.kind != READING:
            raise ValueError(f"{quantity!r} cannot be a quantity")
        self._inbound.act_on(self._inbound.admit(client_id, route, payload, 0, False, now, flags), now)

    def committed(self, batch_id: int, now: float) -> None:
        """The store made this batch durable: send what hung on it, let its publishes take effect."""
        router = self._router
        batch, completions = router.settle(batch_id)
        if batch is not None:
            router.saved(batch)
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
                router.send(completion.peer, completion.accepted)
            if completion.publication is not None:
                self._inbound.act_on(completion.publication, now)
            if completion.then is not None:
                completion.then(now)
        if router.translator.table.messages:
            self._interpret(now)  # a 2.0 CONNECT is several of 1.2: each goes on from the answer to the last

    def refused(self, batch_id: int, now: float) -> None:
        """The store could not take this batch: nothing of it counts, and its senders are told to come again."""
        router = self._router
        batch, completions = router.settle(batch_id)
        if batch is not None:
            router.owe_again(batch)
        for completion in completions:
            self._refuse(completion, now)
        if router.translator.table.messages:
            self._interpret(now)

    def _refuse(self, completion: Completion, now: float) -> None:
        router = self._router
        session = completion.session
        entry = completion.entry
        if session is not None and entry is not None and session.seen.get(completion.msg_id) is entry:
            session.forget(completion.msg_id)
        if completion.publication is not None and completion.otherwise is None:
            self._inbound.release(session, completion.publication)
        router.refuse(session, "congestion")
        refused = completion.refused
        if isinstance(refused, int):
            refused = encode_puback(refused, completion.msg_id, CONGESTION)
        if completion.peer is not None and refused:
            router.send(completion.peer, refused)
        if completion.otherwise is not None:
            completion.otherwise(now)

    def link_down(self, link: str) -> None:
        """A link's own hardware is away: its clients are not lost for being silent, nothing is sent again meanwhile."""
        self._router.link_is(link, False, 0.0)

    def link_up(self, link: str, now: float) -> None:
        """The link works (again): the clients' silence begins anew, and who can hear it learns that we are here."""
        self._router.link_is(link, True, now)
        if link in self._router.config.broadcast_links:
            self._advertise_at = now  # the ADVERTISE of our start found no link to go out by

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        router = self._router
        if self._advertise_at is not None and self._advertise_at <= now:
            self._advertise_at = now + router.config.advertise_s
            for link in router.config.broadcast_links:
                router.send((link, "*"), Advertise(router.config.gw_id, router.config.advertise_s).encode())
        for event, together in router.event_pace.take(now):
            router.record_event("adapter.many", what=event, count=together.count, clients=together.clients)
        while (session := router.next_due(now)) is not None:
            self._connections.on_due(session, now)
            router.arm(session)

    def restore(self, records: Iterable[Restored], now: float) -> None:
        """Take up the sessions of the last run; every client counts as just heard, whatever time has passed."""
        for record in records:
            self._take_up[type(record)](record, now)
        for session in self._router.sessions.values():
            if session.v2_state:  # all of them, before anything is said to anybody
                self._router.translator.restore(session.client_id, session.peer, session.v2_state, now)
        for session in self._router.sessions.values():
            if session.queue:
                self._outbound.keep_bounds(session)  # what was dropped just before the end may still be stored
                session.put_first(session.dequeue()._replace(dup=True))
                self._outbound.pump(session, now)
            self._router.arm(session)

    # Output

    def take_batch(self) -> Batch | None:
        """What is to be made durable now, or None. Answer each with `committed(batch.id)` or `refused(batch.id)`."""
        return self._router.take_batch()

    def datagrams_to_send(self) -> list[tuple[Peer, bytes]]:
        """The datagrams to send now, in order. The peer `(link, "*")` means a broadcast on that link."""
        out = self._router.out
        if out:
            self._router.out = []
        return out

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called, or None. It may come early; it never comes late."""
        router = self._router
        dues = (router.get_timer(), router.event_pace.get_timer(), self._advertise_at)
        return min((due for due in dues if due is not None), default=None)

    # For status and the command line

    @property
    def counters(self) -> dict[str, int]:
        """What was refused, dropped, repeated or lost since the start, by reason."""
        return dict(self._router.counters)

    def pressures(self, now: float) -> dict[str, str]:
        """The bounds that were felt lately: `{code of hub/core/health.py: what there is to say}`."""
        return self._router.pressures(now)

    def sessions(self) -> list[Session]:
        """Every client the gateway knows, in order of first CONNECT. To be read, not changed."""
        return list(self._router.sessions.values())

    # Restart

    def _restore_session(self, record: SessionChanged, now: float) -> None:
        session = Session(record.client_id, tuple(record.peer), now)
        session.state = record.state
        session.may_obey_limit = session.is_of_old = True
        session.clean_session = record.clean_session
        session.duration_s = record.duration_s
        session.v2_state = record.v2_state
        if record.will_topic:
            session.will = (record.will_topic, record.will_message, record.will_qos, record.will_retain)
        self._router.sessions[record.client_id] = session
        self._router.addresses.add(session)
        if session.state in states.PRESENT or session.peer not in self._router.by_peer:
            self._router.by_peer[session.peer] = (
                session  # of several that once had this address, the one that has it now
            )

    def _restore_topic(self, record: TopicRegistered, now: float) -> None:
        session = self._router.sessions.get(record.client_id)
        if session is None:
            return
        if record.topic_id >> 16 == TOPIC_PREDEFINED:
            session.know_predefined(record.topic_id & 0xFFFF, record.topic_name)
        else:
            session.learn_topic(record.topic_id, record.topic_name)

    def _restore_subscription(self, record: SubscriptionAdded, now: float) -> None:
        session = self._router.sessions.get(record.client_id)
        if session is not None:
            session.subscribe(record.topic_filter, record.qos)
            self._router.subscriptions.add(record.client_id, record.topic_filter, record.qos)

    def _restore_retained(self, record: RetainedSet, now: float) -> None:
        self._inbound.restore_retained(record.topic, record.payload, record.qos)

    def _restore_message(self, record: MessageQueued, now: float) -> None:
        session = self._router.sessions.get(record.client_id)
        if session is not None:
            session.enqueue(QueuedMessage(record.seq, record.topic, record.payload, record.qos, record.retain))
            session.next_seq = max(session.next_seq, record.seq + 1)

    def _restore_seen(self, record: Seen, now: float) -> None:
        session = self._router.sessions.get(record.client_id)
        if session is not None:
            session.remember(record.msg_id, SeenEntry(record.digest, now, False, record.qos == 2, restored=True))
