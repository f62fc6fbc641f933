"""One MQTT connection: paho-mqtt on an asyncio loop, used for what it is good at and nothing else.

A new paho client is made for every connection: nothing outlives a connection inside paho, what is undelivered is sent
again from the store. paho's callbacks only hand over (an exception in one would leave a dead session that looks alive).
"""

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from drivers.host_names import HostNames
from drivers.threads import in_thread
from drivers.tls import ResumingContext, TlsSocket, line_bytes_of
from hub.core.uplink.reasons import LOST, REFUSED, RETAIN_NOT_SUPPORTED, UNSUPPORTED_VERSION, describe, kind_of
from hub.core.uplink.traffic import LineBytes
from hub.services.uplink.failure import UplinkFailure, failure_of
from hub.services.uplink.mqtt_client import MqttClient, PublishProperties

if TYPE_CHECKING:
    from hub.wire.admin import TlsFigures

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20.0
NAME_WITHIN_S = 30.0
# A broker of MQTT 3.1.1 cannot say how many messages it takes before it answers. Hosted ones (AWS IoT) take so many.
_UNTOLD_MAXIMUM = 100
# The broker keeps our subscriptions and what it queued for us this long (MQTT 5 section 3.1.2.11.2).
SESSION_EXPIRY_S = 7 * 86400
# How long behind a SUBACK a retained message may come, beside four times what the SUBACK took.
_RETAINED_S = 0.5
# How many commands the broker may have under way to us. Not all of them heed it (mosquitto 2.0.11 sent 257), and MQTT
# 3.1.1 has no such word: beyond so many bytes the line is not read until some are acknowledged. Many, because the
# broker's queue is first in, first out, and ours is in turn by operator: reading costs less than verifying, so who is
# behind a flood in another's name passes as much of it as was read.
RECEIVE_MAXIMUM = 16_384
_MOST_UNACKED_BYTES = 6 << 20
_HELD_BYTES = 320  # what a message that waits takes beside its own bytes
# A command has 16 KiB at most; what is larger the broker need not bring.
_MAXIMUM_PACKET_BYTES = 32_768
# A message that nobody answers while the line is dead silent this long: the connection is half open. Acknowledgements
# of TCP count as life: a large pack on a slow line takes its time.
SILENCE_S = 30.0
# A broker that lives and still owes an answer after so many of them has forgotten the message: it is sent again.
OVERDUE_SILENCES = 10
_MISC_PERIOD_S = 5.0
_MOST_LEFT = 64
_PACKETS_A_TURN = 32
_NO_LIMIT = 268_435_455  # MQTT 5 section 2.1.4: what a remaining length can say
_FIXED_HEADER_BYTES = 5


@dataclass(frozen=True, slots=True)
class StateWill:
    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the broker sent. `mid`: what is to be acknowledged, 0 at QoS 0."""

    topic: str
    payload: bytes
    is_retained: bool
    mid: int


class MqttSession:
    """One connection, from CONNECT to its end. All methods but the blocking part of `connect` run on the loop."""

    def __init__(
        self,
        *,
        client_id: str,
        protocol: str,
        context: ResumingContext,
        keepalive_s: int,
        silence_s: float,
        will: StateWill,
        published: Callable[[int, int], None],
        received: Callable[[Delivery], None],
        login: tuple[str, str | None] | None = None,
        names: HostNames | None = None,
        name_within_s: float = NAME_WITHIN_S,
    ) -> None:
        """`login`: user name and password, for brokers that want them beside the certificate. `names`: of those who
        connect again and again; `name_within_s`: how long the broker's name may take to be found."""
        self._names, self._name_within_s = names or HostNames(), name_within_s
        self._loop = asyncio.get_running_loop()
        self._is_5 = protocol == "5"
        self._asked_keepalive_s = keepalive_s
        self._silence_s = silence_s
        self.keepalive_s = keepalive_s
        self._published = published
        self._login = login
        self._received = received
        self._subscribing: dict[int, asyncio.Future[list[int]]] = {}
        self._wanted: tuple[str, asyncio.Future[bytes]] | None = None  # a topic whose retained message is waited for
        self._connack: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._ended: asyncio.Future[UplinkFailure] = self._loop.create_future()
        self._abandoned: asyncio.Future[None] = self._loop.create_future()
        self._socket: TlsSocket | None = None
        self._misc: asyncio.TimerHandle | None = None
        self._context = context
        self._paho_error = ""
        self._unanswered: dict[int, float] = {}  # message id: when it was sent
        # Messages received: the bytes that each holds, negative once its PUBACK may go; and their order. Not the
        # dictionary's own: the way to its first entry leads over all that were deleted before it.
        self._unacked: dict[int, int] = {}
        self._arrived: deque[int] = deque()
        self._unacked_bytes = 0
        self._is_full = False
        self._aliases: dict[str, int] = {}
        self._alias_maximum = 0
        self._properties: dict[tuple[int, int], PublishProperties] = {}  # by alias and expiry: few
        self._left: set[str] = set()
        self._life: tuple[LineBytes, float] = (LineBytes(0, 0, 0, 0, 0), self._loop.time())
        self.receive_maximum = _UNTOLD_MAXIMUM
        self.keeps_retained = True
        self._maximum_qos = 2
        self.has_answered = False  # the broker took something in this session
        self.refusal: int | None = None  # the reason code with which it refused something
        self.maximum_packet_bytes = _NO_LIMIT
        self.last_sent_at = self._loop.time()
        self.ended_in_order = False
        self.ended_by_us = False
        self.tls: TlsFigures = {}
        # Whoever looks at the messages: called with "in" or "out", the topic, the payload.
        self.tap: Callable[[str, str, bytes], None] = lambda way, topic, payload: None
        self.client = self._build(client_id, context, will)

    def _build(self, client_id: str, context: ResumingContext, will: StateWill) -> MqttClient:
        version = mqtt.MQTTv5 if self._is_5 else mqtt.MQTTv311
        # clean_session belongs to 3.1.1; 5 says clean_start at connect. False: the broker keeps commands for us.
        clean_session = None if self._is_5 else False
        client = MqttClient(
            CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=version, manual_ack=True,
            # Else a broker that refuses 3.1.1 makes paho connect again by itself, in the middle of our loop.
            reconnect_on_failure=False,
        )  # fmt: skip
        client.tls_set_context(context)
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        if self._login is not None:
            client.username_pw_set(*self._login)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    # paho's callbacks: hand over, nothing else

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if self._is_5:
            self.receive_maximum = getattr(properties, "ReceiveMaximum", 0) or 65535
        self.maximum_packet_bytes = getattr(properties, "MaximumPacketSize", 0) or _NO_LIMIT
        self.keepalive_s = getattr(properties, "ServerKeepAlive", 0) or self._asked_keepalive_s
        self._alias_maximum = getattr(properties, "TopicAliasMaximum", 0)
        self.keeps_retained = bool(getattr(properties, "RetainAvailable", 1))
        self._maximum_qos = getattr(properties, "MaximumQoS", 2)
        if not self._connack.done():
            self._connack.set_result((reason.value, getattr(properties, "ServerReference", "")))

    def _on_log(self, _c: Any, _u: Any, level: int, text: str) -> None:
        if level == mqtt.MQTT_LOG_ERR:  # the only place where paho tells why a socket failed
            self._paho_error = text

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._unanswered.pop(mid, None)
        if reason.value >= 0x80:
            self.refusal = reason.value
        else:
            self.has_answered = True
        # A PUBACK may carry a refusal, which paho itself counts as published.
        self._published(mid, reason.value)

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        self.tap("in", topic, payload)
        if message.qos and message.mid not in self._unacked:
            self._note(message.mid, len(payload))
        if message.retain and self._wanted is not None and topic == self._wanted[0] and not self._wanted[1].done():
            self._wanted[1].set_result(payload)
        self._received(Delivery(topic, payload, message.retain, message.mid if message.qos else 0))

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        future = self._subscribing.pop(mid, None)
        if future is not None and not future.done():
            future.set_result([reason.value for reason in reasons])

    def _on_disconnect(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        # A broker that says DISCONNECT (MQTT 5) stops in order; one that is just gone may have forgotten something.
        self.ended_in_order = bool(getattr(flags, "is_disconnect_packet_from_server", False))
        if self.ended_in_order and reason.value:
            text, reference = f"the broker ended the session: {describe(reason.value)}", "ServerReference"
            self._end(text, kind_of(reason.value, LOST), getattr(properties, reference, ""))
        else:
            self._end(self._paho_error or str(reason))

    def _end(self, why: str, kind: str = LOST, reference: str = "") -> None:
        if not self._ended.done():
            self._ended.set_result(UplinkFailure(kind, why, reference=reference))

    def _on_socket_close(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            self._socket = None

    def _on_register_write(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None:  # before that, in the connecting thread, there is nothing to wait for
            self._loop.add_writer(sock, self._write)

    def _on_unregister_write(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None and not self._socket.has_unsent:
            self._loop.remove_writer(sock)

    # The loop's side

    async def connect(self, host: str, port: int) -> None:
        """Open TCP and TLS, send CONNECT, await CONNACK. Raises UplinkFailure."""
        await self._open(host, port)
        opened = self.client.socket()
        if not isinstance(opened, ssl.SSLSocket):
            raise UplinkFailure("uplink-refused", "the connection was closed at once")
        assert isinstance(opened, TlsSocket)
        self._socket = opened
        self._socket.buffer()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = {
            "version": opened.version(),
            "cipher": (opened.cipher() or ("",))[0],
            "resumed": opened.session_reused,
        }
        self._loop.add_reader(self._socket, self._read)
        self._read()
        self._write()
        self._tick()
        try:
            waited: set[asyncio.Future[Any]] = {self._connack, self._ended, self._abandoned}
            await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            self._judge_connack()
        except UplinkFailure:
            await self.close()
            raise

    @property
    def room(self) -> int:
        """How many more messages the broker takes before it answers one (MQTT 5 section 3.3.4)."""
        return self.receive_maximum - len(self._unanswered)

    def line_bytes(self) -> LineBytes | None:
        """What this connection carried so far; None when it is closed."""
        return None if self._socket is None else line_bytes_of(self._socket)

    async def _open(self, host: str, port: int) -> None:
        options: dict[str, Any] = {}
        if self._is_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = _MAXIMUM_PACKET_BYTES
            options = {"clean_start": False, "properties": properties}
        try:
            await self._find(host, port)
            # Names and handshakes block; the home must not wait for them.
            opening = in_thread(lambda: self.client.connect(host, port, self._asked_keepalive_s, **options))
            waited: set[asyncio.Future[Any]] = {opening, self._abandoned}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                raise UplinkFailure(LOST, "the hub stops")
            opening.result()
        except (OSError, ValueError) as error:
            self._context.settle()
            raise failure_of(error, host, port) from None

    async def _find(self, host: str, port: int) -> None:
        """Raises socket.gaierror for a name that there is not, UplinkFailure where no resolver answers."""
        finding = asyncio.ensure_future(self._names.find(host, port, self._name_within_s))
        waited: set[asyncio.Future[Any]] = {finding, self._abandoned}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not finding.done():
            finding.cancel()
            raise UplinkFailure(LOST, "the hub stops")
        try:
            finding.result()
        except TimeoutError:
            text = f"{host}: no DNS server answers, for {self._name_within_s:.0f} s now"
            raise UplinkFailure("uplink-dns", text) from None

    def _judge_connack(self) -> None:
        if not self._connack.done():
            if self._abandoned.done():
                raise UplinkFailure(LOST, "the hub stops")
            if not self._ended.done():
                # Some brokers are silent to a version of MQTT that they do not know.
                text = f"no CONNACK within {CONNECT_TIMEOUT_S:.0f} s"
                raise UplinkFailure(REFUSED, text, maybe_version=True)
            if "alert" in self._paho_error.lower():  # TLS 1.3 refuses a client only after the handshake
                raise UplinkFailure(REFUSED, f"the broker refuses this hub in TLS: {self._paho_error}")
            ended = self._ended.result()
            if ended.kind != LOST or self.ended_by_us:
                raise ended
            raise UplinkFailure(REFUSED, "the broker closed the connection without an answer", maybe_version=True)
        code, reference = self._connack.result()
        if not code and self._maximum_qos < 1:
            raise UplinkFailure(REFUSED, "the broker takes QoS 0 alone: it could never say that it has a message")
        if code:
            raise UplinkFailure(
                kind_of(code, REFUSED),
                f"CONNACK reason code {describe(code)}",
                maybe_version=code == UNSUPPORTED_VERSION,
                maybe_retain=code == RETAIN_NOT_SUPPORTED,
                reference=reference,
            )

    def _read(self) -> None:
        """Take what the broker sent, so much of it at a time that everything else has its turn."""
        try:
            for _ in range(_PACKETS_A_TURN):
                if self.client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._socket is None:
                    return
                if self._socket.is_dry or self._is_full:
                    break
            else:
                if self._socket is not None and self._socket.pending():  # what TLS has decrypted wakes no selector
                    self._loop.call_soon(self._read_on)
            self._acknowledge_bytes()
        except Exception as error:
            self._break(error)

    def _read_on(self) -> None:
        if self._socket is not None and not self._is_full:
            self._read()

    def _acknowledge_bytes(self) -> None:
        # A broker that has Nagle's algorithm on (mosquitto, by default) holds a load limit back until what it sent
        # before is acknowledged, and the kernel would take 40 ms for that. Linux forgets this setting: each time anew.
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _write(self) -> None:
        try:
            self.client.loop_write()
            self._flush()
        except Exception as error:
            self._break(error)

    def _flush(self) -> None:
        """All that paho wrote in one turn goes in one record; what the line does not take yet goes when it does."""
        sock = self._socket
        if sock is None:
            return
        try:
            sock.flush()
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._loop.add_writer(sock, self._write)
            return
        if not self.client.want_write():
            self._loop.remove_writer(sock)

    def _tick(self) -> None:
        try:
            # Not paho's loop_misc: it notes the time of a packet only where the socket was full (2.2), so its PINGREQ
            # goes out in every keep-alive, whatever else was sent. The heartbeat keeps the session alive.
            self._listen_for_life()
        except Exception as error:
            self._break(error)
        self._misc = self._loop.call_later(min(_MISC_PERIOD_S, self.keepalive_s / 4, self._silence_s / 4), self._tick)

    def _listen_for_life(self) -> None:
        """End a connection that is half open (something is unanswered, and the line is silent altogether), or whose
        broker has forgotten a message."""
        now, carried = self._loop.time(), self.line_bytes()
        if carried is None:
            return
        oldest = next(iter(self._unanswered.values()), now)
        if now - oldest > OVERDUE_SILENCES * self._silence_s:
            self._end("the broker has forgotten to answer a message")
        known, since = self._life
        if (carried.acked, carried.received) != (known.acked, known.received):
            self._life = (carried, now)
            return
        if now - max(since, oldest) > self._silence_s:
            self._end(f"half open: no answer and no sign of life for {self._silence_s:.0f} s")

    def _break(self, error: Exception) -> None:
        log.warning("the MQTT connection broke: %r", error)
        self._end(str(error) or type(error).__name__)

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a packet of this size (MQTT 5 section 3.2.2.3.6)."""
        return len(payload) + len(topic) + _FIXED_HEADER_BYTES + 16 <= self.maximum_packet_bytes

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, alias: bool = False, expiry_s: float = 0
    ) -> int:
        """Publish at QoS 1; return the message id that `published` will name.

        `alias`: a topic of which there are few, worth one of the broker's aliases. `expiry_s`: not worth delivering
        later than that. Both only where MQTT 5 is spoken.
        """
        self.tap("out", topic, payload)
        properties = None
        if self._is_5 and (expiry_s or alias):
            topic, properties = self._shortened(topic, max(1, int(expiry_s)) if expiry_s else 0)
        info = self.client.publish(topic, payload, qos=1, retain=retain and self.keeps_retained, properties=properties)
        self.last_sent_at = self._unanswered[info.mid] = self._loop.time()
        return info.mid

    def _shortened(self, topic: str, expiry_s: int) -> tuple[str, PublishProperties | None]:
        """The topic once, and its alias in its stead from then on (MQTT 5 section 3.3.2.3.4); never across sessions."""
        alias = self._aliases.get(topic, 0)
        is_known = alias > 0
        if not is_known and len(self._aliases) < self._alias_maximum:
            alias = self._aliases[topic] = len(self._aliases) + 1
        if not alias and not expiry_s:
            return topic, None
        if (alias, expiry_s) not in self._properties:
            self._properties[alias, expiry_s] = PublishProperties(expiry_s=expiry_s, alias=alias)
        return "" if is_known else topic, self._properties[alias, expiry_s]

    async def subscribe(self, topics: Sequence[str]) -> list[str]:
        """Subscribe at QoS 1, in one SUBSCRIBE; return the topics that the broker refused. Raises UplinkFailure: what
        the session ended of, if it did."""
        _, mid = self.client.subscribe([(topic, 1) for topic in topics])
        answered: asyncio.Future[list[int]] = self._loop.create_future()
        self._subscribing[mid or 0] = answered
        waited: set[asyncio.Future[Any]] = {answered, self._ended, self._abandoned}
        await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return [topic for topic, reason in zip(topics, answered.result()) if reason >= 0x80]
        self._subscribing.pop(mid or 0, None)
        if self._ended.done():
            raise self._ended.result()
        raise UplinkFailure(LOST, f"the broker did not answer the SUBSCRIBE for {', '.join(topics)}")

    async def retained(self, topic: str, within_s: float) -> bytes | None:
        """What the broker keeps on a topic; None where it keeps nothing, lets nobody see it, or is slow: a moment
        after its SUBACK, or `within_s` without one. Raises UplinkFailure: what the session ended of, if it did."""
        found: asyncio.Future[bytes] = self._loop.create_future()
        self._wanted = (topic, found)
        options = {"options": SubscribeOptions(qos=1, noLocal=True)} if self._is_5 else {"qos": 1}
        begun = self._loop.time()
        _, mid = self.client.subscribe(topic, **options)
        answered: asyncio.Future[list[int]] = self._loop.create_future()
        self._subscribing[mid or 0] = answered
        try:
            await self._first_of(within_s, answered, found)
            is_refused = answered.done() and answered.result()[0] >= 0x80
            if answered.done() and not is_refused:
                round_trip_s = self._loop.time() - begun
                await self._first_of(min(within_s, _RETAINED_S + 4 * round_trip_s), found)
            if not is_refused:
                # The session outlives the connection: the hub's own words would come back to it for years.
                self.client.unsubscribe(topic)
        finally:
            self._wanted = None
            self._subscribing.pop(mid or 0, None)
        if self._ended.done():
            raise self._ended.result()
        return found.result() if found.done() else None

    def leave(self, topic: str) -> None:
        """Ask for this topic no longer: an earlier session did, which the broker keeps. Once, for there are brokers
        that send what nobody asked for."""
        if topic not in self._left and len(self._left) < _MOST_LEFT:
            self._left.add(topic)
            self.client.unsubscribe(topic)

    async def _first_of(self, within_s: float, *futures: "asyncio.Future[Any]") -> None:
        waited: set[asyncio.Future[Any]] = {*futures, self._ended, self._abandoned}
        await asyncio.wait(waited, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)

    def acknowledge(self, mid: int) -> None:
        """Let the PUBACK of a message that was received go, in the order in which they came (MQTT 5 section 4.6);
        nothing happens where the connection has ended."""
        if mid not in self._unacked or self.is_over:
            return
        self._unacked[mid] = -abs(self._unacked[mid])
        while self._arrived and self._unacked[self._arrived[0]] < 0:
            first = self._arrived.popleft()
            self._unacked_bytes += self._unacked.pop(first)
            self.client.ack(first, 1)
        if self._is_full and not self._has_too_many():
            self._is_full = False
            if self._socket is not None:
                self._loop.add_reader(self._socket, self._read)
                self._loop.call_soon(self._read_on)

    def _has_too_many(self) -> bool:
        return self._unacked_bytes >= _MOST_UNACKED_BYTES

    def _note(self, mid: int, bytes: int) -> None:
        """A message has come that is to be acknowledged. Where too many are, the broker is not read on: TCP makes it
        wait, however little it heeds our receive maximum."""
        self._unacked[mid] = bytes + _HELD_BYTES
        self._unacked_bytes += bytes + _HELD_BYTES
        self._arrived.append(mid)
        if self._has_too_many() and self._socket is not None:
            self._is_full = True
            self._loop.remove_reader(self._socket)

    def abandon(self) -> None:
        """Wait no longer for TCP, TLS, CONNACK or SUBACK, for the process is about to end."""
        if not self._abandoned.done():
            self._abandoned.set_result(None)

    def end(self, why: str) -> None:
        """Let the connection be over; `close` then says goodbye to the broker."""
        self.ended_by_us = not self._ended.done()
        self._end(why)

    async def ended(self) -> UplinkFailure:
        """Wait for the end of the connection; says why."""
        return await asyncio.shield(self._ended)

    @property
    def is_over(self) -> bool:
        return self._ended.done()

    async def close(self) -> None:
        """End the connection, politely where it still stands."""
        if self._misc is not None:
            self._misc.cancel()
        sock = self.client.socket()
        if sock is not None:
            try:
                self.client.disconnect()
                self.client.loop_write()
            except Exception as error:
                log.debug("while closing: %r", error)
        sock = self.client.socket()
        if sock is not None:
            self._on_socket_close(None, None, sock)
            sock.close()
        self._context.settle()
        self._end("closed")
