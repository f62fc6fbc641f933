# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT-SN 2.0 packets <-> bytes (OASIS Committee Specification Draft 01 of 14 August 2026, chapters 2 and 3).

No state, no clock, no I/O; for CPython only. `decode2` raises `Malformed` and nothing else, whatever the bytes.
Each layout stands in a figure of the draft and in at least one independent codec; where they disagree the class says
so (only DISCONNECT). MQTT-SN-2.0.md lists the sources. Reserved flags that are not 0 and a Packet Identifier of 0 are
malformed, as the draft demands; reason codes and the contents of names are left to the machines to judge.
"""

from struct import pack

from hub.wire.mqttsn.fields import BYTES, long_header
from hub.wire.mqttsn.fields import Malformed as Malformed
from hub.wire.mqttsn.fields import Message as Message
from hub.wire.mqttsn.v2.connect import Auth as Auth
from hub.wire.mqttsn.v2.connect import ConnAckV2 as ConnAckV2
from hub.wire.mqttsn.v2.connect import ConnectV2 as ConnectV2
from hub.wire.mqttsn.v2.connect import DisconnectV2 as DisconnectV2
from hub.wire.mqttsn.v2.connect import PingReqV2 as PingReqV2
from hub.wire.mqttsn.v2.connect import PingRespV2 as PingRespV2
from hub.wire.mqttsn.v2.connect import SleepReq as SleepReq
from hub.wire.mqttsn.v2.connect import SleepResp as SleepResp
from hub.wire.mqttsn.v2.connect import WakeUp as WakeUp
from hub.wire.mqttsn.v2.fields import NEVER as NEVER
from hub.wire.mqttsn.v2.fields import PREDEFINED_ALIAS as PREDEFINED_ALIAS
from hub.wire.mqttsn.v2.fields import PROTOCOL_VERSION as PROTOCOL_VERSION
from hub.wire.mqttsn.v2.fields import SESSION_ALIAS as SESSION_ALIAS
from hub.wire.mqttsn.v2.fields import TOPIC_NAME as TOPIC_NAME
from hub.wire.mqttsn.v2.fields import (
    Ack,
    Reader,
    Topic,
    alias_type_of,
    qos_at,
    reason_bytes,
    topic_bytes,
    topic_type_of,
)
from hub.wire.mqttsn.v2.fields import Authentication as Authentication
from hub.wire.mqttsn.v2.fields import Will as Will


class RegisterV2(Message):
    """3.4; alias: None when a client asks."""

    FIELDS = __slots__ = ("packet_id", "topic_name", "alias")

    def __init__(self, packet_id: int, topic_name: str, alias: int | None = None) -> None:
        self.packet_id, self.topic_name, self.alias = packet_id, topic_name, alias

    def _body(self) -> bytes:
        alias = b"" if self.alias is None else pack(">H", self.alias)
        return pack(">BH", self.alias is not None, self.packet_id) + alias + self.topic_name.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id = reader.flags(0xFE), reader.packet_id()
        alias = reader.integer(2) if flags & 0x01 else None
        return cls(packet_id, reader.name(len(data) - reader.at), alias)


class _AliasAck(Message):
    """REGACK and SUBACK: flags, Packet Identifier, an alias or none, a reason code or 0x00."""

    FIELDS: tuple[str, ...] = ("packet_id", "reason_code", "alias", "topic_type")
    __slots__ = FIELDS

    def __init__(self, packet_id: int, reason_code: int = 0, alias: int | None = None, topic_type: int = 0) -> None:
        self.packet_id, self.reason_code, self.alias, self.topic_type = packet_id, reason_code, alias, topic_type

    def _body(self) -> bytes:
        alias = b"" if self.alias is None else pack(">H", self.alias)
        flags = self.topic_type | (self.alias is not None) << 2
        return pack(">BH", flags, self.packet_id) + alias + reason_bytes(self.reason_code)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id = reader.flags(0xF8), reader.packet_id()
        topic_type = alias_type_of(flags)
        alias = reader.integer(2) if flags & 0x04 else None
        reason_code = reader.reason_code()
        reader.end()
        return cls(packet_id, reason_code, alias, topic_type)


class RegAckV2(_AliasAck):
    """3.5; a client's carries no alias."""

    __slots__ = ()


class SubAckV2(_AliasAck):
    """3.8; reason_code: the granted QoS, or a refusal. Without an alias the type is PREDEFINED_ALIAS (3.8.2.1)."""

    __slots__ = ()


class PublishV2(Message):
    """3.6.2; packet_id is 0 at QoS 0, where none is carried; DUP is for QoS 2 alone."""

    FIELDS = __slots__ = ("topic_type", "topic", "packet_id", "data", "qos", "retain", "dup")

    def __init__(
        self,
        topic_type: int,
        topic: Topic,
        packet_id: int,
        data: bytes,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
    ) -> None:
        self.topic_type, self.topic, self.packet_id, self.data = topic_type, topic, packet_id, data
        self.qos, self.retain, self.dup = qos, retain, dup

    def _body(self) -> bytes:
        flags = self.dup << 7 | self.qos << 5 | self.retain << 4 | self.topic_type
        packet_id = pack(">H", self.packet_id) if self.qos else b""
        return bytes((flags,)) + packet_id + topic_bytes(self.topic) + self.data

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags = reader.flags(0x0C)
        topic_type, qos = topic_type_of(flags), qos_at(flags, 5)
        if flags & 0x80 and qos != 2:
            raise Malformed("illegal DUP")
        packet_id = reader.packet_id() if qos else 0
        topic = reader.topic(topic_type)
        return cls(topic_type, topic, packet_id, reader.rest(), qos, flags & 0x10 != 0, flags & 0x80 != 0)


class PubWos(Message):
    """3.6.1, publish without session; no session alias."""

    FIELDS = __slots__ = ("topic_type", "topic", "data", "retain")

    def __init__(self, topic_type: int, topic: Topic, data: bytes, retain: bool = False) -> None:
        self.topic_type, self.topic, self.data, self.retain = topic_type, topic, data, retain

    def _body(self) -> bytes:
        return bytes((self.retain << 4 | self.topic_type,)) + topic_bytes(self.topic) + self.data

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags = reader.flags(0xEC)
        topic_type = topic_type_of(flags)
        if topic_type == SESSION_ALIAS:
            raise Malformed("reserved topic type")
        topic = reader.topic(topic_type)
        return cls(topic_type, topic, reader.rest(), flags & 0x10 != 0)


class SubscribeV2(Message):
    """3.7; a Topic Filter fills the packet."""

    FIELDS = __slots__ = ("topic_type", "topic", "packet_id", "qos", "no_local", "as_published", "retain_handling")

    def __init__(
        self,
        topic_type: int,
        topic: Topic,
        packet_id: int,
        qos: int = 0,
        no_local: bool = False,
        as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.topic_type, self.topic, self.packet_id, self.qos = topic_type, topic, packet_id, qos
        self.no_local, self.as_published, self.retain_handling = no_local, as_published, retain_handling

    def _body(self) -> bytes:
        flags = self.no_local << 7 | self.qos << 5 | self.as_published << 4 | self.retain_handling << 2
        return _filter_body(flags | self.topic_type, self.packet_id, self.topic)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id = reader.integer(1), reader.packet_id()
        topic_type, retain_handling = topic_type_of(flags), flags >> 2 & 3
        if retain_handling == 3:
            raise Malformed("illegal retain handling")
        topic, qos = _filter(reader, topic_type), qos_at(flags, 5)
        return cls(topic_type, topic, packet_id, qos, flags & 0x80 != 0, flags & 0x10 != 0, retain_handling)


class UnsubscribeV2(Message):
    """3.9."""

    FIELDS = __slots__ = ("topic_type", "topic", "packet_id")

    def __init__(self, topic_type: int, topic: Topic, packet_id: int) -> None:
        self.topic_type, self.topic, self.packet_id = topic_type, topic, packet_id

    def _body(self) -> bytes:
        return _filter_body(self.topic_type, self.packet_id, self.topic)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id = reader.flags(0xFC), reader.packet_id()
        topic_type = topic_type_of(flags)
        return cls(topic_type, _filter(reader, topic_type), packet_id)


def _filter_body(flags: int, packet_id: int, topic: Topic) -> bytes:
    return pack(">BH", flags, packet_id) + (pack(">H", topic) if isinstance(topic, int) else topic.encode())


def _filter(reader: Reader, topic_type: int) -> Topic:
    if topic_type == TOPIC_NAME:
        return reader.name(len(reader.data) - reader.at)
    alias = reader.integer(2)
    reader.end()
    return alias


class Forwarder(Message):
    """3.19, Forwarder Encapsulation; the Length is the whole packet's (1.2's ends before the inner message)."""

    FIELDS = __slots__ = ("address", "packet")

    def __init__(self, address: bytes, packet: bytes) -> None:
        self.address, self.packet = address, packet

    def _body(self) -> bytes:
        return bytes((len(self.address),)) + self.address + self.packet

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        return cls(reader.take(reader.integer(1)), reader.rest())


class ConnectionEncapsulation(Message):
    """3.18, Connection Encapsulation: whose packet this is, from whatever address it comes."""

    FIELDS = __slots__ = ("client_id", "packet")

    def __init__(self, client_id: str, packet: bytes) -> None:
        self.client_id, self.packet = client_id, packet

    def _body(self) -> bytes:
        return topic_bytes(self.client_id) + self.packet

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        return cls(reader.text(reader.integer(2)), reader.rest())


class Protection(Message):
    """3.17, Protection Encapsulation, not looked into: see MQTT-SN-2.0.md."""

    FIELDS = __slots__ = ("raw",)
    TAIL = BYTES

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


class PubAckV2(Ack):
    __slots__ = ()


class PubRecV2(Ack):
    __slots__ = ()


class PubRelV2(Ack):
    __slots__ = ()


class PubCompV2(Ack):
    __slots__ = ()


class UnsubAckV2(Ack):
    __slots__ = ()


class AdvertiseV2(Message):
    """3.20.1; duration_s: until the next one."""

    FIELDS = __slots__ = ("gw_id", "duration_s")
    LAYOUT = ">BH"

    def __init__(self, gw_id: int, duration_s: int) -> None:
        self.gw_id, self.duration_s = gw_id, duration_s


class SearchGwV2(Message):
    """3.20.2; network: whatever the network below needs, or nothing."""

    FIELDS = __slots__ = ("network",)
    TAIL = BYTES

    def __init__(self, network: bytes = b"") -> None:
        self.network = network


class GwInfoV2(Message):
    """3.20.3; gw_add is empty when the gateway answers for itself."""

    FIELDS = __slots__ = ("gw_id", "gw_add")
    LAYOUT = ">B"
    TAIL = BYTES

    def __init__(self, gw_id: int, gw_add: bytes = b"") -> None:
        self.gw_id, self.gw_add = gw_id, gw_add


# By packet type (2.1.3).
_TYPES: dict[int, type[Message]] = {
    0x01: ConnectV2, 0x02: ConnAckV2, 0x03: PublishV2, 0x04: PubAckV2, 0x05: PubRecV2, 0x06: PubRelV2, 0x07: PubCompV2,
    0x08: SubscribeV2, 0x09: SubAckV2, 0x0A: UnsubscribeV2, 0x0B: UnsubAckV2, 0x0C: PingReqV2, 0x0D: PingRespV2,
    0x0E: DisconnectV2, 0x0F: Auth, 0x10: RegisterV2, 0x11: RegAckV2, 0x12: PubWos, 0x13: SleepReq, 0x14: SleepResp,
    0x15: WakeUp, 0x16: AdvertiseV2, 0x17: SearchGwV2, 0x18: GwInfoV2, 0xFC: Forwarder,
    0xFE: ConnectionEncapsulation, 0xFF: Protection,
}  # fmt: skip
for _number, _type in _TYPES.items():
    _type.MSG_TYPE = _number


def decode2(data: bytes) -> Message:
    """The packet in a datagram (2.1); raises Malformed and nothing else."""
    data = bytes(data)
    if len(data) < 2:
        raise Malformed("truncated")
    at = 2 if data[0] == len(data) else long_header(data)
    packet_type = _TYPES.get(data[at - 1])
    if packet_type is None:
        raise Malformed("unknown message type")
    return packet_type._parse(data, at)
