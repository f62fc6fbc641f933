"""The gateway machine in conversations: who said what, what must come back, on a virtual clock, over a model store.

`hears` feeds datagrams, `says` compares everything that was sent since (and commits first, unless the store `holds`).
When they differ, the whole conversation is printed with the difference marked.
"""

from collections.abc import Iterable
from typing import Any

from hub.core import records
from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig
from hub.core.records import Batch, Peer
from hub.wire.mqttsn import messages as codec
from hub.wire.mqttsn.messages import ConnAck, Connect, Disconnect, Message, Subscribe

NORMAL, PREDEFINED, SHORT = 0, 1, 2


class ModelStore:
    """What a store that works keeps of the batches it committed, and gives back after a restart."""

    def __init__(self) -> None:
        self.sessions: dict[str, records.SessionChanged] = {}
        self.topics: dict[tuple[str, int], str] = {}
        self.subscriptions: dict[tuple[str, str], int] = {}
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.inbox: dict[tuple[str, int], records.MessageQueued] = {}
        self.seen: list[records.Seen] = []
        self.samples: list[records.Sample] = []
        self.events: list[records.EventRecorded] = []
        self.forwards: list[records.ForwardQueued] = []

    def commit(self, batch: Batch) -> None:
        self.samples += batch.samples
        self.seen += batch.seen
        for change in batch.changes:
            getattr(self, "_" + type(change).__name__)(change)

    def restored(self) -> list[records.Restored]:
        """In the order of store/gateway_tables.py."""
        return [
            *(self.sessions[name] for name in sorted(self.sessions)),
            *(records.TopicRegistered(*key, self.topics[key]) for key in sorted(self.topics)),
            *(records.SubscriptionAdded(*key, self.subscriptions[key]) for key in sorted(self.subscriptions)),
            *(records.RetainedSet(topic, *self.retained[topic]) for topic in sorted(self.retained)),
            *(self.inbox[key] for key in sorted(self.inbox)),
            *self.seen,
        ]

    def values(self, quantity: str = "power") -> list[int]:
        return [sample.mantissa for sample in self.samples if sample.quantity == quantity]

    def event_names(self) -> list[str]:
        return [event.event for event in self.events]

    def _SessionChanged(self, change: records.SessionChanged) -> None:  # noqa: N802
        self.sessions[change.client_id] = change

    def _SessionRemoved(self, change: records.SessionRemoved) -> None:  # noqa: N802
        self.sessions.pop(change.client_id, None)
        for table in (self.topics, self.subscriptions, self.inbox):
            for key in [key for key in table if key[0] == change.client_id]:
                del table[key]  # type: ignore[attr-defined]

    def _TopicRegistered(self, change: records.TopicRegistered) -> None:  # noqa: N802
        self.topics[change[:2]] = change.topic_name

    def _SubscriptionAdded(self, change: records.SubscriptionAdded) -> None:  # noqa: N802
        self.subscriptions[change[:2]] = change.qos

    def _SubscriptionRemoved(self, change: records.SubscriptionRemoved) -> None:  # noqa: N802
        self.subscriptions.pop(tuple(change), None)

    def _RetainedSet(self, change: records.RetainedSet) -> None:  # noqa: N802
        if change.payload:
            self.retained[change.topic] = change[1:]
        else:
            self.retained.pop(change.topic, None)

    def _MessageQueued(self, change: records.MessageQueued) -> None:  # noqa: N802
        self.inbox[change[:2]] = change

    def _MessageDone(self, change: records.MessageDone) -> None:  # noqa: N802
        self.inbox.pop(tuple(change), None)

    def _EventRecorded(self, change: records.EventRecorded) -> None:  # noqa: N802
        self.events.append(change)

    def _ForwardQueued(self, change: records.ForwardQueued) -> None:  # noqa: N802
        self.forwards.append(change)


def peer_of(name: str) -> Peer:
    """`a` is a UDP node; `zb...` a Zigbee node; anything with a `>` is behind a forwarder: `fw>node`."""
    first, _, node = name.partition(">")
    peer: Peer = ("zigbee", first) if first.startswith("zb") else ("udp", first, 10000)
    return (*peer, node.encode()) if node else peer


class Playbook:
    """A gateway, its store and its clock. Peers go by short names (see `peer_of`)."""

    def __init__(self, store: ModelStore | None = None, **settings: Any) -> None:
        self.settings = settings
        self.store = store or ModelStore()
        self.now = 1000.0
        self.held: list[Batch] = []
        self.holds = False
        self.transcript: list[str] = []
        self.names: dict[Peer, str] = {}
        self.out: list[tuple[str, Message]] = []
        self.boot()

    def boot(self) -> None:
        """A new machine on what the store has; what was in memory is gone."""
        self.gateway = Gateway(GatewayConfig(**self.settings), self.now)
        self.gateway.restore(self.store.restored(), self.now)
        self.held.clear()
        self.transcript.append("--- the hub starts")
        self._flush()

    def restarts(self) -> None:
        """`kill -9`: batches that the store held are lost with the memory."""
        self.out.clear()
        self.boot()

    # Input

    def hears(self, name: str, *messages: Message | bytes) -> "Playbook":
        peer = peer_of(name)
        self.names[peer] = name
        for message in messages:
            self.transcript.append(f"{self.now:7.1f} {name} > {message!r}")
            data = message if isinstance(message, bytes) else message.encode()
            self.gateway.receive_datagram(peer, data, self.now)
            self._flush()
        return self

    def waits(self, seconds: float) -> "Playbook":
        """Let time pass; every timer fires at its own moment."""
        end = self.now + seconds
        while (due := self.gateway.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.gateway.handle_timer(self.now)
            self._flush()
            after = self.gateway.get_timer()
            assert after is None or after > self.now, "a timer that fires for ever"
        self.now = end
        return self

    def publishes(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> "Playbook":
        """The hub's own publish."""
        self.transcript.append(f"{self.now:7.1f} hub publishes {topic} {payload!r}")
        self.gateway.publish(topic, payload, self.now, qos=qos, retain=retain)
        self._flush()
        return self

    # The store

    def commits(self, count: int | None = None) -> "Playbook":
        """The store makes what it held durable, the oldest `count` batches of it."""
        for batch in self._take_held(count):
            self.store.commit(batch)
            self.transcript.append(f"{self.now:7.1f} --- committed {batch.id}")
            self.gateway.committed(batch.id, self.now)
            self._collect()
        if not self.holds:
            self._flush()
        return self

    def refuses(self, count: int | None = None) -> "Playbook":
        for batch in self._take_held(count):
            self.transcript.append(f"{self.now:7.1f} --- refused {batch.id}")
            self.gateway.refused(batch.id, self.now)
            self._collect()
        return self

    def _take_held(self, count: int | None) -> list[Batch]:
        self._take()
        count = len(self.held) if count is None else count
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def _take(self) -> None:
        batch = self.gateway.take_batch()
        if batch is not None:
            self.held.append(batch)

    def _flush(self) -> None:
        self._collect()
        self._take()
        while self.held and not self.holds:
            self.commits()
            self._take()

    def _collect(self) -> None:
        for peer, data in self.gateway.datagrams_to_send():
            message = codec.decode(data)
            if isinstance(message, codec.Forward):
                peer, message = (*peer, message.wireless_node_id), codec.decode(message.message)
            name = self.names.get(peer, str(peer[1]))
            self.out.append((name, message))
            self.transcript.append(f"{self.now:7.1f} {name} < {message!r}")

    # Output

    def says(self, *expected: tuple[str, Message] | Message) -> "Playbook":
        """Everything sent since the last `says`, in order; a bare message goes to `a`."""
        wanted = [message if isinstance(message, tuple) else ("a", message) for message in expected]
        got, self.out = self.out, []
        if got != wanted:
            raise AssertionError(self._difference(wanted, got))
        return self

    def says_nothing(self) -> "Playbook":
        return self.says()

    def forget(self) -> "Playbook":
        """Take no notice of what was sent so far."""
        self.out.clear()
        return self

    def _difference(self, wanted: Iterable[tuple[str, Message]], got: Iterable[tuple[str, Message]]) -> str:
        lines = ["the gateway did not say what was expected", "", *self.transcript, ""]
        wanted_lines = [f"{name} < {message!r}" for name, message in wanted]
        got_lines = [f"{name} < {message!r}" for name, message in got]
        for at in range(max(len(wanted_lines), len(got_lines))):
            left = wanted_lines[at] if at < len(wanted_lines) else "(nothing more)"
            right = got_lines[at] if at < len(got_lines) else "(nothing more)"
            lines += [f"      {left}"] if left == right else [f"  want {left}", f"  got  {right}"]
        return "\n".join(lines)

    # Short cuts

    def connects(
        self, name: str = "a", client_id: str = "plug-1", *, clean: bool = True, duration_s: int = 60
    ) -> "Playbook":
        holds, self.holds = self.holds, False
        self.hears(name, Connect(client_id, duration_s, clean)).says((name, ConnAck(0)))
        self.holds = holds
        return self

    def subscribes(self, topic: str | int, qos: int = 1, name: str = "a") -> int:
        """Subscribe by name or predefined id; the topic id of the SUBACK."""
        kind = NORMAL if isinstance(topic, str) else PREDEFINED
        self.forget().hears(name, Subscribe(kind, topic, 7, qos))
        ((_, suback),) = self.out[:1]
        assert isinstance(suback, codec.SubAck) and suback.return_code == 0, suback
        del self.out[0]
        return suback.topic_id

    def sleeps(self, name: str = "a", duration_s: int = 600) -> "Playbook":
        return self.hears(name, Disconnect(duration_s)).says((name, Disconnect()))

    def state(self, client_id: str = "plug-1") -> str:
        return next(s.state for s in self.gateway.sessions() if s.client_id == client_id)
