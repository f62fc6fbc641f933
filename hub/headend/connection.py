"""The control point's MQTT connection: mutual TLS, a queue of what arrives."""

import queue
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

QUEUE_LIMIT = 100_000
_SUBSCRIBE_S = 10.0


class BrokerDelivery(NamedTuple):
    """What a broker gave, and has no acknowledgement of."""

    topic: str
    payload: bytes
    connection: "BrokerConnection"
    mid: int

    def acknowledge(self) -> None:
        """The broker may forget it."""
        self.connection.acknowledge(self.mid)


class BrokerConnection:
    """A subscriber that reconnects by itself: `messages` gets `(topic, payload)`, `notices` what the link does."""

    def __init__(
        self,
        host: str,
        port: int,
        ca_file: Path,
        cert_file: Path,
        key_file: Path,
        client_id: str,
        *,
        acknowledges_late: bool = False,
        deliveries: "queue.Queue[BrokerDelivery] | None" = None,
    ) -> None:
        """`acknowledges_late`: what arrives goes to `deliveries`, which several connections may share, and the broker
        has its PUBACK only by `BrokerDelivery.acknowledge`."""
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue(QUEUE_LIMIT)
        self.deliveries: queue.Queue[BrokerDelivery] = queue.Queue(QUEUE_LIMIT) if deliveries is None else deliveries
        self.notices: queue.Queue[str] = queue.Queue()
        self._filters: list[tuple[str, int]] = []
        self._unwanted: list[str] = []
        self.address = f"{host}:{port}"
        self._host, self._port = host, port
        # A named client keeps its session: what hubs send while the head-end is away is waiting when it comes back.
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=not client_id, manual_ack=acknowledges_late
        )
        self._client.tls_set(str(ca_file), str(cert_file), str(key_file), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self._client.reconnect_delay_set(1, 4)
        # Orders to each hub of a fleet go at once, not twenty a round trip; as many as hosted brokers take.
        self._client.max_inflight_messages = 100
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        # A command is small and urgent: it must not wait in the kernel for the acknowledgement of the one before.
        self._client.on_socket_open = _send_at_once
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_delivery if acknowledges_late else self._on_message

    def _on_message(self, _client: mqtt.Client, _user: object, message: mqtt.MQTTMessage) -> None:
        self.messages.put((message.topic, bytes(message.payload)))

    def _on_delivery(self, _client: mqtt.Client, _user: object, message: mqtt.MQTTMessage) -> None:
        self.deliveries.put(
            BrokerDelivery(message.topic, bytes(message.payload), self, message.mid if message.qos else 0)
        )

    def acknowledge(self, mid: int) -> None:
        """The broker may forget what it delivered under this id."""
        if mid:
            self._client.ack(mid, 1)

    def _on_connect(self, client: mqtt.Client, _user: object, _flags: object, reason: object, _props: object) -> None:
        if str(reason) == "Success":
            if self._unwanted:
                client.unsubscribe(self._unwanted)
            if self._filters:
                client.subscribe(self._filters)
            self.notices.put("connected")
        else:
            self.notices.put(f"the broker answered: {reason}")

    def _on_disconnect(self, _c: object, _user: object, _flags: object, reason: object, _props: object) -> None:
        self.notices.put(f"disconnected: {reason}")

    def start(self, filters: list[str], unwanted: Sequence[str] = ()) -> None:
        """Connect in the background and subscribe at QoS 1; to `unwanted` no longer, where the session did. Raises
        OSError when the files or the first try fail."""
        self._unwanted = list(unwanted)
        self._filters = [(topic_filter, 1) for topic_filter in filters]
        self._client.connect(self._host, self._port, keepalive=30)
        self._client.loop_start()
        if filters:
            self._subscribed.wait(_SUBSCRIBE_S)

    def start_later(self, filters: list[str], unwanted: Sequence[str] = ()) -> None:
        """The same for a broker that need not be there yet: it is tried until it is."""
        self._unwanted = list(unwanted)
        self._filters = [(topic_filter, 1) for topic_filter in filters]
        self._client.connect_async(self._host, self._port, keepalive=30)
        self._client.loop_start()

    def send(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 and wait for nothing."""
        self._client.publish(topic, payload, qos=1)

    def publish(self, topic: str, payload: bytes, timeout_s: float) -> None:
        """Publish at QoS 1 and wait for the broker's word. Raises OSError when it does not come."""
        sent = self._client.publish(topic, payload, qos=1)
        try:
            sent.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError) as error:
            raise OSError(f"{topic}: {error}") from None
        if not sent.is_published():
            raise OSError(f"{topic}: the broker did not confirm within {timeout_s:g} s")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _send_at_once(_client: mqtt.Client, _user: object, sock: object) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
