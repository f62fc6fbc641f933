# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT-SN 2.0 clients at a gateway that thinks in 1.2: what they say becomes 1.2 messages, what is said to them 2.0.

A pure machine, one for all peers. `concerns` tells whose a datagram is; `hear` takes it; `next_message` gives, one by
one, what the gateway is to receive in its place; `answers` what goes out as it is; `say` translates what the gateway
sends to a 2.0 peer. What a peer speaks is settled by its CONNECT and kept until it connects otherwise.

The gateway's sessions are read here, never written. MQTT-SN-2.0.md says what 2.0 asks for that this does not give.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hub.core.gateway import session as states
from hub.core.gateway.limits import GatewayConfig
from hub.core.gateway.session import Session
from hub.core.gateway.v2 import inbound as hearing
from hub.core.gateway.v2 import outbound as saying
from hub.core.gateway.v2.peer_state import ByName, Gone, Speaker
from hub.core.records import Peer
from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.reason_codes import MALFORMED_PACKET, NO_VIRTUAL_CONNECTION

_CONNECT_1_2, _PUBLISH_1_2 = 0x04, 0x0C

# Of a peer that is not known to speak 2.0: packet types, with the fewest octets behind the header, that no 1.2 client
# sends. 1.2's SEARCHGW, WILLMSGREQ, PUBREC, PUBREL and PINGRESP have the same numbers and fewer octets; so has 2.0's
# SEARCHGW without network information, which goes unserved. SUBSCRIBE (0x12) is looked at more closely.
_FEWEST = {0x01: 8, 0x03: 3, 0x08: 5, 0x0F: 4, 0x10: 4, 0x11: 3, 0x13: 7, 0x12: 3, 0x17: 1, 0xFC: 4, 0xFE: 4, 0xFF: 16}
_STRAYS = (0x03, 0x08, 0x0F, 0x10, 0x11, 0x13, 0xFF)  # they need a Virtual Connection, or its loss to be told
_NODE = 20  # octets of a forwarder's address field that are taken


def _type_and_octets(data: bytes) -> tuple[int, int]:
    """The packet type, and how many octets follow it."""
    if data[0] != 1:
        return data[1], len(data) - 2
    return (data[3], len(data) - 4) if len(data) > 3 else (-1, 0)


_ANSWERS = (v1.PubRec, v1.PubComp, v1.SubAck, v1.UnsubAck)


class Dialect:
    """The tables of the 2.0 speakers, and what waits to go either way."""

    def __init__(self, sessions: Mapping[str, Session], by_peer: Mapping[Peer, Session], config: GatewayConfig) -> None:
        self.sessions = sessions
        self.by_peer = by_peer
        self.config = config
        self.peers: dict[Peer, Speaker] = {}
        self.clients: dict[str, Speaker] = {}  # also those that are gone: when their sessions expire
        self.forwarders: set[Peer] = set()
        self._answers: list[tuple[Peer, bytes]] = []
        self.messages: deque[tuple[Peer, Any]] = deque()  # to be looked at from outside, not taken

    # In

    def concerns(self, peer: Peer, data: bytes) -> bool:
        """Whether `hear` is to take this datagram; all others are 1.2's."""
        if len(data) < 2:
            return False
        if self.peers and peer in self.peers:
            kind, octets = _type_and_octets(data)
            if kind != _CONNECT_1_2 or octets < 5 or data[1 - octets] != 1:  # a PUBACK has at most 3
                return True
            self.clients.pop(self.peers.pop(peer).client_id, None)  # from now on it speaks 1.2
            return False
        if data[1] == _PUBLISH_1_2 and data[0] != 1:  # nine in ten; a PUBLISH has at least 5 octets
            return len(data) == 4 and self.session_at(peer) is None
        kind, octets = _type_and_octets(data)
        fewest = _FEWEST.get(kind)
        return fewest is not None and octets >= fewest and self._is_2_0(peer, data, kind, octets)

    def _is_2_0(self, peer: Peer, data: bytes, kind: int, octets: int) -> bool:
        if kind == 0xFE:
            # Connection Encapsulation fills its Length; 1.2's Length ends before the inner message.
            return data[0] in (1, len(data))
        if kind == 0x12:
            # PUBWOS or a 1.2 SUBSCRIBE: a name has 1.2's reserved type; with an alias 1.2 has exactly 5 octets.
            flags = data[-octets] & ~0x10
            return self.session_at(peer) is None and (flags == 3 or (flags == 1 and octets != 5))
        return kind not in _STRAYS or self.session_at(peer) is None

    def hear(self, peer: Peer, data: bytes, now: float) -> None:
        """Take a datagram that concerns this dialect. Raises Malformed, after having done what 2.0 asks then."""
        speaker = self.peers.get(peer)
        try:
            message = v2.decode2(data)
        except v2.Malformed:
            if speaker is not None:
                self.fail(peer, MALFORMED_PACKET)
            raise
        if type(message) is v2.Forwarder:
            self._hear_forwarded(peer, message, now)
        elif type(message) in hearing.OF_ANYONE:
            hearing.OF_ANYONE[type(message)](self, peer, message, now)
        elif speaker is not None and speaker.connect_id:
            raise v2.Malformed("before CONNACK")  # 3.1.19: what comes before it is not processed
        elif speaker is None or self.session_at(peer) is None:
            self.deny(peer, message)
        else:
            speaker.last_heard = now
            hearing.OF_CONNECTION.get(type(message), hearing.on_out_of_place)(self, peer, speaker, message, data)

    def _hear_forwarded(self, peer: Peer, message: v2.Forwarder, now: float) -> None:
        if type(peer[-1]) is bytes or not 0 < len(message.address) <= _NODE or not message.packet:
            raise v2.Malformed("forwarded twice")
        self.forwarders.add(peer)
        node = (*peer, message.address)
        if self.concerns(node, message.packet):
            self.hear(node, message.packet, now)
        else:
            self.tell(node, v1.decode(message.packet))

    def next_message(self) -> tuple[Peer, Any] | None:
        """The next message that the gateway is to receive, and from whom; None when there is none (for now)."""
        while self.messages:
            peer, message = self.messages.popleft()
            if type(message) is not ByName:
                return peer, message
            found = hearing.publish_by_name(self, peer, message)
            if found is not None:
                return peer, found
        return None

    # Out

    def say(self, peer: Peer, datagram: bytes) -> bytes | None:
        """What the gateway's message is in 2.0: b"" when the client is to hear nothing, None when it is too long."""
        speaker = self.peers[peer]
        message = v1.decode(datagram)
        if isinstance(message, _ANSWERS) and not message.msg_id:
            return b""  # it asked in 1.2, just before it said 2.0, where no packet has this identifier
        said = saying.OF.get(type(message), saying.nothing)(self, peer, speaker, message)
        if said is None:
            return b""
        octets = said.encode()
        return None if 0 < speaker.max_packet_size < len(octets) else octets

    def wrap(self, peer: Peer, datagram: bytes) -> bytes:
        """The envelope for a node behind a forwarder, in the forwarder's own dialect."""
        if peer[:-1] in self.forwarders:
            return v2.Forwarder(peer[-1], datagram).encode()
        return v1.Forward(0, peer[-1], datagram).encode()

    def take_answers(self) -> list[tuple[Peer, bytes]]:
        """What goes out as it is, past `say`."""
        answers, self._answers = self._answers, []
        return answers

    # Restart

    def kept(self, peer: Peer) -> str:
        """What the session of this peer has to be stored with; "" for 1.2."""
        speaker = self.peers.get(peer)
        if speaker is None:
            return ""
        return speaker.kept() + (" f" if type(peer[-1]) is bytes and peer[:-1] in self.forwarders else "")

    def restore(self, client_id: str, peer: Peer, kept: str, now: float) -> None:
        """Take up a client of the last run; after the sessions, in any order."""
        if kept.endswith(" f"):
            kept = kept[:-2]
            self.forwarders.add(peer[:-1])
        speaker = Speaker.restored(client_id, kept, now)
        if speaker is not None:
            self.clients[client_id] = speaker
            session = self.by_peer.get(peer)
            if session is not None and session.client_id == client_id:
                self.peers[peer] = speaker
                speaker.recall_ids(list(session.seen))

    # For hearing and saying

    def session_at(self, peer: Peer) -> Session | None:
        """The session that has a connection to this peer."""
        session = self.by_peer.get(peer)
        return session if session is not None and session.state in states.PRESENT else None

    def tell(self, peer: Peer, *messages: Any) -> None:
        """Have the gateway receive these."""
        self.messages.extend((peer, message) for message in messages)

    def answer(self, peer: Peer, message: v2.Message) -> None:
        self._answers.append((peer, message.encode()))

    def deny(self, peer: Peer, message: v2.Message) -> None:
        """There is no Virtual Connection: the client learns it at once, unless it only takes its leave."""
        if type(message) is not v2.Disconnect:
            packet_id = getattr(message, "packet_id", 0)
            self.answer(peer, v2.Disconnect(NO_VIRTUAL_CONNECTION, packet_id=packet_id))

    def fail(self, peer: Peer, reason_code: int) -> None:
        """End a Virtual Connection in error (4.12.1): the client is told, its will is published."""
        self.answer(peer, v2.Disconnect(reason_code))
        speaker = self.peers.get(peer)
        if speaker is not None and self.session_at(peer) is not None:
            speaker.ended_at = speaker.last_heard
            self.tell(peer, Gone())

    def settle(self, peer: Peer, speaker: Speaker) -> None:
        """This peer speaks 2.0 from now on. The tables stay as small as the gateway's own."""
        self.peers[peer] = self.clients[speaker.client_id] = speaker
        limit = 2 * self.config.limits.clients
        if len(self.peers) > limit:
            _prune(self.peers, lambda at: at == peer or at in self.by_peer)
        if len(self.clients) > limit:
            _prune(self.clients, lambda client_id: client_id == speaker.client_id or client_id in self.sessions)
        if len(self.forwarders) > limit:
            self.forwarders.clear()  # each is learnt again from its next datagram

    def dismiss(self, peer: Peer) -> None:
        """The CONNECT from this peer was refused: what it is spoken to in is what the session there has, if any."""
        session = self.session_at(peer)
        owner = None if session is None else self.clients.get(session.client_id)
        if owner is not None:
            self.peers[peer] = owner
        else:
            self.peers.pop(peer, None)

    def predefined(self, alias: Any, client_id: str) -> str | None:
        """The topic of a predefined alias, for this client."""
        pattern = self.config.predefined.get(alias)
        return None if pattern is None else pattern.replace("{me}", client_id)

    def predefined_alias(self, topic: str, client_id: str) -> int | None:
        aliases: Iterable[int] = self.config.predefined
        return next((alias for alias in aliases if self.predefined(alias, client_id) == topic), None)


def _prune(table: dict[Any, Speaker], is_kept: Callable[[Any], bool]) -> None:
    for key in [key for key in table if not is_kept(key)]:
        del table[key]
