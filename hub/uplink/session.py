"""One MQTT connection: paho-mqtt on an asyncio loop, used for what it is good at and nothing else.

A new paho client is made for every connection: nothing outlives a connection inside paho, what is undelivered is sent
again from the store. paho's callbacks only hand over (an exception in one would leave a dead session that looks alive).
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20.0
# The broker keeps our subscriptions and what it queued for us this long (MQTT 5 section 3.1.2.11.2).
SESSION_EXPIRY_S = 7 * 86400
# How many commands the broker may have under way to us: each is judged and made durable before the next ones come.
RECEIVE_MAXIMUM = 16
_BUSY_CODES = {0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F}
_AUTH_CODES = {0x85, 0x86, 0x87, 0x8A, 0x8C}
_PROTOCOL_CODES = {0x84}
_MISC_PERIOD_S = 5.0


class UplinkFailure(Exception):
    """A connection failed or ended. `kind` is a row of hub/uplink/policy.py, the text says what happened."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


class MqttSession:
    """One connection, from CONNECT to its end. All methods but the blocking part of `connect` run on the loop."""

    def __init__(
        self,
        *,
        client_id: str,
        protocol: str,
        context: ssl.SSLContext,
        keepalive_s: int,
        will: Will,
        published: Callable[[int, int], None],
        received: Callable[[bytes, int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_5 = protocol == "5"
        self._keepalive_s = keepalive_s
        self._published = published
        self._received = received
        self._subscribed: asyncio.Future[list[int]] = self._loop.create_future()
        self._connack: asyncio.Future[int] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._socket: ssl.SSLSocket | None = None
        self._misc: asyncio.TimerHandle | None = None
        self.receive_maximum = 65535
        self.ended_in_order = False
        self.client = self._build(client_id, context, will)

    def _build(self, client_id: str, context: ssl.SSLContext, will: Will) -> mqtt.Client:
        version = mqtt.MQTTv5 if self._is_5 else mqtt.MQTTv311
        # clean_session belongs to 3.1.1; 5 says clean_start at connect. False: the broker keeps commands for us.
        clean_session = None if self._is_5 else False
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=version, manual_ack=True)
        client.tls_set_context(context)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.connect_timeout = CONNECT_TIMEOUT_S
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
        maximum = getattr(properties, "ReceiveMaximum", None)
        if maximum:
            self.receive_maximum = maximum
        if not self._connack.done():
            self._connack.set_result(reason.value)

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        # A PUBACK may carry a refusal, which paho itself counts as published.
        self._published(mid, reason.value)

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        self._received(bytes(message.payload), message.mid if message.qos else 0)

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if not self._subscribed.done():
            self._subscribed.set_result([reason.value for reason in reasons])

    def _on_disconnect(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        # A broker that says DISCONNECT (MQTT 5) stops in order; one that is just gone may have forgotten something.
        self.ended_in_order = bool(getattr(flags, "is_disconnect_packet_from_server", False))
        self._end(str(reason))

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    def _on_socket_close(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            self._socket = None

    def _on_register_write(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None:  # before that, in the connecting thread, there is nothing to wait for
            self._loop.add_writer(sock, self._write)

    def _on_unregister_write(self, _c: Any, _u: Any, sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(sock)

    # The loop's side

    async def connect(self, host: str, port: int) -> None:
        """Open TCP and TLS, send CONNECT, await CONNACK. Raises UplinkFailure."""
        await self._open(host, port)
        opened = self.client.socket()
        if not isinstance(opened, ssl.SSLSocket):
            raise UplinkFailure("uplink-refused", "the connection was closed at once")
        self._socket = opened
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(self._socket, self._read)
        self._read()
        self._write()
        self._tick()
        try:
            waited: set[asyncio.Future[Any]] = {self._connack, self._ended}
            await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            self._judge_connack()
        except UplinkFailure:
            await self.close()
            raise

    async def _open(self, host: str, port: int) -> None:
        options: dict[str, Any] = {}
        if self._is_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            options = {"clean_start": False, "properties": properties}
        try:
            # Names and handshakes block; the home must not wait for them.
            await asyncio.to_thread(self.client.connect, host, port, self._keepalive_s, **options)
        except socket.gaierror as error:
            raise UplinkFailure("uplink-dns", f"{host}: {error.strerror}") from None
        except ssl.SSLCertVerificationError as error:
            raise UplinkFailure("uplink-server-untrusted", f"{host}: {error.verify_message}") from None
        except ssl.SSLEOFError:  # not a refusal: TLS says those; the line went in the middle
            raise UplinkFailure("uplink-unreachable", f"{host}:{port}: closed during the TLS handshake") from None
        except ssl.SSLError as error:
            raise UplinkFailure("uplink-refused", f"{host}:{port}: TLS: {error.reason or error}") from None
        except (OSError, ValueError) as error:
            raise UplinkFailure("uplink-unreachable", f"{host}:{port}: {error}") from None

    def _judge_connack(self) -> None:
        if not self._connack.done():
            if self._ended.done():
                raise UplinkFailure("uplink-refused", "the broker closed the connection without an answer")
            raise UplinkFailure("uplink-refused", f"no CONNACK within {CONNECT_TIMEOUT_S:.0f} s")
        code = self._connack.result()
        if code in _PROTOCOL_CODES:
            raise UplinkFailure("uplink-protocol", "the broker does not speak this version of MQTT")
        if code in _AUTH_CODES:
            raise UplinkFailure("uplink-not-authorised", f"CONNACK reason code 0x{code:02X}")
        if code in _BUSY_CODES:
            raise UplinkFailure("uplink-busy", f"CONNACK reason code 0x{code:02X}")
        if code:
            raise UplinkFailure("uplink-refused", f"CONNACK reason code 0x{code:02X}")

    def _read(self) -> None:
        try:
            while self.client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                # What TLS has already decrypted wakes no selector, so it is read now.
                if self._socket is None or not self._socket.pending():
                    return
        except Exception as error:
            self._break(error)

    def _write(self) -> None:
        try:
            self.client.loop_write()
        except Exception as error:
            self._break(error)

    def _tick(self) -> None:
        try:
            self.client.loop_misc()  # keep-alive: finds a peer that went without a word
        except Exception as error:
            self._break(error)
        self._misc = self._loop.call_later(min(_MISC_PERIOD_S, self._keepalive_s / 4), self._tick)

    def _break(self, error: Exception) -> None:
        log.warning("the MQTT connection broke: %r", error)
        self._end(str(error) or type(error).__name__)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; return the message id that `published` will name."""
        return self.client.publish(topic, payload, qos=1, retain=retain).mid

    async def subscribe(self, topics: Sequence[str]) -> list[str]:
        """Subscribe at QoS 1; return the topics that the broker refused. Raises UplinkFailure."""
        self.client.subscribe([(topic, 1) for topic in topics])
        waited: set[asyncio.Future[Any]] = {self._subscribed, self._ended}
        await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._subscribed.done():
            raise UplinkFailure("uplink-lost", "the broker did not answer the SUBSCRIBE for commands")
        reasons = self._subscribed.result()
        return [topic for topic, reason in zip(topics, reasons) if reason >= 0x80]

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK of a message that was received; nothing happens where the connection has ended."""
        if mid and not self.is_over:
            self.client.ack(mid, 1)

    async def ended(self) -> str:
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
        self._end("closed")
