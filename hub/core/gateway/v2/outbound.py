# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway says to MQTT-SN 2.0 clients, put into 2.0: one method a 1.2 message type.

Each gives the 2.0 packet, or None when the client is to hear nothing.
"""

from collections.abc import Callable
from typing import Any

from hub.core.gateway.v2.peer_state import PeerState
from hub.core.gateway.v2.peer_table import PeerTable
from hub.core.records import Peer
from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.messages import PREDEFINED_ALIAS, SESSION_ALIAS, TOPIC_NAME
from hub.wire.mqttsn.v2.reason_codes import (
    IMPLEMENTATION_SPECIFIC_ERROR,
    NO_VIRTUAL_CONNECTION,
    NOT_AUTHORIZED,
    SESSION_TAKEN_OVER,
    TOPIC_FILTER_INVALID,
    reason_of,
)

_MORE = 255  # Application Messages Remaining: more than can be said (3.12.3)


class Outbound:
    """One method a message type."""

    def __init__(self, peers: PeerTable) -> None:
        self._peers = peers
        self._of: dict[type, Callable[[Peer, PeerState, Any], v2.Message | None]] = {
            v1.ConnAck: self.connack,
            v1.WillTopicReq: self.will_topic_req,
            v1.WillMsgReq: self.will_msg_req,
            v1.Register: self.register,
            v1.RegAck: self.regack,
            v1.Publish: self.publish,
            v1.PubAck: self.puback,
            v1.PubRec: self.pubrec,
            v1.PubRel: self.pubrel,
            v1.PubComp: self.pubcomp,
            v1.SubAck: self.suback,
            v1.UnsubAck: self.unsuback,
            v1.PingResp: self.pingresp,
            v1.Disconnect: self.disconnect,
        }

    def say(self, peer: Peer, state: PeerState, message: v1.Message) -> v2.Message | None:
        """The gateway's message as the 2.0 packet to send, or None."""
        return self._of.get(type(message), self.nothing)(peer, state, message)

    def nothing(self, peer: Peer, state: PeerState, message: v1.Message) -> None:
        """Messages of 1.2's will dialogue that answer what the client did not say."""

    def connack(self, peer: Peer, state: PeerState, message: v1.ConnAck) -> v2.ConnAckV2 | None:
        """The last step's answer is the client's (3.2); a refusal ends the steps and the acquaintance."""
        if not state.connect_id:
            return None
        if not message.return_code and state.steps:
            self._peers.tell(peer, state.steps.popleft())
            return None
        packet_id, state.connect_id = state.connect_id, 0
        state.steps.clear()
        if message.return_code:
            self._peers.dismiss(peer)
            return v2.ConnAckV2(packet_id, reason_of(message.return_code, NOT_AUTHORIZED))
        assigned = state.client_id if state.assigned else ""
        return v2.ConnAckV2(packet_id, 0, state.session_present, assigned_client_id=assigned)

    def will_topic_req(self, peer: Peer, state: PeerState, message: v1.Message) -> None:
        """The client said its will in its CONNECT."""
        self._peers.tell(peer, state.will_topic)

    def will_msg_req(self, peer: Peer, state: PeerState, message: v1.Message) -> None:
        self._peers.tell(peer, state.will_msg)

    def register(self, peer: Peer, state: PeerState, message: v1.Register) -> v2.RegisterV2:
        state.forgotten.discard(message.topic_id)
        return v2.RegisterV2(message.msg_id, message.topic_name, message.topic_id)

    def regack(self, peer: Peer, state: PeerState, message: v1.RegAck) -> v2.RegAckV2 | None:
        if not message.msg_id:
            return None  # of a REGISTER that the client did not send
        if message.return_code:
            return v2.RegAckV2(message.msg_id, reason_of(message.return_code, IMPLEMENTATION_SPECIFIC_ERROR))
        state.forgotten.discard(message.topic_id)
        return v2.RegAckV2(message.msg_id, 0, message.topic_id, SESSION_ALIAS)

    def publish(self, peer: Peer, state: PeerState, message: v1.Publish) -> v2.PublishV2:
        """3.6.2; a short topic, and an alias that the client dropped, go by name. DUP is for QoS 2 alone."""
        topic_type = PREDEFINED_ALIAS
        topic: int | str = message.topic_id
        if message.topic_id_type == v1.TOPIC_SHORT:
            topic_type, topic = TOPIC_NAME, v1.short_topic_name(message.topic_id)
        elif message.topic_id_type == v1.TOPIC_NORMAL:
            topic_type = SESSION_ALIAS
            session = self._peers.by_peer.get(peer)
            if message.topic_id in state.forgotten and session is not None and message.topic_id in session.topics_by_id:
                topic_type, topic = TOPIC_NAME, session.topics_by_id[message.topic_id]
        dup = message.dup and message.qos == 2
        return v2.PublishV2(topic_type, topic, message.msg_id, message.data, message.qos, message.retain, dup)

    def puback(self, peer: Peer, state: PeerState, message: v1.PubAck) -> v2.Message | None:
        """3.6.3; at QoS 0 there is no Packet Identifier that a refusal could name, at QoS 2 it is a PUBREC (3.6.4)."""
        if not message.msg_id:
            return None
        reason_code = reason_of(message.return_code, IMPLEMENTATION_SPECIFIC_ERROR)
        if message.msg_id in state.open_qos2:
            del state.open_qos2[message.msg_id]
            return v2.PubRecV2(message.msg_id, reason_code)
        return v2.PubAckV2(message.msg_id, reason_code)

    def pubrec(self, peer: Peer, state: PeerState, message: v1.PubRec) -> v2.PubRecV2:
        return v2.PubRecV2(message.msg_id)

    def pubrel(self, peer: Peer, state: PeerState, message: v1.PubRel) -> v2.PubRelV2:
        return v2.PubRelV2(message.msg_id)

    def pubcomp(self, peer: Peer, state: PeerState, message: v1.PubComp) -> v2.PubCompV2:
        return v2.PubCompV2(message.msg_id)

    def suback(self, peer: Peer, state: PeerState, message: v1.SubAck) -> v2.SubAckV2:
        """3.8: the reason code is the granted QoS; only a session alias is told."""
        topic_type = state.asked.pop(message.msg_id, PREDEFINED_ALIAS)
        if message.return_code:
            reason_code = reason_of(message.return_code, TOPIC_FILTER_INVALID)
            return v2.SubAckV2(message.msg_id, reason_code, topic_type=PREDEFINED_ALIAS)
        if topic_type == PREDEFINED_ALIAS or not message.topic_id:
            return v2.SubAckV2(message.msg_id, message.qos, topic_type=PREDEFINED_ALIAS)
        state.forgotten.discard(message.topic_id)
        return v2.SubAckV2(message.msg_id, message.qos, message.topic_id, SESSION_ALIAS)

    def unsuback(self, peer: Peer, state: PeerState, message: v1.UnsubAck) -> v2.UnsubAckV2:
        return v2.UnsubAckV2(message.msg_id, state.asked.pop(message.msg_id, 0))

    def pingresp(self, peer: Peer, state: PeerState, message: v1.Message) -> v2.PingRespV2 | None:
        """3.12, with what is still buffered; after a restart nobody knows the request, the client asks again."""
        if not state.ping_id:
            return None
        packet_id, state.ping_id = state.ping_id, 0
        session = self._peers.by_peer.get(peer)
        remaining = 0 if session is None else len(session.queue) + (session.inflight is not None)
        return v2.PingRespV2(packet_id, min(remaining, _MORE))

    def disconnect(self, peer: Peer, state: PeerState, message: v1.Disconnect) -> v2.Message | None:
        """1.2's one DISCONNECT is an answer to sleep, to a goodbye, or news."""
        if state.owed:
            packet_id = state.owed.popleft()
            return v2.SleepResp(packet_id) if packet_id else None
        if self._peers.session_at(peer) is not None:
            return v2.DisconnectV2(SESSION_TAKEN_OVER)
        return v2.DisconnectV2(NO_VIRTUAL_CONNECTION, packet_id=state.last_id)
