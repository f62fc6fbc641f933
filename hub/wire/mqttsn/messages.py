# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT-SN 1.2 messages <-> bytes (sections 5.2 to 5.5): all 28 message types, no state, no clock, no I/O.

Runs unchanged on CPython and on MicroPython, together with `wire`. `decode` raises `Malformed` and nothing else,
whatever the bytes.
Leniencies: a peer that does these things is still understood, each for a reason.

* The 3-byte Length is accepted on messages that would fit the 1-byte one (5.2.1): nothing forbids it, and simple
  devices build every message in one buffer with a fixed header.
* Flag bits that a message does not use are ignored (5.3.4 calls them "not used", it does not demand zero).
* ClientId length, ProtocolId, MsgId, return codes above 0x03 and reserved topic ids are not judged here: the machines
  must see them, because some of them are owed an answer.
* U+0000 in a text is refused although 1.2 does not say so: MQTT, where these texts end up, forbids it.
"""

from struct import pack, unpack_from

from hub.wire.mqttsn.fields import ACCEPTED as ACCEPTED
from hub.wire.mqttsn.fields import (
    BYTES,
    CLEAN_SESSION,
    DUP,
    FORWARD,
    NAME,
    TEXT,
    WILL,
    MsgId,
    ReturnCode,
    TopicAck,
    WillMsgData,
    WillTopicData,
    frame,
    long_header,
    need,
    need_end,
    parse_topic,
    qos_of,
    text_of,
    topic_body,
)
from hub.wire.mqttsn.fields import CONGESTION as CONGESTION
from hub.wire.mqttsn.fields import INVALID_TOPIC_ID as INVALID_TOPIC_ID
from hub.wire.mqttsn.fields import NOT_SUPPORTED as NOT_SUPPORTED
from hub.wire.mqttsn.fields import TOPIC_NORMAL as TOPIC_NORMAL
from hub.wire.mqttsn.fields import TOPIC_PREDEFINED as TOPIC_PREDEFINED
from hub.wire.mqttsn.fields import TOPIC_SHORT as TOPIC_SHORT
from hub.wire.mqttsn.fields import Malformed as Malformed
from hub.wire.mqttsn.fields import Message as Message


def encode_publish(
    topic_id_type: int, topic_id: int, msg_id: int, data: bytes, qos: int = 0, retain: bool = False, dup: bool = False
) -> bytes:
    """PUBLISH (5.4.12) without an object; arguments and errors as of `Publish` and its `encode`."""
    flags = (qos & 3) << 5 | topic_id_type
    if retain:
        flags |= 0x10
    if dup:
        flags |= 0x80
    length = len(data) + 7
    if length < 256:
        return pack(">BBBHH", length, 0x0C, flags, topic_id, msg_id) + data
    return frame(0x0C, pack(">BHH", flags, topic_id, msg_id) + data)


def encode_puback(topic_id: int, msg_id: int, return_code: int) -> bytes:
    """PUBACK (5.4.13) without an object."""
    return pack(">BBHHB", 7, 0x0D, topic_id, msg_id, return_code)


def short_topic_id(name: str) -> int:
    """The topic id that a short topic name is (6.7): its two bytes; ValueError when it is not two ASCII characters."""
    raw = name.encode()
    if len(name) != 2 or len(raw) != 2:
        raise ValueError("a short topic name has two bytes")
    return raw[0] << 8 | raw[1]


def short_topic_name(topic_id: int) -> str:
    """The short topic name that a topic id is (6.7); Malformed when its bytes are no text."""
    return text_of(pack(">H", topic_id), 0)


# The messages, in the order of section 5.4.


class Advertise(Message):
    """A gateway's broadcast (5.4.1); duration: seconds until the next one."""

    FIELDS = __slots__ = ("gw_id", "duration")
    LAYOUT = ">BH"

    def __init__(self, gw_id: int, duration: int) -> None:
        self.gw_id, self.duration = gw_id, duration


class SearchGw(Message):
    """A client's broadcast (5.4.2); radius: hops, 0 = every node."""

    FIELDS = __slots__ = ("radius",)
    LAYOUT = ">B"

    def __init__(self, radius: int) -> None:
        self.radius = radius


class GwInfo(Message):
    """The answer to SEARCHGW (5.4.3); gw_add is empty when the gateway answers for itself."""

    FIELDS = __slots__ = ("gw_id", "gw_add")
    LAYOUT = ">B"
    TAIL = BYTES

    def __init__(self, gw_id: int, gw_add: bytes = b"") -> None:
        self.gw_id, self.gw_add = gw_id, gw_add


class Connect(Message):
    """5.4.4; duration: the keep alive interval in seconds."""

    FIELDS = __slots__ = ("client_id", "duration", "clean_session", "will", "protocol_id")

    def __init__(
        self, client_id: str, duration: int, clean_session: bool = True, will: bool = False, protocol_id: int = 1
    ) -> None:
        self.client_id, self.duration = client_id, duration
        self.clean_session, self.will, self.protocol_id = clean_session, will, protocol_id

    def _body(self) -> bytes:
        flags = (CLEAN_SESSION if self.clean_session else 0) | (WILL if self.will else 0)
        return pack(">BBH", flags, self.protocol_id, self.duration) + self.client_id.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        need(data, at + 4)
        flags, protocol_id, duration = unpack_from(">BBH", data, at)
        return cls(text_of(data, at + 4), duration, flags & CLEAN_SESSION != 0, flags & WILL != 0, protocol_id)


class ConnAck(ReturnCode):
    __slots__ = ()


class WillTopicReq(Message):
    __slots__ = ()


class WillTopic(WillTopicData):
    """5.4.7; an empty topic deletes the will, its QoS and retain are not carried."""

    __slots__ = ()


class WillMsgReq(Message):
    __slots__ = ()


class WillMsg(WillMsgData):
    __slots__ = ()


class Register(Message):
    """5.4.10; topic_id is 0 when a client asks."""

    FIELDS = __slots__ = ("topic_id", "msg_id", "topic_name")
    LAYOUT = ">HH"
    TAIL = NAME

    def __init__(self, topic_id: int, msg_id: int, topic_name: str) -> None:
        self.topic_id, self.msg_id, self.topic_name = topic_id, msg_id, topic_name


class RegAck(TopicAck):
    __slots__ = ()


class Publish(Message):
    """5.4.12; QoS -1 (0b11) only with a predefined or short topic (6.8); a short topic_id is its two bytes."""

    FIELDS = __slots__ = ("topic_id_type", "topic_id", "msg_id", "data", "qos", "retain", "dup")

    def __init__(
        self,
        topic_id_type: int,
        topic_id: int,
        msg_id: int,
        data: bytes,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
    ) -> None:  # one assignment a line: tuples cost CPython a tenth of a microsecond here
        self.topic_id_type = topic_id_type
        self.topic_id = topic_id
        self.msg_id = msg_id
        self.data = data
        self.qos = qos
        self.retain = retain
        self.dup = dup

    def encode(self) -> bytes:
        return encode_publish(
            self.topic_id_type, self.topic_id, self.msg_id, self.data, self.qos, self.retain, self.dup
        )


class PubAck(TopicAck):
    __slots__ = ()


class PubRec(MsgId):
    __slots__ = ()


class PubRel(MsgId):
    __slots__ = ()


class PubComp(MsgId):
    __slots__ = ()


class Subscribe(Message):
    """5.4.15; topic: a name (str) for TOPIC_NORMAL, else a 16-bit id."""

    FIELDS = __slots__ = ("topic_id_type", "topic", "msg_id", "qos", "dup")

    def __init__(self, topic_id_type: int, topic: "int | str", msg_id: int, qos: int = 0, dup: bool = False) -> None:
        self.topic_id_type, self.topic, self.msg_id, self.qos, self.dup = topic_id_type, topic, msg_id, qos, dup

    def _body(self) -> bytes:
        flags = (DUP if self.dup else 0) | self.qos << 5 | self.topic_id_type
        return topic_body(flags, self.msg_id, self.topic)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        topic_id_type, topic, msg_id = parse_topic(data, at)
        return cls(topic_id_type, topic, msg_id, qos_of(data[at]), data[at] & DUP != 0)


class SubAck(Message):
    """5.4.16; qos: the granted one; topic_id is 0 for a filter with wildcards."""

    FIELDS = __slots__ = ("topic_id", "msg_id", "return_code", "qos")

    def __init__(self, topic_id: int, msg_id: int, return_code: int, qos: int = 0) -> None:
        self.topic_id, self.msg_id, self.return_code, self.qos = topic_id, msg_id, return_code, qos

    def _body(self) -> bytes:
        return pack(">BHHB", self.qos << 5, self.topic_id, self.msg_id, self.return_code)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        need_end(data, need(data, at + 6))
        flags, topic_id, msg_id, return_code = unpack_from(">BHHB", data, at)
        return cls(topic_id, msg_id, return_code, qos_of(flags))


class Unsubscribe(Message):
    """5.4.17; topic as in SUBSCRIBE."""

    FIELDS = __slots__ = ("topic_id_type", "topic", "msg_id")

    def __init__(self, topic_id_type: int, topic: "int | str", msg_id: int) -> None:
        self.topic_id_type, self.topic, self.msg_id = topic_id_type, topic, msg_id

    def _body(self) -> bytes:
        return topic_body(self.topic_id_type, self.msg_id, self.topic)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        return cls(*parse_topic(data, at))


class UnsubAck(MsgId):
    __slots__ = ()


class PingReq(Message):
    """5.4.19; the client_id is there when a sleeping client wakes (6.14)."""

    FIELDS = __slots__ = ("client_id",)
    TAIL = TEXT

    def __init__(self, client_id: str = "") -> None:
        self.client_id = client_id


class PingResp(Message):
    __slots__ = ()


class Disconnect(Message):
    """5.4.21; duration: seconds of sleep (6.14), None = leave."""

    FIELDS = __slots__ = ("duration",)

    def __init__(self, duration: "int | None" = None) -> None:
        self.duration = duration

    def _body(self) -> bytes:
        return b"" if self.duration is None else pack(">H", self.duration)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        if len(data) == at:
            return cls()
        need_end(data, need(data, at + 2))
        return cls(data[at] << 8 | data[at + 1])


class WillTopicUpd(WillTopicData):
    __slots__ = ()


class WillTopicResp(ReturnCode):
    __slots__ = ()


class WillMsgUpd(WillMsgData):
    __slots__ = ()


class WillMsgResp(ReturnCode):
    __slots__ = ()


class Forward(Message):
    """Forwarder encapsulation (5.5); radius: 0 to 3 hops, message: the inner message's bytes, not looked at."""

    FIELDS = __slots__ = ("radius", "wireless_node_id", "message")

    def __init__(self, radius: int, wireless_node_id: bytes, message: bytes) -> None:
        self.radius, self.wireless_node_id, self.message = radius, wireless_node_id, message

    def encode(self) -> bytes:
        """ValueError when the node id is longer than 252 bytes: this Length is one byte and ends at the node id."""
        return bytes((3 + len(self.wireless_node_id), FORWARD, self.radius & 3)) + self.wireless_node_id + self.message


# Indexed by message type (5.2.2).
_TYPES = (
    Advertise, SearchGw, GwInfo, None, Connect, ConnAck, WillTopicReq, WillTopic,
    WillMsgReq, WillMsg, Register, RegAck, Publish, PubAck, PubComp, PubRec,
    PubRel, None, Subscribe, SubAck, Unsubscribe, UnsubAck, PingReq, PingResp,
    Disconnect, None, WillTopicUpd, WillTopicResp, WillMsgUpd, WillMsgResp,
)  # fmt: skip
for _number, _type in enumerate(_TYPES):
    if _type:
        _type.MSG_TYPE = _number
Forward.MSG_TYPE = FORWARD


def decode(data: bytes) -> Message:
    """The message in a datagram (5.2); raises Malformed and nothing else. Any bytes-like object will do."""
    if type(data) is not bytes:
        data = bytes(data)
    length = len(data)
    if length < 2:
        raise Malformed("truncated")
    if data[0] == length:
        at = 2
    else:
        if data[1] == FORWARD and data[0] != 1:
            return _decode_forward(data)
        at = long_header(data)
    msg_type = data[at - 1]
    if msg_type == 0x0C:  # nine messages in ten
        return _decode_publish(data, at)
    message_type = _TYPES[msg_type] if msg_type < 0x1E else None
    if message_type is None:
        raise Malformed("truncated" if msg_type == FORWARD and at == 2 else "unknown message type")
    return message_type._parse(data, at)


def _decode_publish(data: bytes, at: int) -> Message:
    if len(data) < at + 5:
        raise Malformed("truncated")
    flags, topic_id, msg_id = unpack_from(">BHH", data, at)
    topic_id_type = flags & 3
    qos = flags >> 5 & 3
    if topic_id_type == 3:
        raise Malformed("reserved topic id type")
    if qos == 3:
        if topic_id_type == 0:
            raise Malformed("illegal QoS")
        qos = -1
    return Publish(topic_id_type, topic_id, msg_id, data[at + 5 :], qos, flags & 0x10 != 0, flags & 0x80 != 0)


def _decode_forward(data: bytes) -> Message:
    """5.5: Length ends at the node id, the inner message follows. Ctrl's upper bits are reserved: ignored."""
    end = data[0]
    if end < 4:
        raise Malformed("bad length")  # no room for a node id
    need(data, end + 1)
    return Forward(data[2] & 3, data[3:end], data[end:])
