"""How a client comes and goes: CONNECT with its will dialogue, keep-alive, sleep, DISCONNECT, loss.

MQTT-SN 1.2 sections 6.2 to 6.4, 6.7, 6.14; the address rule for the home network is ours (design 3.2).
"""

from hub.mqttsn import session as states
from hub.mqttsn.codec import (
    ACCEPTED,
    CONGESTION,
    NOT_SUPPORTED,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    WillMsg,
    WillMsgReq,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicReq,
    WillTopicResp,
    WillTopicUpd,
)
from hub.mqttsn.core import Completion, Core
from hub.mqttsn.delivery import clear_queue, pump, put_back, retransmit
from hub.mqttsn.publishing import publish_will
from hub.mqttsn.records import Peer, SubscriptionRemoved
from hub.mqttsn.session import Session
from hub.mqttsn.topics import is_client_id, is_reserved_client_id, is_topic_name

_MAX_WILL_OCTETS = 1024


def on_connect(core: Core, peer: Peer, message: Connect, now: float) -> None:
    """Section 6.2; answers CONNACK once the session is durable, or asks for the will first."""
    code, reason = _judge(core, peer, message)
    if code != ACCEPTED:
        core.refuse(core.sessions.get(message.client_id), reason)
        core.send(peer, ConnAck(code).encode())
        return
    session = core.sessions.get(message.client_id)
    if session is None:
        session = core.sessions[message.client_id] = Session(message.client_id, peer, now)
        core.record_event("adapter.joined", client=message.client_id, link=str(peer[0]))
    _settle_address(core, session, peer, now)
    session.stats.frames_in += 1
    session.last_heard = now
    if message.clean_session:
        _start_clean(core, session)
    else:
        put_back(session)
    session.clean_session = message.clean_session
    session.duration_s = message.duration
    if message.will:
        session.move("connect-with-will")
        core.send_to(session, WillTopicReq().encode())
    else:
        session.move("connect")
        _acknowledge(core, session)
    core.arm(session)


def _judge(core: Core, peer: Peer, message: Connect) -> tuple[int, str]:
    if message.protocol_id != 1:
        return NOT_SUPPORTED, "protocol"
    if not is_client_id(message.client_id) or is_reserved_client_id(message.client_id):
        return NOT_SUPPORTED, "client-id"
    session = core.sessions.get(message.client_id)
    if session is not None and session.peer[0] == "zigbee" and session.peer[:2] != peer[:2]:
        # A name learnt from a radio address stays with it: no other node can speak as this adapter.
        return NOT_SUPPORTED, "client-id-bound"
    if core.is_congested or (session is None and not _has_room(core)):
        return CONGESTION, "congestion"
    return ACCEPTED, ""


def _has_room(core: Core) -> bool:
    """Room for one more client; at the limit the longest-gone clean session makes place."""
    if len(core.sessions) < core.config.limits.clients:
        return True
    gone = (s for s in core.sessions.values() if s.state not in states.PRESENT and s.clean_session)
    oldest = min(gone, key=lambda s: s.last_heard, default=None)
    if oldest is None:
        return False
    core.drop_session(oldest)
    return True


def _settle_address(core: Core, session: Session, peer: Peer, now: float) -> None:
    """One session an address, one address a session: whoever was there before is told, or lost."""
    if session.peer != peer and session.state in states.PRESENT:
        core.send(session.peer, Disconnect().encode())
        core.counters["taken-over"] += 1
    displaced = core.bind(session, peer)
    if displaced is not None and displaced.state in states.PRESENT:
        lose(core, displaced, now)


def _start_clean(core: Core, session: Session) -> None:
    clear_queue(core, session)
    for topic_filter in session.subscriptions:
        core.subscriptions.remove(session.client_id, topic_filter)
        core.record(SubscriptionRemoved(session.client_id, topic_filter))
    session.subscriptions.clear()
    session.forget_topics()
    session.will = None
    for entry in session.seen.values():
        entry.open = False  # the client starts its exchanges anew; what it repeats with DUP is still recognised


def _acknowledge(core: Core, session: Session) -> None:
    core.record(session.record(), urgent=True)
    core.when_durable(
        Completion(
            session.peer,
            ConnAck(ACCEPTED).encode(),
            ConnAck(CONGESTION).encode(),
            session,
            then=lambda now: pump(core, session, now),
        )
    )


def on_will_topic(core: Core, session: Session, message: WillTopic, now: float) -> None:
    """Section 6.3: an empty WILLTOPIC means no will after all, and no WILLMSGREQ follows."""
    if session.state != states.WILL_TOPIC:
        core.refuse(session, "out-of-place")
    elif not message.topic:
        session.will = None
        session.move("no-will")
        _acknowledge(core, session)
    elif not is_topic_name(message.topic):
        session.move("disconnect")
        core.refuse(session, "forbidden-topic")
        core.send_to(session, ConnAck(NOT_SUPPORTED).encode())
    else:
        session.will = (message.topic, b"", message.qos, message.retain)
        session.move("will-topic")
        core.send_to(session, WillMsgReq().encode())


def on_will_msg(core: Core, session: Session, message: WillMsg, now: float) -> None:
    if session.state != states.WILL_MSG or session.will is None:
        core.refuse(session, "out-of-place")
        return
    topic, _, qos, retained = session.will
    session.will = (topic, message.message[:_MAX_WILL_OCTETS], qos, retained)
    session.move("will-msg")
    _acknowledge(core, session)


def on_will_topic_upd(core: Core, session: Session, message: WillTopicUpd, now: float) -> None:
    """Section 6.4: a new will topic, or none at all; the will message stays."""
    if message.topic and not is_topic_name(message.topic):
        core.refuse(session, "forbidden-topic")
        core.send_to(session, WillTopicResp(NOT_SUPPORTED).encode())
        return
    kept = session.will[1] if session.will else b""
    session.will = (message.topic, kept, message.qos, message.retain) if message.topic else None
    _answer_will(core, session, WillTopicResp(ACCEPTED).encode(), WillTopicResp(CONGESTION).encode())


def on_will_msg_upd(core: Core, session: Session, message: WillMsgUpd, now: float) -> None:
    if session.will is None:
        core.refuse(session, "out-of-place")
        core.send_to(session, WillMsgResp(NOT_SUPPORTED).encode())
        return
    topic, _, qos, retained = session.will
    session.will = (topic, message.message[:_MAX_WILL_OCTETS], qos, retained)
    _answer_will(core, session, WillMsgResp(ACCEPTED).encode(), WillMsgResp(CONGESTION).encode())


def _answer_will(core: Core, session: Session, accepted: bytes, refused: bytes) -> None:
    core.record(session.record(), urgent=True)
    core.when_durable(Completion(session.peer, accepted, refused, session))


def on_pingreq(core: Core, peer: Peer, message: PingReq, now: float) -> None:
    """Section 6.11 keep-alive; with a ClientId, a sleeper that wakes to collect its messages (6.14)."""
    if not message.client_id:
        session = core.present(peer)
        if session is not None:
            heard(core, session, now)
            core.send(peer, PingResp().encode())
        return
    session = core.sessions.get(message.client_id)
    if session is None or session.state not in (states.ASLEEP, states.AWAKE, states.ACTIVE):
        core.refuse(session, "not-connected")
        core.send(peer, Disconnect().encode())
        return
    if session.peer != peer:
        if session.peer[0] == "zigbee" or session.state == states.ACTIVE:
            core.refuse(session, "client-id-bound")
            core.send(peer, Disconnect().encode())
            return
        # A sleeper may wake behind a new address (DHCP, another forwarder); its ClientId is its name.
        displaced = core.bind(session, peer)
        if displaced is not None and displaced.state in states.PRESENT:
            lose(core, displaced, now)
        core.record(session.record())
    heard(core, session, now)
    if session.move("wake"):
        pump(core, session, now)
    else:
        core.send_to(session, PingResp().encode())


def heard(core: Core, session: Session, now: float) -> None:
    """The client said something: its silence starts anew."""
    session.last_heard = now
    session.stats.frames_in += 1


def on_disconnect(core: Core, session: Session, message: Disconnect, now: float) -> None:
    """With a duration the client sleeps (6.14), else it leaves (6.7); its will is not published either way."""
    put_back(session)
    if message.duration:
        session.duration_s = message.duration
        if not session.move("sleep"):
            core.refuse(session, "out-of-place")
            return
    else:
        session.move("disconnect")
        if session.clean_session:
            _start_clean(core, session)
    core.record(session.record(), urgent=True)
    answer = Disconnect().encode()
    core.when_durable(Completion(session.peer, answer, answer, session))
    core.arm(session)


def lose(core: Core, session: Session, now: float) -> None:
    """The client is silent for too long, or did not answer N_retry times: it is lost, and its will is published."""
    if not session.move("silence"):
        return
    put_back(session)
    if session.state == states.LOST:
        session.stats.lost += 1
        core.counters["lost"] += 1
        core.record_event("adapter.lost", client=session.client_id)
        publish_will(core, session, now)
    if session.clean_session:
        _start_clean(core, session)
    core.record(session.record())


def on_due(core: Core, session: Session, now: float) -> None:
    """A session's timer: silence beyond its keep-alive, a will dialogue left hanging, or an answer overdue."""
    inflight = session.inflight
    waits_for_answer = inflight is not None and session.state in states.ON_AIR and inflight.deadline <= now
    if waits_for_answer and retransmit(core, session, now):
        core.arm(session)
        return
    lose(core, session, now)
