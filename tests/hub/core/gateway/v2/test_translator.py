# SPDX-License-Identifier: GPL-3.0-or-later
"""2.0 clients at the real gateway machine: what they say, coming, sleeping, going, and what strangers say."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits, tolerated_silence_s
from hub.core.gateway.v2.peer_state import PeerState, keep_alive_of
from hub.core.records import Batch
from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.messages import (
    PREDEFINED_ALIAS,
    SESSION_ALIAS,
    TOPIC_NAME,
    ConnAckV2,
    ConnectionEncapsulation,
    ConnectV2,
    DisconnectV2,
    Forwarder,
    GwInfoV2,
    PingReqV2,
    PingRespV2,
    PubAckV2,
    PublishV2,
    PubWos,
    RegAckV2,
    RegisterV2,
    SearchGwV2,
    SleepReq,
    SleepResp,
    SubAckV2,
    SubscribeV2,
    Will,
)
from tests.hub.core.gateway.v2.playbook import Talk2, subscribed

POWER = 0x0001
FORWARDER = 0xFC  # the type of 2.0's envelope


def test_connect_and_leave() -> None:
    talk = Talk2().speaks2()
    assert talk.state("plug-2") == "active"
    talk.hears("n", DisconnectV2()).says_nothing()
    assert talk.state("plug-2") == "disconnected"


@pytest.mark.parametrize(
    ("connect", "reason_code"),
    [
        (ConnectV2("plug-2", 60, 7, version=3), 0x84),
        (ConnectV2("plug-2", 0, 7), 0x82),
        (ConnectV2("plug-2", 60, 7, max_packet_size=9), 0x82),
        (ConnectV2("a b", 60, 7), 0x85),
        (ConnectV2("meter", 60, 7), 0x85),
        (ConnectV2("plug-2", 60, 7, authentication=v2.Authentication("PSK", b"")), 0x8C),
        (ConnectV2("plug-2", 60, 7, will=Will(TOPIC_NAME, "a/+", b"")), 0x90),
        (ConnectV2("plug-2", 60, 7, will=Will(PREDEFINED_ALIAS, 0x7777, b"")), 0x90),
        (ConnectV2("plug-2", 60, 7, will=Will(TOPIC_NAME, "control/plug-2", b"")), 0x87),
    ],
)
def test_a_connect_that_is_refused(connect: ConnectV2, reason_code: int) -> None:
    Talk2().hears("n", connect).says(("n", ConnAckV2(7, reason_code)))


def test_a_client_without_a_name_is_given_one() -> None:
    Talk2().hears("n", ConnectV2("", 60, 7)).says(("n", ConnAckV2(7, assigned_client_id="auto-1")))


def test_congestion_is_told_and_the_next_connect_succeeds() -> None:
    talk = Talk2()
    talk.holds = True
    talk.hears("n", ConnectV2("plug-2", 60, 7)).says_nothing()
    talk.refuses().says(("n", ConnAckV2(7, 0xF1)))
    talk.holds = False
    talk.commits()
    talk.speaks2()


def test_what_comes_before_the_connack_is_not_processed() -> None:
    talk = Talk2()
    talk.holds = True
    talk.hears("n", ConnectV2("plug-2", 60, 7), PublishV2(PREDEFINED_ALIAS, POWER, 8, b"42", 1)).says_nothing()
    talk.commits().says(("n", ConnAckV2(7)))
    assert talk.store.samples == []


def test_session_present() -> None:
    """3.2.2.1: it goes on when it was to outlive its connection and Clean Start is 0."""
    talk = subscribed(Talk2().speaks2(session_expiry_s=3600))
    talk.hears("n", DisconnectV2()).says_nothing()
    talk.publishes("garden/pump", b"on")
    talk.hears("n", ConnectV2("plug-2", 60, 8, False, 3600))
    talk.says(ConnAckV2(8, 0, True), RegisterV2(1, "garden/pump", 1)).hears("n", RegAckV2(1))
    talk.says(PublishV2(SESSION_ALIAS, 1, 1, b"on", 1)).hears("n", PubAckV2(1))
    talk.hears("n", ConnectV2("plug-2", 60, 9, True, 3600)).says(("n", ConnAckV2(9)))
    talk.publishes("garden/pump", b"off").says_nothing()


@pytest.mark.parametrize(("expiry_s", "away_s"), [(None, 1), (600, 601)])
def test_an_expired_session_is_not_present(expiry_s: int | None, away_s: int) -> None:
    talk = subscribed(Talk2().speaks2(session_expiry_s=expiry_s)).hears("n", DisconnectV2())
    talk.waits(away_s).hears("n", ConnectV2("plug-2", 60, 8, False, 3600)).says(("n", ConnAckV2(8)))
    talk.publishes("garden/pump", b"off").says_nothing()


def test_a_session_that_never_expires_and_one_shortened_at_the_end() -> None:
    talk = subscribed(Talk2().speaks2(session_expiry_s=v2.NEVER)).hears("n", DisconnectV2()).waits(10**7)
    talk.hears("n", ConnectV2("plug-2", 60, 8, False, 3600)).says(("n", ConnAckV2(8, 0, True)))
    talk.hears("n", DisconnectV2(session_expiry_s=0)).hears("n", ConnectV2("plug-2", 60, 8, False)).says(
        ("n", ConnAckV2(8))
    )


def test_an_expiry_out_of_nothing_is_a_protocol_error() -> None:
    talk = Talk2().speaks2().hears("n", DisconnectV2(session_expiry_s=60))
    talk.says(DisconnectV2(0x82))
    assert talk.state("plug-2") == "lost"


def with_will(talk: Talk2) -> Talk2:
    will = Will(TOPIC_NAME, "alarm/plug-2", b"gone", 1)
    return talk.hears("n", ConnectV2("plug-2", 60, 7, will=will)).says(("n", ConnAckV2(7)))


def test_a_will_comes_with_the_connect_and_is_published_on_loss() -> None:
    """3.1.2.2, 3.1.6: after one and a half times the Keep Alive."""
    talk = with_will(Talk2())
    assert talk.store.sessions["plug-2"].will_topic == "alarm/plug-2"
    talk.waits(89)
    assert "adapter.alarm" not in talk.store.event_names()
    talk.waits(2)
    assert "adapter.alarm" in talk.store.event_names()


@pytest.mark.parametrize(("reason_code", "is_published"), [(0, False), (0x04, True), (0x82, True)])
def test_only_a_normal_disconnection_drops_the_will(reason_code: int, is_published: bool) -> None:
    talk = with_will(Talk2()).hears("n", DisconnectV2(reason_code)).says_nothing()
    assert ("adapter.alarm" in talk.store.event_names()) == is_published


def test_a_connect_without_a_will_deletes_the_one_before() -> None:
    talk = Talk2()
    will = Will(TOPIC_NAME, "alarm/plug-2", b"gone")
    talk.hears("n", ConnectV2("plug-2", 60, 7, True, 3600, will=will)).says(("n", ConnAckV2(7)))
    talk.hears("n", ConnectV2("plug-2", 60, 8, False, 3600)).says(("n", ConnAckV2(8, 0, True))).waits(100)
    assert "adapter.alarm" not in talk.store.event_names()


def test_sleep_and_wake() -> None:
    """4.14.2; a repeated SLEEPREQ is answered again."""
    talk = subscribed(Talk2().speaks2())
    talk.hears("n", SleepReq(2, 100_000)).says(SleepResp(2)).hears("n", SleepReq(2, 100_000)).says(SleepResp(2))
    assert talk.state("plug-2") == "asleep"
    talk.publishes("garden/pump", b"1").says_nothing().waits(99_999)
    talk.hears("n", PingReqV2(3)).says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1)).hears("n", PubAckV2(1))
    talk.says(PingRespV2(3, 0)).waits(149_000)
    assert talk.state("plug-2") == "asleep"
    talk.waits(2_000)
    assert talk.state("plug-2") == "lost"


def test_aliases_that_the_sleeper_drops_are_not_used() -> None:
    """3.15.2.1: the topic name is, until the alias is given again."""
    talk = subscribed(Talk2().speaks2()).hears("n", SleepReq(2, 600, False)).says(SleepResp(2))
    talk.publishes("garden/pump", b"1").hears("n", PingReqV2(3))
    talk.says(PublishV2(TOPIC_NAME, "garden/pump", 1, b"1", 1)).hears("n", PubAckV2(1)).says(PingRespV2(3, 0))


def test_a_connect_out_of_sleep_has_full_effect() -> None:
    """4.14."""
    talk = subscribed(Talk2().speaks2(session_expiry_s=60)).hears("n", SleepReq(2, 600)).says(SleepResp(2))
    talk.hears("n", ConnectV2("plug-2", 60, 8, True, 60)).says(("n", ConnAckV2(8)))
    talk.publishes("garden/pump", b"1").says_nothing()


def test_a_connect_right_behind_a_sleepreq_does_not_hear_its_answer() -> None:
    talk = Talk2().speaks2()
    talk.holds = True
    talk.hears("n", SleepReq(2, 600), ConnectV2("plug-2", 60, 8)).commits().commits().commits()
    assert [message for _, message in talk.out] == [ConnAckV2(8)]


def test_ping_of_an_active_client_tells_what_waits() -> None:
    talk = subscribed(Talk2().speaks2()).hears("n", PingReqV2(4)).says(PingRespV2(4, 0))
    talk.publishes("garden/pump", b"1").publishes("garden/pump", b"2").forget()
    talk.hears("n", PingReqV2(5)).says(PingRespV2(5, 2))


def test_without_a_connection_the_client_is_told_at_once() -> None:
    talk = Talk2()
    for packet in (
        PingReqV2(7),
        PublishV2(PREDEFINED_ALIAS, POWER, 7, b"1", 1),
        SleepReq(7, 60),
        SubscribeV2(3, "ab", 7),
    ):
        talk.hears("n", packet).says(DisconnectV2(0xF4, packet_id=7))
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, POWER, 0, b"1")).says(DisconnectV2(0xF4))
    talk.speaks2().hears("n", DisconnectV2()).hears("n", RegisterV2(8, "a")).says(DisconnectV2(0xF4, packet_id=8))


def test_a_session_taken_over_by_either_version() -> None:
    talk = Talk2().speaks2("n", "plug-1")
    talk.hears("a", v1.Connect("plug-1", 60)).says(("n", DisconnectV2(0x8E)), ("a", v1.ConnAck(0)))
    talk.hears("n", ConnectV2("plug-1", 60, 9)).says(("a", v1.Disconnect()), ("n", ConnAckV2(9)))


def test_both_versions_at_one_gateway() -> None:
    talk = subscribed(Talk2().speaks2(), "ping/pong").connects("a", "plug-1")
    talk.hears("a", v1.Register(0, 1, "ping/pong")).says(("a", v1.RegAck(1, 1, 0)))
    talk.hears("a", v1.Publish(v1.TOPIC_NORMAL, 1, 2, b"x", 1))
    assert sorted(talk.out, key=str) == [("a", v1.PubAck(1, 2, 0)), ("n", PublishV2(SESSION_ALIAS, 1, 1, b"x", 1))]


def test_one_address_may_change_its_mind() -> None:
    """After a 1.2 CONNECT the same address is spoken to in 1.2."""
    talk = Talk2().speaks2("n", "plug-1")
    peer = next(iter(talk.gateway._router.translator.table.peers))
    talk.gateway.receive_datagram(peer, v1.Connect("plug-1", 60).encode(), talk.now)
    batch = talk.gateway.take_batch()
    assert batch is not None
    talk.gateway.committed(batch.id, talk.now)
    assert talk.gateway.datagrams_to_send() == [(peer, v1.ConnAck(0).encode())]


def test_publish_without_session() -> None:
    talk = Talk2().hears("10.0.0.9", PubWos(TOPIC_NAME, "readings/power", b"42")).says_nothing()
    assert [sample.client_id for sample in talk.store.samples] == ["udp-10.0.0.9"]
    talk.hears("10.0.0.9", PubWos(PREDEFINED_ALIAS, POWER, b"123"))
    assert talk.store.values() == [42, 123]
    talk.hears("10.0.0.9", PubWos(TOPIC_NAME, "some/where", b"42")).says_nothing()


def test_a_1_2_subscribe_of_a_stranger_is_no_pubwos() -> None:
    Talk2().hears("a", v1.Subscribe(v1.TOPIC_PREDEFINED, POWER, 7)).says(("a", v1.Disconnect()))
    Talk2().hears("a", v1.Subscribe(v1.TOPIC_NORMAL, "abc", 7)).says(("a", v1.Disconnect()))


def test_discovery_and_protection() -> None:
    """A bare SEARCHGW of a stranger is 1.2's PINGRESP, answered as such."""
    talk = Talk2(gw_id=5).hears("n", SearchGwV2(b"\x01")).says(GwInfoV2(5))
    talk.hears("a", SearchGwV2()).says(("a", v1.Disconnect())).speaks2().hears("n", SearchGwV2()).says(GwInfoV2(5))
    talk.hears("n", v2.Protection(bytes(20))).says(DisconnectV2(0xF2))
    talk.hears("a", v1.SearchGw(1)).says(("a", v1.GwInfo(5)))


def test_behind_a_forwarder() -> None:
    """3.19; each forwarder is answered in its own envelope."""
    talk = Talk2()
    talk.names[("udp", "fw", 10000, b"n1")] = "fw>n1"
    talk.hears("fw", Forwarder(b"n1", ConnectV2("plug-2", 60, 7).encode())).says(("fw>n1", ConnAckV2(7)))
    talk.hears("fw", Forwarder(b"n1", Forwarder(b"n2", PingReqV2(1).encode()).encode())).says_nothing()
    talk.names[("udp", "fx", 10000, b"n2")] = "fx>n2"
    talk.hears("fx", v1.Forward(0, b"n2", ConnectV2("plug-3", 60, 7).encode())).says(("fx>n2", ConnAckV2(7)))


def test_forwarders_that_nobody_is_behind_are_forgotten() -> None:
    """Anybody can send an envelope, from as many ports and addresses as there are."""
    talk = subscribed(Talk2(limits=GatewayLimits(clients=20)).speaks2())
    talk.names[("udp", "fw", 10000, b"n1")] = "fw>n1"
    talk.hears("fw", Forwarder(b"n1", ConnectV2("plug-3", 60, 7).encode())).says(("fw>n1", ConnAckV2(7)))
    talk.hears("fw", Forwarder(b"n1", SubscribeV2(TOPIC_NAME, "home/power", 9, 0).encode())).says(
        ("fw>n1", SubAckV2(9, 0, 1, SESSION_ALIAS))
    )
    envelope = Forwarder(b"n", PingReqV2(1).encode()).encode()

    def flood(ports: range) -> int:
        for port in ports:
            talk.gateway.receive_datagram(("udp", "10.9.9.9", port), envelope, talk.now)
            talk.gateway.datagrams_to_send()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = flood(range(1000, 2000))
        assert flood(range(2000, 12_000)) - before < 100_000, "each of them was remembered"
    finally:
        tracemalloc.stop()
    talk.gateway.publish("home/power", b"230", talk.now, qos=0)
    kinds = [data[1] for peer, data in talk.gateway.datagrams_to_send() if peer == ("udp", "fw", 10000)]
    assert kinds == [FORWARDER], "one with a client behind it hears its own envelope still"


def test_a_new_address() -> None:
    """3.18, for what the gateway can do: a sleeper may wake from elsewhere; all else connects anew."""
    talk = subscribed(Talk2().speaks2(allows_address_change=True, session_expiry_s=60))
    talk.hears("n", ConnectionEncapsulation("plug-2", PingReqV2(2).encode())).says(PingRespV2(2, 0))
    talk.hears("n9", ConnectionEncapsulation("plug-2", PingReqV2(2).encode())).says(
        ("n9", DisconnectV2(0xF4, packet_id=2))
    ).forget()
    talk.hears("n", SleepReq(3, 600)).says(SleepResp(3)).publishes("garden/pump", b"1")
    talk.hears("n9", ConnectionEncapsulation("plug-2", PingReqV2(4).encode())).says(
        ("n9", PublishV2(SESSION_ALIAS, 1, 1, b"1", 1))
    )
    talk.hears("n9", PubAckV2(1)).says(("n9", PingRespV2(4, 0)))


def test_a_packet_too_large_is_not_sent_and_counts_as_delivered() -> None:
    """3.1.7."""
    talk = subscribed(Talk2().speaks2(max_packet_size=20)).publishes("garden/pump", bytes(20)).says_nothing()
    assert talk.store.inbox == {}


def test_a_restart_keeps_the_language() -> None:
    talk = subscribed(Talk2().speaks2(session_expiry_s=60, max_packet_size=100))
    talk.restarts()
    talk.publishes("garden/pump", b"1").says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1)).hears("n", PubAckV2(1))
    talk.hears("n", PingReqV2(4)).says(PingRespV2(4, 0))
    talk.hears("n", DisconnectV2()).hears("n", ConnectV2("plug-2", 60, 8, False, 60)).says(("n", ConnAckV2(8, 0, True)))


@pytest.mark.parametrize("kept", ["", "2", "3 0 0 0 90", "2 x 0 0 90", "2 0 0 0 90 f f"])
def test_what_was_kept_may_be_anything(kept: str) -> None:
    assert PeerState.restored("plug-2", kept, 0.0) is None


@pytest.mark.parametrize("packet", ["0503240001", "050c000700", "0219", "0604ff0000ff"])
def test_malformed_ends_the_connection(packet: str) -> None:
    """4.12.1."""
    talk = with_will(Talk2()).hears("n", bytes.fromhex(packet)).says(DisconnectV2(0x81))
    assert talk.state("plug-2") == "lost" and "adapter.alarm" in talk.store.event_names()


@pytest.mark.parametrize("packet", [ConnAckV2(7), PingRespV2(7), v2.WakeUp(), v2.SleepResp(7)])
def test_a_server_packet_from_a_client_is_a_protocol_error(packet: v2.Message) -> None:
    Talk2().speaks2().hears("n", packet).says(("n", DisconnectV2(0x82)))


@pytest.mark.parametrize("keep_alive_s", [1, 10, 60, 61, 200, 300, 900, 3600, 65535])
def test_silence_is_tolerated_for_half_as_long_again(keep_alive_s: int) -> None:
    assert tolerated_silence_s(keep_alive_of(1.5 * keep_alive_s)) == pytest.approx(1.5 * keep_alive_s, abs=1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=24)), max_size=8), st.booleans())
def test_hostile_bytes(bodies: list[tuple[int, bytes]], is_known: bool) -> None:
    """Whatever comes, to a stranger or a client: nothing is raised, and every answer is a 2.0 or 1.2 message."""
    talk = Talk2()
    if is_known:
        talk.speaks2()
    for kind, body in bodies:
        for data in (bytes((len(body) + 2, kind % 0x1A if kind < 250 else kind)) + body, body):
            talk.gateway.receive_datagram(("udp", "n", 10000), data, talk.now)
            batch = talk.gateway.take_batch()
            if batch is not None:
                talk.gateway.committed(batch.id, talk.now)
    talk.gateway.handle_timer(talk.now + 10**6)


@pytest.mark.parametrize(
    "request_1_2",
    [
        v1.Publish(v1.TOPIC_PREDEFINED, POWER, 0, b"5", 2),
        v1.Subscribe(v1.TOPIC_NORMAL, "x/y", 0, 1),
        v1.Unsubscribe(v1.TOPIC_NORMAL, "x/y", 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_answer_that_2_0_cannot_carry_is_not_said(request_1_2: v1.Message) -> None:
    """A client asks in 1.2 under MsgId 0, which is an id like any other there, and says 2.0 before the commit."""
    gateway = Gateway(GatewayConfig(), 0.0)
    peer = ("udp", "10.0.0.1", 1)

    def hears(message: v1.Message) -> Batch | None:
        gateway.receive_datagram(peer, message.encode(), 0.0)
        return gateway.take_batch()

    def commits(batch: Batch | None) -> None:
        while batch is not None:
            gateway.committed(batch.id, 0.0)
            batch = gateway.take_batch()

    commits(hears(v1.Connect("plug-1", 60)))
    gateway.datagrams_to_send()
    asked = hears(request_1_2)
    connected = hears(ConnectV2("plug-1", 60, 7, clean_start=False))
    commits(asked)
    commits(connected)
    assert [v2.decode2(data) for _, data in gateway.datagrams_to_send()] == [ConnAckV2(7)]


def test_what_is_known_of_2_0_clients_is_bounded_as_sessions_are() -> None:
    """Each comes under another name from another place, and goes; those who are there stay known."""
    talk = Talk2(limits=GatewayLimits(clients=4)).speaks2("n", "plug-2")
    table = talk.gateway._router.translator.table
    for number in range(30):
        talk.speaks2(f"n{number}", f"guest-{number}").hears(f"n{number}", DisconnectV2()).forget()
        assert set(table.clients) == {session.client_id for session in talk.gateway.sessions()}
        assert len(table.peers) <= 8
    assert "plug-2" in table.clients
    talk.hears("n", PingReqV2(5)).says(PingRespV2(5, 0))
