"""What a refused batch leaves to be said: the tables as they are now, for every row that the batch would have changed.

Replaying a refused batch would be wrong: a later batch may have become durable in between. Saying again what memory
holds by then is right in any order, and says it once however often the store refused.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from hub.core.gateway.session import QueuedMessage, Session
from hub.core.records import (
    Change,
    MessageDone,
    MessageQueued,
    RetainedSet,
    SessionChanged,
    SessionRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
    TopicRegistered,
)
from hub.wire.mqttsn.messages import TOPIC_PREDEFINED

Key = tuple[Any, ...]


class Tables(Protocol):
    """What memory holds now. `retained`: topic -> (payload, qos)."""

    @property
    def sessions(self) -> Mapping[str, Session]: ...

    @property
    def retained(self) -> Mapping[str, tuple[bytes, int]]: ...


_SESSION, _REMOVED, _TOPIC, _SUBSCRIPTION, _MESSAGE, _RETAINED = range(6)


def key_of(change: Change) -> Key | None:
    """Which row a change is about; None for what is gone with its batch (events, forwards)."""
    if isinstance(change, SessionChanged):
        return _SESSION, change.client_id
    if isinstance(change, SessionRemoved):
        return _REMOVED, change.client_id
    if isinstance(change, TopicRegistered):
        return _TOPIC, change.client_id, change.topic_id, change.topic_name
    if isinstance(change, (SubscriptionAdded, SubscriptionRemoved)):
        return _SUBSCRIPTION, change.client_id, change.topic_filter
    if isinstance(change, (MessageQueued, MessageDone)):
        return _MESSAGE, change.client_id, change.seq
    if isinstance(change, RetainedSet):
        return _RETAINED, change.topic, change.payload, change.qos
    return None


def resync(tables: Tables, keys: dict[Key, None], is_quiet: bool) -> tuple[list[Change], dict[Key, None]]:
    """`(changes that make the store agree with memory, keys that have to wait)`.

    `is_quiet`: no batch is under way. A removed session and a retained message wait for that: what is under way may be
    newer than memory, because a publish takes effect at home only once it is durable.
    """
    changes: list[Change] = []
    later: dict[Key, None] = {}
    for key in sorted(keys, key=lambda key: key[0] != _REMOVED):  # the wholesale ones first
        if key[0] in (_REMOVED, _RETAINED) and not is_quiet:
            later[key] = None
        else:
            changes += _state_of(tables, key)
    return changes, later


def _state_of(tables: Tables, key: Key) -> list[Change]:
    kind, name, *rest = key
    if kind == _RETAINED:
        topic = str(name)
        payload, qos = tables.retained.get(topic, (b"", 0))
        # Only if memory took it up: a retained message that waited for its commit was refused and is not there.
        return [RetainedSet(topic, payload, qos)] if payload == rest[0] else []
    client_id = str(name)
    session = tables.sessions.get(client_id)
    if session is None:
        return [SessionRemoved(client_id)]
    if kind == _SESSION:
        return [session.record()]
    if kind == _REMOVED:
        return _whole(session)
    if kind == _SUBSCRIPTION:
        topic_filter = str(rest[0])
        granted = session.subscriptions.get(topic_filter)
        if granted is None:
            return [SubscriptionRemoved(client_id, topic_filter)]
        return [SubscriptionAdded(client_id, topic_filter, granted)]
    if kind == _TOPIC:
        topic_id, topic = rest
        known = session.topics_by_id.get(topic_id) == topic or topic in session.predefined_topics
        return [TopicRegistered(client_id, topic_id, topic)] if known else []
    message = next((m for m in _messages(session) if m.seq == rest[0]), None)
    return [_queued(session, message) if message is not None else MessageDone(client_id, rest[0])]


def _whole(session: Session) -> list[Change]:
    client_id = session.client_id
    return [
        SessionRemoved(client_id),
        session.record(),
        *(TopicRegistered(client_id, topic_id, topic) for topic_id, topic in session.topics_by_id.items()),
        *(predefined_topic(client_id, topic_id, topic) for topic, topic_id in session.predefined_topics.items()),
        *(SubscriptionAdded(client_id, topic_filter, qos) for topic_filter, qos in session.subscriptions.items()),
        *(_queued(session, m) for m in _messages(session) if m.seq is not None and m.order is None),
    ]


def predefined_topic(client_id: str, topic_id: int, topic: str) -> TopicRegistered:
    """That a client knows a topic by its predefined id: kept like a registration, the topic id type above its 16 bits.

    Without it a client that subscribed by predefined id would be sent a REGISTER after the hub's restart.
    """
    return TopicRegistered(client_id, TOPIC_PREDEFINED << 16 | topic_id, topic)


def _messages(session: Session) -> list[QueuedMessage]:
    inflight = session.inflight
    return [*([inflight.message] if inflight is not None and inflight.message is not None else []), *session.queue]


def _queued(session: Session, message: QueuedMessage) -> MessageQueued:
    assert message.seq is not None
    return MessageQueued(session.client_id, message.seq, message.topic, message.payload, message.qos, message.retain)
