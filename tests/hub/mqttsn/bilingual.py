# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway machine with the 2.0 dialect joined on from outside, and conversations with it in either version.

The joints are those that MQTT-SN-2.0.md names; once the gateway has them itself, `Bilingual` is `Gateway`.
"""

from typing import Any

from hub.mqttsn import codec, codec2, connecting, gateway
from hub.mqttsn.codec import Malformed, Message
from hub.mqttsn.dialect import Dialect
from hub.mqttsn.gateway import Gateway
from hub.mqttsn.limits import GatewayConfig
from hub.mqttsn.records import Peer
from hub.mqttsn.speaker import Gone
from tests.hub.mqttsn.playbook import Playbook


class Bilingual(Gateway):
    """Every entry that can make the machine answer a step of a CONNECT hands on the next one."""

    def __init__(self, config: GatewayConfig, now: float) -> None:
        super().__init__(config, now)
        core = self._core
        self.dialect = Dialect(core.sessions, core.by_peer, config)
        self._link_send = core.send
        core.send = self._send  # type: ignore[method-assign]

    def _send(self, peer: Peer, datagram: bytes) -> bool:
        if peer in self.dialect.peers:
            said = self.dialect.say(peer, datagram)
            if said is None:
                self._core.counters["too-long-for-client"] += 1
                return False
            if not said:
                return True
            datagram = said
        return self._to_link(peer, datagram)

    def _to_link(self, peer: Peer, datagram: bytes) -> bool:
        if type(peer[-1]) is bytes:
            return self._link_send(peer[:-1], self.dialect.wrap(peer, datagram))
        return self._link_send(peer, datagram)

    def receive_datagram(self, peer: Peer, data: bytes, now: float) -> None:
        if not self.dialect.concerns(peer, data):
            super().receive_datagram(peer, data, now)
            return
        try:
            self.dialect.hear(peer, data, now)
        except Malformed as error:
            self._core.refuse(self._core.by_peer.get(peer), f"malformed.{error}".replace(" ", "-"))
        self._interpret(now)

    def _interpret(self, now: float) -> None:
        while (heard := self.dialect.next_message()) is not None:
            peer, message = heard
            if type(message) is Gone:
                connecting.lose(self._core, self._core.by_peer[peer], now)
                continue
            self._receive(peer, message, now)
        for peer, datagram in self.dialect.take_answers():
            self._to_link(peer, datagram)

    def _receive(self, peer: Peer, message: Message, now: float) -> None:
        decode, gateway.decode = gateway.decode, lambda octets: message  # type: ignore[attr-defined,assignment,return-value]
        try:
            Gateway.receive_datagram(self, peer, b"", now)
        finally:
            gateway.decode = decode  # type: ignore[attr-defined]

    def committed(self, batch_id: int, now: float) -> None:
        super().committed(batch_id, now)
        self._interpret(now)

    def refused(self, batch_id: int, now: float) -> None:
        super().refused(batch_id, now)
        self._interpret(now)


class Talk2(Playbook):
    """A playbook whose peers named `n...` are 2.0 nodes; `fw2>...` is behind a 2.0 forwarder."""

    kept: dict[str, tuple[Peer, str]]

    def boot(self) -> None:
        kept = getattr(self, "kept", {})
        self.gateway = Bilingual(GatewayConfig(**self.settings), self.now)
        self.gateway.restore(self.store.restored(), self.now)
        for client_id, (peer, line) in kept.items():
            self.gateway.dialect.restore(client_id, peer, line, self.now)
        self.held.clear()
        self.transcript.append("--- the hub starts")
        self._flush()

    def restarts(self) -> None:
        dialect = self.gateway.dialect
        self.kept = {speaker.client_id: (peer, dialect.kept(peer)) for peer, speaker in dialect.peers.items()}
        super().restarts()

    def _collect(self) -> None:
        for peer, data in self.gateway.datagrams_to_send():
            message: Any
            wrapped = data[1] in (0xFC, 0xFE)
            if wrapped:
                envelope: Any = codec2.decode2(data) if data[1] == 0xFC else codec.decode(data)
                node = envelope.address if data[1] == 0xFC else envelope.wireless_node_id
                peer, data = (*peer, node), envelope.packet if data[1] == 0xFC else envelope.message
            name = self.names.get(peer, str(peer[1]))
            message = (codec2.decode2 if name.rpartition(">")[2].startswith("n") else codec.decode)(data)
            self.out.append((name, message))
            self.transcript.append(f"{self.now:7.1f} {name} < {message!r}")

    def says(self, *expected: tuple[str, Message] | Message) -> "Talk2":
        super().says(*[item if isinstance(item, tuple) else ("n", item) for item in expected])
        return self

    def speaks2(self, name: str = "n", client_id: str = "plug-2", **options: Any) -> "Talk2":
        """A 2.0 client connects and hears that it may."""
        self.hears(name, codec2.Connect(client_id, 60, 77, **options))
        self.says((name, codec2.ConnAck(77)))
        return self


def subscribed(talk: Talk2, topic: str = "garden/pump", qos: int = 2) -> Talk2:
    """And knows the topic by session alias 1."""
    talk.hears("n", codec2.Subscribe(codec2.TOPIC_NAME, topic, 9, qos))
    return talk.says(codec2.SubAck(9, qos, 1, codec2.SESSION_ALIAS))
