"""The way from the gateway to a client: queueing, topic ids, one exchange in flight, retransmission, sleepers.

MQTT-SN 1.2 sections 6.10 (gateway's publish), 6.13 (retransmission) and 6.14 (sleeping clients).
"""

from hub.core.gateway import session as states
from hub.core.gateway.router import Completion, Router
from hub.core.gateway.session import RELEASED_TOPIC, Inflight, QueuedMessage, Session
from hub.core.order import Order
from hub.core.records import MessageDone, MessageQueued, SubscriptionRemoved, TopicRegistered
from hub.wire.mqttsn.messages import (
    CONGESTION,
    INVALID_TOPIC_ID,
    TOPIC_NORMAL,
    TOPIC_PREDEFINED,
    TOPIC_SHORT,
    PingResp,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RegAck,
    Register,
    encode_publish,
)
from hub.wire.mqttsn.topics import short_topic_id

_PINGRESP = PingResp().encode()
_DUP = 0x80


class OutboundPublishing:
    """What the gateway delivers: offered, sent, repeated, acknowledged; one in flight per client."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def address(self, session: Session, topic: str, payload: bytes, qos: int, retain: bool) -> QueuedMessage:
        """Make a publish into this client's message; QoS 1 and 2 are recorded, so that a restart still delivers
        them."""
        if qos == 0:
            return QueuedMessage(None, topic, payload, 0, retain)
        seq = session.next_seq
        session.next_seq = seq + 1
        self._router.record(MessageQueued(session.client_id, seq, topic, payload, qos, retain))
        return QueuedMessage(seq, topic, payload, qos, retain)

    def offer(self, session: Session, message: QueuedMessage, now: float) -> None:
        """Queue a message for a client and send what can be sent."""
        if message.qos == 0 and session.state not in states.PRESENT:
            return  # nobody is owed a QoS 0 message that they are not there to hear
        if message.seq is not None and message.seq < session.first_seq:
            return  # its session was cleaned between the publish and its commit
        session.enqueue(message)
        self.keep_bounds(session)
        self.pump(session, now)

    def keep_bounds(self, session: Session) -> None:
        """Drop what is over a queue's limits."""
        queue = session.queue
        if len(queue) <= 1:
            return
        limits, share = self._router.config.limits, self._router.addresses.share
        most = share(session, limits.queued_per_client, limits.queued_per_address)
        most_bytes = share(session, limits.queued_bytes_per_client, limits.queued_bytes_per_address)
        while len(queue) > most or (session.queued_bytes > most_bytes and len(queue) > 1):
            # The oldest QoS 0 message goes first; among promises, the oldest is the least worth. An open QoS 2 exchange
            # stays: it is only the PUBREL that the client waits for.
            index = next((i for i, m in enumerate(queue) if m.qos == 0), None)
            if index is None:
                index = next((i for i, m in enumerate(queue) if m.topic != RELEASED_TOPIC), 0)
            self._router.counters["dropped.queue-full"] += 1
            self._done(session, session.dequeue(index))

    def give(self, session: Session, order: Order, now: float) -> bool:
        """Send an order, or keep it for when its client is there; older ones that it replaces are forgotten. False: the
        client has not subscribed to its `control/` topic, so nobody would hear it."""
        topic = f"control/{session.client_id}"
        granted = next(
            (qos for client_id, qos in self._router.subscriptions.match(topic) if client_id == session.client_id), None
        )
        if granted is None:
            return False
        for index in range(len(session.queue) - 1, -1, -1):
            older = session.queue[index].order
            if older is not None and order.replaces(older):
                session.dequeue(index)
        under_way = session.inflight.message if session.inflight is not None else None
        if under_way is not None and under_way.order is not None and order.replaces(under_way.order):
            session.inflight = None  # what it would repeat is not wanted any more
        seq = None if granted == 0 else session.next_seq
        session.next_seq += seq is not None
        # QoS 1 is as much as an order needs: to be told twice does not change it.
        self.offer(session, QueuedMessage(seq, topic, b"", min(granted, 1), False, order=order), now)
        return True

    def _done(self, session: Session, message: QueuedMessage) -> None:
        if message.seq is not None and message.order is None:
            self._router.record(MessageDone(session.client_id, message.seq))

    def pump(self, session: Session, now: float) -> None:
        """Send queued messages until one awaits an answer; an awake client with nothing left is let back to sleep."""
        while session.queue and session.inflight is None and session.state in states.ON_AIR:
            message = session.queue[0]
            if message.topic == RELEASED_TOPIC:
                self._send_pubrel(session, session.dequeue(), now)
                continue
            found = _topic_id_for(session, message.topic)
            if found is None:
                if not self._register(session, message.topic, now):
                    self._done(session, session.dequeue())
                continue
            self._publish(session, session.dequeue(), found, now)
        if session.state == states.AWAKE and session.inflight is None:
            session.move("served")
            self._router.send_to(session, _PINGRESP)
        self._router.arm(session)

    def allocate_topic_id(self, session: Session) -> int | None:
        """A free normal topic id of this client (1..0xFFFE), or None at the limit."""
        limits = self._router.config.limits
        most = self._router.addresses.share(session, limits.topics_per_client, limits.topics_per_address)
        if len(session.topics_by_id) >= most:
            return None
        topic_id = session.next_topic_id
        while topic_id in session.topics_by_id or not 0 < topic_id < 0xFFFF:
            topic_id = topic_id % 0xFFFE + 1
        session.next_topic_id = topic_id + 1
        return topic_id

    def _register(self, session: Session, topic: str, now: float) -> bool:
        topic_id = session.ids_by_topic.get(topic) or self.allocate_topic_id(session)
        if topic_id is None:
            self._router.refuse(session, "too-many-topics")
            return False
        msg_id = session.take_msg_id()
        datagram = Register(topic_id, msg_id, topic).encode()
        if not self._router.send_to(session, datagram):
            return False
        inflight = session.inflight = Inflight(None, "regack", msg_id, datagram, now + self._router.config.t_retry_s)
        inflight.topic, inflight.topic_id = topic, topic_id
        return True

    def _publish(self, session: Session, message: QueuedMessage, found: tuple[int, int], now: float) -> None:
        msg_id = _msg_id_of(message)
        payload = message.payload if message.order is None else message.order.render(now)
        if payload is None:
            self._router.counters["dropped.order-ended"] += 1
            return
        datagram = encode_publish(*found, msg_id, payload, message.qos, message.retain, message.dup)
        if message.order is not None:
            self._router.orders_sent.append((session.client_id, message.order))
        if not self._router.send_to(session, datagram):
            self._done(session, message)
        elif message.qos:
            awaits = "puback" if message.qos == 1 else "pubrec"
            session.inflight = Inflight(message, awaits, msg_id, datagram, now + self._router.config.t_retry_s)
            session.inflight.found = found

    def _send_pubrel(self, session: Session, released: QueuedMessage, now: float) -> None:
        msg_id = _msg_id_of(released)
        datagram = PubRel(msg_id).encode()
        session.inflight = Inflight(released, "pubcomp", msg_id, datagram, now + self._router.config.t_retry_s)
        self._router.send_to(session, datagram)

    def _answered_congestion(self, inflight: Inflight, now: float) -> None:
        """The client is there and asks for time: the exchange waits, and none of its tries is used up."""
        inflight.deadline = now + self._router.config.t_retry_s
        inflight.tries = 0

    def on_regack(self, session: Session, message: RegAck, now: float) -> None:
        """The id is the one that was offered, whatever the REGACK repeats. A refusal unsubscribes (section 6.10)."""
        inflight = _awaited(session, "regack", message.msg_id)
        if inflight is None:
            return
        if message.return_code == CONGESTION:
            self._answered_congestion(inflight, now)
            return
        session.inflight = None
        if message.return_code == 0:
            session.learn_topic(inflight.topic_id, inflight.topic)
            self._router.record(TopicRegistered(session.client_id, inflight.topic_id, inflight.topic))
        else:
            self._router.refuse(session, "client-refused-topic")
            self._drop_topic(session, inflight.topic)
        self.pump(session, now)

    def _drop_topic(self, session: Session, topic: str) -> None:
        if session.unsubscribe(topic):
            self._router.subscriptions.remove(session.client_id, topic)
            self._router.record(SubscriptionRemoved(session.client_id, topic))
        for index in range(len(session.queue) - 1, -1, -1):
            if session.queue[index].topic == topic:
                self._done(session, session.dequeue(index))

    def on_puback(self, session: Session, message: PubAck, now: float) -> None:
        """Completes QoS 1; carries every refusal: congestion, an unknown topic id (also of a QoS 0 publish), others."""
        inflight = _awaited(session, "puback", message.msg_id) or _awaited(session, "pubrec", message.msg_id)
        if inflight is None or inflight.message is None:
            if message.return_code == INVALID_TOPIC_ID and not message.msg_id:
                _doubt_topic_id(session, message.topic_id)
            return
        if message.return_code == CONGESTION:
            self._answered_congestion(inflight, now)
            return
        if message.return_code == 0 and inflight.awaits == "pubrec":
            return  # a PUBACK does not complete a QoS 2 exchange
        session.inflight = None
        if message.return_code == INVALID_TOPIC_ID and not inflight.message.again:
            session.doubt_topic(inflight.message.topic)
            session.put_first(inflight.message._replace(again=True))
        else:
            if message.return_code:
                self._router.refuse(session, "client-refused-message")
            self._done(session, inflight.message)
        self.pump(session, now)

    def on_pubrec(self, session: Session, message: PubRec, now: float) -> None:
        """The client has the message. PUBREL lets it forget the MsgId, so that must not be sent before we have
        forgotten the message durably: else a restart in between would deliver it twice."""
        msg_id = message.msg_id
        if _awaited(session, "release", msg_id) is not None:
            return  # the commit is under way
        inflight = _awaited(session, "pubrec", msg_id)
        if inflight is None or inflight.message is None:
            if all(m.qos != 2 or m.topic == RELEASED_TOPIC or _msg_id_of(m) != msg_id for m in session.queue):
                # Ours was lost, or the exchange is none of ours: it has to end for the client all the same.
                self._router.send_to(session, PubRel(msg_id).encode())
            return  # a queued one is sent with DUP first, and its PUBREC comes again
        delivered = inflight.message
        assert delivered.seq is not None  # every QoS 2 message has one
        released = QueuedMessage(delivered.seq, RELEASED_TOPIC, b"", 2, False)
        inflight.awaits = "release"
        self._router.record(MessageQueued(session.client_id, delivered.seq, RELEASED_TOPIC, b"", 2, False), urgent=True)
        self._router.when_durable(
            Completion(
                None,
                b"",
                b"",
                session,
                then=lambda later: self._release(session, inflight, released, later),
                otherwise=lambda later: _unrelease(inflight, later),
            )
        )

    def _release(self, session: Session, inflight: Inflight, released: QueuedMessage, now: float) -> None:
        if session.inflight is inflight:
            self._send_pubrel(session, released, now)
            self._router.arm(session)
            return
        for index, message in enumerate(session.queue):  # the client went away meanwhile
            if message.seq == released.seq:
                session.dequeue(index)
                session.put_first(released)
                return

    def on_pubcomp(self, session: Session, message: PubComp, now: float) -> None:
        inflight = _awaited(session, "pubcomp", message.msg_id)
        if inflight is not None and inflight.message is not None:
            session.inflight = None
            self._done(session, inflight.message)
            self.pump(session, now)

    def retransmit(self, session: Session, now: float) -> bool:
        """Send the exchange in flight once more (section 6.13); False when N_retry is used up and the client is
        lost."""
        inflight = session.inflight
        if inflight is None or inflight.deadline > now:
            return True
        if inflight.awaits == "release":  # it is we who take our time
            inflight.deadline = now + self._router.config.t_retry_s
            return True
        if inflight.tries > self._router.config.n_retry:
            return False
        inflight.tries += 1
        self.send_again(session, inflight, now)
        return True

    def send_again(self, session: Session, inflight: Inflight, now: float) -> None:
        """The same bytes as before, but for DUP in a PUBLISH, and for what is left of an order's time."""
        inflight.deadline = now + self._router.config.t_retry_s
        message = inflight.message
        if message is not None and message.order is not None:
            payload = message.order.render(now)
            if payload is None:
                self._router.counters["dropped.order-ended"] += 1
                session.inflight = None
                self.pump(session, now)
                return
            inflight.datagram = encode_publish(*inflight.found, inflight.msg_id, payload, message.qos, False, True)
            self._router.orders_sent.append((session.client_id, message.order))
        elif inflight.awaits in ("puback", "pubrec"):
            inflight.datagram = with_dup(inflight.datagram)
        session.stats.retransmissions += 1
        self._router.counters["retransmissions"] += 1
        self._router.send_to(session, inflight.datagram)


def _topic_id_for(session: Session, topic: str) -> tuple[int, int] | None:
    """How this client knows a topic: an id it subscribed by or registered, or the two bytes themselves."""
    predefined = session.predefined_topics.get(topic)
    if predefined is not None:
        return TOPIC_PREDEFINED, predefined
    topic_id = session.ids_by_topic.get(topic)
    if topic_id is not None:
        return (TOPIC_NORMAL, topic_id) if not session.stale_topics or topic not in session.stale_topics else None
    short = short_topic_id(topic)
    return None if short is None else (TOPIC_SHORT, short)


def _msg_id_of(message: QueuedMessage) -> int:
    # It follows from the message's durable seq: sent again after a restart, the client recognises it.
    return 0 if message.seq is None else (message.seq - 1) % 0xFFFF + 1


def _awaited(session: Session, kind: str, msg_id: int) -> Inflight | None:
    inflight = session.inflight
    return inflight if inflight is not None and inflight.awaits == kind and inflight.msg_id == msg_id else None


def _doubt_topic_id(session: Session, topic_id: int) -> None:
    """A QoS 0 publish is gone, but the next one on its topic is registered first. PUBACK does not say the id's type."""
    doubted = [topic for topic, predefined in session.predefined_topics.items() if predefined == topic_id]
    if topic_id in session.topics_by_id:
        doubted.append(session.topics_by_id[topic_id])
    for topic in doubted:
        session.doubt_topic(topic)


def _unrelease(inflight: Inflight, now: float) -> None:
    # Sent again with DUP after T_retry, to be answered PUBREC again; the client has shown that it is there.
    inflight.awaits = "pubrec"
    inflight.tries = 0


def put_back(session: Session) -> None:
    """Take what is in flight back to the head of the queue: the client went away, or started anew."""
    inflight, session.inflight = session.inflight, None
    if inflight is not None and inflight.message is not None:
        session.put_first(inflight.message._replace(dup=True))


def clear_queue(session: Session) -> None:
    """Forget everything that waits, or will wait once its commit is through, for a client whose session is clean."""
    session.inflight = None
    session.queue.clear()
    session.queued_bytes = 0
    session.first_seq = session.next_seq


def with_dup(publish: bytes) -> bytes:
    """The same PUBLISH with its DUP flag set; the Flags byte follows the 1- or 3-byte Length and the MsgType."""
    at = 4 if publish[0] == 1 else 2
    return publish[:at] + bytes((publish[at] | _DUP,)) + publish[at + 1 :]
