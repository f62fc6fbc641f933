# SPDX-License-Identifier: GPL-3.0-or-later
"""What MQTT-SN 2.0 clients say, put into 1.2: one method a packet type.

Sections are the draft's (CSD01, 14 August 2026).
"""

from collections.abc import Callable
from typing import Any

from hub.core.gateway import session as states
from hub.core.gateway.session import Session
from hub.core.gateway.v2.peer_state import ByName, Gone, PeerState, keep_alive_of
from hub.core.gateway.v2.peer_table import PeerTable
from hub.core.records import Peer
from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.topics import has_wildcard, is_client_id, is_reserved_client_id, is_topic_name, short_topic
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.messages import PREDEFINED_ALIAS, SESSION_ALIAS, TOPIC_NAME
from hub.wire.mqttsn.v2.reason_codes import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_IDENTIFIER_NOT_VALID,
    DISCONNECT_WITH_WILL,
    IMPLEMENTATION_SPECIFIC_ERROR,
    MALFORMED_PACKET,
    NO_SUBSCRIPTION_EXISTED,
    NO_VIRTUAL_CONNECTION,
    PROTECTION_NOT_SUPPORTED,
    PROTOCOL_ERROR,
    SUCCESS,
    TOPIC_ALIAS_EXISTS,
    TOPIC_NAME_INVALID,
    UNKNOWN_TOPIC_ALIAS,
    UNSUPPORTED_PROTOCOL_VERSION,
    return_code_of,
)

_HIDDEN = 0  # the MsgId of a REGISTER that the client did not send: no 2.0 packet has it


# Without a Virtual Connection


_CONNECT_1_2, _PUBLISH_1_2 = 0x04, 0x0C

# Of a peer that is not known to speak 2.0: packet types, with the fewest bytes behind the header, that no 1.2 client
# sends. 1.2's SEARCHGW, WILLMSGREQ, PUBREC, PUBREL and PINGRESP have the same numbers and fewer bytes; so has 2.0's
# SEARCHGW without network information, which goes unserved. SUBSCRIBE (0x12) is looked at more closely.
_FEWEST = {0x01: 8, 0x03: 3, 0x08: 5, 0x0F: 4, 0x10: 4, 0x11: 3, 0x13: 7, 0x12: 3, 0x17: 1, 0xFC: 4, 0xFE: 4, 0xFF: 16}
_STRAYS = (0x03, 0x08, 0x0F, 0x10, 0x11, 0x13, 0xFF)  # they need a Virtual Connection, or its loss to be told
_NODE = 20  # bytes of a forwarder's address field that are taken


def _type_and_size(data: bytes) -> tuple[int, int]:
    """The packet type, and how many bytes follow it."""
    if data[0] != 1:
        return data[1], len(data) - 2
    return (data[3], len(data) - 4) if len(data) > 3 else (-1, 0)


class Inbound:
    """One method a packet type."""

    def __init__(self, peers: PeerTable) -> None:
        self._peers = peers
        self._of_anyone: dict[type, Callable[[Peer, Any, float], None]] = {
            v2.ConnectV2: self.on_connect,
            v2.PubWos: self.on_pubwos,
            v2.SearchGwV2: self.on_searchgw,
            v2.Protection: self.on_protection,
            v2.ConnectionEncapsulation: self.on_connection,
            v2.AdvertiseV2: self.on_nothing,
            v2.GwInfoV2: self.on_nothing,
        }
        self._of_connection: dict[type, Callable[[Peer, PeerState, Any, bytes], None]] = {
            v2.RegisterV2: self.on_register,
            v2.RegAckV2: self.on_regack,
            v2.PublishV2: self.on_publish,
            v2.PubAckV2: self.on_puback,
            v2.PubRecV2: self.on_pubrec,
            v2.PubRelV2: self.on_pubrel,
            v2.PubCompV2: self.on_pubcomp,
            v2.SubscribeV2: self.on_subscribe,
            v2.UnsubscribeV2: self.on_unsubscribe,
            v2.PingReqV2: self.on_pingreq,
            v2.SleepReq: self.on_sleepreq,
            v2.DisconnectV2: self.on_disconnect,
            v2.Auth: self.on_auth,
        }

    def concerns(self, peer: Peer, data: bytes) -> bool:
        """Whether `hear` is to take this datagram; all others are 1.2's."""
        if len(data) < 2:
            return False
        if self._peers.peers and peer in self._peers.peers:
            kind, size = _type_and_size(data)
            if kind != _CONNECT_1_2 or size < 5 or data[1 - size] != 1:  # a PUBACK has at most 3
                return True
            self._peers.clients.pop(self._peers.peers.pop(peer).client_id, None)  # from now on it speaks 1.2
            return False
        if data[1] == _PUBLISH_1_2 and data[0] != 1:  # nine in ten; a PUBLISH has at least 5 bytes
            return len(data) == 4 and self._peers.session_at(peer) is None
        kind, size = _type_and_size(data)
        fewest = _FEWEST.get(kind)
        return fewest is not None and size >= fewest and self._is_2_0(peer, data, kind, size)

    def _is_2_0(self, peer: Peer, data: bytes, kind: int, size: int) -> bool:
        if kind == 0xFE:
            # Connection Encapsulation fills its Length; 1.2's Length ends before the inner message.
            return data[0] in (1, len(data))
        if kind == 0x12:
            # PUBWOS or a 1.2 SUBSCRIBE: a name has 1.2's reserved type; with an alias 1.2 has exactly 5 bytes.
            flags = data[-size] & ~0x10
            return self._peers.session_at(peer) is None and (flags == 3 or (flags == 1 and size != 5))
        return kind not in _STRAYS or self._peers.session_at(peer) is None

    def hear(self, peer: Peer, data: bytes, now: float) -> None:
        """Take a datagram that `concerns` us. Raises Malformed, after having done what 2.0 asks then."""
        state = self._peers.peers.get(peer)
        try:
            message = v2.decode2(data)
        except v2.Malformed:
            if state is not None:
                self._peers.fail(peer, MALFORMED_PACKET)
            raise
        if type(message) is v2.Forwarder:
            self._hear_forwarded(peer, message, now)
        elif type(message) in self._of_anyone:
            self._of_anyone[type(message)](peer, message, now)
        elif state is not None and state.connect_id:
            raise v2.Malformed("before CONNACK")  # 3.1.19: what comes before it is not processed
        elif state is None or self._peers.session_at(peer) is None:
            self._peers.deny(peer, message)
        else:
            state.last_heard = now
            self._of_connection.get(type(message), self.on_out_of_place)(peer, state, message, data)

    def _hear_forwarded(self, peer: Peer, message: v2.Forwarder, now: float) -> None:
        if type(peer[-1]) is bytes or not 0 < len(message.address) <= _NODE or not message.packet:
            raise v2.Malformed("forwarded twice")
        self._peers.learn_forwarder(peer)
        node = (*peer, message.address)
        if self.concerns(node, message.packet):
            self.hear(node, message.packet, now)
        else:
            self._peers.tell(node, v1.decode(message.packet))

    def on_connect(self, peer: Peer, message: v2.ConnectV2, now: float) -> None:
        """3.1.19. 1.2 has its parts one by one: out of sleep, clean or not, the will; the steps follow on each
        CONNACK."""
        reason_code = _fault(message)
        if not reason_code and not message.client_id:
            message.client_id = self._assigned_client_id()
            assigned = True
        else:
            assigned = False
        session = self._peers.sessions.get(message.client_id)
        before = self._peers.clients.get(message.client_id)
        state = PeerState.of(message, now)
        state.assigned = assigned
        if not reason_code and not self._take_will(state, message.will, session):
            reason_code = TOPIC_NAME_INVALID
        if reason_code:
            self._peers.answer(peer, v2.ConnAckV2(message.packet_id, reason_code))
            return
        state.session_present = _is_resumed(message, session, before, now)
        earlier = self._peers.peers.get(peer)
        if earlier is not None:
            state.owed.extend(0 for _ in earlier.owed)  # answers still on their way, to an earlier connection
        state.steps.extend(_steps(message, state, session))
        self._peers.settle(peer, state)
        self._peers.tell(peer, state.steps.popleft())

    def _assigned_client_id(self) -> str:
        """A name that no session has (3.2.11)."""
        number = len(self._peers.sessions) + 1
        while f"auto-{number}" in self._peers.sessions:
            number += 1
        return f"auto-{number}"

    def _take_will(self, state: PeerState, will: v2.Will | None, session: Session | None) -> bool:
        if will is None:
            return True
        topic = self._topic_of(session, state.client_id, will.topic_type, will.topic)
        if not topic or not is_topic_name(topic):
            return False
        state.will_topic = v1.WillTopic(topic, will.qos, will.retain)
        state.will_msg = v1.WillMsg(will.payload)
        return True

    def on_pubwos(self, peer: Peer, message: v2.PubWos, now: float) -> None:
        """3.6.1, 1.2's QoS -1; by name only where that is a predefined or two-byte one, it need not be served."""
        session = self._peers.session_at(peer)
        client_id = session.client_id if session is not None else ""
        topic_id_type, topic_id = v1.TOPIC_PREDEFINED, message.topic
        if isinstance(topic_id, str):
            found = self._known_id(session, client_id, topic_id)
            if found is None or found[0] == v1.TOPIC_NORMAL:
                return
            topic_id_type, topic_id = found
        self._peers.tell(peer, v1.Publish(topic_id_type, topic_id, 0, message.data, -1, message.retain))

    def on_searchgw(self, peer: Peer, message: v2.SearchGwV2, now: float) -> None:
        self._peers.answer(peer, v2.GwInfoV2(self._peers.config.gw_id))

    def on_protection(self, peer: Peer, message: v2.Protection, now: float) -> None:
        self._peers.answer(peer, v2.DisconnectV2(PROTECTION_NOT_SUPPORTED))

    def on_connection(self, peer: Peer, message: v2.ConnectionEncapsulation, now: float) -> None:
        """3.18: from the address of the connection it is the packet inside; from another a sleeper may wake, no
        more."""
        state = self._peers.clients.get(message.client_id)
        here = self._peers.session_at(peer)
        inner = v2.decode2(message.packet)
        if type(inner) not in _ENCAPSULATED:
            raise v2.Malformed("unknown message type")
        if state is None or not state.allows_address_change:
            self._peers.deny(peer, inner)
        elif here is not None and here.client_id == message.client_id:
            self.hear(peer, message.packet, now)
        elif here is None and type(inner) is v2.PingReqV2:
            self._peers.settle(peer, state)
            state.ping_id, state.last_id = inner.packet_id, inner.packet_id
            self._peers.tell(peer, v1.PingReq(message.client_id))  # whose address rules the gateway knows
        else:
            self._peers.answer(peer, v2.DisconnectV2(NO_VIRTUAL_CONNECTION, packet_id=getattr(inner, "packet_id", 0)))

    def on_nothing(self, peer: Peer, message: v2.Message, now: float) -> None:
        """ADVERTISE and GWINFO of another gateway."""

    def on_register(self, peer: Peer, state: PeerState, message: v2.RegisterV2, data: bytes) -> None:
        """3.4; a name that has a predefined alias gets that one (4.7.2.2)."""
        if message.alias is not None:
            self._peers.fail(peer, PROTOCOL_ERROR)
            return
        state.repeats(message.packet_id, data)
        alias = self._peers.predefined_alias(message.topic_name, state.client_id)
        if alias is not None:
            self._peers.answer(peer, v2.RegAckV2(message.packet_id, TOPIC_ALIAS_EXISTS, alias, PREDEFINED_ALIAS))
        else:
            self._peers.tell(peer, v1.Register(0, message.packet_id, message.topic_name))

    def on_regack(self, peer: Peer, state: PeerState, message: v2.RegAckV2, data: bytes) -> None:
        self._peers.tell(peer, v1.RegAck(0, message.packet_id, return_code_of(message.reason_code)))

    def on_publish(self, peer: Peer, state: PeerState, message: v2.PublishV2, data: bytes) -> None:
        """3.6.2; 1.2 has no topic names here, so a name that has no id yet is registered on the way."""
        dup = message.dup
        if message.qos:
            dup = state.repeats(message.packet_id, data) or dup
        if message.qos == 2:
            state.opens_qos2(message.packet_id)
        session = self._peers.session_at(peer)
        if isinstance(message.topic, int):
            kind = v1.TOPIC_NORMAL if message.topic_type == SESSION_ALIAS else v1.TOPIC_PREDEFINED
            self._peers.tell(peer, _publish(message, kind, message.topic, dup))
        elif self._known_id(session, state.client_id, message.topic) is None and is_topic_name(message.topic):
            self._peers.tell(peer, v1.Register(0, _HIDDEN, message.topic), ByName(message, dup))
        else:
            self._peers.tell(peer, ByName(message, dup))

    def publish_by_name(self, peer: Peer, by_name: ByName) -> v1.Publish | None:
        """The PUBLISH under the id that its topic name has; without one its sender is refused."""
        message, dup = by_name
        assert isinstance(message.topic, str)
        session = self._peers.session_at(peer)
        if session is None:
            return None
        found = self._known_id(session, session.client_id, message.topic)
        if found is not None:
            return _publish(message, *found, dup)
        reason_code = IMPLEMENTATION_SPECIFIC_ERROR if is_topic_name(message.topic) else TOPIC_NAME_INVALID
        if message.qos:
            ack = v2.PubAckV2 if message.qos == 1 else v2.PubRecV2
            self._peers.answer(peer, ack(message.packet_id, reason_code))
        return None

    def _known_id(self, session: Session | None, client_id: str, topic: str) -> tuple[int, int] | None:
        """1.2's topic id type and topic id for a name."""
        alias = self._peers.predefined_alias(topic, client_id)
        if alias is not None:
            return v1.TOPIC_PREDEFINED, alias
        if session is not None and topic in session.ids_by_topic:
            return v1.TOPIC_NORMAL, session.ids_by_topic[topic]
        raw = topic.encode()
        if len(raw) == 2 and short_topic(raw[0] << 8 | raw[1]) is not None and not has_wildcard(topic):
            return v1.TOPIC_SHORT, raw[0] << 8 | raw[1]
        return None

    def on_puback(self, peer: Peer, state: PeerState, message: v2.PubAckV2, data: bytes) -> None:
        self._peers.tell(peer, v1.PubAck(0, message.packet_id, return_code_of(message.reason_code)))

    def on_pubrec(self, peer: Peer, state: PeerState, message: v2.PubRecV2, data: bytes) -> None:
        """A refusal at QoS 2 is a PUBREC in 2.0 and a PUBACK in 1.2."""
        return_code = return_code_of(message.reason_code)
        refusal = v1.PubAck(0, message.packet_id, return_code)
        self._peers.tell(peer, refusal if return_code else v1.PubRec(message.packet_id))

    def on_pubrel(self, peer: Peer, state: PeerState, message: v2.PubRelV2, data: bytes) -> None:
        state.open_qos2.pop(message.packet_id, None)
        self._peers.tell(peer, v1.PubRel(message.packet_id))

    def on_pubcomp(self, peer: Peer, state: PeerState, message: v2.PubCompV2, data: bytes) -> None:
        self._peers.tell(peer, v1.PubComp(message.packet_id))

    def on_subscribe(self, peer: Peer, state: PeerState, message: v2.SubscribeV2, data: bytes) -> None:
        """3.7; options that the gateway cannot keep are refused, not ignored."""
        state.repeats(message.packet_id, data)
        topic = self._asked_for(peer, message)
        if topic is None:
            self._peers.answer(peer, v2.SubAckV2(message.packet_id, UNKNOWN_TOPIC_ALIAS, topic_type=PREDEFINED_ALIAS))
        elif message.no_local or message.as_published or message.retain_handling:
            refusal = v2.SubAckV2(message.packet_id, IMPLEMENTATION_SPECIFIC_ERROR, topic_type=PREDEFINED_ALIAS)
            self._peers.answer(peer, refusal)
        else:
            state.remember(message.packet_id, message.topic_type)
            self._peers.tell(peer, v1.Subscribe(*topic, message.packet_id, message.qos))

    def on_unsubscribe(self, peer: Peer, state: PeerState, message: v2.UnsubscribeV2, data: bytes) -> None:
        """3.9; unlike 1.2's the answer tells whether there was anything to undo."""
        is_repeat = state.repeats(message.packet_id, data)
        topic = self._asked_for(peer, message)
        session = self._peers.session_at(peer)
        if topic is None or session is None:
            self._peers.answer(peer, v2.UnsubAckV2(message.packet_id, UNKNOWN_TOPIC_ALIAS))
            return
        name = topic[1] if isinstance(topic[1], str) else self._peers.predefined(topic[1], state.client_id)
        existed = name in session.subscriptions or is_repeat
        state.remember(message.packet_id, SUCCESS if existed else NO_SUBSCRIPTION_EXISTED)
        self._peers.tell(peer, v1.Unsubscribe(*topic, message.packet_id))

    def _asked_for(self, peer: Peer, message: v2.SubscribeV2 | v2.UnsubscribeV2) -> tuple[int, int | str] | None:
        """1.2's topic id type and topic of a subscription; None for a session alias that stands for nothing."""
        if message.topic_type == PREDEFINED_ALIAS:
            return v1.TOPIC_PREDEFINED, message.topic
        session = self._peers.session_at(peer)
        client_id = session.client_id if session is not None else ""
        topic = self._topic_of(session, client_id, message.topic_type, message.topic)
        return None if topic is None else (v1.TOPIC_NORMAL, topic)

    def _topic_of(self, session: Session | None, client_id: str, topic_type: int, topic: int | str) -> str | None:
        """The topic name or filter that a topic type and its value stand for."""
        if topic_type == TOPIC_NAME:
            return str(topic)
        if topic_type == PREDEFINED_ALIAS:
            return self._peers.predefined(topic, client_id)
        return None if session is None else session.topics_by_id.get(int(topic))

    def on_pingreq(self, peer: Peer, state: PeerState, message: v2.PingReqV2, data: bytes) -> None:
        state.repeats(message.packet_id, data)
        state.ping_id = message.packet_id
        self._peers.tell(peer, v1.PingReq())

    def on_sleepreq(self, peer: Peer, state: PeerState, message: v2.SleepReq, data: bytes) -> None:
        """3.15, in 1.2 a DISCONNECT with a duration. Aliases that the client drops are not used towards it any more."""
        if not message.sleep_s:
            self._peers.fail(peer, PROTOCOL_ERROR)
            return
        state.repeats(message.packet_id, data)
        state.owed.append(message.packet_id)
        state.silence_s = 1.5 * message.sleep_s
        session = self._peers.session_at(peer)
        if session is not None and not message.retains_aliases:
            state.forgotten = set(session.topics_by_id)
        self._peers.tell(peer, v1.Disconnect(keep_alive_of(state.silence_s)))

    def on_disconnect(self, peer: Peer, state: PeerState, message: v2.DisconnectV2, data: bytes) -> None:
        """3.13: it has no answer; only reason code 0x00 spares the others the will."""
        if message.session_expiry_s is not None:
            if message.session_expiry_s and not state.session_expiry_s:
                self._peers.fail(peer, PROTOCOL_ERROR)
                return
            state.session_expiry_s = message.session_expiry_s
        state.ended_at = state.last_heard
        if message.reason_code == DISCONNECT_WITH_WILL or message.reason_code >= 0x80:
            self._peers.tell(peer, Gone())
            return
        state.owed.append(0)
        self._peers.tell(peer, v1.Disconnect())

    def on_auth(self, peer: Peer, state: PeerState, message: v2.Auth, data: bytes) -> None:
        self._peers.fail(peer, BAD_AUTHENTICATION_METHOD)

    def on_out_of_place(self, peer: Peer, state: PeerState, message: v2.Message, data: bytes) -> None:
        """A packet that only a server sends."""
        self._peers.fail(peer, PROTOCOL_ERROR)


def _fault(message: v2.ConnectV2) -> int:
    if message.version != v2.PROTOCOL_VERSION:
        return UNSUPPORTED_PROTOCOL_VERSION
    if message.keep_alive_s == 0 or 0 < message.max_packet_size < 10:
        return PROTOCOL_ERROR
    if message.authentication is not None:
        return BAD_AUTHENTICATION_METHOD
    name = message.client_id
    if name and (not is_client_id(name) or is_reserved_client_id(name)):
        return CLIENT_IDENTIFIER_NOT_VALID
    return SUCCESS


def _is_resumed(message: v2.ConnectV2, session: Session | None, before: PeerState | None, now: float) -> bool:
    """Whether the session goes on: it was to outlive its connection, and has not run out (3.1.2.1, 4.1)."""
    if message.clean_start or session is None:
        return False
    if before is None:
        return not session.clean_session  # a 1.2 client's
    is_connected = session.state in states.PRESENT
    return before.session_expiry_s > 0 if is_connected else not before.has_expired(now)


def _steps(message: v2.ConnectV2, state: PeerState, session: Session | None) -> list[v1.Message]:
    """The 1.2 CONNECTs that together do what this one asks for."""
    name, duration = message.client_id, keep_alive_of(state.silence_s)
    steps: list[v1.Message] = []
    if session is not None and session.state in (states.ASLEEP, states.AWAKE):
        # In 1.2 a CONNECT out of sleep only wakes (6.14); in 2.0 every CONNECT has full effect (4.14).
        steps.append(v1.Connect(name, duration, False))
    keeps = state.session_expiry_s > 0
    clean = not state.session_present
    if clean and keeps and session is not None:
        steps.append(v1.Connect(name, duration, True))
        clean = False
    elif clean:
        clean = not keeps
    # An old will goes with the old connection (3.1.2.2): an empty WILLTOPIC deletes it.
    forgets_will = not clean and session is not None and session.will is not None
    steps.append(v1.Connect(name, duration, clean, message.will is not None or forgets_will))
    return steps


# Within a Virtual Connection


def _publish(message: v2.PublishV2, topic_id_type: int, topic_id: int, dup: bool) -> v1.Publish:
    return v1.Publish(topic_id_type, topic_id, message.packet_id, message.data, message.qos, message.retain, dup)


_ENCAPSULATED = (
    v2.PublishV2, v2.SubscribeV2, v2.UnsubscribeV2, v2.RegisterV2, v2.DisconnectV2, v2.SleepReq,
    v2.PingReqV2,
)  # fmt: skip
