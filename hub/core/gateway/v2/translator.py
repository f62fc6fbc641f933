# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT-SN 2.0 clients at a gateway that thinks in 1.2: what they say becomes 1.2 messages, what is said to them 2.0.

A pure machine, one for all peers. `concerns` tells whose a datagram is; `hear` takes it; `next_message` gives, one by
one, what the gateway is to receive in its place; `answers` what goes out as it is; `say` translates what the gateway
sends to a 2.0 peer. What a peer speaks is settled by its CONNECT and kept until it connects otherwise.

The gateway's sessions are read here, never written. MQTT-SN-2.0.md says what 2.0 asks for that this does not give.
"""

from collections.abc import Mapping
from typing import Any

from hub.core.gateway.limits import GatewayConfig
from hub.core.gateway.session import Session
from hub.core.gateway.v2.inbound import Inbound
from hub.core.gateway.v2.outbound import Outbound
from hub.core.gateway.v2.peer_state import ByName, PeerState
from hub.core.gateway.v2.peer_table import PeerTable
from hub.core.records import Peer
from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.v2 import messages as v2

_ANSWERS = (v1.PubRec, v1.PubComp, v1.SubAck, v1.UnsubAck)


class Translator:
    """What 2.0 clients say, put into 1.2, and back. `table`: who speaks 2.0."""

    def __init__(self, sessions: Mapping[str, Session], by_peer: Mapping[Peer, Session], config: GatewayConfig) -> None:
        self.table = table = PeerTable(sessions, by_peer, config)
        self._inbound = Inbound(table)
        self._outbound = Outbound(table)
        self.concerns = self._inbound.concerns
        self.hear = self._inbound.hear

    def next_message(self) -> tuple[Peer, Any] | None:
        """The next message that the gateway is to receive, and from whom; None when there is none (for now)."""
        while self.table.messages:
            peer, message = self.table.messages.popleft()
            if type(message) is not ByName:
                return peer, message
            found = self._inbound.publish_by_name(peer, message)
            if found is not None:
                return peer, found
        return None

    # Out

    def say(self, peer: Peer, datagram: bytes) -> bytes | None:
        """What the gateway's message is in 2.0: b"" when the client is to hear nothing, None when it is too long."""
        state = self.table.peers[peer]
        message = v1.decode(datagram)
        if isinstance(message, _ANSWERS) and not message.msg_id:
            return b""  # it asked in 1.2, just before it said 2.0, where no packet has this identifier
        said = self._outbound.say(peer, state, message)
        if said is None:
            return b""
        raw = said.encode()
        return None if 0 < state.max_packet_size < len(raw) else raw

    def wrap(self, peer: Peer, datagram: bytes) -> bytes:
        """The envelope for a node behind a forwarder, in the forwarder's own translator."""
        if peer[:-1] in self.table.forwarders:
            return v2.Forwarder(peer[-1], datagram).encode()
        return v1.Forward(0, peer[-1], datagram).encode()

    def take_answers(self) -> list[tuple[Peer, bytes]]:
        """What goes out as it is, past `say`."""
        answers, self.table.answers = self.table.answers, []
        return answers

    # Restart

    def kept(self, peer: Peer) -> str:
        """What the session of this peer has to be stored with; "" for 1.2."""
        state = self.table.peers.get(peer)
        if state is None:
            return ""
        return state.kept() + (" f" if type(peer[-1]) is bytes and peer[:-1] in self.table.forwarders else "")

    def restore(self, client_id: str, peer: Peer, kept: str, now: float) -> None:
        """Take up a client of the last run; after the sessions, in any order."""
        if kept.endswith(" f"):
            kept = kept[:-2]
            self.table.forwarders.add(peer[:-1])
        state = PeerState.restored(client_id, kept, now)
        if state is not None:
            self.table.clients[client_id] = state
            session = self.table.by_peer.get(peer)
            if session is not None and session.client_id == client_id:
                self.table.peers[peer] = state
                state.recall_ids(list(session.seen))
