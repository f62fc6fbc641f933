"""What brokers may say and paho does not heed: each against a whole peer, over TLS, through the real uplink and store.

The section numbers are those of MQTT 5.0. Each test's first words name the trap.
"""

import os
import socket
import stat
from collections.abc import Callable

import pytest

from tests.harness import scripted_broker as wire
from tests.harness.house import House
from tests.harness.scripted_broker import Portal, Script, ScriptedBroker, connack, connack_3, disconnect
from tests.harness.waiting import free_port, wait_for

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
DAY_S = 86400


def test_connect_keeps_what_the_broker_holds_for_us_3_1_2(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    make_house(broker.port, keepalive_s=77).wait_state("up")
    body = broker.connects()[0].body
    assert body[:7] == b"\x00\x04MQTT\x05"
    flags, keepalive_s = body[7], int.from_bytes(body[8:10], "big")
    assert not flags & 0x02, "a clean start would discard the commands that wait for us"
    assert flags & 0x2C == 0x2C, "a will, QoS 1, retained"
    assert keepalive_s == 77
    known, _ = wire.parse_properties(body[10:])
    assert known[wire.SESSION_EXPIRY] == 7 * DAY_S, "absent, the session would end with the connection"
    assert 1 <= int(known[wire.RECEIVE_MAXIMUM]) <= 16_384, "what waits to be judged is held in memory"
    assert 16_384 < int(known[wire.MAXIMUM_PACKET_SIZE]) <= 65_536, "a command has 16 KiB at most"


def test_connect_of_3_1_1_keeps_the_session_too(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack_3()))
    make_house(broker.port, protocol="3.1.1").wait_state("up")
    body = broker.connects()[0].body
    assert body[:7] == b"\x00\x04MQTT\x04"
    assert not body[7] & 0x02


@pytest.mark.parametrize("code", [0x87, *(pytest.param(code, marks=pytest.mark.slow) for code in (0x80, 0x97))])
def test_a_puback_that_refuses_is_no_delivery_3_4_2_1(make_house: Make, scripted: Scripted, code: int) -> None:
    broker = scripted(Script(puback=code), Script())
    house = make_house(broker.port)
    house.event(7)
    assert f"0x{code:02X}" in house.wait_condition("uplink-message-refused")
    refused = {entry.payload for entry in broker.publishes("/events")}
    broker.hang_up()
    house.wait_drained()
    again = {entry.payload for entry in broker.publishes("/events") if entry.connection == 1}
    assert refused and refused <= again, "what was refused must come again, byte for byte"


@pytest.mark.parametrize("maximum", [1, 2, 5])
def test_the_receive_maximum_is_kept_3_3_4(make_house: Make, scripted: Scripted, maximum: int) -> None:
    broker = scripted(Script(connack(receive_maximum=maximum), delay_s=0.02))
    house = make_house(broker.port, heartbeat_s=0.1)
    house.read(30)
    for number in range(25):
        house.event(number)
    house.wait_drained()
    wait_for("some heartbeats", lambda: len(broker.publishes("/heartbeat")) > 3)
    assert broker.unanswered[0] <= maximum, "state and heartbeat count, too"
    assert len(broker.publishes("/events")) >= 25


def test_a_reconnect_does_not_send_everything_at_once_4_4(make_house: Make, scripted: Scripted) -> None:
    # The first broker answers nothing and goes; the second takes few at a time.
    broker = scripted(Script(puback=None, ends_after=16), Script(connack(receive_maximum=4), delay_s=0.01))
    house = make_house(broker.port)
    for number in range(40):
        house.event(number)
    wait_for("the second connection", lambda: broker.connections == 2)
    house.wait_drained()
    assert broker.unanswered[1] <= 4 < broker.unanswered[0]
    before = [entry.payload for entry in broker.publishes("/events") if entry.connection == 0]
    after = [entry.payload for entry in broker.publishes("/events") if entry.connection == 1]
    assert len(before) > 5, "the first broker heard nothing: the test tests nothing"
    assert after[: len(before)] == before, "the same bytes in the same order"
    assert len(set(after)) == len(after) >= 40


def test_packet_ids_begin_anew_and_mark_the_right_message_2_2_1(make_house: Make, scripted: Scripted) -> None:
    # Three sessions in a row lose their last messages; every id is used for something else each time.
    broker = scripted(*[Script(ends_after=6, puback=None)] * 3, Script())
    house = make_house(broker.port)
    for number in range(20):
        house.event(number)
    house.wait_drained()
    final = [entry.payload for entry in broker.publishes("/events") if entry.connection == 3]
    unacknowledged = {entry.payload for entry in broker.publishes("/events") if entry.connection < 3}
    assert unacknowledged <= set(final)
    assert len(set(final)) >= 20


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a QoS of 3", wire.packet(wire.PUBLISH, b"\x00\x01a\x00\x01\x00", 0x06)),
        ("a PUBLISH with a broken property", wire.packet(wire.PUBLISH, b"\x00\x01a\x00\x01\x02\xff\xff", 0x02)),
        ("a PUBACK without an id", wire.packet(wire.PUBACK, b"")),
        ("a reserved packet", wire.packet(0, b"")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_exception_inside_paho_ends_the_session_for_all_to_see(
    make_house: Make, scripted: Scripted, name: str, raw: bytes
) -> None:
    broker = scripted(Script(at_once=raw), Script())
    house = make_house(broker.port)
    wait_for(f"a new connection after {name}", lambda: broker.connections > 1)
    house.wait_state("up")
    house.event(1)
    house.wait_drained()


def test_an_exception_in_a_callback_ends_the_session_and_the_command_comes_again(
    make_house: Make, scripted: Scripted
) -> None:
    topic = b"meters/MTR-1/commands"
    command = wire.packet(wire.PUBLISH, len(topic).to_bytes(2, "big") + topic + b"\x00\x07\x00stumble", 0x02)
    broker = scripted(Script(at_once=command))
    house = make_house(broker.port)
    wait_for("the second try", lambda: house.commands == [b"stumble"] * 2)
    assert broker.connections == 2, "what was not acknowledged is sent again only to a new connection"
    wait_for("its PUBACK", lambda: broker.count(wire.PUBACK) == 1)


def test_small_messages_are_not_held_back_tcp_nodelay(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    make_house(broker.port).wait_state("up")
    ours = [sock for sock in _sockets() if _peer(sock) == broker.port]
    assert ours, "the connection is not among the open files"
    assert all(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in ours)
    for sock in ours:
        sock.close()


def _sockets() -> list[socket.socket]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.append(socket.socket(fileno=os.dup(int(name))))
        except OSError:
            pass
    return found


def _peer(sock: socket.socket) -> int:
    try:
        return int(sock.getpeername()[1]) if sock.family == socket.AF_INET else 0
    except OSError:
        return 0


def test_topic_aliases_save_the_topic_and_end_with_the_session_3_3_2_3_4(make_house: Make, scripted: Scripted) -> None:
    script = Script(connack(topic_alias_maximum=2))
    broker = scripted(Script(script.connack, ends_after=9), script)
    house = make_house(broker.port)
    for number in range(20):
        house.event(number)
    house.read(5)
    house.wait_drained()
    assert broker.connections == 2
    for connection in (0, 1):
        named: dict[int, str] = {}
        for entry in broker.publishes():
            if entry.connection == connection:
                assert entry.alias <= 2, "more aliases than the broker offered"
                if entry.topic:
                    assert entry.alias not in named, "the topic is not said twice"
                    named[entry.alias or 1000 + entry.mid] = entry.topic
                else:
                    assert entry.alias in named, "an alias of another connection"
        assert any(not e.topic for e in broker.publishes() if e.connection == connection), "no alias was used"


def test_no_alias_where_none_is_offered(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    house = make_house(broker.port)
    for number in range(5):
        house.event(number)
    house.wait_drained()
    assert all(entry.topic and not entry.alias for entry in broker.publishes())


def test_a_heartbeat_expires_and_a_reading_does_not_3_3_2_3_3(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    house = make_house(broker.port, heartbeat_s=30)
    house.read(1)
    house.wait_drained()
    assert {entry.expiry_s for entry in broker.publishes("/heartbeat")} == {60}
    assert {entry.expiry_s for entry in broker.publishes("/readings") + broker.publishes("/events")} == {None}


def test_the_servers_keep_alive_is_obeyed_3_2_2_3_14(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack(server_keep_alive=1)))
    house = make_house(broker.port, keepalive_s=3600, heartbeat_s=3600)
    wait_for("packets every second", lambda: len(broker.publishes("/heartbeat")) >= 3)
    assert house.status()["sessions"] == 1


def test_the_heartbeat_is_the_keep_alive_and_no_pingreq_goes_out(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    make_house(broker.port, keepalive_s=1, heartbeat_s=1)
    wait_for("more than two keep-alives", lambda: len(broker.publishes("/heartbeat")) >= 4)
    assert broker.count(wire.PINGREQ) == 0


def test_packets_stay_below_the_brokers_maximum_3_2_2_3_6(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack(maximum_packet_size=1500)))
    house = make_house(broker.port)
    house.read(400)
    house.wait_drained()
    assert len(broker.publishes("/readings")) > 1
    assert max(len(heard.body) for heard in broker.heard) + 5 <= 1500


def test_what_is_too_large_for_the_broker_blocks_nothing(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack(maximum_packet_size=600)))
    house = make_house(broker.port)
    house.wait_state("up")
    house.store.append("answers", 60, bytes(2000)).result(10)
    house.store.append("answers", 60, b"small").result(10)
    assert "600" in house.wait_condition("uplink-message-refused")
    wait_for("the small one", lambda: len(broker.publishes("/answers")) == 1)
    wait_for("the large one to be all that waits", lambda: house.pending() == 1)


CONNACKS = {
    0x80: "uplink-refused", 0x85: "uplink-not-authorised", 0x86: "uplink-not-authorised",
    0x87: "uplink-not-authorised", 0x88: "uplink-busy", 0x89: "uplink-busy", 0x8A: "uplink-not-authorised",
    0x97: "uplink-busy", 0x9C: "uplink-busy", 0x9D: "uplink-busy", 0x9F: "uplink-busy",
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "condition"), CONNACKS.items(), ids=lambda value: hex(value) if type(value) is int else ""
)
def test_a_connack_says_how_far_to_stay_away_3_2_2_2(
    make_house: Make, scripted: Scripted, code: int, condition: str
) -> None:
    house = make_house(scripted(Script(connack(code))).port)
    assert f"0x{code:02X}" in house.wait_condition(condition)
    house.wait_state("waiting")


DISCONNECTS = {
    0x8B: "uplink-lost", 0x8E: "uplink-taken-over", 0x97: "uplink-busy", 0x98: "uplink-busy", 0x9C: "uplink-busy",
    0x9D: "uplink-busy", 0x87: "uplink-not-authorised", 0x93: "uplink-refused", 0x9F: "uplink-busy",
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "condition"), DISCONNECTS.items(), ids=lambda value: hex(value) if type(value) is int else ""
)
def test_a_disconnect_says_so_too_3_14_2_1(make_house: Make, scripted: Scripted, code: int, condition: str) -> None:
    broker = scripted(Script(ends_after=3, last=disconnect(code)), Script(connack(0x87)))
    house = make_house(broker.port)
    house.event(1)
    house.event(2)
    if condition == "uplink-lost":  # an end like any other: the hub is back at once, and hears the next refusal
        house.wait_condition("uplink-not-authorised")
        assert broker.connections == 2
    else:
        assert f"0x{code:02X}" in house.wait_condition(condition)
        assert broker.connections == 1, "a quick return would only be thrown out again"


@pytest.mark.parametrize("how", ["connack", "disconnect"])
def test_a_redirect_is_followed_to_a_host_that_is_configured_4_13(
    make_house: Make, scripted: Scripted, how: str
) -> None:
    other = scripted()
    word = f"elsewhere.example:1 127.0.0.1:{other.port}"
    moved = Script(connack(0x9C, server_reference=word))
    if how == "disconnect":
        moved = Script(ends_after=2, last=disconnect(0x9D, server_reference=word))
    first, second = scripted(moved), scripted(Script(connack(0x87)))
    hosts = [("localhost", first.port), ("localhost", second.port), ("127.0.0.1", other.port)]
    house = make_house(hosts=hosts)
    wait_for("the host that was named", lambda: other.open == 1)
    house.wait_state("up")
    assert second.connections == 0 and house.status()["host"] == "127.0.0.1"


def test_a_redirect_to_a_stranger_is_not(make_house: Make, scripted: Scripted) -> None:
    stranger = scripted()
    house = make_house(scripted(Script(connack(0x9D, server_reference=f"127.0.0.1:{stranger.port}"))).port)
    assert "is not in uplink.hosts" in house.wait_condition("uplink-busy")
    assert stranger.connections == 0


def test_auto_finds_3_1_1_with_one_more_attempt(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(b""), Script(connack_3()))
    house = make_house(broker.port)
    house.wait_state("up")
    house.event(1)
    house.wait_drained()
    assert [broker.level(0), broker.level(1)] == [5, 4] and broker.connections == 2
    assert house.status()["protocol"] == "3.1.1"


@pytest.mark.parametrize("answer", [b"", connack(0x84)], ids=["closes", "0x84"])
def test_auto_raises_no_storm_where_neither_is_spoken(make_house: Make, scripted: Scripted, answer: bytes) -> None:
    broker = scripted(Script(answer), Script(b"" if not answer else connack_3(0x01)))
    house = make_house(broker.port)
    wait_for("both to be refused", lambda: "neither" in house.status()["last_error"])
    assert broker.connections == 2, "one try each, then a refusal like any other"


def test_paho_does_not_reconnect_behind_our_back(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(connack_3(0x01)))
    house = make_house(broker.port, protocol="3.1.1")
    house.wait_condition("uplink-refused")
    house.wait_state("waiting")
    assert broker.connections == 1
    assert b"MQIsdp" not in broker.connects()[0].body, "MQTT 3.1 is not ours to speak"


@pytest.mark.parametrize("status", ["200 OK", "302 Found\r\nLocation: http://portal.example/"])
def test_a_captive_portal_is_told_from_a_broker(make_house: Make, status: str) -> None:
    portal = Portal(status)
    house = make_house(portal.port)
    house.wait_condition("uplink-portal")
    house.wait_state("waiting")
    assert portal.connections == 1, "it is no broker of another version, either"
    portal.close()


def test_a_portal_with_a_certificate_of_its_own_gets_nothing(
    make_house: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from deploy.pki import DevelopmentAuthority

    stranger = DevelopmentAuthority(tmp_path_factory.mktemp("stranger"))
    stranger.issue("broker", hosts=["localhost", "127.0.0.1"])
    broker = ScriptedBroker(stranger)
    house = make_house(broker.port)
    house.wait_condition("uplink-server-untrusted")
    assert not broker.heard
    broker.close()


def test_half_open_tcp_is_found(make_house: Make, scripted: Scripted) -> None:
    # It takes TCP's data and says nothing more, as a broker whose process hangs.
    broker = scripted(Script(puback=None), Script())
    house = make_house(broker.port, keepalive_s=3600, heartbeat_s=3600, silence_s=0.5)
    wait_for("a new connection", lambda: broker.connections == 2)
    assert "half open" in house.status()["last_error"], "an answer that is owed is waited for ten times longer"
    house.wait_state("up")
    house.wait_drained()


def test_a_message_that_the_broker_forgets_to_answer_is_sent_again(make_house: Make, scripted: Scripted) -> None:
    # It answers everything else, so the line is alive, and without a new session one reading would wait for ever.
    broker = scripted(Script(forgets=4), Script())
    house = make_house(broker.port, silence_s=0.2, heartbeat_s=0.1)
    for number in range(6):
        house.event(number)
    house.wait_drained()
    assert broker.connections == 2


def test_a_name_that_does_not_resolve_is_said_and_the_next_host_tried(make_house: Make, scripted: Scripted) -> None:
    broker = scripted()
    house = make_house(hosts=[("no-such-host.invalid", 1), ("localhost", free_port()), ("localhost", broker.port)])
    house.wait_state("up")
    assert house.status()["attempts"] == 3
    assert "uplink" not in " ".join(condition.code for condition in house.health.conditions())


def test_dns_failure_alone_is_its_own_condition(make_house: Make) -> None:
    make_house(hosts=[("no-such-host.invalid", 1)]).wait_condition("uplink-dns")
