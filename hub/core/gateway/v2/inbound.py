# SPDX-License-Identifier: GPL-3.0-or-later
"""What MQTT-SN 2.0 clients say, put into 1.2: one function a packet type, called by `dialect`.

Sections are the draft's (CSD01, 14 August 2026).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.core.gateway import session as states
from hub.core.gateway.v2.peer_state import ByName, Gone, Speaker, keep_alive_of
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

if TYPE_CHECKING:
    from hub.core.gateway.session import Session
    from hub.core.gateway.v2.translator import Dialect

_HIDDEN = 0  # the MsgId of a REGISTER that the client did not send: no 2.0 packet has it


# Without a Virtual Connection


def on_connect(dialect: "Dialect", peer: Peer, message: v2.Connect, now: float) -> None:
    """3.1.19. 1.2 has its parts one by one: out of sleep, clean or not, the will; the steps follow on each CONNACK."""
    reason_code = _fault(message)
    if not reason_code and not message.client_id:
        message.client_id = _assigned_client_id(dialect)
        assigned = True
    else:
        assigned = False
    session = dialect.sessions.get(message.client_id)
    before = dialect.clients.get(message.client_id)
    speaker = Speaker.of(message, now)
    speaker.assigned = assigned
    if not reason_code and not _take_will(dialect, speaker, message.will, session):
        reason_code = TOPIC_NAME_INVALID
    if reason_code:
        dialect.answer(peer, v2.ConnAck(message.packet_id, reason_code))
        return
    speaker.session_present = _is_resumed(message, session, before, now)
    earlier = dialect.peers.get(peer)
    if earlier is not None:
        speaker.owed.extend(0 for _ in earlier.owed)  # answers still on their way, to an earlier connection
    speaker.steps.extend(_steps(message, speaker, session))
    dialect.settle(peer, speaker)
    dialect.tell(peer, speaker.steps.popleft())


def _fault(message: v2.Connect) -> int:
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


def _assigned_client_id(dialect: "Dialect") -> str:
    """A name that no session has (3.2.11)."""
    number = len(dialect.sessions) + 1
    while f"auto-{number}" in dialect.sessions:
        number += 1
    return f"auto-{number}"


def _take_will(dialect: "Dialect", speaker: Speaker, will: v2.Will | None, session: "Session | None") -> bool:
    if will is None:
        return True
    topic = _topic_of(dialect, session, speaker.client_id, will.topic_type, will.topic)
    if not topic or not is_topic_name(topic):
        return False
    speaker.will_topic = v1.WillTopic(topic, will.qos, will.retain)
    speaker.will_msg = v1.WillMsg(will.payload)
    return True


def _is_resumed(message: v2.Connect, session: "Session | None", before: Speaker | None, now: float) -> bool:
    """Whether the session goes on: it was to outlive its connection, and has not run out (3.1.2.1, 4.1)."""
    if message.clean_start or session is None:
        return False
    if before is None:
        return not session.clean_session  # a 1.2 client's
    is_connected = session.state in states.PRESENT
    return before.session_expiry_s > 0 if is_connected else not before.has_expired(now)


def _steps(message: v2.Connect, speaker: Speaker, session: "Session | None") -> list[v1.Message]:
    """The 1.2 CONNECTs that together do what this one asks for."""
    name, duration = message.client_id, keep_alive_of(speaker.silence_s)
    steps: list[v1.Message] = []
    if session is not None and session.state in (states.ASLEEP, states.AWAKE):
        # In 1.2 a CONNECT out of sleep only wakes (6.14); in 2.0 every CONNECT has full effect (4.14).
        steps.append(v1.Connect(name, duration, False))
    keeps = speaker.session_expiry_s > 0
    clean = not speaker.session_present
    if clean and keeps and session is not None:
        steps.append(v1.Connect(name, duration, True))
        clean = False
    elif clean:
        clean = not keeps
    # An old will goes with the old connection (3.1.2.2): an empty WILLTOPIC deletes it.
    forgets_will = not clean and session is not None and session.will is not None
    steps.append(v1.Connect(name, duration, clean, message.will is not None or forgets_will))
    return steps


def on_pubwos(dialect: "Dialect", peer: Peer, message: v2.PubWos, now: float) -> None:
    """3.6.1, 1.2's QoS -1; by name only where that is a predefined or two-octet one, it need not be served."""
    session = dialect.session_at(peer)
    client_id = session.client_id if session is not None else ""
    topic_id_type, topic_id = v1.TOPIC_PREDEFINED, message.topic
    if isinstance(topic_id, str):
        found = _known_id(dialect, session, client_id, topic_id)
        if found is None or found[0] == v1.TOPIC_NORMAL:
            return
        topic_id_type, topic_id = found
    dialect.tell(peer, v1.Publish(topic_id_type, topic_id, 0, message.data, -1, message.retain))


def on_searchgw(dialect: "Dialect", peer: Peer, message: v2.SearchGw, now: float) -> None:
    dialect.answer(peer, v2.GwInfo(dialect.config.gw_id))


def on_protection(dialect: "Dialect", peer: Peer, message: v2.Protection, now: float) -> None:
    dialect.answer(peer, v2.Disconnect(PROTECTION_NOT_SUPPORTED))


def on_connection(dialect: "Dialect", peer: Peer, message: v2.Connection, now: float) -> None:
    """3.18: from the address of the connection it is the packet inside; from another a sleeper may wake, no more."""
    speaker = dialect.clients.get(message.client_id)
    here = dialect.session_at(peer)
    inner = v2.decode2(message.packet)
    if type(inner) not in _ENCAPSULATED:
        raise v2.Malformed("unknown message type")
    if speaker is None or not speaker.allows_address_change:
        dialect.deny(peer, inner)
    elif here is not None and here.client_id == message.client_id:
        dialect.hear(peer, message.packet, now)
    elif here is None and type(inner) is v2.PingReq:
        dialect.settle(peer, speaker)
        speaker.ping_id, speaker.last_id = inner.packet_id, inner.packet_id
        dialect.tell(peer, v1.PingReq(message.client_id))  # whose address rules the gateway knows
    else:
        dialect.answer(peer, v2.Disconnect(NO_VIRTUAL_CONNECTION, packet_id=getattr(inner, "packet_id", 0)))


def on_nothing(dialect: "Dialect", peer: Peer, message: v2.Message, now: float) -> None:
    """ADVERTISE and GWINFO of another gateway."""


# Within a Virtual Connection


def on_register(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Register, data: bytes) -> None:
    """3.4; a name that has a predefined alias gets that one (4.7.2.2)."""
    if message.alias is not None:
        dialect.fail(peer, PROTOCOL_ERROR)
        return
    speaker.repeats(message.packet_id, data)
    alias = dialect.predefined_alias(message.topic_name, speaker.client_id)
    if alias is not None:
        dialect.answer(peer, v2.RegAck(message.packet_id, TOPIC_ALIAS_EXISTS, alias, PREDEFINED_ALIAS))
    else:
        dialect.tell(peer, v1.Register(0, message.packet_id, message.topic_name))


def on_regack(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.RegAck, data: bytes) -> None:
    dialect.tell(peer, v1.RegAck(0, message.packet_id, return_code_of(message.reason_code)))


def on_publish(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Publish, data: bytes) -> None:
    """3.6.2; 1.2 has no topic names here, so a name that has no id yet is registered on the way."""
    dup = message.dup
    if message.qos:
        dup = speaker.repeats(message.packet_id, data) or dup
    if message.qos == 2:
        speaker.opens_qos2(message.packet_id)
    session = dialect.session_at(peer)
    if isinstance(message.topic, int):
        kind = v1.TOPIC_NORMAL if message.topic_type == SESSION_ALIAS else v1.TOPIC_PREDEFINED
        dialect.tell(peer, _publish(message, kind, message.topic, dup))
    elif _known_id(dialect, session, speaker.client_id, message.topic) is None and is_topic_name(message.topic):
        dialect.tell(peer, v1.Register(0, _HIDDEN, message.topic), ByName(message, dup))
    else:
        dialect.tell(peer, ByName(message, dup))


def publish_by_name(dialect: "Dialect", peer: Peer, by_name: ByName) -> v1.Publish | None:
    """The PUBLISH under the id that its topic name has; without one its sender is refused."""
    message, dup = by_name
    assert isinstance(message.topic, str)
    session = dialect.session_at(peer)
    if session is None:
        return None
    found = _known_id(dialect, session, session.client_id, message.topic)
    if found is not None:
        return _publish(message, *found, dup)
    reason_code = IMPLEMENTATION_SPECIFIC_ERROR if is_topic_name(message.topic) else TOPIC_NAME_INVALID
    if message.qos:
        ack = v2.PubAck if message.qos == 1 else v2.PubRec
        dialect.answer(peer, ack(message.packet_id, reason_code))
    return None


def _publish(message: v2.Publish, topic_id_type: int, topic_id: int, dup: bool) -> v1.Publish:
    return v1.Publish(topic_id_type, topic_id, message.packet_id, message.data, message.qos, message.retain, dup)


def _known_id(dialect: "Dialect", session: "Session | None", client_id: str, topic: str) -> tuple[int, int] | None:
    """1.2's topic id type and topic id for a name."""
    alias = dialect.predefined_alias(topic, client_id)
    if alias is not None:
        return v1.TOPIC_PREDEFINED, alias
    if session is not None and topic in session.ids_by_topic:
        return v1.TOPIC_NORMAL, session.ids_by_topic[topic]
    octets = topic.encode()
    if len(octets) == 2 and short_topic(octets[0] << 8 | octets[1]) is not None and not has_wildcard(topic):
        return v1.TOPIC_SHORT, octets[0] << 8 | octets[1]
    return None


def on_puback(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.PubAck, data: bytes) -> None:
    dialect.tell(peer, v1.PubAck(0, message.packet_id, return_code_of(message.reason_code)))


def on_pubrec(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.PubRec, data: bytes) -> None:
    """A refusal at QoS 2 is a PUBREC in 2.0 and a PUBACK in 1.2."""
    return_code = return_code_of(message.reason_code)
    refusal = v1.PubAck(0, message.packet_id, return_code)
    dialect.tell(peer, refusal if return_code else v1.PubRec(message.packet_id))


def on_pubrel(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.PubRel, data: bytes) -> None:
    speaker.open_qos2.pop(message.packet_id, None)
    dialect.tell(peer, v1.PubRel(message.packet_id))


def on_pubcomp(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.PubComp, data: bytes) -> None:
    dialect.tell(peer, v1.PubComp(message.packet_id))


def on_subscribe(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Subscribe, data: bytes) -> None:
    """3.7; options that the gateway cannot keep are refused, not ignored."""
    speaker.repeats(message.packet_id, data)
    topic = _asked_for(dialect, peer, message)
    if topic is None:
        dialect.answer(peer, v2.SubAck(message.packet_id, UNKNOWN_TOPIC_ALIAS, topic_type=PREDEFINED_ALIAS))
    elif message.no_local or message.as_published or message.retain_handling:
        refusal = v2.SubAck(message.packet_id, IMPLEMENTATION_SPECIFIC_ERROR, topic_type=PREDEFINED_ALIAS)
        dialect.answer(peer, refusal)
    else:
        speaker.remember(message.packet_id, message.topic_type)
        dialect.tell(peer, v1.Subscribe(*topic, message.packet_id, message.qos))


def on_unsubscribe(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Unsubscribe, data: bytes) -> None:
    """3.9; unlike 1.2's the answer tells whether there was anything to undo."""
    is_repeat = speaker.repeats(message.packet_id, data)
    topic = _asked_for(dialect, peer, message)
    session = dialect.session_at(peer)
    if topic is None or session is None:
        dialect.answer(peer, v2.UnsubAck(message.packet_id, UNKNOWN_TOPIC_ALIAS))
        return
    name = topic[1] if isinstance(topic[1], str) else dialect.predefined(topic[1], speaker.client_id)
    existed = name in session.subscriptions or is_repeat
    speaker.remember(message.packet_id, SUCCESS if existed else NO_SUBSCRIPTION_EXISTED)
    dialect.tell(peer, v1.Unsubscribe(*topic, message.packet_id))


def _asked_for(dialect: "Dialect", peer: Peer, message: v2.Subscribe | v2.Unsubscribe) -> tuple[int, int | str] | None:
    """1.2's topic id type and topic of a subscription; None for a session alias that stands for nothing."""
    if message.topic_type == PREDEFINED_ALIAS:
        return v1.TOPIC_PREDEFINED, message.topic
    session = dialect.session_at(peer)
    client_id = session.client_id if session is not None else ""
    topic = _topic_of(dialect, session, client_id, message.topic_type, message.topic)
    return None if topic is None else (v1.TOPIC_NORMAL, topic)


def _topic_of(
    dialect: "Dialect", session: "Session | None", client_id: str, topic_type: int, topic: int | str
) -> str | None:
    """The topic name or filter that a topic type and its value stand for."""
    if topic_type == TOPIC_NAME:
        return str(topic)
    if topic_type == PREDEFINED_ALIAS:
        return dialect.predefined(topic, client_id)
    return None if session is None else session.topics_by_id.get(int(topic))


def on_pingreq(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.PingReq, data: bytes) -> None:
    speaker.repeats(message.packet_id, data)
    speaker.ping_id = message.packet_id
    dialect.tell(peer, v1.PingReq())


def on_sleepreq(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.SleepReq, data: bytes) -> None:
    """3.15, in 1.2 a DISCONNECT with a duration. Aliases that the client drops are not used towards it any more."""
    if not message.sleep_s:
        dialect.fail(peer, PROTOCOL_ERROR)
        return
    speaker.repeats(message.packet_id, data)
    speaker.owed.append(message.packet_id)
    speaker.silence_s = 1.5 * message.sleep_s
    session = dialect.session_at(peer)
    if session is not None and not message.retains_aliases:
        speaker.forgotten = set(session.topics_by_id)
    dialect.tell(peer, v1.Disconnect(keep_alive_of(speaker.silence_s)))


def on_disconnect(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Disconnect, data: bytes) -> None:
    """3.13: it has no answer; only reason code 0x00 spares the others the will."""
    if message.session_expiry_s is not None:
        if message.session_expiry_s and not speaker.session_expiry_s:
            dialect.fail(peer, PROTOCOL_ERROR)
            return
        speaker.session_expiry_s = message.session_expiry_s
    speaker.ended_at = speaker.last_heard
    if message.reason_code == DISCONNECT_WITH_WILL or message.reason_code >= 0x80:
        dialect.tell(peer, Gone())
        return
    speaker.owed.append(0)
    dialect.tell(peer, v1.Disconnect())


def on_auth(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Auth, data: bytes) -> None:
    dialect.fail(peer, BAD_AUTHENTICATION_METHOD)


def on_out_of_place(dialect: "Dialect", peer: Peer, speaker: Speaker, message: v2.Message, data: bytes) -> None:
    """A packet that only a server sends."""
    dialect.fail(peer, PROTOCOL_ERROR)


OF_ANYONE: dict[type, Callable[["Dialect", Peer, Any, float], None]] = {
    v2.Connect: on_connect,
    v2.PubWos: on_pubwos,
    v2.SearchGw: on_searchgw,
    v2.Protection: on_protection,
    v2.Connection: on_connection,
    v2.Advertise: on_nothing,
    v2.GwInfo: on_nothing,
}
OF_CONNECTION: dict[type, Callable[["Dialect", Peer, Speaker, Any, bytes], None]] = {
    v2.Register: on_register,
    v2.RegAck: on_regack,
    v2.Publish: on_publish,
    v2.PubAck: on_puback,
    v2.PubRec: on_pubrec,
    v2.PubRel: on_pubrel,
    v2.PubComp: on_pubcomp,
    v2.Subscribe: on_subscribe,
    v2.Unsubscribe: on_unsubscribe,
    v2.PingReq: on_pingreq,
    v2.SleepReq: on_sleepreq,
    v2.Disconnect: on_disconnect,
    v2.Auth: on_auth,
}
_ENCAPSULATED = (
    v2.Publish, v2.Subscribe, v2.Unsubscribe, v2.Register, v2.Disconnect, v2.SleepReq,
    v2.PingReq,
)  # fmt: skip
