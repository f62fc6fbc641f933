"""How a client comes and goes: CONNECT with its will dialogue, keep-alive, sleep, DISCONNECT, loss.

MQTT-SN 1.2 sections 6.2 to 6.4, 6.11, 6.12, 6.14; the address rule for the home network is ours (design 3.2).
"""

from hub.core.gateway import session as states
from hub.core.gateway.addresses import address_of
from hub.core.gateway.inbound_publishing import InboundPublishing
from hub.core.gateway.outbound_publishing import OutboundPublishing, clear_queue, put_back
from hub.core.gateway.router import Completion, Router
from hub.core.gateway.session import Session
from hub.core.records import Peer, SessionRemoved
from hub.wire.mqttsn.messages import (
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
from hub.wire.mqttsn.topics import FORBIDDEN, is_client_id, is_reserved_client_id, route_for

_MAX_WILL_BYTES = 1024
_GONE = (states.DISCONNECTED, states.LOST)


def _shown(peer: Peer) -> str:
    """An address for people: without the port, which changes whenever a device starts."""
    return ":".join(address_of(peer))


class Connections:
    """How clients come and go."""

    def __init__(self, router: Router, inbound: InboundPublishing, outbound: OutboundPublishing) -> None:
        self._router = router
        self._inbound = inbound
        self._outbound = outbound

    def on_connect(self, peer: Peer, message: Connect, now: float) -> None:
        """Section 6.2; answers CONNACK once the session is durable, or asks for the will first.

        Out of asleep or awake it only brings the client back (6.14): its CleanSession and Will flags are for set-up
        alone.
        """
        code, reason = self._judge(peer, message, now)
        if code != ACCEPTED:
            self._router.refuse(self._router.sessions.get(message.client_id), reason)
            self._router.send(peer, ConnAck(code).encode())
            return
        session = self._router.sessions.get(message.client_id)
        if session is None:
            session = self._router.sessions[message.client_id] = Session(message.client_id, peer, now)
            self._router.addresses.add(session)
            self._router.record_adapter_event("adapter.joined", now, message.client_id, link=str(peer[0]))
        self._settle_address(session, peer, now)
        session.stats.frames_in += 1
        session.last_heard = now
        session.duration_s = message.duration
        session.msg_ids_counted = 0
        resumes = session.state in (states.ASLEEP, states.AWAKE)
        if not resumes:
            session.clean_session = message.clean_session
        if message.clean_session and not resumes:
            self._start_clean(session)
        else:
            put_back(session)
            # Section 6.10: after a CONNECT that is not clean the client may have forgotten what its ids stand for.
            session.stale_topics = None if resumes or not session.ids_by_topic else set(session.ids_by_topic)
        if message.will and not resumes:
            session.pending_will = None
            session.move("connect-with-will")
            self._router.send_to(session, WillTopicReq().encode())
        else:
            session.move("connect")
            self._acknowledge(session)
        self._router.arm(session)

    def _judge(self, peer: Peer, message: Connect, now: float) -> tuple[int, str]:
        if message.protocol_id != 1:
            return NOT_SUPPORTED, "protocol"
        if not is_client_id(message.client_id) or is_reserved_client_id(message.client_id):
            return NOT_SUPPORTED, "client-id"
        session = self._router.sessions.get(message.client_id)
        if session is not None and session.peer[0] == "zigbee" and session.peer[:2] != peer[:2]:
            # A name learnt from a radio address stays with it: no other node can speak as this adapter.
            return NOT_SUPPORTED, "client-id-bound"
        if self._router.is_congested:
            return CONGESTION, "congestion"
        if session is None:
            if not self._router.addresses.may_bring_a_name(peer, now):
                self._router.feel("adapters-crowded", now, _shown(peer))
                return CONGESTION, "new-names"
            if not self._has_room(peer, now):
                self._router.feel("adapters-full", now)
                return CONGESTION, "congestion"
        return ACCEPTED, ""

    def _has_room(self, peer: Peer, now: float) -> bool:
        """Room for one more client from this address; at a limit somebody makes place (addresses.py)."""
        router, limits = self._router, self._router.config.limits
        while router.addresses.count(peer) >= limits.clients_per_address:
            router.feel("adapters-crowded", now, _shown(peer))
            if not self._dismiss(router.addresses.who_makes_place_at(peer, now)):
                return False
        # More than one may have to go: a session whose removal did not get through before the hub died is back.
        while len(router.sessions) >= limits.clients:
            if not self._dismiss(router.addresses.who_makes_place(peer, now)):
                return False
        return True

    def _dismiss(self, session: Session | None) -> bool:
        """Drop a session to make place, with what its client had retained of itself; False: there is none."""
        if session is None:
            return False
        router = self._router
        router.counters["dropped.session"] += 1
        if session.state not in _GONE:
            router.send_to(session, Disconnect().encode())
        self._drop(session)
        return True

    def _drop(self, session: Session) -> None:
        clear_queue(session)
        self._router.drop_session(session)
        self._router.translator.table.clients.pop(session.client_id, None)
        self._inbound.forget_about(session.client_id)

    def forget(self, client_id: str) -> bool:
        """Drop a session with all that belongs to it, the bond of its ClientId to a radio address too; False when
        there is no such client. One that is still there is told DISCONNECT, and may connect anew as anybody may."""
        session = self._router.sessions.get(client_id)
        if session is None:
            return False
        if session.state not in _GONE:
            self._router.send_to(session, Disconnect().encode())
        self._drop(session)
        self._router.record_event("adapter.left", client=client_id, reason="forgotten")
        return True

    def _settle_address(self, session: Session, peer: Peer, now: float) -> None:
        """One session an address, one address a session: whoever was there before is told, or lost."""
        self._tell_of_move(session, peer, now)
        if session.peer != peer and session.state in states.PRESENT:
            self._router.send(session.peer, Disconnect().encode())
            self._router.counters["taken-over"] += 1
        displaced = self._router.bind(session, peer)
        if displaced is not None and displaced.state in states.PRESENT:
            self.lose(displaced, now)

    def _tell_of_move(self, session: Session, peer: Peer, now: float) -> None:
        """A name is heard from another address: a new lease of its own, or somebody else who took it."""
        before, after = _shown(session.peer), _shown(peer)
        if before != after:
            self._router.record_adapter_event(
                "adapter.moved", now, session.client_id, before=before, after=after, state=session.state
            )

    def _start_clean(self, session: Session) -> None:
        if session.next_seq > session.first_seq or session.subscriptions or session.topics_by_id:
            self._router.record(
                SessionRemoved(session.client_id)
            )  # and with it all that belongs to it; whoever cleans records it
        clear_queue(session)
        for topic_filter in session.subscriptions:
            self._router.subscriptions.remove(session.client_id, topic_filter)
        session.unsubscribe_all()
        session.forget_topics()
        session.will = None
        for entry in session.seen.values():
            entry.open = False  # the client starts its exchanges anew; what it repeats with DUP is still recognised

    def _acknowledge(self, session: Session) -> None:
        session.v2_state = self._router.translator.kept(session.peer)
        self._router.record(session.record(), urgent=True)
        completion = Completion(
            session.peer,
            ConnAck(ACCEPTED).encode(),
            ConnAck(CONGESTION).encode(),
            session,
            then=lambda now: self._connected(session, completion, now),
            otherwise=lambda now: self._not_connected(session, completion),
        )
        session.connack = completion
        self._router.when_durable(completion)

    def _connected(self, session: Session, completion: Completion, now: float) -> None:
        if session.connack is completion:
            session.connack = None
        self._outbound.pump(session, now)

    def _not_connected(self, session: Session, completion: Completion) -> None:
        # The client was told congestion and will come again: until then it is not connected, so it cannot be lost
        # either.
        if session.connack is completion and session.state == states.ACTIVE:
            put_back(session)
            session.move("disconnect")
            self._router.record(session.record())

    def _refuse_will(self, session: Session, reason: str) -> None:
        session.move("disconnect")
        self._router.record(session.record())
        self._router.refuse(session, reason)
        self._router.send_to(session, ConnAck(NOT_SUPPORTED).encode())

    def on_will_topic(self, session: Session, message: WillTopic, now: float) -> None:
        """Section 6.3: an empty WILLTOPIC means no will after all, and no WILLMSGREQ follows. Repeats are answered."""
        if session.state == states.ACTIVE and not message.topic and session.will is None:
            self._acknowledge(session)
        elif session.state not in (states.WILL_TOPIC, states.WILL_MSG):
            self._router.refuse(session, "out-of-place")
        elif not message.topic:
            session.will = None
            session.move("no-will")
            self._acknowledge(session)
        elif route_for(session.client_id, message.topic).kind == FORBIDDEN:
            self._refuse_will(session, "forbidden-topic")
        else:
            session.pending_will = (message.topic, message.qos, message.retain)
            session.move("will-topic")
            self._router.send_to(session, WillMsgReq().encode())

    def on_will_msg(self, session: Session, message: WillMsg, now: float) -> None:
        """The will takes the stored one's place only now that it is whole."""
        if session.state == states.ACTIVE and session.will is not None and session.will[1] == message.message:
            self._acknowledge(session)
        elif session.state != states.WILL_MSG or session.pending_will is None:
            self._router.refuse(session, "out-of-place")
        elif len(message.message) > _MAX_WILL_BYTES:
            self._refuse_will(session, "will-too-long")
        else:
            topic, qos, retained = session.pending_will
            session.will, session.pending_will = (topic, message.message, qos, retained), None
            session.move("will-msg")
            self._acknowledge(session)

    def on_will_topic_upd(self, session: Session, message: WillTopicUpd, now: float) -> None:
        """Section 6.4: a new will topic, or none at all; the will message stays."""
        if message.topic and route_for(session.client_id, message.topic).kind == FORBIDDEN:
            self._router.refuse(session, "forbidden-topic")
            self._router.send_to(session, WillTopicResp(NOT_SUPPORTED).encode())
            return
        kept = session.will[1] if session.will else b""
        session.will = (message.topic, kept, message.qos, message.retain) if message.topic else None
        self._answer_will(session, WillTopicResp(ACCEPTED).encode(), WillTopicResp(CONGESTION).encode())

    def on_will_msg_upd(self, session: Session, message: WillMsgUpd, now: float) -> None:
        """Section 6.4; there is no message without a topic to publish it to."""
        if session.will is None or len(message.message) > _MAX_WILL_BYTES:
            self._router.refuse(session, "out-of-place" if session.will is None else "will-too-long")
            self._router.send_to(session, WillMsgResp(NOT_SUPPORTED).encode())
            return
        topic, _, qos, retained = session.will
        session.will = (topic, message.message, qos, retained)
        self._answer_will(session, WillMsgResp(ACCEPTED).encode(), WillMsgResp(CONGESTION).encode())

    def _answer_will(self, session: Session, accepted: bytes, refused: bytes) -> None:
        if self._router.is_congested:
            self._router.refuse(session, "congestion")
            self._router.send_to(session, refused)
            return
        self._router.record(session.record(), urgent=True)
        self._router.when_durable(Completion(session.peer, accepted, refused, session))

    def on_pingreq(self, peer: Peer, message: PingReq, now: float) -> None:
        """Section 6.11 keep-alive; from a sleeper, by its ClientId or its address, a wish for its messages (6.14)."""
        if not message.client_id:
            session = self._router.require_session(peer)
            if session is not None:
                self._wake(session, now)
            return
        session = self._router.sessions.get(message.client_id)
        if session is None or session.state not in states.PRESENT:
            self._router.refuse(session, "not-connected")
            self._router.send(peer, Disconnect().encode())
            return
        if session.peer != peer:
            if session.peer[0] == "zigbee" or session.state == states.ACTIVE:
                self._router.refuse(session, "client-id-bound")
                self._router.send(peer, Disconnect().encode())
                return
            # A sleeper may wake behind a new address (DHCP, another forwarder); its ClientId is its name.
            self._tell_of_move(session, peer, now)
            displaced = self._router.bind(session, peer)
            if displaced is not None and displaced.state in states.PRESENT:
                self.lose(displaced, now)
            session.v2_state = self._router.translator.kept(peer)
            self._router.record(session.record())
        self._wake(session, now)

    def _wake(self, session: Session, now: float) -> None:
        self.heard(session, now)
        if not session.move("wake"):
            self._router.send_to(session, PingResp().encode())
        elif session.inflight is not None and session.inflight.awaits != "release":
            self._outbound.send_again(
                session, session.inflight, now
            )  # it pings anew because what we sent did not arrive
        else:
            self._outbound.pump(session, now)

    def heard(self, session: Session, now: float) -> None:
        """The client said something: its silence starts anew."""
        session.last_heard = now
        session.stats.frames_in += 1

    def on_disconnect(self, session: Session, message: Disconnect, now: float) -> None:
        """With a duration the client sleeps (6.14), else it leaves (6.12); its will is not published either way."""
        put_back(session)
        session.v2_state = self._router.translator.kept(
            session.peer
        )  # the goodbye may have changed the session's expiry
        if message.duration:
            session.duration_s = message.duration
            session.move("sleep")
        else:
            session.move("disconnect")
            if session.clean_session:
                self._start_clean(session)
        self._router.record(session.record(), urgent=True)
        answer = Disconnect().encode()
        self._router.when_durable(Completion(session.peer, answer, answer, session))
        self._router.arm(session)

    def lose(self, session: Session, now: float) -> None:
        """The client is silent for too long, or did not answer N_retry times: it is lost, and its will is published."""
        if not session.move("silence"):
            return
        put_back(session)
        if session.state == states.LOST:
            session.stats.lost += 1
            self._router.counters["lost"] += 1
            self._router.record_adapter_event("adapter.lost", now, session.client_id)
            self._inbound.publish_will(session, now)
        if session.clean_session:
            self._start_clean(session)
        self._router.record(session.record())

    def on_due(self, session: Session, now: float) -> None:
        """A session's timer: silence beyond its keep-alive, a will dialogue left hanging, or an answer overdue."""
        inflight = session.inflight
        waits_for_answer = inflight is not None and session.state in states.ON_AIR and inflight.deadline <= now
        if waits_for_answer and self._outbound.retransmit(session, now):
            return
        if waits_for_answer and session.move("unanswered"):
            put_back(session)  # a sleeper limits its own tries too and sleeps on (6.14): the sleep timer judges it
            return
        self.lose(session, now)
