# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversations with the gateway machine in which some speak MQTT-SN 2.0."""

from typing import Any

from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.messages import Message
from hub.wire.mqttsn.v2 import messages as v2
from tests.hub.core.gateway.playbook import Playbook


class Talk2(Playbook):
    """A playbook whose peers named `n...` are 2.0 nodes; `fw2>...` is behind a 2.0 forwarder."""

    def _collect(self) -> None:
        for peer, data in self.gateway.datagrams_to_send():
            message: Any
            wrapped = data[1] in (0xFC, 0xFE)
            if wrapped:
                envelope: Any = v2.decode2(data) if data[1] == 0xFC else v1.decode(data)
                node = envelope.address if data[1] == 0xFC else envelope.wireless_node_id
                peer, data = (*peer, node), envelope.packet if data[1] == 0xFC else envelope.message
            name = self.names.get(peer, str(peer[1]))
            message = (v2.decode2 if name.rpartition(">")[2].startswith("n") else v1.decode)(data)
            self.out.append((name, message))
            self.transcript.append(f"{self.now:7.1f} {name} < {message!r}")

    def says(self, *expected: tuple[str, Message] | Message) -> "Talk2":
        super().says(*[item if isinstance(item, tuple) else ("n", item) for item in expected])
        return self

    def speaks2(self, name: str = "n", client_id: str = "plug-2", **options: Any) -> "Talk2":
        """A 2.0 client connects and hears that it may."""
        self.hears(name, v2.ConnectV2(client_id, 60, 77, **options))
        self.says((name, v2.ConnAckV2(77)))
        return self


def subscribed(talk: Talk2, topic: str = "garden/pump", qos: int = 2) -> Talk2:
    """And knows the topic by session alias 1."""
    talk.hears("n", v2.SubscribeV2(v2.TOPIC_NAME, topic, 9, qos))
    return talk.says(v2.SubAckV2(9, qos, 1, v2.SESSION_ALIAS))
