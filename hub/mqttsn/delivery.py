"""The way from the gateway to a client: queueing, topic ids, one exchange in flight, retransmission, sleepers.

MQTT-SN 1.2 sections 6.10 (gateway's publish), 6.13 (retransmission) and 6.14 (sleeping clients).
"""

from hub.mqttsn import session as states
from hub.mqttsn.codec import (
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
from hub.mqttsn.core import Core
from hub.mqttsn.records import MessageDone, MessageQueued, TopicRegistered
from hub.mqttsn.session import Inflight, Message, Session
from hub.mqttsn.topics import short_topic_id

_PINGRESP = PingResp().encode()
_DUP = 0x80


def address(core: Core, session: Session, topic: str, payload: bytes, qos: int, retain: bool) -> Message:
    """Make a publish into this client's message; QoS 1 and 2 are recorded, so that a restart still delivers them."""
    if qos == 0:
        return Message(None, topic, payload, 0, retain)
    seq = session.next_seq
    session.next_seq = seq + 1
    core.record(MessageQueued(session.client_id, seq, topic, payload, qos, retain))
    return Message(seq, topic, payload, qos, retain)


def offer(core: Core, session: Session, message: Message, now: float) -> None:
    """Queue a message for a client and send what can be sent."""
    if message.qos == 0 and session.state not in states.PRESENT:
        return  # nobody is owed a QoS 0 message that they are not there to hear
    session.queue.append(message)
    _keep_bounds(core, session)
    pump(core, session, now)


def _keep_bounds(core: Core, session: Session) -> None:
    limits = core.config.limits
    octets = sum(len(m.payload) for m in session.queue) if len(session.queue) > 8 else 0
    while len(session.queue) > limits.queued_per_client or octets > limits.queued_octets_per_client:
        # The oldest QoS 0 message goes first; among promises, the oldest is the least worth.
        index = next((i for i, m in enumerate(session.queue) if m.qos == 0), 0)
        dropped = session.queue[index]
        del session.queue[index]
        octets -= len(dropped.payload)
        core.counters["dropped.queue-full"] += 1
        _done(core, session, dropped)


def _done(core: Core, session: Session, message: Message) -> None:
    if message.seq is not None:
        core.record(MessageDone(session.client_id, message.seq))


def pump(core: Core, session: Session, now: float) -> None:
    """Send queued messages until one awaits an answer; an awake client with nothing left is let back to sleep."""
    while session.queue and session.inflight is None and session.state in states.ON_AIR:
        message = session.queue[0]
        found = _topic_id_for(session, message.topic)
        if found is None:
            if not _register(core, session, message.topic, now):
                _done(core, session, session.queue.popleft())
            continue
        session.queue.popleft()
        _publish(core, session, message, found, now)
    if session.state == states.AWAKE and session.inflight is None:
        session.move("served")
        core.send_to(session, _PINGRESP)
    core.arm(session)


def _topic_id_for(session: Session, topic: str) -> tuple[int, int] | None:
    """How this client knows a topic: an id it subscribed by or registered, or the two octets themselves."""
    predefined = session.predefined_topics.get(topic)
    if predefined is not None:
        return TOPIC_PREDEFINED, predefined
    topic_id = session.ids_by_topic.get(topic)
    if topic_id is not None:
        return TOPIC_NORMAL, topic_id
    short = short_topic_id(topic)
    return None if short is None else (TOPIC_SHORT, short)


def allocate_topic_id(core: Core, session: Session) -> int | None:
    """A free normal topic id of this client (1..0xFFFE), or None at the limit."""
    if len(session.topics_by_id) >= core.config.limits.topics_per_client:
        return None
    topic_id = session.next_topic_id
    while topic_id in session.topics_by_id or not 0 < topic_id < 0xFFFF:
        topic_id = topic_id % 0xFFFE + 1
    session.next_topic_id = topic_id + 1
    return topic_id


def _register(core: Core, session: Session, topic: str, now: float) -> bool:
    topic_id = allocate_topic_id(core, session)
    if topic_id is None:
        core.refuse(session, "too-many-topics")
        return False
    msg_id = session.take_msg_id()
    datagram = Register(topic_id, msg_id, topic).encode()
    if not core.send_to(session, datagram):
        return False
    session.inflight = Inflight(None, "regack", msg_id, datagram, now + core.config.t_retry_s)
    return True


def _publish(core: Core, session: Session, message: Message, found: tuple[int, int], now: float) -> None:
    # The id follows from the message's durable seq: sent again after a restart, the client recognises it.
    msg_id = 0 if message.seq is None else (message.seq - 1) % 0xFFFF + 1
    datagram = encode_publish(*found, msg_id, message.payload, message.qos, message.retain, message.dup)
    if not core.send_to(session, datagram):
        _done(core, session, message)
    elif message.qos:
        awaits = "puback" if message.qos == 1 else "pubrec"
        session.inflight = Inflight(message, awaits, msg_id, datagram, now + core.config.t_retry_s)


def _awaited(session: Session, kind: str, msg_id: int) -> Inflight | None:
    inflight = session.inflight
    return inflight if inflight is not None and inflight.awaits == kind and inflight.msg_id == msg_id else None


def on_regack(core: Core, session: Session, message: RegAck, now: float) -> None:
    inflight = _awaited(session, "regack", message.msg_id)
    if inflight is None:
        return
    if message.return_code == CONGESTION:
        inflight.deadline = now + core.config.t_retry_s
        return
    session.inflight = None
    if not session.queue:
        pump(core, session, now)
        return
    topic = session.queue[0].topic
    if message.return_code == 0:
        session.learn_topic(message.topic_id, topic)
        core.record(TopicRegistered(session.client_id, message.topic_id, topic))
    else:
        core.refuse(session, "client-refused-topic")
        _done(core, session, session.queue.popleft())
    pump(core, session, now)


def on_puback(core: Core, session: Session, message: PubAck, now: float) -> None:
    inflight = _awaited(session, "puback", message.msg_id) or _awaited(session, "pubrec", message.msg_id)
    if inflight is None or inflight.message is None:
        return
    if message.return_code == CONGESTION:
        inflight.deadline = now + core.config.t_retry_s
        return
    if message.return_code == 0 and inflight.awaits == "pubrec":
        return  # a PUBACK does not complete a QoS 2 exchange
    session.inflight = None
    if message.return_code == INVALID_TOPIC_ID and not inflight.message.again:
        _forget_topic_id(session, inflight.message.topic)
        session.queue.appendleft(inflight.message._replace(again=True))
    else:
        if message.return_code:
            core.refuse(session, "client-refused-message")
        _done(core, session, inflight.message)
    pump(core, session, now)


def _forget_topic_id(session: Session, topic: str) -> None:
    topic_id = session.ids_by_topic.pop(topic, None)
    session.predefined_topics.pop(topic, None)
    if topic_id is not None:
        session.topics_by_id.pop(topic_id, None)
        session.routes.pop(topic_id, None)


def on_pubrec(core: Core, session: Session, message: PubRec, now: float) -> None:
    inflight = _awaited(session, "pubrec", message.msg_id)
    datagram = PubRel(message.msg_id).encode()
    if inflight is None or inflight.message is None:
        core.send_to(session, datagram)  # ours was lost: the exchange still has to end (section 6.12)
        return
    _done(core, session, inflight.message)
    session.inflight = Inflight(None, "pubcomp", message.msg_id, datagram, now + core.config.t_retry_s)
    core.send_to(session, datagram)
    core.arm(session)


def on_pubcomp(core: Core, session: Session, message: PubComp, now: float) -> None:
    if _awaited(session, "pubcomp", message.msg_id) is not None:
        session.inflight = None
        pump(core, session, now)


def retransmit(core: Core, session: Session, now: float) -> bool:
    """Send the exchange in flight once more (section 6.13); False when N_retry is used up and the client is lost."""
    inflight = session.inflight
    if inflight is None or inflight.deadline > now:
        return True
    if inflight.tries > core.config.n_retry:
        return False
    inflight.tries += 1
    inflight.deadline = now + core.config.t_retry_s
    if inflight.awaits in ("puback", "pubrec"):
        inflight.datagram = with_dup(inflight.datagram)
    session.stats.retransmissions += 1
    core.counters["retransmissions"] += 1
    core.send_to(session, inflight.datagram)
    return True


def put_back(session: Session) -> None:
    """Take what is in flight back to the head of the queue: the client went away, or started anew."""
    inflight, session.inflight = session.inflight, None
    if inflight is not None and inflight.message is not None:
        session.queue.appendleft(inflight.message._replace(dup=True))


def clear_queue(core: Core, session: Session) -> None:
    """Drop everything that waits for a client whose session is clean."""
    put_back(session)
    for message in session.queue:
        _done(core, session, message)
    session.queue.clear()


def with_dup(publish: bytes) -> bytes:
    """The same PUBLISH with its DUP flag set; the Flags octet follows the 1- or 3-octet Length and the MsgType."""
    at = 4 if publish[0] == 1 else 2
    return publish[:at] + bytes((publish[at] | _DUP,)) + publish[at + 1 :]
