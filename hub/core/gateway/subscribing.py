"""REGISTER, SUBSCRIBE, UNSUBSCRIBE: topic ids and interest, durable before they are acknowledged.

MQTT-SN 1.2 sections 6.5 (topic names), 6.9 (subscribe); filters as MQTT 3.1.1 section 4.7.
"""

from hub.core.gateway.outbound_publishing import OutboundPublishing
from hub.core.gateway.resync import predefined_topic
from hub.core.gateway.router import Completion, Router
from hub.core.gateway.session import Session
from hub.core.records import SubscriptionAdded, SubscriptionRemoved, TopicRegistered
from hub.wire.mqttsn.messages import (
    ACCEPTED,
    CONGESTION,
    INVALID_TOPIC_ID,
    NOT_SUPPORTED,
    TOPIC_NORMAL,
    TOPIC_PREDEFINED,
    RegAck,
    Register,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from hub.wire.mqttsn.topics import has_wildcard, is_topic_filter, is_topic_name, matches, may_hear, short_topic


class Subscribing:
    """REGISTER, SUBSCRIBE and UNSUBSCRIBE."""

    def __init__(self, router: Router, outbound: OutboundPublishing) -> None:
        self._router = router
        self._outbound = outbound

    def on_register(self, session: Session, message: Register, now: float) -> None:
        """The same name always gets the same id; a name with a wildcard gets none."""
        topic = message.topic_name
        if self._router.is_congested:
            self._router.refuse(session, "congestion")
            self._router.send_to(session, RegAck(0, message.msg_id, CONGESTION).encode())
            return
        if not is_topic_name(topic):
            self._router.refuse(session, "forbidden-topic")
            self._router.send_to(session, RegAck(0, message.msg_id, NOT_SUPPORTED).encode())
            return
        topic_id = self._id_for(session, topic)
        if topic_id is None:
            self._router.refuse(session, "too-many-topics")
            self._router.send_to(session, RegAck(0, message.msg_id, CONGESTION).encode())
            return
        self._router.when_durable(
            Completion(
                session.peer,
                RegAck(topic_id, message.msg_id, ACCEPTED).encode(),
                RegAck(topic_id, message.msg_id, CONGESTION).encode(),
                session,
            )
        )

    def _id_for(self, session: Session, topic: str) -> int | None:
        topic_id = session.ids_by_topic.get(topic)
        if topic_id is None:
            topic_id = self._outbound.allocate_topic_id(session)
            if topic_id is None:
                return None
            session.learn_topic(topic_id, topic)
        # Recorded even when known: if an earlier commit was refused, this is the client's way to ask again.
        self._router.record(TopicRegistered(session.client_id, topic_id, topic))
        return topic_id

    def on_subscribe(self, session: Session, message: Subscribe, now: float) -> None:
        """Grant what was asked; retained messages follow the SUBACK."""
        if self._router.is_congested:
            self._refuse_subscribe(session, message, CONGESTION, "congestion")
            return
        topic_filter, code, reason = self._filter_of(session, message.topic_id_type, message.topic)
        if code == ACCEPTED and not has_wildcard(topic_filter) and not may_hear(session.client_id, topic_filter):
            code, reason = NOT_SUPPORTED, "forbidden-topic"
        if code != ACCEPTED:
            self._refuse_subscribe(session, message, code, reason)
            return
        known = topic_filter in session.subscriptions
        if not known and len(session.subscriptions) >= self._most_subscriptions(session):
            self._refuse_subscribe(session, message, CONGESTION, "too-many-subscriptions")
            return
        topic_id = self._granted_id(session, message, topic_filter)
        if topic_id is None:
            self._refuse_subscribe(session, message, CONGESTION, "too-many-topics")
            return
        session.subscribe(topic_filter, message.qos)
        self._router.subscriptions.add(session.client_id, topic_filter, message.qos)
        self._router.record(SubscriptionAdded(session.client_id, topic_filter, message.qos))
        self._router.when_durable(
            Completion(
                session.peer,
                SubAck(topic_id, message.msg_id, ACCEPTED, message.qos).encode(),
                SubAck(topic_id, message.msg_id, CONGESTION).encode(),
                session,
                then=lambda later: self._send_retained(session, topic_filter, later),
            )
        )

    def _most_subscriptions(self, session: Session) -> int:
        limits = self._router.config.limits
        share = self._router.addresses.share
        return share(session, limits.subscriptions_per_client, limits.subscriptions_per_address)

    def _refuse_subscribe(self, session: Session, message: Subscribe, code: int, reason: str) -> None:
        self._router.refuse(session, reason)
        self._router.send_to(session, SubAck(0, message.msg_id, code).encode())

    def _filter_of(self, session: Session, topic_id_type: int, topic: int | str) -> tuple[str, int, str]:
        """The filter that a SUBSCRIBE or UNSUBSCRIBE names: `(filter, return code, reason)`."""
        if topic_id_type == TOPIC_NORMAL:
            name = str(topic)
            return (name, ACCEPTED, "") if is_topic_filter(name) else (name, NOT_SUPPORTED, "bad-filter")
        assert isinstance(topic, int)  # the codec gives ids for the other two types
        if topic_id_type == TOPIC_PREDEFINED:
            pattern = self._router.config.predefined.get(topic)
            if pattern is None:
                return "", INVALID_TOPIC_ID, "unknown-topic-id"
            return pattern.replace("{me}", session.client_id), ACCEPTED, ""
        short = short_topic(topic)
        if short is None or not is_topic_filter(short):
            return "", NOT_SUPPORTED, "bad-filter"
        return short, ACCEPTED, ""

    def _granted_id(self, session: Session, message: Subscribe, topic_filter: str) -> int | None:
        """The id that later publishes will carry: 0 for wildcards and short names (section 5.4.16); None at the
        limit."""
        if message.topic_id_type == TOPIC_PREDEFINED:
            assert isinstance(message.topic, int)
            session.know_predefined(message.topic, topic_filter)
            self._router.record(predefined_topic(session.client_id, message.topic, topic_filter))
            return message.topic
        if message.topic_id_type != TOPIC_NORMAL or has_wildcard(topic_filter):
            return 0
        return self._id_for(session, topic_filter)

    def _send_retained(self, session: Session, topic_filter: str, now: float) -> None:
        granted = session.subscriptions.get(topic_filter)
        if granted is None:
            return
        limits = self._router.config.limits
        most = self._router.addresses.share(session, limits.queued_per_client, limits.queued_per_address)
        room = most - len(session.queue)
        for topic, (payload, qos) in list(self._router.retained.items()):
            if matches(topic_filter, topic) and may_hear(session.client_id, topic):
                if room <= 0:
                    self._router.counters["dropped.retained-over-queue"] += 1
                    continue
                room -= 1
                self._outbound.offer(
                    session, self._outbound.address(session, topic, payload, min(qos, granted), True), now
                )

    def on_unsubscribe(self, session: Session, message: Unsubscribe, now: float) -> None:
        """UNSUBACK carries no return code: it is sent whether or not there was such a subscription, and where the store
        is behind it is not sent, so that the client asks again."""
        if self._router.is_congested:
            self._router.refuse(session, "congestion")
            return
        topic_filter, code, _ = self._filter_of(session, message.topic_id_type, message.topic)
        if code == ACCEPTED and session.unsubscribe(topic_filter):
            self._router.subscriptions.remove(session.client_id, topic_filter)
            self._router.record(SubscriptionRemoved(session.client_id, topic_filter))
        answer = UnsubAck(message.msg_id).encode()
        self._router.when_durable(Completion(session.peer, answer, b"", session))
