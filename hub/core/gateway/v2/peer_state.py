# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hub remembers of one MQTT-SN 2.0 client beyond its session: what 1.2's messages have no room for."""

from collections import deque
from typing import NamedTuple
from zlib import crc32

from hub.wire.mqttsn.messages import Message, WillMsg, WillTopic
from hub.wire.mqttsn.v2 import messages

_MAX_OPEN = 16  # requests or QoS 2 exchanges remembered; the draft allows one at a time (4.9)


class Gone:
    """Not a message: the Virtual Connection ended in error, so the session is lost, with its will (connecting.lose)."""

    __slots__ = ()


class ByName(NamedTuple):
    """Not a message: a PUBLISH by topic name, once a REGISTER ahead of it has given the name an id."""

    publish: messages.PublishV2
    dup: bool


class PeerState:
    """One client that speaks 2.0. Times are the machine's `now`, in seconds."""

    __slots__ = (
        "allows_address_change", "asked", "assigned", "client_id", "connect_id", "ended_at", "forgotten", "id_changes",
        "last_digest", "last_heard", "last_id", "max_packet_size", "open_qos2", "owed", "ping_id", "session_expiry_s",
        "session_present", "silence_s", "steps", "will_msg", "will_topic",
    )  # fmt: skip

    def __init__(self, client_id: str, now: float) -> None:
        self.client_id = client_id
        self.max_packet_size = 0
        self.session_expiry_s = 0
        self.allows_address_change = False
        self.silence_s = 0.0  # after this much of it the Virtual Connection is no more
        self.last_heard = now
        self.ended_at: float | None = None  # when the client left, if it said so
        # The CONNECT under way: its Packet Identifier, what is still to be told to the machine, and the answer's flags.
        self.connect_id = 0
        self.steps: deque[Message] = deque()
        self.will_topic, self.will_msg = WillTopic(""), WillMsg(b"")
        self.session_present = False
        self.assigned = False
        # Requests that await the machine's answer.
        self.ping_id = 0
        # The DISCONNECTs that 1.2 owes as answers, oldest first: the SLEEPREQ to answer, or 0 when nobody waits.
        self.owed: deque[int] = deque()
        self.asked: dict[int, int] = {}  # SUBSCRIBE: its topic type; UNSUBSCRIBE: the reason code of its answer
        self.open_qos2: dict[int, None] = {}
        self.forgotten: set[int] = set()  # session aliases that the client dropped for its sleep (3.15.2.1)
        # Evidence that the client changes its Packet Identifier with every request.
        self.last_id = 0
        self.last_digest: int | None = 0  # None: not known, after a restart
        self.id_changes = 0

    @classmethod
    def of(cls, message: messages.ConnectV2, now: float) -> "PeerState":
        state = cls(message.client_id, now)
        state.max_packet_size = message.max_packet_size
        state.session_expiry_s = message.session_expiry_s or 0
        state.allows_address_change = message.allows_address_change
        state.silence_s = 1.5 * message.keep_alive_s
        state.connect_id = state.last_id = message.packet_id
        return state

    def kept(self) -> str:
        """All that a restart of the hub must bring back, as one line of text to be stored with the session."""
        return f"2 {self.max_packet_size} {self.session_expiry_s} {int(self.allows_address_change)} {self.silence_s:g}"

    @classmethod
    def restored(cls, client_id: str, kept: str, now: float) -> "PeerState | None":
        """What `kept` wrote; None when it says nothing that this version understands."""
        try:
            version, max_packet_size, session_expiry_s, allows, silence_s = kept.split()
            state = cls(client_id, now)
            state.max_packet_size, state.session_expiry_s = int(max_packet_size), int(session_expiry_s)
            state.allows_address_change, state.silence_s = allows == "1", float(silence_s)
        except ValueError:
            return None
        return state if version == "2" else None

    def has_expired(self, now: float) -> bool:
        """Whether the Session Expiry Interval has passed since the Virtual Connection ended (4.1.1)."""
        if self.session_expiry_s == messages.NEVER:
            return False
        ended_at = self.last_heard + self.silence_s if self.ended_at is None else self.ended_at
        return self.session_expiry_s == 0 or now > ended_at + self.session_expiry_s

    def remember(self, packet_id: int, answer: int) -> None:
        self.asked[packet_id] = answer
        if len(self.asked) > _MAX_OPEN:
            del self.asked[next(iter(self.asked))]

    def opens_qos2(self, packet_id: int) -> None:
        self.open_qos2[packet_id] = None
        if len(self.open_qos2) > _MAX_OPEN:
            del self.open_qos2[next(iter(self.open_qos2))]

    def recall_ids(self, packet_ids: list[int]) -> None:
        """The evidence that a restart left: the identifiers of accepted publishes, oldest first, none of them twice.

        The content of the last one is not known here; the gateway compares that itself.
        """
        if packet_ids:
            self.last_id, self.last_digest, self.id_changes = packet_ids[-1], None, len(packet_ids) - 1

    def repeats(self, packet_id: int, raw: bytes) -> bool:
        """Whether this request is the last one once more.

        2.0 forbids DUP at QoS 1 (3.6.2.2.3), yet a retransmission is to be recognised and a free Packet Identifier may
        be used again. So only a client that changed it with each of its last two requests is known to repeat.
        """
        digest = crc32(raw)
        if packet_id != self.last_id:
            self.id_changes += 1
        elif self.last_digest is None or digest == self.last_digest:
            self.last_digest = digest
            return self.id_changes > 1
        else:
            self.id_changes = 0
        self.last_id, self.last_digest = packet_id, digest
        return False


def keep_alive_of(silence_s: float) -> int:
    """The 1.2 duration that `limits.tolerated_silence_s` turns into this silence: 2.0 tolerates half of it more
    (3.1.6, 4.14.2), 1.2 a tenth of a long one."""
    if silence_s <= 90:
        return round(silence_s / 1.5)
    return round(silence_s - 30) if silence_s <= 330 else round(silence_s / 1.1)
