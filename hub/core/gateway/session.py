"""One client's session at the gateway: its state, as a table, and what it remembers.

The states are those of MQTT-SN 1.2 section 6.14 (figure 3), plus the two steps of the will dialogue (section 6.3).
Everything that moves a session between states is in `TRANSITIONS`; a pair that is not there cannot happen.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

from hub.core.allowance import Allowance
from hub.core.order import Order
from hub.core.records import Peer, SessionChanged
from hub.wire.mqttsn.topics import Route

DISCONNECTED, ACTIVE, ASLEEP, AWAKE, LOST = "disconnected", "active", "asleep", "awake", "lost"
WILL_TOPIC, WILL_MSG = "awaiting-will-topic", "awaiting-will-msg"

# event: where it leads, from each state that knows it.
TRANSITIONS: dict[tuple[str, str], str] = {
    **{(s, "connect"): ACTIVE for s in (DISCONNECTED, ACTIVE, ASLEEP, AWAKE, LOST, WILL_TOPIC, WILL_MSG)},
    **{(s, "connect-with-will"): WILL_TOPIC for s in (DISCONNECTED, ACTIVE, ASLEEP, AWAKE, LOST, WILL_TOPIC, WILL_MSG)},
    **{(s, "will-topic"): WILL_MSG for s in (WILL_TOPIC, WILL_MSG)},
    **{(s, "no-will"): ACTIVE for s in (WILL_TOPIC, WILL_MSG)},
    (WILL_MSG, "will-msg"): ACTIVE,
    **{(s, "sleep"): ASLEEP for s in (ACTIVE, ASLEEP, AWAKE)},
    (ASLEEP, "wake"): AWAKE,
    (AWAKE, "wake"): AWAKE,
    (AWAKE, "served"): ASLEEP,
    (AWAKE, "unanswered"): ASLEEP,
    **{(s, "disconnect"): DISCONNECTED for s in (ACTIVE, ASLEEP, AWAKE, LOST, DISCONNECTED, WILL_TOPIC, WILL_MSG)},
    **{(s, "silence"): LOST for s in (ACTIVE, ASLEEP, AWAKE)},
    **{(s, "silence"): DISCONNECTED for s in (WILL_TOPIC, WILL_MSG)},
}

# In these states the client is listening, or will be when it wakes; in the others nothing is owed to it in real time.
ON_AIR = (ACTIVE, AWAKE)
PRESENT = (ACTIVE, ASLEEP, AWAKE)

# A network that repeats a datagram a minute later has to find it here, at a message every two seconds.
MAX_SEEN = 32


# Once its PUBREC came a QoS 2 message is the client's; from then on only the PUBREL remains of it (section 5.4.14).
RELEASED_TOPIC = ""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
# What most sessions' tables are: an empty dictionary of their own takes 64 bytes, and a session has seven.
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


def _with(table: Mapping[_Key, _Value], key: _Key, value: _Value) -> Mapping[_Key, _Value]:
    """The table with one entry more: the same one, unless that is its first."""
    if table is _NOTHING:
        return {key: value}
    cast(dict[_Key, _Value], table)[key] = value
    return table


def _without(table: Mapping[_Key, _Value], key: _Key) -> _Value | None:
    """What was there, which no longer is."""
    return None if table is _NOTHING else cast(dict[_Key, _Value], table).pop(key, None)


class QueuedMessage(NamedTuple):
    """A message on its way to a client; `seq` is None when it is not kept across a restart (QoS 0)."""

    seq: int | None
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool = False  # may have reached the client before a restart
    again: bool = False  # its topic id was refused once and registered anew
    order: Order | None = None  # the payload is made when it is sent; nothing of it is durable


class SeenEntry:
    """An accepted QoS 1/2 publish: pending until its commit, open until its PUBREL for QoS 2.

    After a restart nobody knows whether the PUBREL came: such an entry is `restored`, and only DUP makes a repeat.
    """

    __slots__ = ("accepted_at", "digest", "open", "pending", "restored")

    def __init__(self, digest: int, accepted_at: float, pending: bool, is_open: bool, restored: bool = False) -> None:
        self.digest = digest
        self.accepted_at = accepted_at
        self.pending = pending
        self.open = is_open
        self.restored = restored


class Inflight:
    """The one outbound exchange that awaits the client's answer (section 6.13: one at a time)."""

    __slots__ = ("awaits", "datagram", "deadline", "found", "message", "msg_id", "topic", "topic_id", "tries")

    def __init__(
        self, message: QueuedMessage | None, awaits: str, msg_id: int, datagram: bytes, deadline: float
    ) -> None:
        self.message = message
        # "regack" | "puback" | "pubrec" | "pubcomp"; "release" from the PUBREC until it is durable
        self.awaits = awaits
        self.topic = ""  # of a REGISTER
        self.topic_id = 0
        self.found = (0, 0)  # of a PUBLISH: its topic id type and topic id
        self.msg_id = msg_id
        self.datagram = datagram
        self.deadline = deadline
        self.tries = 1


class Stats:
    """What `meterhub adapters` tells about one adapter."""

    __slots__ = ("accepted", "frames_in", "frames_out", "lost", "refused", "repeats", "retransmissions")

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.accepted = 0
        self.repeats = 0
        self.retransmissions = 0
        self.lost = 0
        self.refused: Mapping[str, int] = _NOTHING

    def count_refused(self, reason: str) -> None:
        self.refused = _with(self.refused, reason, self.refused.get(reason, 0) + 1)


class Session:
    """A client as the gateway knows it. Times are the machine's `now`, in seconds."""

    __slots__ = (
        "allowance",
        "clean_session",
        "client_id",
        "connack",
        "duration_s",
        "first_seq",
        "ids_by_topic",
        "inflight",
        "is_of_old",
        "joined_at",
        "last_heard",
        "last_msg_id",
        "may_obey_limit",
        "msg_ids_counted",
        "next_msg_id",
        "next_seq",
        "next_topic_id",
        "peer",
        "pending_will",
        "predefined_topics",
        "quantities",
        "queue",
        "queued_bytes",
        "retained",
        "reuses_msg_ids",
        "routes",
        "seen",
        "stale_topics",
        "state",
        "stats",
        "subscriptions",
        "timer_at",
        "topics_by_id",
        "v2_state",
        "will",
    )

    def __init__(self, client_id: str, peer: Peer, now: float) -> None:
        self.client_id = client_id
        self.peer = peer
        self.state = DISCONNECTED
        self.clean_session = True
        self.duration_s = 0
        self.will: tuple[str, bytes, int, bool] | None = None
        self.pending_will: tuple[str, int, bool] | None = None  # between WILLTOPIC and WILLMSG
        self.connack: object = None  # the completion of the latest CONNECT
        self.v2_state = ""  # as SessionChanged has it
        self.last_heard = now
        self.joined_at = now
        self.is_of_old = False  # known from an earlier run of the hub
        self.retained = 0  # messages that it had retained in this run, besides its `about/`
        self.may_obey_limit = False  # what it last said on readings/limit; unknown after a restart
        self.timer_at: float | None = None  # when the gateway's timer heap will look at this session
        self.subscriptions: Mapping[str, int] = _NOTHING
        self.topics_by_id: Mapping[int, str] = _NOTHING
        self.ids_by_topic: Mapping[str, int] = _NOTHING
        self.stale_topics: set[str] | None = None  # the client may have forgotten their ids: REGISTER first (6.10)
        self.predefined_topics: Mapping[str, int] = _NOTHING
        self.routes: Mapping[int, Route] = _NOTHING
        self.quantities: tuple[str, ...] = ()  # whose readings it has sent; few, and looked at once a topic id
        self.seen: Mapping[int, SeenEntry] = _NOTHING  # by msg_id, oldest first
        self.allowance: Allowance | None = None  # where its link has a rate
        self.last_msg_id = 0
        self.reuses_msg_ids = False  # it gave a new publish the MsgId of its last one
        self.msg_ids_counted = 0
        # A list: it is short, and an empty deque takes 760 bytes, a third of a session.
        self.queue: list[QueuedMessage] = []
        self.queued_bytes = 0
        self.inflight: Inflight | None = None
        self.next_topic_id = 1
        self.next_msg_id = 1
        self.next_seq = 1
        self.first_seq = 1  # messages before it were for a session that was cleaned since
        self.stats = Stats()

    def move(self, event: str) -> bool:
        """Take one step of the table; False (and nothing happens) when the state does not know the event."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            return False
        self.state = state
        return True

    @property
    def is_of_use(self) -> bool:
        """Whether the client has ever done more than connect."""
        return bool(self.seen or self.subscriptions or self.topics_by_id or self.stats.accepted)

    # The queue, whose bytes are counted as they come and go.

    def enqueue(self, message: QueuedMessage) -> None:
        self.queue.append(message)
        self.queued_bytes += len(message.payload)

    def put_first(self, message: QueuedMessage) -> None:
        self.queue.insert(0, message)
        self.queued_bytes += len(message.payload)

    def dequeue(self, index: int = 0) -> QueuedMessage:
        message = self.queue[index]
        del self.queue[index]
        self.queued_bytes -= len(message.payload)
        return message

    def take_msg_id(self) -> int:
        """The next message id for the gateway's own requests: 1..65535, never 0."""
        msg_id = self.next_msg_id
        self.next_msg_id = msg_id % 0xFFFF + 1
        return msg_id

    def remember(self, msg_id: int, entry: SeenEntry) -> None:
        """Keep an accepted publish for duplicate detection; the oldest settled one makes room."""
        seen = self.seen
        self.reuses_msg_ids = self.reuses_msg_ids or (msg_id == self.last_msg_id and msg_id in seen)
        self.msg_ids_counted = self.msg_ids_counted + 1 if 0 < (msg_id - self.last_msg_id) & 0xFFFF < 0x8000 else 0
        self.last_msg_id = msg_id
        _without(seen, msg_id)
        self.seen = seen = _with(seen, msg_id, entry)
        if len(seen) > MAX_SEEN:
            oldest = next(iter(seen))
            if seen[oldest].pending or seen[oldest].open:
                oldest = next((key for key, old in seen.items() if not old.pending and not old.open), oldest)
            _without(seen, oldest)

    def forget(self, msg_id: int) -> None:
        """An accepted publish was not kept after all: its repeat is a first one."""
        _without(self.seen, msg_id)

    @property
    def counts_msg_ids(self) -> bool:
        """Whether this client provably counts: since its CONNECT each MsgId was ahead of the one before, more often
        than `seen` has entries. None of those can come again by the client's own will."""
        return self.msg_ids_counted > MAX_SEEN

    def learn_topic(self, topic_id: int, topic: str) -> None:
        """Bind a normal topic id of this client to a name."""
        self.topics_by_id = _with(self.topics_by_id, topic_id, topic)
        self.ids_by_topic = _with(self.ids_by_topic, topic, topic_id)
        if self.stale_topics:
            self.stale_topics.discard(topic)
        _without(self.routes, topic_id)
        self.next_topic_id = max(self.next_topic_id, topic_id + 1)

    def doubt_topic(self, topic: str) -> None:
        """The client does not know this topic's id: it is told again, by REGISTER, before the next PUBLISH."""
        _without(self.predefined_topics, topic)
        if topic in self.ids_by_topic:
            self.stale_topics = self.stale_topics or set()
            self.stale_topics.add(topic)

    def forget_topics(self) -> None:
        self.stale_topics = None
        self.topics_by_id = self.ids_by_topic = self.predefined_topics = self.routes = _NOTHING
        self.next_topic_id = 1

    def know_predefined(self, topic_id: int, topic: str) -> None:
        """The client subscribed by this predefined id: it is told its messages by it."""
        self.predefined_topics = _with(self.predefined_topics, topic, topic_id)

    def know_route(self, key: int, route: Route) -> None:
        """Where a publish by this topic id (and its type) goes, so that it is worked out once."""
        self.routes = _with(self.routes, key, route)

    def forget_routes(self) -> None:
        """What this client may publish changed."""
        self.routes = _NOTHING

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self.subscriptions = _with(self.subscriptions, topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> bool:
        """False: it had not subscribed to that."""
        _without(self.predefined_topics, topic_filter)
        return _without(self.subscriptions, topic_filter) is not None

    def unsubscribe_all(self) -> None:
        self.subscriptions = _NOTHING

    def record(self) -> SessionChanged:
        """The session as the store keeps it; the will dialogue's steps are not states a restart could resume."""
        topic, message, qos, retain = self.will or ("", b"", 0, False)
        state = self.state if self.state in (*PRESENT, LOST) else DISCONNECTED
        return SessionChanged(
            self.client_id, self.peer, state, self.clean_session, self.duration_s, topic, message, qos, retain,
            self.v2_state,
        )  # fmt: skip
