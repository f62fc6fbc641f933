# SPDX-License-Identifier: GPL-3.0-or-later
"""What every MQTT-SN 1.2 message is made of (sections 5.2 and 5.3); `codec` builds the messages from it.

Runs unchanged on CPython and on MicroPython; import `messages`, not this.
"""

from struct import calcsize, pack, unpack_from

TOPIC_NORMAL = 0  # in SUBSCRIBE and UNSUBSCRIBE this type carries a topic name, elsewhere a registered id (5.3.4)
TOPIC_PREDEFINED = 1
TOPIC_SHORT = 2

ACCEPTED = 0
CONGESTION = 1
INVALID_TOPIC_ID = 2
NOT_SUPPORTED = 3

DUP = 0x80
RETAIN = 0x10
WILL = 0x08
CLEAN_SESSION = 0x04

# What may follow a message's fixed fields.
NOTHING = 0
BYTES = 1
TEXT = 2
NAME = 3  # a text of at least one byte

FORWARD = 0xFE


class Malformed(ValueError):
    """The bytes are not an MQTT-SN 1.2 message; str() of it is the reason, one of a small fixed set."""


class Message:
    """A message: its fields are its constructor's arguments, in that order.

    Messages are equal when type and every field are. `encode` trusts the fields' types and ranges.
    """

    __slots__ = ()
    MSG_TYPE = -1  # `codec` sets it from its table of types
    FIELDS: tuple[str, ...] = ()
    LAYOUT = ""  # struct format of the fixed fields, when there is nothing more to it
    TAIL = NOTHING

    def __init__(self, *fields: object) -> None:
        """Only for messages without fields: all others name theirs."""
        if fields:
            raise TypeError("this message has no fields")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    def __repr__(self) -> str:
        return type(self).__name__ + repr(tuple([getattr(self, name) for name in self.FIELDS]))

    def encode(self) -> bytes:
        """The whole message, Length included; ValueError when it would pass 65535 bytes (5.2.1)."""
        return frame(self.MSG_TYPE, self._body())

    def _body(self) -> bytes:
        fields = [getattr(self, name) for name in self.FIELDS]
        tail: bytes = b""
        if self.TAIL == BYTES:
            tail = fields.pop()
        elif self.TAIL != NOTHING:
            tail = fields.pop().encode()
        return pack(self.LAYOUT, *fields) + tail

    @classmethod
    def _parse(cls, data: bytes, at: int) -> "Message":
        end = need(data, at + calcsize(cls.LAYOUT))
        fields = unpack_from(cls.LAYOUT, data, at)
        if cls.TAIL == NOTHING:
            need_end(data, end)
            return cls(*fields)
        if cls.TAIL == BYTES:
            return cls(*fields, data[end:])
        if cls.TAIL == NAME:
            need(data, end + 1)
        return cls(*fields, text_of(data, end))


def long_header(data: bytes) -> int:
    """Where the body starts behind a 3-byte Length; Malformed when the Length is not the datagram's."""
    length, at = data[0], 2
    if length == 1:
        at = need(data, 4)
        length = data[1] << 8 | data[2]
    if length < at:
        raise Malformed("bad length")
    need(data, length)
    need_end(data, length)
    return at


def need(data: bytes, end: int) -> int:
    if len(data) < end:
        raise Malformed("truncated")
    return end


def need_end(data: bytes, end: int) -> None:
    if len(data) > end:
        raise Malformed("trailing bytes")


def text_of(data: bytes, start: int) -> str:
    try:
        text = data[start:].decode()
    except ValueError:
        raise Malformed("bad UTF-8") from None
    if "\x00" in text:
        raise Malformed("U+0000 in text")
    return text


def qos_of(flags: int) -> int:
    """The QoS of a message that cannot have QoS -1."""
    qos = flags >> 5 & 3
    if qos == 3:
        raise Malformed("illegal QoS")
    return qos


def frame(msg_type: int, body: bytes) -> bytes:
    length = len(body) + 2
    if length < 256:
        return bytes((length, msg_type)) + body
    if length + 2 > 65535:
        raise ValueError("message longer than 65535 bytes")
    return pack(">BHB", 1, length + 2, msg_type) + body


# Fields that several messages share.


class ReturnCode(Message):
    FIELDS = __slots__ = ("return_code",)
    LAYOUT = ">B"

    def __init__(self, return_code: int) -> None:
        self.return_code = return_code


class MsgId(Message):
    FIELDS = __slots__ = ("msg_id",)
    LAYOUT = ">H"

    def __init__(self, msg_id: int) -> None:
        self.msg_id = msg_id


class TopicAck(Message):
    FIELDS = __slots__ = ("topic_id", "msg_id", "return_code")
    LAYOUT = ">HHB"

    def __init__(self, topic_id: int, msg_id: int, return_code: int) -> None:
        self.topic_id, self.msg_id, self.return_code = topic_id, msg_id, return_code


class WillMsgData(Message):
    FIELDS = __slots__ = ("message",)
    TAIL = BYTES

    def __init__(self, message: bytes) -> None:
        self.message = message


class WillTopicData(Message):
    FIELDS = __slots__ = ("topic", "qos", "retain")

    def __init__(self, topic: str, qos: int = 0, retain: bool = False) -> None:
        self.topic, self.qos, self.retain = topic, qos, retain

    def _body(self) -> bytes:
        if not self.topic:
            return b""  # no Flags either: the zero-length form deletes the will (5.4.7, 5.4.22)
        return bytes((self.qos << 5 | (RETAIN if self.retain else 0),)) + self.topic.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        if len(data) == at:
            return cls("")
        need(data, at + 2)
        return cls(text_of(data, at + 1), qos_of(data[at]), data[at] & RETAIN != 0)


def parse_topic(data: bytes, at: int) -> "tuple[int, int | str, int]":
    """SUBSCRIBE's and UNSUBSCRIBE's topic id type, topic and message id (5.4.15, 5.4.17)."""
    need(data, at + 4)
    topic_id_type = data[at] & 3
    msg_id = data[at + 1] << 8 | data[at + 2]
    if topic_id_type == TOPIC_NORMAL:
        return topic_id_type, text_of(data, at + 3), msg_id
    if topic_id_type == 3:
        raise Malformed("reserved topic id type")
    need_end(data, need(data, at + 5))
    return topic_id_type, data[at + 3] << 8 | data[at + 4], msg_id


def topic_body(flags: int, msg_id: int, topic: "int | str") -> bytes:
    return pack(">BH", flags, msg_id) + (topic.encode() if isinstance(topic, str) else pack(">H", topic))
