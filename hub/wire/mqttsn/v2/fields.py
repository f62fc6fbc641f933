# SPDX-License-Identifier: GPL-3.0-or-later
"""What every MQTT-SN 2.0 packet is made of (chapter 2 of the draft); import `messages`, not this."""

from struct import pack
from typing import NamedTuple

from hub.wire.mqttsn.fields import Malformed, Message, need, need_end, text_of

PROTOCOL_VERSION = 2
NEVER = 0xFFFFFFFF  # a Session Expiry Interval that does not pass (3.1.9)

# Topic Types (2.4); 0b10 is reserved.
SESSION_ALIAS, PREDEFINED_ALIAS, TOPIC_NAME = 0, 1, 3

Topic = int | str


class Will(NamedTuple):
    """The Will Message of a CONNECT (3.1.3, 3.1.10 to 3.1.13); topic: a name for TOPIC_NAME, else an alias."""

    topic_type: int
    topic: Topic
    payload: bytes
    qos: int = 0
    retain: bool = False


class Authentication(NamedTuple):
    """Method and data, as CONNECT and CONNACK carry them (3.1.14 to 3.1.17)."""

    method: str
    data: bytes


class Reader:
    """Takes fields off a packet, front to back; Malformed when there are too few bytes."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        end = need(self.data, self.at + size)
        taken, self.at = self.data[self.at : end], end
        return taken

    def flags(self, reserved: int) -> int:
        flags = self.integer(1)
        if flags & reserved:
            raise Malformed("reserved flags")
        return flags

    def packet_id(self) -> int:
        packet_id = self.integer(2)
        if not packet_id:
            raise Malformed("packet identifier 0")
        return packet_id

    def text(self, size: int) -> str:
        return text_of(self.take(size), 0)

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def name(self, size: int) -> str:
        if not size:
            raise Malformed("empty topic")
        return self.text(size)

    def topic(self, topic_type: int) -> Topic:
        """A two-byte alias, or length and name."""
        number = self.integer(2)
        return self.name(number) if topic_type == TOPIC_NAME else number

    def authentication(self) -> Authentication:
        return Authentication(self.text(self.integer(1)), self.take(self.integer(2)))

    def reason_code(self) -> int:
        """A last field that may be left out: 0x00 then."""
        return self.integer(1) if self.at < len(self.data) else 0

    def end(self) -> None:
        need_end(self.data, self.at)


def topic_type_of(flags: int) -> int:
    if flags & 3 == 2:
        raise Malformed("reserved topic type")
    return flags & 3


def alias_type_of(flags: int) -> int:
    if flags & 3 > PREDEFINED_ALIAS:
        raise Malformed("reserved topic type")
    return flags & 3


def qos_at(flags: int, shift: int) -> int:
    qos = flags >> shift & 3
    if qos == 3:
        raise Malformed("illegal QoS")
    return qos


def topic_bytes(topic: Topic) -> bytes:
    if isinstance(topic, int):
        return pack(">H", topic)
    name = topic.encode()
    return pack(">H", len(name)) + name


def reason_bytes(reason_code: int) -> bytes:
    return bytes((reason_code,)) if reason_code else b""


class PacketId(Message):
    """A packet that is its Packet Identifier."""

    FIELDS = __slots__ = ("packet_id",)

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id

    def _body(self) -> bytes:
        return pack(">H", self.packet_id)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        packet_id = reader.packet_id()
        reader.end()
        return cls(packet_id)


class Ack(Message):
    """A Packet Identifier and a reason code; 0x00 is not carried."""

    FIELDS = __slots__ = ("packet_id", "reason_code")

    def __init__(self, packet_id: int, reason_code: int = 0) -> None:
        self.packet_id, self.reason_code = packet_id, reason_code

    def _body(self) -> bytes:
        return pack(">H", self.packet_id) + reason_bytes(self.reason_code)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        packet_id, reason_code = reader.packet_id(), reader.reason_code()
        reader.end()
        return cls(packet_id, reason_code)
