# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway says to MQTT-SN 2.0 clients, put into 2.0: one function a 1.2 message type, called by `dialect`.

Each gives the 2.0 packet, or None when the client is to hear nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.mqttsn import codec, codec2
from hub.mqttsn.codec2 import PREDEFINED_ALIAS, SESSION_ALIAS, TOPIC_NAME
from hub.mqttsn.reasons import (
    IMPLEMENTATION_SPECIFIC_ERROR,
    NO_VIRTUAL_CONNECTION,
    NOT_AUTHORIZED,
    SESSION_TAKEN_OVER,
    TOPIC_FILTER_INVALID,
    reason_of,
)
from hub.mqttsn.records import Peer
from hub.mqttsn.speaker import Speaker

if TYPE_CHECKING:
    from hub.mqttsn.dialect import Dialect

_MORE = 255  # Application Messages Remaining: more than can be said (3.12.3)


def nothing(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Message) -> None:
    """Messages of 1.2's will dialogue that answer what the client did not say."""


def connack(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.ConnAck) -> codec2.ConnAck | None:
    """The last step's answer is the client's (3.2); a refusal ends the steps and the acquaintance."""
    if not speaker.connect_id:
        return None
    if not message.return_code and speaker.steps:
        dialect.tell(peer, speaker.steps.popleft())
        return None
    packet_id, speaker.connect_id = speaker.connect_id, 0
    speaker.steps.clear()
    if message.return_code:
        dialect.dismiss(peer)
        return codec2.ConnAck(packet_id, reason_of(message.return_code, NOT_AUTHORIZED))
    assigned = speaker.client_id if speaker.assigned else ""
    return codec2.ConnAck(packet_id, 0, speaker.session_present, assigned_client_id=assigned)


def will_topic_req(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Message) -> None:
    """The client said its will in its CONNECT."""
    dialect.tell(peer, speaker.will_topic)


def will_msg_req(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Message) -> None:
    dialect.tell(peer, speaker.will_msg)


def register(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Register) -> codec2.Register:
    speaker.forgotten.discard(message.topic_id)
    return codec2.Register(message.msg_id, message.topic_name, message.topic_id)


def regack(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.RegAck) -> codec2.RegAck | None:
    if not message.msg_id:
        return None  # of a REGISTER that the client did not send
    if message.return_code:
        return codec2.RegAck(message.msg_id, reason_of(message.return_code, IMPLEMENTATION_SPECIFIC_ERROR))
    speaker.forgotten.discard(message.topic_id)
    return codec2.RegAck(message.msg_id, 0, message.topic_id, SESSION_ALIAS)


def publish(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Publish) -> codec2.Publish:
    """3.6.2; a short topic, and an alias that the client dropped, go by name. DUP is for QoS 2 alone."""
    topic_type = PREDEFINED_ALIAS
    topic: int | str = message.topic_id
    if message.topic_id_type == codec.TOPIC_SHORT:
        topic_type, topic = TOPIC_NAME, codec.short_topic_name(message.topic_id)
    elif message.topic_id_type == codec.TOPIC_NORMAL:
        topic_type = SESSION_ALIAS
        session = dialect.by_peer.get(peer)
        if message.topic_id in speaker.forgotten and session is not None and message.topic_id in session.topics_by_id:
            topic_type, topic = TOPIC_NAME, session.topics_by_id[message.topic_id]
    dup = message.dup and message.qos == 2
    return codec2.Publish(topic_type, topic, message.msg_id, message.data, message.qos, message.retain, dup)


def puback(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.PubAck) -> codec2.Message | None:
    """3.6.3; at QoS 0 there is no Packet Identifier that a refusal could name, at QoS 2 it is a PUBREC (3.6.4)."""
    if not message.msg_id:
        return None
    reason_code = reason_of(message.return_code, IMPLEMENTATION_SPECIFIC_ERROR)
    if message.msg_id in speaker.open_qos2:
        del speaker.open_qos2[message.msg_id]
        return codec2.PubRec(message.msg_id, reason_code)
    return codec2.PubAck(message.msg_id, reason_code)


def pubrec(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.PubRec) -> codec2.PubRec:
    return codec2.PubRec(message.msg_id)


def pubrel(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.PubRel) -> codec2.PubRel:
    return codec2.PubRel(message.msg_id)


def pubcomp(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.PubComp) -> codec2.PubComp:
    return codec2.PubComp(message.msg_id)


def suback(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.SubAck) -> codec2.SubAck:
    """3.8: the reason code is the granted QoS; only a session alias is told."""
    topic_type = speaker.asked.pop(message.msg_id, PREDEFINED_ALIAS)
    if message.return_code:
        reason_code = reason_of(message.return_code, TOPIC_FILTER_INVALID)
        return codec2.SubAck(message.msg_id, reason_code, topic_type=PREDEFINED_ALIAS)
    if topic_type == PREDEFINED_ALIAS or not message.topic_id:
        return codec2.SubAck(message.msg_id, message.qos, topic_type=PREDEFINED_ALIAS)
    speaker.forgotten.discard(message.topic_id)
    return codec2.SubAck(message.msg_id, message.qos, message.topic_id, SESSION_ALIAS)


def unsuback(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.UnsubAck) -> codec2.UnsubAck:
    return codec2.UnsubAck(message.msg_id, speaker.asked.pop(message.msg_id, 0))


def pingresp(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Message) -> codec2.PingResp | None:
    """3.12, with what is still buffered; after a restart nobody knows the request, the client asks again."""
    if not speaker.ping_id:
        return None
    packet_id, speaker.ping_id = speaker.ping_id, 0
    session = dialect.by_peer.get(peer)
    remaining = 0 if session is None else len(session.queue) + (session.inflight is not None)
    return codec2.PingResp(packet_id, min(remaining, _MORE))


def disconnect(dialect: "Dialect", peer: Peer, speaker: Speaker, message: codec.Disconnect) -> codec2.Message | None:
    """1.2's one DISCONNECT is an answer to sleep, to a goodbye, or news."""
    if speaker.owed:
        packet_id = speaker.owed.popleft()
        return codec2.SleepResp(packet_id) if packet_id else None
    if dialect.session_at(peer) is not None:
        return codec2.Disconnect(SESSION_TAKEN_OVER)
    return codec2.Disconnect(NO_VIRTUAL_CONNECTION, packet_id=speaker.last_id)


OF: dict[type, Callable[["Dialect", Peer, Speaker, Any], codec2.Message | None]] = {
    codec.ConnAck: connack,
    codec.WillTopicReq: will_topic_req,
    codec.WillMsgReq: will_msg_req,
    codec.Register: register,
    codec.RegAck: regack,
    codec.Publish: publish,
    codec.PubAck: puback,
    codec.PubRec: pubrec,
    codec.PubRel: pubrel,
    codec.PubComp: pubcomp,
    codec.SubAck: suback,
    codec.UnsubAck: unsuback,
    codec.PingResp: pingresp,
    codec.Disconnect: disconnect,
}
