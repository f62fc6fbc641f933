# SPDX-License-Identifier: GPL-3.0-or-later
"""2.0 clients over `kill -9` of the hub: it goes on in their language, with what they had."""

from hub.core.gateway.limits import GatewayLimits
from hub.wire.mqttsn import messages
from hub.wire.mqttsn.v2.messages import (
    PREDEFINED_ALIAS,
    SESSION_ALIAS,
    ConnAckV2,
    ConnectionEncapsulation,
    ConnectV2,
    DisconnectV2,
    Forwarder,
    PingReqV2,
    PingRespV2,
    PubAckV2,
    PublishV2,
    RegAckV2,
    RegisterV2,
    SleepReq,
    SleepResp,
)
from tests.hub.core.gateway.v2.playbook import Talk2, subscribed


def test_what_was_in_flight_is_said_again_in_2_0() -> None:
    """DUP is 1.2's at QoS 1: here the Packet Identifier is what is the same."""
    talk = subscribed(Talk2().speaks2(session_expiry_s=60)).publishes("garden/pump", b"on")
    talk.says(PublishV2(SESSION_ALIAS, 1, 1, b"on", 1)).restarts()
    talk.says(PublishV2(SESSION_ALIAS, 1, 1, b"on", 1)).hears("n", PubAckV2(1)).says_nothing()
    assert talk.store.inbox == {}


def test_a_sleeper_keeps_session_aliases_and_messages() -> None:
    talk = subscribed(Talk2().speaks2(session_expiry_s=60))
    talk.hears("n", RegisterV2(2, "readings/flow")).says(RegAckV2(2, 0, 2))
    talk.hears("n", SleepReq(3, 600)).says(SleepResp(3)).publishes("garden/pump", b"on").restarts()
    assert talk.state("plug-2") == "asleep"
    talk.says_nothing().hears("n", PublishV2(SESSION_ALIAS, 2, 4, b"5", 1)).says(PubAckV2(4))
    talk.hears("n", PingReqV2(5)).says(PublishV2(SESSION_ALIAS, 1, 1, b"on", 1))
    talk.hears("n", PubAckV2(1)).says(PingRespV2(5, 0))
    assert talk.store.values("flow") == [5]
    talk.waits(899)
    assert talk.state("plug-2") == "asleep", "for half as long again as it said, also after the restart"


def test_a_commit_whose_answer_was_lost_with_the_hub_is_recognised_without_dup() -> None:
    talk = Talk2().speaks2(session_expiry_s=60)
    for packet_id in (2, 3, 4):
        talk.hears("n", PublishV2(PREDEFINED_ALIAS, 1, packet_id, b"%d" % packet_id, 1)).says(PubAckV2(packet_id))
    talk.restarts()
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, 1, 4, b"4", 1)).says(PubAckV2(4))
    assert talk.store.values() == [2, 3, 4]
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, 1, 5, b"4", 1)).says(PubAckV2(5))
    assert talk.store.values() == [2, 3, 4, 4]


def test_a_client_that_uses_one_packet_identifier_loses_nothing_to_a_restart() -> None:
    talk = Talk2().speaks2(session_expiry_s=60)
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, 1, 2, b"5", 1)).says(PubAckV2(2)).restarts()
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, 1, 2, b"5", 1)).says(PubAckV2(2))
    assert talk.store.values() == [5, 5]


def test_the_largest_packet_is_remembered() -> None:
    talk = subscribed(Talk2().speaks2(max_packet_size=20))
    talk.restarts()
    talk.publishes("garden/pump", bytes(20)).says_nothing()
    assert talk.gateway.counters["too-long-for-client"] == 1


def test_a_goodbye_may_have_changed_the_expiry() -> None:
    talk = subscribed(Talk2().speaks2(session_expiry_s=60)).hears("n", DisconnectV2(session_expiry_s=0))
    talk.restarts()
    talk.hears("n", ConnectV2("plug-2", 60, 8, False, 60)).says(("n", ConnAckV2(8)))
    talk = subscribed(talk).hears("n", DisconnectV2(0x04, session_expiry_s=0))
    talk.restarts()
    talk.hears("n", ConnectV2("plug-2", 60, 8, False, 60)).says(("n", ConnAckV2(8)))


def test_a_new_address_and_its_forwarder_are_remembered() -> None:
    talk = subscribed(Talk2().speaks2(allows_address_change=True, session_expiry_s=60))
    talk.hears("n", SleepReq(3, 600)).says(SleepResp(3))
    talk.names[("udp", "fw", 10000, b"n1")] = "fw>n1"
    talk.hears("fw", Forwarder(b"n1", ConnectionEncapsulation("plug-2", PingReqV2(4).encode()).encode()))
    talk.says(("fw>n1", PingRespV2(4, 0))).restarts()
    talk.hears("fw", Forwarder(b"n1", PingReqV2(5).encode())).says(("fw>n1", PingRespV2(5, 0)))


def test_who_speaks_1_2_now_is_spoken_to_in_1_2() -> None:
    talk = Talk2().speaks2("n", "plug-1").hears("a", messages.Connect("plug-1", 60)).forget()
    talk.restarts()
    talk.hears("a", messages.PingReq()).says(("a", messages.PingResp()))
    assert talk.store.sessions["plug-1"].v2_state == ""


def test_a_refused_connect_leaves_the_address_to_who_had_it() -> None:
    """Another client's CONNECT that is not taken up changes neither the language nor the limits there."""
    talk = subscribed(Talk2(limits=GatewayLimits(clients=1)).speaks2(max_packet_size=30))
    talk.hears("n", ConnectV2("plug-3", 60, 8)).says(("n", ConnAckV2(8, 0xF1)))
    talk.publishes("garden/pump", bytes(30)).says_nothing()
    assert talk.gateway.counters["too-long-for-client"] == 1
