# SPDX-License-Identifier: GPL-3.0-or-later
"""The MQTT-SN 2.0 packets that make, suspend and end a Virtual Connection (3.1 to 3.3, 3.11 to 3.16).

Import `messages`, not this.
"""

from struct import pack

from hub.wire.mqttsn.fields import Malformed, Message, text_of
from hub.wire.mqttsn.v2.fields import (
    PROTOCOL_VERSION,
    Authentication,
    PacketId,
    Reader,
    Will,
    qos_at,
    reason_bytes,
    topic_bytes,
    topic_type_of,
)


class ConnectV2(Message):
    """3.1; session_expiry_s and awake_messages: None = not carried. Another version's CONNECT has only packet_id."""

    FIELDS = __slots__ = (
        "client_id", "keep_alive_s", "packet_id", "clean_start", "session_expiry_s", "max_packet_size", "will",
        "authentication", "awake_messages", "allows_address_change", "allows_suggestions", "version",
    )  # fmt: skip

    def __init__(
        self,
        client_id: str,
        keep_alive_s: int,
        packet_id: int,
        clean_start: bool = True,
        session_expiry_s: int | None = None,
        max_packet_size: int = 0,
        will: Will | None = None,
        authentication: Authentication | None = None,
        awake_messages: int | None = None,
        allows_address_change: bool = False,
        allows_suggestions: bool = False,
        version: int = PROTOCOL_VERSION,
    ) -> None:
        self.client_id, self.keep_alive_s, self.packet_id = client_id, keep_alive_s, packet_id
        self.clean_start, self.session_expiry_s, self.max_packet_size = clean_start, session_expiry_s, max_packet_size
        self.will, self.authentication, self.awake_messages = will, authentication, awake_messages
        self.allows_address_change, self.allows_suggestions = allows_address_change, allows_suggestions
        self.version = version

    def _body(self) -> bytes:
        will, authentication = self.will, self.authentication
        flags = (
            self.clean_start | (will is not None) << 1 | (authentication is not None) << 2
            | (self.session_expiry_s is not None) << 3 | (self.awake_messages is not None) << 4
            | self.allows_address_change << 5 | self.allows_suggestions << 6
        )  # fmt: skip
        body = bytes((flags,))
        if will is not None:
            body += bytes((will.retain << 4 | will.qos << 2 | will.topic_type,))
        body += pack(">HBHH", self.packet_id, self.version, self.keep_alive_s, self.max_packet_size)
        if self.awake_messages is not None:
            body += bytes((self.awake_messages,))
        if self.session_expiry_s is not None:
            body += pack(">I", self.session_expiry_s)
        if will is not None:
            body += topic_bytes(will.topic) + pack(">H", len(will.payload)) + will.payload
        if authentication is not None:
            body += _authentication_bytes(authentication)
        return body + self.client_id.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags = reader.integer(1)
        will_flags = reader.integer(1) if flags & 0x02 else 0
        packet_id, version = reader.packet_id(), reader.integer(1)
        if version != PROTOCOL_VERSION:
            return cls("", 0, packet_id, version=version)  # what follows is not ours to know
        if flags & 0x80 or will_flags & 0xE0:
            raise Malformed("reserved flags")
        keep_alive_s, max_packet_size = reader.integer(2), reader.integer(2)
        awake_messages = reader.integer(1) if flags & 0x10 else None
        session_expiry_s = reader.integer(4) if flags & 0x08 else None
        will = _will(reader, will_flags) if flags & 0x02 else None
        authentication = reader.authentication() if flags & 0x04 else None
        return cls(
            text_of(reader.rest(), 0), keep_alive_s, packet_id, flags & 0x01 != 0, session_expiry_s, max_packet_size,
            will, authentication, awake_messages, flags & 0x20 != 0, flags & 0x40 != 0,
        )  # fmt: skip


def _will(reader: Reader, flags: int) -> Will:
    topic_type, qos = topic_type_of(flags), qos_at(flags, 2)
    topic = reader.topic(topic_type)
    return Will(topic_type, topic, reader.take(reader.integer(2)), qos, flags & 0x10 != 0)


def _authentication_bytes(authentication: Authentication) -> bytes:
    method = authentication.method.encode()
    return bytes((len(method),)) + method + pack(">H", len(authentication.data)) + authentication.data


class ConnAckV2(Message):
    """3.2; assigned_client_id is empty when the client named itself."""

    FIELDS = __slots__ = (
        "packet_id", "reason_code", "session_present", "session_expiry_s", "keep_alive_s", "authentication",
        "assigned_client_id",
    )  # fmt: skip

    def __init__(
        self,
        packet_id: int,
        reason_code: int = 0,
        session_present: bool = False,
        session_expiry_s: int | None = None,
        keep_alive_s: int | None = None,
        authentication: Authentication | None = None,
        assigned_client_id: str = "",
    ) -> None:
        self.packet_id, self.reason_code, self.session_present = packet_id, reason_code, session_present
        self.session_expiry_s, self.keep_alive_s = session_expiry_s, keep_alive_s
        self.authentication, self.assigned_client_id = authentication, assigned_client_id

    def _body(self) -> bytes:
        flags = (
            self.session_present | (self.session_expiry_s is not None) << 1 | (self.keep_alive_s is not None) << 2
            | (self.authentication is not None) << 3
        )  # fmt: skip
        body = pack(">BHB", flags, self.packet_id, self.reason_code)
        if self.session_expiry_s is not None:
            body += pack(">I", self.session_expiry_s)
        if self.keep_alive_s is not None:
            body += pack(">H", self.keep_alive_s)
        if self.authentication is not None:
            body += _authentication_bytes(self.authentication)
        return body + self.assigned_client_id.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id, reason_code = reader.flags(0xF0), reader.packet_id(), reader.integer(1)
        session_expiry_s = reader.integer(4) if flags & 0x02 else None
        keep_alive_s = reader.integer(2) if flags & 0x04 else None
        authentication = reader.authentication() if flags & 0x08 else None
        return cls(
            packet_id, reason_code, flags & 0x01 != 0, session_expiry_s, keep_alive_s, authentication,
            text_of(reader.rest(), 0),
        )  # fmt: skip


class Auth(Message):
    """3.3; the data has no length of its own, it fills the packet."""

    FIELDS = __slots__ = ("packet_id", "reason_code", "method", "data")

    def __init__(self, packet_id: int, reason_code: int, method: str, data: bytes) -> None:
        self.packet_id, self.reason_code, self.method, self.data = packet_id, reason_code, method, data

    def _body(self) -> bytes:
        method = self.method.encode()
        return pack(">HBB", self.packet_id, self.reason_code, len(method)) + method + self.data

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        return cls(reader.packet_id(), reader.integer(1), reader.text(reader.integer(1)), reader.rest())


class PingReqV2(PacketId):
    """3.11: keep-alive, or out of sleep a wish for what is buffered."""

    __slots__ = ()


class PingRespV2(Message):
    """3.12; remaining: Application Messages still buffered, 255 = more than can be said, None = not carried."""

    FIELDS = __slots__ = ("packet_id", "remaining")

    def __init__(self, packet_id: int, remaining: int | None = None) -> None:
        self.packet_id, self.remaining = packet_id, remaining

    def _body(self) -> bytes:
        return pack(">H", self.packet_id) + (b"" if self.remaining is None else bytes((self.remaining,)))

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        packet_id = reader.packet_id()
        remaining = reader.integer(1) if reader.at < len(data) else None
        reader.end()
        return cls(packet_id, remaining)


class DisconnectV2(Message):
    """3.13; packet_id 0 and session_expiry_s None: not carried. It never has an answer.

    Figure 3-23 puts the Session Expiry Interval before the Reason Code, the text (3.13.4, 3.13.5) lists them the other
    way round. Read as the figure has it, as simon622/mqtt-sn does; Paho and Maps-Messaging follow the text. It matters
    only where both are carried, which no server does (3.13.5).
    """

    FIELDS = __slots__ = ("reason_code", "session_expiry_s", "packet_id", "reason")

    def __init__(
        self, reason_code: int = 0, session_expiry_s: int | None = None, packet_id: int = 0, reason: str = ""
    ) -> None:
        self.reason_code, self.session_expiry_s = reason_code, session_expiry_s
        self.packet_id, self.reason = packet_id, reason

    def _body(self) -> bytes:
        flags = bool(self.packet_id) | (self.session_expiry_s is not None) << 1 | bool(self.reason_code) << 2
        body = bytes((flags,))
        if self.packet_id:
            body += pack(">H", self.packet_id)
        if self.session_expiry_s is not None:
            body += pack(">I", self.session_expiry_s)
        return body + reason_bytes(self.reason_code) + self.reason.encode()

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags = reader.flags(0xF8)
        packet_id = reader.packet_id() if flags & 0x01 else 0
        session_expiry_s = reader.integer(4) if flags & 0x02 else None
        reason_code = reader.integer(1) if flags & 0x04 else 0
        return cls(reason_code, session_expiry_s, packet_id, text_of(reader.rest(), 0))


class WakeUp(Message):
    """3.14: a hint to a sleeper; it need not heed it."""

    __slots__ = ()


class SleepReq(Message):
    """3.15; sleep_s is not judged here."""

    FIELDS = __slots__ = ("packet_id", "sleep_s", "retains_aliases")

    def __init__(self, packet_id: int, sleep_s: int, retains_aliases: bool = True) -> None:
        self.packet_id, self.sleep_s, self.retains_aliases = packet_id, sleep_s, retains_aliases

    def _body(self) -> bytes:
        return pack(">BHI", self.retains_aliases, self.packet_id, self.sleep_s)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id, sleep_s = reader.flags(0xFE), reader.packet_id(), reader.integer(4)
        reader.end()
        return cls(packet_id, sleep_s, flags & 0x01 != 0)


class SleepResp(Message):
    """3.16; sleep_s: another duration than was asked for, None = not carried."""

    FIELDS = __slots__ = ("packet_id", "reason_code", "sleep_s")

    def __init__(self, packet_id: int, reason_code: int = 0, sleep_s: int | None = None) -> None:
        self.packet_id, self.reason_code, self.sleep_s = packet_id, reason_code, sleep_s

    def _body(self) -> bytes:
        sleep_s = b"" if self.sleep_s is None else pack(">I", self.sleep_s)
        return pack(">BH", self.sleep_s is not None, self.packet_id) + sleep_s + reason_bytes(self.reason_code)

    @classmethod
    def _parse(cls, data: bytes, at: int) -> Message:
        reader = Reader(data, at)
        flags, packet_id = reader.flags(0xFE), reader.packet_id()
        sleep_s = reader.integer(4) if flags & 0x01 else None
        reason_code = reader.reason_code()
        reader.end()
        return cls(packet_id, reason_code, sleep_s)
