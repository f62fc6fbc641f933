"""The gateway's records (hub/core/records.py) in and out of their tables."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, cast

import cbor2

from hub.core import records as r
from store.cbor import load_own
from store.database import Database
from store.errors import StoreCorrupt

Rows = list[tuple[Any, ...]]


def _session_row(change: r.SessionChanged) -> tuple[Any, ...]:
    return (change[0], cbor2.dumps(list(change.peer)), *change[2:])


# What each kind of change does: queries, each executed with the rows that the function makes of a run of changes.
_WRITES: dict[type, tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {
    r.SessionChanged: (("session_put",), _session_row),
    r.SessionRemoved: (
        ("session_drop", "session_drop_topics", "session_drop_subscriptions", "session_drop_inbox"),
        tuple,
    ),
    r.TopicRegistered: (("topic_put",), tuple),
    r.SubscriptionAdded: (("subscription_put",), tuple),
    r.SubscriptionRemoved: (("subscription_drop",), tuple),
    r.MessageQueued: (("inbox_put",), tuple),
    r.MessageDone: (("inbox_drop",), tuple),
}


def _kind(change: r.Change) -> tuple[type, bool]:
    return type(change), isinstance(change, r.RetainedSet) and not change.payload


def apply_changes(
    db: Database, changes: Iterable[r.Change], put_forwards: Callable[[Iterable[r.ForwardQueued]], None]
) -> None:
    """Write changes in their order, runs of one kind together (inside a transaction). Events are not among them."""
    for (kind, removes), run in groupby(changes, _kind):
        if kind is r.RetainedSet:
            if removes:
                db.many("retained_drop", [change[:1] for change in run])
            else:
                db.many("retained_put", list(run))
        elif kind is r.ForwardQueued:
            put_forwards(cast("Iterable[r.ForwardQueued]", run))
        else:
            queries, row_of = _WRITES[kind]
            rows: Rows = [row_of(change) for change in run]
            for query in queries:
                db.many(query, rows)


def restore_records(db: Database) -> Iterator[r.Restored]:
    """What the tables hold, sessions before what belongs to them. Raises StoreCorrupt for a peer that does not read."""
    for client_id, peer, state, clean, duration_s, topic, message, qos, retain, v2_state in db.run("sessions_all"):
        yield r.SessionChanged(
            client_id, read_peer(peer), state, bool(clean), duration_s, topic, message, qos, bool(retain), v2_state
        )
    for row in db.run("topics_all"):
        yield r.TopicRegistered(*row)
    for row in db.run("subscriptions_all"):
        yield r.SubscriptionAdded(*row)
    for row in db.run("retained_all"):
        yield r.RetainedSet(*row)
    for row in db.run("inbox_all"):
        client_id, seq, topic, payload, qos, retain = row
        yield r.MessageQueued(client_id, seq, topic, payload, qos, bool(retain))


def read_peer(data: bytes) -> r.Peer:
    """A peer as it was given."""
    peer = load_own(data, "a peer")
    if not isinstance(peer, list):
        raise StoreCorrupt("a peer is not a list")
    return tuple(peer)
