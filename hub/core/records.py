"""What the gateway asks the store to make durable, and what the store hands back after a restart.

One vocabulary in both directions: the gateway machine emits these records in a `Batch`, the store commits the batch in
one transaction, and after a restart the store replays the surviving records into `Gateway.restore`. Plain tuples: a
busy hub makes tens of thousands of them a second.

Clock: `sampled_s` is the hub's monotonic clock (seconds) in the present boot; the store turns it into UTC when the
reading is sealed, so that a clock set late or stepped never reorders or misdates what was taken before.
"""

from typing import Any, NamedTuple

# A transport address that the gateway only compares and hands back: the link's name first ("udp", "zigbee"), then what
# that link needs to reach the node (host and port; IEEE address as 16 hex digits), then, behind a forwarder, the
# wireless node id as bytes. Made of str, int and bytes so that the store can keep it.
Peer = tuple[Any, ...]


class Sample(NamedTuple):
    """A reading taken into custody. value = mantissa x 10^exponent; flags as in a pack (hub/wire/uplink/reading.py)."""

    client_id: str
    quantity: str
    sampled_s: float
    mantissa: int
    exponent: int
    flags: int = 0


class Seen(NamedTuple):
    """A QoS 1 or 2 PUBLISH that was accepted: what recognises its retransmission, even after a restart."""

    client_id: str
    msg_id: int
    digest: int  # 32 bits over topic and payload
    qos: int


class SessionChanged(NamedTuple):
    """A client's session as it is now (one row a client)."""

    client_id: str
    peer: Peer
    state: str  # "active" | "asleep" | "awake" | "disconnected" | "lost"
    clean_session: bool
    duration_s: int  # keep-alive, or the sleep's duration while asleep
    will_topic: str  # "" = no will
    will_message: bytes
    will_qos: int
    will_retain: bool
    v2_state: str = ""  # what a 2.0 client's connection needs beyond the rest (Translator.kept); "" = MQTT-SN 1.2


class SessionRemoved(NamedTuple):
    """The session ended for good: its subscriptions, topic ids and waiting messages go with it."""

    client_id: str


class TopicRegistered(NamedTuple):
    """A topic id handed out to, or learnt from, this client."""

    client_id: str
    topic_id: int  # the topic id type above bit 16: 0x1xxxx is a predefined id that the client subscribed by
    topic_name: str


class SubscriptionAdded(NamedTuple):
    """Same client and topic_filter again: the new qos replaces the old."""

    client_id: str
    topic_filter: str
    qos: int


class SubscriptionRemoved(NamedTuple):
    client_id: str
    topic_filter: str


class RetainedSet(NamedTuple):
    """The retained message of a topic; an empty payload removes it."""

    topic: str
    payload: bytes
    qos: int


class MessageQueued(NamedTuple):
    """A QoS 1/2 message that waits for a client. `seq` grows per client and orders the queue.

    Topic "": the message is with the client, its QoS 2 exchange awaits PUBCOMP; `seq` keeps the MsgId taken.
    """

    client_id: str
    seq: int
    topic: str
    payload: bytes
    qos: int
    retain: bool


class MessageDone(NamedTuple):
    """A waiting message reached its client, or was dropped to keep a bound."""

    client_id: str
    seq: int


class EventRecorded(NamedTuple):
    """An event for the utility (hub/wire/uplink/event.py lists names and fields); sealed in the same transaction."""

    event: str
    fields: dict[str, Any]


class ForwardQueued(NamedTuple):
    """A publish that a `forward.out` filter matched: goes up as `meters/{hub}/han/{topic}`, payload unchanged."""

    topic: str
    payload: bytes


Change = (
    SessionChanged
    | SessionRemoved
    | TopicRegistered
    | SubscriptionAdded
    | SubscriptionRemoved
    | RetainedSet
    | MessageQueued
    | MessageDone
    | EventRecorded
    | ForwardQueued
)

# What a restart brings back, in an order that can be replayed: sessions before what belongs to them.
Restored = SessionChanged | TopicRegistered | SubscriptionAdded | RetainedSet | MessageQueued | Seen


class Batch:
    """What must become durable together. `urgent`: an adapter waits for the answer; otherwise it may ride along with
    the next commit (QoS 0 and -1 never force one)."""

    __slots__ = ("changes", "id", "samples", "seen", "urgent")

    def __init__(self, batch_id: int) -> None:
        self.id = batch_id
        self.samples: list[Sample] = []
        self.seen: list[Seen] = []
        self.changes: list[Change] = []
        self.urgent = False

    def __bool__(self) -> bool:
        return bool(self.samples or self.seen or self.changes)
