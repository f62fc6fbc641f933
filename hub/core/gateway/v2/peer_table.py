# SPDX-License-Identifier: GPL-3.0-or-later
"""Who speaks 2.0: the tables of its peers, and what waits to go either way. The gateway's sessions are read, never
written."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hub.core.gateway import session as states
from hub.core.gateway.limits import GatewayConfig
from hub.core.gateway.session import Session
from hub.core.gateway.v2.peer_state import Gone, PeerState
from hub.core.records import Peer
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.reason_codes import NO_VIRTUAL_CONNECTION


class PeerTable:
    """Shared by what translates inbound and outbound."""

    def __init__(self, sessions: Mapping[str, Session], by_peer: Mapping[Peer, Session], config: GatewayConfig) -> None:
        self.sessions = sessions
        self.by_peer = by_peer
        self.config = config
        self.peers: dict[Peer, PeerState] = {}
        self.clients: dict[str, PeerState] = {}  # also those that are gone: when their sessions expire
        self.forwarders: set[Peer] = set()
        self.answers: list[tuple[Peer, bytes]] = []
        self.messages: deque[tuple[Peer, Any]] = deque()  # to be looked at from outside, not taken

    def session_at(self, peer: Peer) -> Session | None:
        """The session that has a connection to this peer."""
        session = self.by_peer.get(peer)
        return session if session is not None and session.state in states.PRESENT else None

    def tell(self, peer: Peer, *messages: Any) -> None:
        """Have the gateway receive these."""
        self.messages.extend((peer, message) for message in messages)

    def answer(self, peer: Peer, message: v2.Message) -> None:
        self.answers.append((peer, message.encode()))

    def deny(self, peer: Peer, message: v2.Message) -> None:
        """There is no Virtual Connection: the client learns it at once, unless it only takes its leave."""
        if type(message) is not v2.DisconnectV2:
            packet_id = getattr(message, "packet_id", 0)
            self.answer(peer, v2.DisconnectV2(NO_VIRTUAL_CONNECTION, packet_id=packet_id))

    def fail(self, peer: Peer, reason_code: int) -> None:
        """End a Virtual Connection in error (4.12.1): the client is told, its will is published."""
        self.answer(peer, v2.DisconnectV2(reason_code))
        state = self.peers.get(peer)
        if state is not None and self.session_at(peer) is not None:
            state.ended_at = state.last_heard
            self.tell(peer, Gone())

    def settle(self, peer: Peer, state: PeerState) -> None:
        """This peer speaks 2.0 from now on. A client goes with its session, or when it is refused; a place is
        forgotten when there are too many."""
        self.peers[peer] = self.clients[state.client_id] = state
        if len(self.peers) > self._most_peers:
            _prune(self.peers, lambda at: at == peer or at in self.by_peer)

    @property
    def _most_peers(self) -> int:
        return 2 * self.config.limits.clients

    def learn_forwarder(self, peer: Peer) -> None:
        """This peer forwards in 2.0. Anybody can say so, from any number of places: of too many only those stay that
        have clients behind them; another is learnt again from its next datagram."""
        self.forwarders.add(peer)
        if len(self.forwarders) > self._most_peers:
            self.forwarders.intersection_update({peer, *(at[:-1] for at in self.by_peer if type(at[-1]) is bytes)})

    def dismiss(self, peer: Peer) -> None:
        """The CONNECT from this peer was refused: what it is spoken to in is what the session there has, if any."""
        refused = self.peers.get(peer)
        if refused is not None and refused.client_id not in self.sessions:
            self.clients.pop(refused.client_id, None)  # a name that was never let in is not remembered
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


def _prune(table: dict[Any, PeerState], is_kept: Callable[[Any], bool]) -> None:
    for key in [key for key in table if not is_kept(key)]:
        del table[key]
