# SPDX-License-Identifier: GPL-3.0-or-later
"""What an adapter has under way with its gateway: its state, what it awaits, what is queued (MQTT-SN 1.2, section 6).

`client.Client` is built on it. Runs unchanged on CPython and on MicroPython.
"""

from hub.wire.mqttsn import messages

# Everything that moves the state is here: (state, event): state. A request that is not here is refused (6.2 to 6.14).
TRANSITIONS = {
    ("disconnected", "connect"): "connecting",
    ("lost", "connect"): "connecting",
    ("asleep", "connect"): "connecting",
    ("awake", "connect"): "connecting",
    ("connecting", "accepted"): "active",
    ("connecting", "refused"): "disconnected",
    ("connecting", "gave up"): "lost",
    ("active", "publish"): "active",
    ("active", "subscribe"): "active",
    ("active", "update will"): "active",
    ("active", "ping"): "active",
    ("active", "slept"): "asleep",
    ("active", "left"): "disconnected",
    ("active", "gave up"): "lost",
    ("asleep", "ping"): "awake",
    ("asleep", "slept"): "asleep",
    ("asleep", "left"): "disconnected",
    ("asleep", "gave up"): "lost",
    ("awake", "served"): "asleep",
    ("awake", "slept"): "asleep",
    ("awake", "left"): "disconnected",
    ("awake", "gave up"): "lost",
}


class LocalProtocolError(Exception):
    """The caller asked for what the state, a limit or the standard forbids; nothing was sent."""


class PendingRequest:
    """A message that waits for its answer; tries: retransmissions so far (6.13)."""

    __slots__ = ("due", "message", "tries")

    def __init__(self, message: messages.Message, due: float) -> None:
        self.message, self.due, self.tries = message, due, 0


class Outgoing:
    """A publish from the call to its outcome; the phase of QoS 2 is `released`."""

    __slots__ = ("msg_id", "payload", "qos", "released", "reregistered", "retain", "sent", "topic")

    def __init__(self, topic: "str | int", payload: bytes, qos: int, retain: bool, msg_id: int) -> None:
        self.topic, self.payload, self.qos, self.retain, self.msg_id = topic, payload, qos, retain, msg_id
        self.sent = self.released = self.reregistered = False


def topic_ref(topic: "str | int", filter_allowed: bool) -> "tuple[int, str | int]":
    """(topic id type, id or name) of what the caller calls a topic (6.7); LocalProtocolError when it is none."""
    if isinstance(topic, int):
        if not 0 < topic < 0xFFFF:
            raise LocalProtocolError("topic ids 0x0000 and 0xFFFF are reserved")
        return messages.TOPIC_PREDEFINED, topic
    wildcard = "+" in topic or "#" in topic
    if not topic or "\x00" in topic or len(topic) > 8191 or (wildcard and not filter_allowed):
        raise LocalProtocolError("not a topic name")
    if not wildcard:  # "/#" and the like are filters, not short names
        try:
            return messages.TOPIC_SHORT, messages.short_topic_id(topic)
        except ValueError:
            pass
    return messages.TOPIC_NORMAL, topic


class Exchange:
    """State, outstanding requests with their retries, the queue of publishes and the known topic ids."""

    def __init__(
        self, client_id: str, *, keepalive_s: int = 60, clean: bool = True,
        will: "tuple[str, bytes, int, bool] | None" = None, t_retry_s: float = 10, n_retry: int = 4,
        t_wait_s: float = 10, max_queue: int = 16,
    ) -> None:  # fmt: skip
        self.client_id, self.keepalive_s, self.clean, self.will = client_id, keepalive_s, clean, will
        self.t_retry_s, self.n_retry, self.t_wait_s, self.max_queue = t_retry_s, n_retry, t_wait_s, max_queue
        self.state = "disconnected"
        self.ignored = 0  # datagrams dropped: malformed, or not expected
        self._names: dict[int, str] = {}  # topic id: name, in both directions
        self._received: list[int] = []
        self._queue: list[Outgoing] = []
        self._pending: dict[str, PendingRequest] = {}  # one of each kind, as section 6 demands
        self._out: list[bytes] = []
        self._events: list[tuple[object, ...]] = []
        self._msg_id = 0
        self._sent_at: float = 0
        self._heard_at: float = 0

    def _require(self, event: str, kind: str) -> None:
        if (self.state, event) not in TRANSITIONS or kind in self._pending or "disconnect" in self._pending:
            raise LocalProtocolError(f"not now: {kind or event} while {self.state}")

    def _move(self, event: str) -> None:
        self.state = TRANSITIONS[(self.state, event)]

    def _forget_requests(self) -> None:
        for kind in list(self._pending):
            if kind != "search":
                del self._pending[kind]

    def _send(self, message: messages.Message, now: float) -> bool:
        self._out.append(message.encode())
        self._sent_at = now
        return True

    def _request(self, kind: str, message: messages.Message, now: float) -> bool:
        self._pending[kind] = PendingRequest(message, now + self.t_retry_s)
        return self._send(message, now)

    def _retry(self, kind: str, request: PendingRequest, now: float) -> None:
        request.tries += 1
        if request.tries > self.n_retry:
            if kind == "search":
                del self._pending[kind]
                return
            self._forget_requests()
            self._move("gave up")
            self._events.append(("lost",))
            return
        if isinstance(request.message, (messages.Publish, messages.Subscribe)):
            request.message.dup = True
        # 6.1 wants searches ever farther apart: nobody may be there for days.
        request.due = now + self.t_retry_s * (1 << request.tries if kind == "search" else 1)
        self._send(request.message, now)

    def _wait(self, kind: str, now: float) -> bool:
        """The gateway is congested: the same message again after T_wait, with all its retries (6.6)."""
        request = self._pending[kind]
        request.due, request.tries = now + self.t_wait_s, -1
        return True

    def _ping_due(self) -> "float | None":
        if self.state != "active" or not self.keepalive_s or "ping" in self._pending:
            return None
        # Early enough for one retransmission; also when we talk at QoS 0 and hear nothing: is anyone there?
        margin = min(self.t_retry_s, self.keepalive_s // 2)
        return min(self._sent_at, self._heard_at) + self.keepalive_s - margin

    def _new_msg_id(self) -> int:
        while True:
            self._msg_id = self._msg_id % 65535 + 1
            if self._msg_id not in [item.msg_id for item in self._queue]:
                return self._msg_id

    def _expects(self, kind: str, message_type: "type[messages.Message]", msg_id: int) -> bool:
        request = self._pending.get(kind)
        if request is None or not isinstance(request.message, message_type):
            return False
        return bool(getattr(request.message, "msg_id") == msg_id)  # noqa: B009

    def _learn(self, topic_id: int, name: str) -> None:
        for other in [i for i in self._names if self._names[i] == name]:
            del self._names[other]
        self._names[topic_id] = name

    def _enqueue(self, topic: "str | int", payload: bytes, qos: int, retain: bool, now: float) -> int:
        if len(self._queue) >= self.max_queue:
            raise LocalProtocolError("the queue is full")
        msg_id = self._new_msg_id() if qos else 0
        self._queue.append(Outgoing(topic, payload, qos, retain, msg_id))
        self._pump(now)
        return msg_id

    def _pump(self, now: float) -> None:
        """Send from the head of the queue until there is something to wait for."""
        while self._queue and not [kind for kind in ("publish", "register", "disconnect") if kind in self._pending]:
            item = self._queue[0]
            if item.released:
                self._request("publish", messages.PubRel(item.msg_id), now)
                return
            kind, ref = topic_ref(item.topic, False)
            if isinstance(ref, str):
                ids = [i for i in self._names if self._names[i] == ref]
                if not ids:
                    self._request("register", messages.Register(0, self._new_msg_id(), ref), now)
                    return
                ref = ids[0]
            message = messages.Publish(kind, ref, item.msg_id, item.payload, item.qos, item.retain, item.sent)
            item.sent = True
            if item.qos:
                self._request("publish", message, now)
                return
            self._queue.pop(0)
            self._send(message, now)

    def _published(self, return_code: int, now: float) -> bool:
        self._pending.pop("publish", None)
        self._events.append(("published", self._queue.pop(0).msg_id, return_code))
        self._pump(now)
        return True
