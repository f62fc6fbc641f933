"""paho's client with a short way for the two packets that come by the thousand.

paho 2.2 makes two `Properties` (a dictionary of 27 names and one of 27 types) and two `ReasonCode` of every PUBACK, one
`Properties` of every PUBLISH, and writes a line for its log of each packet whether or not somebody reads it: half of
what a message costs. It takes each from the socket byte by byte, too. A PUBACK that says success, and a PUBLISH at QoS
1 without properties, need none of it. Everything else goes paho's own way. What is used here of paho's inside is held
to paho by `tests/hub/services/uplink/test_mqtt_client.py`; another paho than the one in pyproject.toml is not
installed.
"""

from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from drivers.tls import TlsSocket

_TYPE, _PUBLISH_QOS_1, _QOS = 0xF0, 0x32, 0x06
_PUBACK = 0x40
_SUCCESS = ReasonCode(PacketTypes.PUBACK, identifier=0)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


class PublishProperties(Properties):
    """The properties of a PUBLISH, packed once for all the messages that have the same."""

    def __init__(self, *, expiry_s: int = 0, alias: int = 0) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        packed = b""
        if expiry_s:
            packed += b"\x02" + expiry_s.to_bytes(4, "big")  # MQTT 5 section 3.3.2.3.3
        if alias:
            packed += b"\x23" + alias.to_bytes(2, "big")  # section 3.3.2.3.4
        object.__setattr__(self, "packed", bytes([len(packed)]) + packed)

    def pack(self) -> bytes:
        """As they go on the line, their length first."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed


class MqttClient(mqtt.Client):
    """paho's client; see above. What is published goes at once: who publishes keeps the broker's receive maximum."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Else paho holds all but twenty back, and looks through them at each PUBACK.
        self.max_inflight_messages = 0

    def _easy_log(self, level: LogLevel, fmt: str, *args: Any) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            super()._easy_log(level, fmt, *args)

    def _packet_handle(self) -> MQTTErrorCode:
        first, packet = self._in_packet["command"], self._in_packet["packet"]
        if first & (_TYPE | _QOS) == _PUBLISH_QOS_1 and self._protocol == mqtt.MQTTv5:
            topic_end = 2 + int.from_bytes(packet[:2], "big")
            if len(packet) > topic_end + 2 and packet[topic_end + 2] == 0:
                return self._publish(first, packet, topic_end)
        return super()._packet_handle()

    def _packet_read(self) -> MQTTErrorCode:
        sock = self._sock
        if isinstance(sock, TlsSocket) and self._in_packet["command"] == 0:
            self._take_pubacks(sock)
            if sock.is_dry:
                return MQTTErrorCode.MQTT_ERR_AGAIN
        return super()._packet_read()

    def _take_pubacks(self, sock: TlsSocket) -> None:
        """Those that come one behind the other, without paho's way from byte to byte."""
        ahead, at = sock.peek(), 0
        successes = (b"", b"\0") if self._protocol == mqtt.MQTTv5 else (b"",)
        while len(ahead) >= at + 4 and ahead[at] == _PUBACK and ahead[at + 1] >= 2:
            end = at + 2 + ahead[at + 1]
            if end > len(ahead) or ahead[at + 4 : end] not in successes:
                return
            sock.skip(end - at)
            self._puback(int.from_bytes(ahead[at + 2 : at + 4], "big"))
            at = end

    def _puback(self, mid: int) -> None:
        with self._out_message_mutex:
            if mid in self._out_messages:
                told: Any = self._on_publish
                if told is not None:
                    with self._in_callback_mutex:
                        told(self, self._userdata, mid, _SUCCESS, _NO_PROPERTIES)
                self._out_messages.pop(mid).info._set_as_published()
                self._inflight_messages -= 1

    def _publish(self, first: int, packet: bytearray, topic_end: int) -> MQTTErrorCode:
        message = mqtt.MQTTMessage(int.from_bytes(packet[topic_end : topic_end + 2], "big"), bytes(packet[2:topic_end]))
        message.dup, message.qos, message.retain = bool(first & 0x08), 1, bool(first & 0x01)
        message.payload = bytes(packet[topic_end + 3 :])
        self._handle_on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS  # acknowledged by whoever made it durable: manual_ack
