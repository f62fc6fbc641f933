# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter's half of MQTT-SN 1.2 (section 6): a machine without I/O or clock, on CPython and MicroPython alike.

The caller passes each datagram to `receive_datagram`, calls `handle_timer` when `get_timer` says so, and after every
call sends `datagrams_to_send` and drains `next_event`. `now` is in seconds, from any clock that never goes back. Where
floats have 24 bits, pass int for `now` and for all settings in seconds: then no time here is a float, which would stop.
SEARCHGW (its second byte is 0x01) is to be broadcast, all else goes to the gateway.

Events: ("connected",), ("refused", return_code), ("published", msg_id, return_code), ("subscribed", msg_id, topic_id,
granted_qos, return_code), ("unsubscribed", msg_id), ("message", topic, payload, qos, retain) with a str topic, or an
int when predefined, ("asleep",), ("awake",), ("disconnected",), ("lost",), ("gateway", gw_id, address: b"" = the
sender), ("will_updated",). A refused will update is ("refused", return_code) while the state stays "active".
"""

from hub.core.adapter.exchange import Exchange, topic_ref
from hub.core.adapter.exchange import LocalProtocolError as LocalProtocolError
from hub.wire.mqttsn import messages

_MAX_RECEIVED = 16  # QoS 2 messages between PUBLISH and PUBREL; a gateway has one, this bounds a hostile one
_MAX_TOPICS = 64  # topic ids a gateway may make us remember


class Client(Exchange):
    """One client. Publishes that have no outcome yet survive "lost" and "disconnected" and go on after `connect`.

    keepalive_s: 0 = none; will: (topic, payload, qos, retain); t_retry_s, n_retry: section 7.2; t_wait_s: how long a
    congested gateway is left alone (6.6); max_queue: publishes without an outcome.
    """

    # Requests.

    def connect(self, now: float) -> None:
        """CONNECT (6.2). Out of sleep it leaves session and will as they are, whatever `clean` says (6.14)."""
        resuming = self.state in ("asleep", "awake")
        self._require("connect", "connect")
        self._move("connect")
        self._forget_requests()
        fresh = self.clean and not resuming
        if fresh:
            self._names = {}
            self._received = []
        will = self.will is not None and not resuming
        self._request("connect", messages.Connect(self.client_id, self.keepalive_s, fresh, will), now)

    def disconnect(self, now: float, duration_s: "int | None" = None) -> None:
        """DISCONNECT (6.12); with a duration (1 to 65535 s) sleep: ping before it has passed (6.14)."""
        self._require("left", "disconnect")
        if duration_s is not None and not 0 < duration_s < 65536:
            raise LocalProtocolError("sleep lasts 1 to 65535 s")
        self._request("disconnect", messages.Disconnect(duration_s), now)

    def publish(self, topic: "str | int", payload: bytes, qos: int, now: float, retain: bool = False) -> int:
        """PUBLISH (6.6 to 6.8); the message id, 0 for QoS 0 and -1, of which no success is reported."""
        kind, topic_id = topic_ref(topic, False)
        if not -1 <= qos <= 2 or len(payload) > 65526:
            raise LocalProtocolError("QoS is -1 to 2, a payload at most 65526 bytes")
        if qos == -1:
            if isinstance(topic_id, str):
                raise LocalProtocolError("QoS -1 needs a predefined or short topic")
            self._send(messages.Publish(kind, topic_id, 0, payload, qos, retain), now)
            return 0
        self._require("publish", "")
        return self._enqueue(topic, payload, qos, retain, now)

    def withdraw(self, msg_id: int, now: float) -> bool:
        """Forget a QoS 1 publish that has no outcome, say because its payload has aged; False when there is none.

        Sent or not: the gateway may have it, and an answer that still comes is ignored.
        """
        for at, item in enumerate(self._queue):
            if item.qos == 1 and item.msg_id == msg_id:
                if at == 0:
                    self._pending.pop("publish", None)
                    self._pending.pop("register", None)
                self._queue.pop(at)
                if self.state == "active":
                    self._pump(now)
                return True
        return False

    def subscribe(self, topic: "str | int", qos: int, now: float) -> int:
        """SUBSCRIBE (6.9), one at a time; the message id."""
        kind, ref = topic_ref(topic, True)
        if not 0 <= qos <= 2:
            raise LocalProtocolError("QoS is 0 to 2")
        self._require("subscribe", "subscribe")
        msg_id = self._new_msg_id()
        self._request("subscribe", messages.Subscribe(kind, ref, msg_id, qos), now)
        return msg_id

    def unsubscribe(self, topic: "str | int", now: float) -> int:
        """UNSUBSCRIBE (6.9), not while a SUBSCRIBE is unanswered either; the message id."""
        kind, ref = topic_ref(topic, True)
        self._require("subscribe", "subscribe")
        msg_id = self._new_msg_id()
        self._request("subscribe", messages.Unsubscribe(kind, ref, msg_id), now)
        return msg_id

    def ping(self, now: float) -> None:
        """PINGREQ (6.11); asleep: wake for the messages that the gateway kept, then sleep on (6.14)."""
        self._require("ping", "ping")
        waking = self.state == "asleep"
        self._move("ping")
        if waking:
            self._events.append(("awake",))
        self._request("ping", messages.PingReq(self.client_id if waking else ""), now)

    def search_gateway(self, now: float, radius: int = 1) -> None:
        """SEARCHGW, at once (6.1): whoever switches many adapters on at one time spreads the calls over 5 s."""
        self._request("search", messages.SearchGw(radius), now)

    def update_will(self, topic: str, payload: bytes, qos: int, retain: bool, now: float) -> None:
        """WILLTOPICUPD and WILLMSGUPD (6.4); an empty topic deletes the will."""
        self._require("update will", "will")
        self.will = (topic, payload, qos, retain) if topic else None
        self._request("will", messages.WillTopicUpd(topic, qos, retain), now)

    # Input and output.

    def receive_datagram(self, data: bytes, now: float) -> None:
        """Never raises: what is malformed or not expected is counted in `ignored`."""
        try:
            message = messages.decode(data)
        except messages.Malformed:
            self.ignored += 1
            return
        handler = _HANDLERS.get(message.MSG_TYPE)
        if handler is None or not getattr(self, handler)(message, now):
            self.ignored += 1
            return
        self._heard_at = now
        if self.state == "awake" and "ping" in self._pending:
            self._pending["ping"].due = now + self.t_retry_s  # PINGRESP comes after the last message

    def handle_timer(self, now: float) -> None:
        """Retransmit, give up (6.13), keep alive (6.11): whatever is due."""
        for kind in list(self._pending):
            request = self._pending.get(kind)
            if request is not None and request.due <= now:
                self._retry(kind, request, now)
        due = self._ping_due()
        if due is not None and due <= now:
            self._request("ping", messages.PingReq(), now)

    def datagrams_to_send(self) -> "list[bytes]":
        out, self._out = self._out, []
        return out

    def get_timer(self) -> "float | None":
        """When `handle_timer` is due."""
        dues = [request.due for request in self._pending.values()]
        due = self._ping_due()
        if due is not None:
            dues.append(due)
        return min(dues) if dues else None

    def next_event(self) -> "tuple[object, ...] | None":
        return self._events.pop(0) if self._events else None

    # The gateway's messages; each handler tells whether the message was expected.

    def _on_advertise(self, message: messages.Advertise, now: float) -> bool:
        self._events.append(("gateway", message.gw_id, b""))
        return True

    def _on_gwinfo(self, message: messages.GwInfo, now: float) -> bool:
        self._pending.pop("search", None)
        self._events.append(("gateway", message.gw_id, message.gw_add))
        return True

    def _on_connack(self, message: messages.ConnAck, now: float) -> bool:
        if self._pending.pop("connect", None) is None:
            return False
        if message.return_code == messages.ACCEPTED:
            self._move("accepted")
            self._events.append(("connected",))
            self._heard_at = now
            self._pump(now)
        else:
            self._move("refused")
            self._events.append(("refused", message.return_code))
        return True

    def _on_will_request(self, message: messages.Message, now: float) -> bool:
        """The answers are not retransmitted themselves: CONNECT is, and starts the dialogue anew (6.2, 6.13)."""
        request = self._pending.get("connect")
        if request is None or self.will is None:
            return False
        request.due = now + self.t_retry_s
        topic, payload, qos, retain = self.will
        if isinstance(message, messages.WillTopicReq):
            return self._send(messages.WillTopic(topic, qos, retain), now)
        return self._send(messages.WillMsg(payload), now)

    def _on_register(self, message: messages.Register, now: float) -> bool:
        if self.state not in ("active", "awake"):
            return False
        return_code = messages.ACCEPTED
        if message.topic_id in (0, 0xFFFF):
            return_code = messages.INVALID_TOPIC_ID
        elif len(self._names) >= _MAX_TOPICS and message.topic_id not in self._names:
            return_code = messages.CONGESTION
        else:
            self._learn(message.topic_id, message.topic_name)
        return self._send(messages.RegAck(message.topic_id, message.msg_id, return_code), now)

    def _on_regack(self, message: messages.RegAck, now: float) -> bool:
        if not self._expects("register", messages.Register, message.msg_id):
            return False
        if message.return_code == messages.CONGESTION:
            return self._wait("register", now)
        if message.return_code == messages.ACCEPTED and message.topic_id in (0, 0xFFFF):
            return False
        request = self._pending.pop("register")
        if message.return_code != messages.ACCEPTED:
            return self._published(message.return_code, now)
        if isinstance(request.message, messages.Register):
            self._learn(message.topic_id, request.message.topic_name)
        self._pump(now)
        return True

    def _on_puback(self, message: messages.PubAck, now: float) -> bool:
        if message.msg_id == 0 and message.return_code == messages.INVALID_TOPIC_ID:
            # About a QoS 0 publish, which is gone; the next one on that topic registers it first (6.6).
            return self._names.pop(message.topic_id, None) is not None
        if not self._expects("publish", messages.Publish, message.msg_id):
            return False
        item = self._queue[0]
        if message.return_code == messages.CONGESTION:
            return self._wait("publish", now)
        if message.return_code == messages.ACCEPTED and item.qos == 2:
            return False
        ids = [i for i in self._names if self._names[i] == item.topic]
        if message.return_code == messages.INVALID_TOPIC_ID and ids and not item.reregistered:
            item.reregistered = True
            del self._names[ids[0]]
            del self._pending["publish"]
            self._pump(now)
            return True
        return self._published(message.return_code, now)

    def _on_pubrec(self, message: messages.PubRec, now: float) -> bool:
        if self._expects("publish", messages.PubRel, message.msg_id):
            return self._send(messages.PubRel(message.msg_id), now)
        if not self._expects("publish", messages.Publish, message.msg_id) or self._queue[0].qos != 2:
            return False
        self._queue[0].released = True
        return self._request("publish", messages.PubRel(message.msg_id), now)

    def _on_pubcomp(self, message: messages.PubComp, now: float) -> bool:
        return self._expects("publish", messages.PubRel, message.msg_id) and self._published(messages.ACCEPTED, now)

    def _on_publish(self, message: messages.Publish, now: float) -> bool:
        if self.state not in ("active", "awake") or message.qos < 0 or (message.qos and not message.msg_id):
            return False
        topic: str | int | None = message.topic_id
        if message.topic_id_type == messages.TOPIC_NORMAL:
            topic = self._names.get(message.topic_id)
        elif message.topic_id_type == messages.TOPIC_SHORT:
            try:
                topic = messages.short_topic_name(message.topic_id)
            except messages.Malformed:
                topic = None
        if topic is None:
            if message.qos:
                self._send(messages.PubAck(message.topic_id, message.msg_id, messages.INVALID_TOPIC_ID), now)
            return False
        if message.qos == 2:
            if message.msg_id in self._received:
                return self._send(messages.PubRec(message.msg_id), now)
            if len(self._received) >= _MAX_RECEIVED:
                return self._send(messages.PubAck(message.topic_id, message.msg_id, messages.CONGESTION), now)
            self._received.append(message.msg_id)
            self._send(messages.PubRec(message.msg_id), now)
        elif message.qos == 1:
            self._send(messages.PubAck(message.topic_id, message.msg_id, messages.ACCEPTED), now)
        self._events.append(("message", topic, message.data, message.qos, message.retain))
        return True

    def _on_pubrel(self, message: messages.PubRel, now: float) -> bool:
        if self.state not in ("active", "awake"):
            return False
        if message.msg_id in self._received:
            self._received.remove(message.msg_id)
        return self._send(messages.PubComp(message.msg_id), now)

    def _on_suback(self, message: messages.SubAck, now: float) -> bool:
        if not self._expects("subscribe", messages.Subscribe, message.msg_id):
            return False
        if message.return_code == messages.CONGESTION:
            return self._wait("subscribe", now)
        asked = self._pending.pop("subscribe").message
        if message.return_code == messages.ACCEPTED and isinstance(asked, messages.Subscribe):
            name = asked.topic
            # A filter has no topic id: each of its topics comes with a REGISTER of its own (6.10).
            if isinstance(name, str) and not ("+" in name or "#" in name) and 0 < message.topic_id < 0xFFFF:
                self._learn(message.topic_id, name)
        self._events.append(("subscribed", message.msg_id, message.topic_id, message.qos, message.return_code))
        return True

    def _on_unsuback(self, message: messages.UnsubAck, now: float) -> bool:
        if not self._expects("subscribe", messages.Unsubscribe, message.msg_id):
            return False
        del self._pending["subscribe"]
        self._events.append(("unsubscribed", message.msg_id))
        return True

    def _on_pingreq(self, message: messages.PingReq, now: float) -> bool:
        return self.state in ("active", "awake") and self._send(messages.PingResp(), now)

    def _on_pingresp(self, message: messages.PingResp, now: float) -> bool:
        if self._pending.pop("ping", None) is None:
            return False
        if self.state == "awake":
            self._move("served")
            self._events.append(("asleep",))
        return True

    def _on_disconnect(self, message: messages.Disconnect, now: float) -> bool:
        if self.state not in ("active", "asleep", "awake"):
            return False
        request = self._pending.get("disconnect")
        asked = request.message if request else None
        sleeping = isinstance(asked, messages.Disconnect) and asked.duration is not None
        self._forget_requests()
        self._move("slept" if sleeping else "left")
        self._events.append(("asleep",) if sleeping else ("disconnected",))
        return True

    def _on_will_response(self, message: "messages.WillTopicResp | messages.WillMsgResp", now: float) -> bool:
        request = self._pending.get("will")
        topic_phase = isinstance(message, messages.WillTopicResp)
        if request is None or isinstance(request.message, messages.WillTopicUpd) != topic_phase:
            return False
        if message.return_code == messages.CONGESTION:
            return self._wait("will", now)
        del self._pending["will"]
        if message.return_code != messages.ACCEPTED:
            self._events.append(("refused", message.return_code))
        elif topic_phase and self.will is not None:
            self._request("will", messages.WillMsgUpd(self.will[1]), now)
        else:
            self._events.append(("will_updated",))
        return True


_HANDLERS = {
    0x00: "_on_advertise",
    0x02: "_on_gwinfo",
    0x05: "_on_connack",
    0x06: "_on_will_request",
    0x08: "_on_will_request",
    0x0A: "_on_register",
    0x0B: "_on_regack",
    0x0C: "_on_publish",
    0x0D: "_on_puback",
    0x0E: "_on_pubcomp",
    0x0F: "_on_pubrec",
    0x10: "_on_pubrel",
    0x13: "_on_suback",
    0x15: "_on_unsuback",
    0x16: "_on_pingreq",
    0x17: "_on_pingresp",
    0x18: "_on_disconnect",
    0x1B: "_on_will_response",
    0x1D: "_on_will_response",
}
