"""A client's PUBLISH: what it means, whether it is a repeat, and custody before the acknowledgement.

MQTT-SN 1.2 sections 6.6 (topic ids), 6.8 (QoS -1), 6.9 to 6.12 (QoS 0 to 2), 6.13 (retransmission); promises P1, P2.
"""

from zlib import crc32

from hub.core.allowance import Allowance
from hub.core.gateway.addresses import Address, address_of
from hub.core.gateway.outbound_publishing import OutboundPublishing
from hub.core.gateway.router import Completion, Publication, Router
from hub.core.gateway.session import SeenEntry, Session
from hub.core.records import EventRecorded, ForwardQueued, Peer, RetainedSet, Sample, Seen
from hub.wire.device_class import METER, NOT_PUBLISHED, class_of, may_publish
from hub.wire.mqttsn.messages import (
    ACCEPTED,
    CONGESTION,
    INVALID_TOPIC_ID,
    NOT_SUPPORTED,
    TOPIC_NORMAL,
    TOPIC_PREDEFINED,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    encode_puback,
)
from hub.wire.mqttsn.topics import (
    ABOUT,
    ALARM,
    FORBIDDEN,
    OUT_OF_CLASS,
    PLAIN,
    READING,
    TOO_MANY,
    UNKNOWN,
    Route,
    is_hub_only,
    matches,
    route_for,
    short_topic,
)
from hub.wire.uplink.reading import BadReading, parse_payload

_MAX_ALARM_BYTES = 256
_MAX_ROUTES = 256  # remembered per client: there are nine thousand short topics
_MAX_TOLD = 512  # quantities that somebody's class has not, each told once
_UNKNOWN = Route("", UNKNOWN)
# A publish that goes no further: the return code, and the reason it is counted under.
_REFUSED = {
    UNKNOWN: (INVALID_TOPIC_ID, "unknown-topic-id"),
    FORBIDDEN: (NOT_SUPPORTED, "forbidden-topic"),
    TOO_MANY: (NOT_SUPPORTED, "too-many-quantities"),
    OUT_OF_CLASS: (NOT_SUPPORTED, "out-of-class"),
}
_ABOUT = "about/"
_new = tuple.__new__  # makes a named tuple in less than half the time; for the records that each reading costs

HUB = "(hub)"  # who publishes what is the hub's own: no ClientId
MAX_DATA_BYTES = 0xFFFF - 9  # of a PUBLISH: what a 3-byte Length leaves (section 5.2.1)


class NotAdmitted(Exception):
    """Nothing of this publish is kept: it is no reading, a table is full, or its address has had its share. `reason` is
    counted; `return_code` is what a client that waits for an answer is told."""

    def __init__(self, reason: str, return_code: int = CONGESTION) -> None:
        super().__init__(reason)
        self.reason = reason
        self.return_code = return_code


class InboundPublishing:
    """What clients publish: judged, taken into custody, acted on."""

    def __init__(self, router: Router, outbound: OutboundPublishing) -> None:
        self._router = router
        self._outbound = outbound

    def on_publish(self, session: Session, message: Publish, now: float) -> None:
        """A PUBLISH of a client that is connected (QoS -1 included)."""
        if self._router.rates is not None and _babbles(self._router.rates, session, now):
            self._router.refuse(session, "rate")
            if message.qos > 0:
                self._router.send_to(session, encode_puback(message.topic_id, message.msg_id, CONGESTION))
            return
        key = message.topic_id_type << 16 | message.topic_id
        route = session.routes.get(key)
        if route is None:
            route = self.bound(session, self.resolve(session, session.client_id, message), now)
            if route.kind != UNKNOWN and len(session.routes) < _MAX_ROUTES:
                session.know_route(key, route)
        qos = message.qos
        if route.kind in _REFUSED:
            code, reason = _REFUSED[route.kind]
            self._router.refuse(session, reason)
            if qos >= 0:
                # Also at QoS 0 (section 5.4.13): only so can the client know that it has to register anew.
                self._router.send_to(session, encode_puback(message.topic_id, message.msg_id, code))
            return
        if qos > 0:
            self._take_custody(session, route, message, now)
            return
        try:
            publication = self.admit(session.client_id, route, message.data, qos, message.retain, now)
        except NotAdmitted as refusal:
            self._router.refuse(session, refusal.reason)
            return
        session.stats.accepted += 1
        self.act_on(publication, now)

    def resolve(self, session: Session | None, client_id: str, message: Publish) -> Route:
        """What the topic id of a PUBLISH stands for, for this sender."""
        topic: str | None
        if message.topic_id_type == TOPIC_NORMAL:
            topic = session.topics_by_id.get(message.topic_id) if session is not None else None
        elif message.topic_id_type == TOPIC_PREDEFINED:
            pattern = self._router.config.predefined.get(message.topic_id)
            topic = pattern.replace("{me}", client_id) if pattern is not None else None
        else:
            topic = short_topic(message.topic_id)
        return _UNKNOWN if topic is None else route_for(client_id, topic)

    def bound(self, session: Session, route: Route, now: float) -> Route:
        """The route; OUT_OF_CLASS where it is a reading that the client's class has not, TOO_MANY where it is a reading
        of one quantity more than a client may have.

        Each is a series in the store for as long as its readings are, whatever topics a clean session has forgotten: a
        client that invents names must not use up those of the home. Asked once for each topic id, not for each publish.
        """
        route = self._of_its_class(session.client_id, route, now)
        if route.kind != READING or route.quantity in session.quantities:
            return route
        if len(session.quantities) >= self._router.config.limits.quantities_per_client:
            return Route(route.topic, TOO_MANY)
        session.quantities = (*session.quantities, route.quantity)
        return route

    def _of_its_class(self, client_id: str, route: Route, now: float) -> Route:
        """The route, or OUT_OF_CLASS: what an appliance said that it is has no such quantity (device_class.py)."""
        router = self._router
        class_name = router.classes.get(client_id, "")
        if route.kind != READING or not class_name or may_publish(class_name, route.quantity):
            return route
        router.feel("adapter-out-of-class", now, f"{client_id}: {route.quantity} of a {class_name}")
        told = (client_id, route.quantity)
        if told not in router.told_out_of_class and len(router.told_out_of_class) < _MAX_TOLD:
            router.told_out_of_class.add(told)
            reason = f"a {class_name} has none"
            router.record_adapter_event("adapter.withheld", now, client_id, quantity=route.quantity, reason=reason)
        return Route(route.topic, OUT_OF_CLASS)

    def _take_custody(self, session: Session, route: Route, message: Publish, now: float) -> None:
        """QoS 1 and 2: recognise a repeat, else record everything and owe the answer until it is durable."""
        msg_id = message.msg_id
        digest = crc32(message.data, route.digest_seed)
        if self._is_repeat(session, message, digest, now):
            return
        if self._router.is_congested:
            self._router.refuse(session, "congestion")
            self._router.send_to(session, encode_puback(message.topic_id, msg_id, CONGESTION))
            return
        try:
            publication = self.admit(session.client_id, route, message.data, message.qos, message.retain, now)
        except NotAdmitted as refusal:
            self._router.refuse(session, refusal.reason)
            self._router.send_to(session, encode_puback(message.topic_id, msg_id, refusal.return_code))
            return
        entry = SeenEntry(digest, now, True, message.qos == 2)
        session.remember(msg_id, entry)
        self._router.batch.seen.append(_new(Seen, (session.client_id, msg_id, digest, message.qos)))
        accepted = encode_puback(message.topic_id, msg_id, ACCEPTED) if message.qos == 1 else PubRec(msg_id).encode()
        self._router.when_durable(
            Completion(session.peer, accepted, message.topic_id, session, msg_id, entry, publication)
        )

    def _is_repeat(self, session: Session, message: Publish, digest: int, now: float) -> bool:
        """Whether this publish was accepted before; a repeat is answered again and never stored twice (P2).

        The same MsgId and content is a repeat while the first is still being committed, while a QoS 2 exchange is open,
        or when the client says DUP within the window; of its last publish, whenever it says so. Without DUP, after the
        answer, a MsgId is free to be used again; only of a client that provably counts its MsgIds is it known to be the
        network's repeat, or one that forgot DUP.
        """
        entry = session.seen.get(message.msg_id)
        if entry is None or entry.digest != digest:
            return False
        if not entry.pending:
            # With one exchange at a time (6.13) the last one is all that can be repeated, however late: unless its
            # client gives one MsgId to many.
            is_last = message.msg_id == session.last_msg_id and not session.reuses_msg_ids
            is_recent = now - entry.accepted_at <= self._router.config.dup_window_s
            is_open = entry.open and message.qos == 2 and (message.dup or not entry.restored)
            is_known = (message.dup and (is_recent or is_last)) or (is_recent and session.counts_msg_ids)
            if not (is_open or is_known):
                return False
            if message.qos == 1:
                self._router.send_to(session, encode_puback(message.topic_id, message.msg_id, ACCEPTED))
            else:
                self._router.send_to(session, PubRec(message.msg_id).encode())
        session.stats.repeats += 1
        self._router.counters["repeats"] += 1
        return True

    def admit(
        self, client_id: str, route: Route, payload: bytes, qos: int, retain: bool, now: float, flags: int = 0
    ) -> Publication | None:
        """Record what a publish is to the hub and whom it is for; None when there is nothing to be done at home (most
        readings). Raises NotAdmitted, with nothing recorded."""
        if route.kind == ABOUT:
            retain = True  # what an appliance is: always, though its adapter may forget the flag (design 3.2)
            if class_of(payload) == METER:
                self._router.feel("adapter-out-of-class", now, f"{client_id} says that it is the meter")
                raise NotAdmitted("out-of-class", NOT_SUPPORTED)
        if retain:
            full = self._why_not_retained(client_id, route, payload)
            if full:
                self._router.feel("retained-full", now)
                if route.kind != READING and client_id != HUB:
                    raise NotAdmitted(full)
                # A reading is kept all the same, and what the hub says reaches those who are there.
                self._router.counters["dropped.retained-full"] += 1
                retain = False
        topic = route.topic
        recipients = self._router.subscriptions.match(topic)
        shares = self._router.addresses
        is_many = len(recipients) > 1 and client_id != HUB
        if is_many and not shares.may_deliver(self._address(client_id), len(recipients), now):
            raise NotAdmitted("fan-out")
        if route.kind == READING:
            self._admit_reading(client_id, route, payload, now, flags)
        elif route.kind == ALARM:
            self._admit_alarm(client_id, payload, now)
        if retain:
            self._admit_retained(client_id, topic, payload, qos)
        if self._router.config.forward_filters and any(matches(f, topic) for f in self._router.config.forward_filters):
            self._router.record(ForwardQueued(topic, payload), urgent=qos > 0)
        if not recipients:
            return Publication(topic, payload, qos, True, ()) if retain else None
        if len(recipients) > self._router.config.limits.fan_out:
            self._router.counters["dropped.fan-out"] += len(recipients) - self._router.config.limits.fan_out
            recipients = recipients[: self._router.config.limits.fan_out]
        deliveries = []
        for recipient, granted in recipients:
            session = self._router.sessions[recipient]
            deliveries.append(
                (session, self._outbound.address(session, topic, payload, min(max(qos, 0), granted), False))
            )
        return Publication(topic, payload, qos, retain, tuple(deliveries))

    def _admit_reading(self, client_id: str, route: Route, payload: bytes, now: float, flags: int) -> None:
        if route.quantity == "limit":
            session = self._router.sessions.get(client_id)
            if not payload:
                # Design 3.2: empty = the appliance obeys no limit now. No number, so no reading: an event tells the
                # change.
                if session is not None and session.may_obey_limit:
                    if not self._router.event_pace.admits_from("adapter.limit_cleared", address_of(session.peer), now):
                        raise NotAdmitted("rate")
                    cleared = EventRecorded("adapter.limit_cleared", {"client": client_id})
                    self._router.keep(cleared)  # said once: the repeat of a publish that the store refused says nothing
                    self._router.record(cleared)
                if session is not None:
                    session.may_obey_limit = False
                return
            if session is not None:
                session.may_obey_limit = True
        samples = self._router.batch.samples
        quantity = route.quantity
        try:
            values = parse_payload(payload)
        except BadReading:
            raise NotAdmitted("bad-reading", NOT_SUPPORTED) from None
        for ago_ms, mantissa, exponent in values:
            sampled_s = now - ago_ms / 1000 if ago_ms else now
            samples.append(_new(Sample, (client_id, quantity, sampled_s, mantissa, exponent, flags)))

    def _admit_alarm(self, client_id: str, payload: bytes, now: float) -> None:
        """An alarm becomes an event at once, or is refused: it is never told late, nor as one of many."""
        if not self._router.event_pace.admits_from("adapter.alarm", self._address(client_id), now):
            raise NotAdmitted("rate")
        text = payload[:_MAX_ALARM_BYTES].decode("utf-8", "replace")
        self._router.record(EventRecorded("adapter.alarm", {"client": client_id, "text": text}), urgent=True)

    def _address(self, client_id: str) -> Address:
        session = self._router.sessions.get(client_id)
        return ("nameless", client_id) if session is None else address_of(session.peer)

    def _why_not_retained(self, client_id: str, route: Route, payload: bytes) -> str:
        """Why this message cannot be retained; "" where it can. Removing one always can."""
        router, limits, topic = self._router, self._router.config.limits, route.topic
        if not payload or is_hub_only(topic):
            return ""
        if route.kind == ABOUT:  # one a client, whatever the others retain
            return "about-too-long" if len(payload) > limits.about_bytes else ""
        old = router.retained.get(topic)
        held_bytes = router.retained_bytes + len(payload) - (len(old[0]) if old else 0)
        is_new = old is None and topic not in router.retaining
        held = len(router.retained) - router.abouts + len(router.retaining)
        if held_bytes > limits.retained_bytes or (is_new and held >= limits.retained):
            return "retained-full"
        session = router.sessions.get(client_id)
        of_sender = router.nameless_retained if session is None else session.retained
        has_its_share = is_new and client_id != HUB and of_sender >= limits.retained_per_client
        return "retained-full" if has_its_share else ""

    def _admit_retained(self, client_id: str, topic: str, payload: bytes, qos: int) -> None:
        router = self._router
        is_there = topic in router.retained
        if not topic.startswith(_ABOUT):
            session = router.sessions.get(client_id)
            change = (not is_there) if payload else -is_there
            if session is not None:
                session.retained = max(0, session.retained + change)
            elif client_id != HUB:
                router.nameless_retained = max(0, router.nameless_retained + change)
            if payload and not is_there:
                router.retaining[topic] += 1
        router.record(RetainedSet(topic, payload, max(qos, 0)))

    def release(self, session: Session | None, publication: Publication) -> None:
        """It was admitted, and will not take effect: its place among the retained messages is free."""
        if publication.retain and publication.topic in self._router.retaining:
            self._stop_retaining(publication.topic)
            if session is not None and session.retained:
                session.retained -= 1

    def _stop_retaining(self, topic: str) -> None:
        retaining = self._router.retaining
        if topic in retaining:
            retaining[topic] -= 1
            if not retaining[topic]:
                del retaining[topic]

    def forget_about(self, client_id: str) -> None:
        """What a client said of itself goes with it: its name may be another's tomorrow."""
        topic = _ABOUT + client_id
        if topic in self._router.retained:
            self._set_retained(topic, b"", 0)
            self._router.record(RetainedSet(topic, b"", 0))

    def act_on(self, publication: Publication | None, now: float) -> None:
        """Let an accepted publish take effect at home: retained message, deliveries."""
        if publication is None:
            return
        if publication.retain:
            self._stop_retaining(publication.topic)
            self._set_retained(publication.topic, publication.payload, publication.qos)
        for session, message in publication.deliveries:
            if self._router.sessions.get(session.client_id) is session:
                self._outbound.offer(session, message, now)

    def _set_retained(self, topic: str, payload: bytes, qos: int) -> None:
        """Set or remove a topic's retained message."""
        router = self._router
        is_about = topic.startswith(_ABOUT)
        old = router.retained.pop(topic, None)
        if old is not None:
            router.abouts -= is_about
            router.retained_bytes -= 0 if is_about else len(old[0])
        if payload:
            router.retained[topic] = (payload, max(qos, 0))
            router.abouts += is_about
            router.retained_bytes += 0 if is_about else len(payload)
        if is_about:
            self._note_class(topic[len(_ABOUT) :], class_of(payload))

    def _note_class(self, client_id: str, class_name: str) -> None:
        """An appliance said what it is: from now on that says what it may publish."""
        router = self._router
        known = class_name if class_name in NOT_PUBLISHED else ""
        if router.classes.get(client_id, "") == known:
            return
        if known:
            router.classes[client_id] = known
        else:
            del router.classes[client_id]
        session = router.sessions.get(client_id)
        if session is not None:
            session.forget_routes()

    def restore_retained(self, topic: str, payload: bytes, qos: int) -> None:
        """Take up a retained message of the last run."""
        self._set_retained(topic, payload, qos)

    def on_pubrel(self, session: Session, message: PubRel, now: float) -> None:
        """Section 6.12: the QoS 2 exchange ends; the MsgId is free again. Always answered, or the client cannot go
        on."""
        entry = session.seen.get(message.msg_id)
        if entry is not None:
            entry.open = False
        self._router.send_to(session, PubComp(message.msg_id).encode())

    def on_nameless_publish(self, peer: Peer, message: Publish, now: float) -> None:
        """QoS -1 from a node that is not connected (section 6.8): it is named after its address, never after a
        client."""
        client_id = nameless_client_id(peer)
        allowance = None if client_id is None else self._allowance_of(client_id)
        if client_id is None or allowance is None:
            self._router.refuse(None, "nameless-sender")
            if client_id is not None:
                self._router.feel("nameless-full", now)
            return
        rate = self._router.config.publishes_per_s.get(peer[0])
        if rate is not None and not allowance.spend(rate, now):
            self._router.refuse(None, "rate")
            return
        route = self._of_its_class(client_id, self.resolve(None, client_id, message), now)
        if route.kind in _REFUSED:
            self._router.refuse(None, _REFUSED[route.kind][1])
            return
        try:
            publication = self.admit(client_id, route, message.data, message.qos, message.retain, now)
        except NotAdmitted as refusal:
            self._router.refuse(None, refusal.reason)
            return
        self.act_on(publication, now)

    def _allowance_of(self, client_id: str) -> Allowance | None:
        """Nameless senders become names in the store's tables: their number is bounded; None beyond it."""
        allowance = self._router.nameless.get(client_id)
        if allowance is None and len(self._router.nameless) < self._router.config.limits.nameless:
            allowance = self._router.nameless[client_id] = Allowance()
        return allowance

    def publish_own(self, topic: str, payload: bytes, qos: int, retained: bool, now: float) -> None:
        """The hub's own publish (control, prices, time): no rules to pass, the same custody for QoS 1 and 2.

        Raises ValueError when it is longer than a PUBLISH can be.
        """
        if len(payload) > MAX_DATA_BYTES or not topic:
            raise ValueError("not a publish: no topic, or too long")
        publication = self.admit(HUB, Route(topic, PLAIN), payload, qos, retained, now)
        if qos > 0:
            self._act_when_durable(publication)
        else:
            self.act_on(publication, now)

    def _act_when_durable(self, publication: Publication | None) -> None:
        """Custody for what no client would send again: if the store refuses, it takes effect at home all the same
        (P7)."""
        self._router.when_durable(
            Completion(None, b"", b"", publication=publication, otherwise=lambda now: self.act_on(publication, now))
        )

    def publish_will(self, session: Session, now: float) -> None:
        """Section 6.3: the will of a client that was lost, published as its own publish would be.

        The will stays with the session, as subscriptions do; a loss is a step that a session takes once.
        """
        if session.will is None:
            return
        topic, payload, qos, retained = session.will
        route = self.bound(session, route_for(session.client_id, topic), now)
        before = len(self._router.batch.changes)
        if route.kind in _REFUSED:
            self._router.refuse(session, _REFUSED[route.kind][1])
            return
        try:
            publication = self.admit(session.client_id, route, payload, qos, retained, now)
        except NotAdmitted as refusal:
            self._router.refuse(session, refusal.reason)
            return
        for change in self._router.batch.changes[before:]:
            if isinstance(change, (EventRecorded, ForwardQueued)):
                self._router.keep(change)
        self._act_when_durable(publication)


def _babbles(rates: dict[str, float], session: Session, now: float) -> bool:
    rate = rates.get(session.peer[0])
    if rate is None:
        return False
    if session.allowance is None:
        session.allowance = Allowance()
    return not session.allowance.spend(rate, now)


def nameless_client_id(peer: Peer) -> str | None:
    """`zb-` + IEEE address, or `udp-` + IPv4 address; None where that gives no ClientId (IPv6, forwarders)."""
    if peer[0] == "zigbee" and len(peer) == 2:
        return "zb-" + str(peer[1])
    if peer[0] == "udp" and len(peer) == 3 and "." in str(peer[1]):
        return "udp-" + str(peer[1])
    return None
