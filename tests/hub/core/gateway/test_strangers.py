"""Strangers in the home: no address fills a table alone, a newcomer always finds a place, events come at a pace."""

import pytest

from hub.core.gateway.adapter_events import BURST, ONE_IN_S, TOGETHER_S
from hub.core.gateway.addresses import address_of
from hub.core.gateway.limits import GatewayLimits
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PubAck,
    Publish,
    RegAck,
    Register,
    SubAck,
    Subscribe,
    Unsubscribe,
    WillTopicResp,
    WillTopicUpd,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, Playbook

ABOUT, ALARM, LIMIT, POWER = 0x20, 0x21, 0x07, 0x01


def host_at(address: str, port: int) -> str:
    """A peer's short name whose address is shared: `fw>node` peers all count for `fw`."""
    return f"{address}>{port}"


def flood(play: Playbook, names: int, address: str = "bad", duration_s: int = 65535) -> list[int]:
    """So many invented ClientIds from one address; the return codes."""
    play.forget()
    for number in range(names):
        play.hears(host_at(address, number), Connect(f"x{address}{number}", duration_s))
    codes = [message.return_code for _, message in play.out if isinstance(message, ConnAck)]
    play.forget()
    return codes


@pytest.mark.parametrize("restarts", [False, True])
def test_one_host_does_not_lock_others_out_nor_itself_for_long(restarts: bool) -> None:
    limits = GatewayLimits(clients=100, clients_per_address=40, new_names_per_address=50)
    play = Playbook(limits=limits).connects("a", "old", clean=False)
    codes = flood(play, 500)
    assert codes.count(0) == 50 and len(play.gateway.sessions()) == 41
    assert "adapters-crowded" in play.gateway.pressures(play.now)
    if restarts:
        play.restarts()
    play.forget().connects("b", "new-1")
    play.waits(11).forget().hears(
        host_at("bad", 9999), Connect("honest", 60)
    )  # behind the same address, a little later
    assert ConnAck(0) in [message for _, message in play.out]
    assert {"old", "new-1", "honest"} <= {session.client_id for session in play.gateway.sessions()}


def test_many_hosts_do_not_lock_others_out_either() -> None:
    play = Playbook(limits=GatewayLimits(clients=60, clients_per_address=40)).connects("a", "old", clean=False)
    for host in ("bad1", "bad2", "bad3"):
        flood(play, 40, host)
    assert len(play.gateway.sessions()) == 60
    for number in range(10):
        play.hears(f"10.0.0.{number}", Connect(f"new-{number}", 60))
        assert play.out[-1] == (f"10.0.0.{number}", ConnAck(0))
    names = {session.client_id for session in play.gateway.sessions()}
    assert "old" in names and {f"new-{number}" for number in range(10)} <= names and len(names) == 60
    assert set(play.store.sessions) == names


def test_one_address_each_and_all_of_them_silent() -> None:
    """Forged addresses: who was never of use makes place after a minute, who is known and of use does not."""
    play = Playbook(limits=GatewayLimits(clients=10))
    play.connects("a", "boiler", duration_s=600).hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1)).forget()
    for number in range(9):
        play.connects(f"10.1.0.{number}", f"x{number}", duration_s=65535)
    play.hears("b", Connect("new", 60)).says(("b", ConnAck(1)))
    assert "adapters-full" in play.gateway.pressures(play.now)
    play.waits(61).hears("b", Connect("new", 60))
    assert play.out[-1] == ("b", ConnAck(0))
    assert {"boiler", "new"} <= {session.client_id for session in play.gateway.sessions()}
    assert not play.gateway.pressures(play.now + 700), "what was felt long ago is no condition"


def test_a_long_keep_alive_is_kept_but_makes_place_where_its_address_is_full() -> None:
    play = Playbook(limits=GatewayLimits(clients_per_address=3, keep_alive_cap_s=3600.0))
    for number in range(3):
        play.hears(host_at("fw", number), Connect(f"s{number}", 65535), Publish(PREDEFINED, POWER, 1, b"5", 1))
    play.forget().hears(host_at("fw", 3), Connect("s3", 60))
    assert play.out == [(host_at("fw", 3), ConnAck(1))], "they are of use, and were heard"
    play.waits(3700).forget().hears(host_at("fw", 1), PingReq())
    play.forget().hears(host_at("fw", 3), Connect("s3", 60))
    assert [message for name, message in play.out if name == host_at("fw", 3)] == [ConnAck(0)]
    assert [session.client_id for session in play.gateway.sessions()] == ["s1", "s2", "s3"]
    play.waits(50_000)
    assert play.state("s2") == "active", "without need it keeps its Duration"


def test_invented_names_are_not_as_many_events() -> None:
    play, names = Playbook(), GatewayLimits().new_names_per_address
    flood(play, 1000)
    assert play.store.event_names() == ["adapter.joined"] * BURST
    play.waits(TOGETHER_S + 1)
    (many,) = [event.fields for event in play.store.events if event.event == "adapter.many"]
    assert many["what"] == "adapter.joined" and many["count"] == names - BURST and len(many["clients"]) == 16
    play.store.events.clear()
    play.connects("a", "honest")
    assert play.store.event_names() == ["adapter.joined"], "later one is told by itself again"


def test_losses_are_told_at_a_pace_too() -> None:
    play = Playbook()
    flood(play, 200, duration_s=10)
    play.waits(TOGETHER_S + 100)
    assert play.store.event_names().count("adapter.lost") <= BURST + (TOGETHER_S + 100) / ONE_IN_S
    told = {event.fields["what"]: event.fields["count"] for event in play.store.events if event.event == "adapter.many"}
    assert set(told) == {"adapter.joined", "adapter.lost"} and told["adapter.lost"] > 100


def test_alarms_of_one_address_are_refused_not_swallowed() -> None:
    play = Playbook().connects().connects("b", "plug-2").forget()
    for number in range(1, 21):
        play.hears("a", Publish(PREDEFINED, ALARM, number, b"%d" % number, 1))
    codes = [message.return_code for _, message in play.out]
    assert codes == [0] * 8 + [1] * 12
    assert [event.fields["text"] for event in play.store.events if event.event == "adapter.alarm"] == list("12345678")
    play.forget().hears("b", Publish(PREDEFINED, ALARM, 1, b"fire", 1)).says(("b", PubAck(ALARM, 1, 0)))
    play.waits(61).forget().hears("a", Publish(PREDEFINED, ALARM, 9, b"9", 1, dup=True)).says(PubAck(ALARM, 9, 0))
    assert play.gateway.sessions()[0].stats.refused == {"rate": 12}


def test_a_limit_that_is_cleared_again_and_again_is_refused_and_stays_as_it_was() -> None:
    play = Playbook().connects().forget()
    codes = []
    for number in range(1, 60, 2):
        play.hears("a", Publish(PREDEFINED, LIMIT, number, b"500", 1), Publish(PREDEFINED, LIMIT, number + 1, b"", 1))
        codes.append(play.out[-1][1].return_code)
    assert codes == [0] * 8 + [1] * 22
    assert play.store.event_names().count("adapter.limit_cleared") == 8
    for _ in range(300):  # nameless: never an event
        play.hears("10.0.0.7", Publish(PREDEFINED, LIMIT, 0, b"", -1))
    assert play.store.event_names().count("adapter.limit_cleared") == 8


def test_a_full_table_of_retained_messages_refuses_and_passes_nothing_on() -> None:
    play = Playbook(limits=GatewayLimits(retained=3, retained_bytes=100)).connects().connects("b", "display")
    play.subscribes("x/+", 1, "b")
    for number, name in enumerate(("aa", "bb", "cc", "dd"), 1):
        short = int.from_bytes(name.encode(), "big")
        play.forget().hears("a", Publish(2, short, number, b"1", 1, True))
        play.says(PubAck(short, number, 1 if name == "dd" else 0))
    assert set(play.store.retained) == {"aa", "bb", "cc"}
    assert play.gateway.sessions()[0].stats.refused == {"retained-full": 1}
    assert "retained-full" in play.gateway.pressures(play.now)
    aa, dd = (int.from_bytes(name, "big") for name in (b"aa", b"dd"))
    play.forget().hears("a", Publish(2, aa, 9, bytes(99), 1, True)).says(PubAck(aa, 9, 1))  # too many bytes in all
    play.hears("a", Publish(2, aa, 10, b"", 1, True)).says(PubAck(aa, 10, 0))  # an empty one makes place
    play.hears("a", Publish(2, dd, 11, b"1", 1, True)).says(PubAck(dd, 11, 0))
    # What an appliance is finds a place whatever others retain, and so does what the hub has to say; a reading is kept.
    play.hears("a", Publish(PREDEFINED, ABOUT, 12, b"{}", 1)).says(PubAck(ABOUT, 12, 0))
    play.publishes("price", b"{}", retain=True)
    play.hears("a", Publish(PREDEFINED, POWER, 13, b"5", 1, True)).says(PubAck(POWER, 13, 0))
    assert set(play.store.retained) == {"bb", "cc", "dd", "about/plug-1", "price"} and len(play.store.samples) == 1


def test_many_at_once_are_refused_before_they_are_accepted() -> None:
    play = Playbook(limits=GatewayLimits(retained=2)).connects().forget()
    play.holds = True
    topics = [int.from_bytes(name, "big") for name in (b"aa", b"bb", b"cc", b"dd")]
    for number, topic in enumerate(topics, 1):
        play.hears("a", Publish(2, topic, number, b"1", 1, True))
    play.says(PubAck(topics[2], 3, 1), PubAck(topics[3], 4, 1))
    play.refuses().says(PubAck(topics[0], 1, 1), PubAck(topics[1], 2, 1))
    play.holds = False
    play.hears("a", Publish(2, topics[3], 5, b"1", 1, True)).says(PubAck(topics[3], 5, 0))
    assert set(play.store.retained) == {"dd"}


def test_one_client_has_its_share_of_them() -> None:
    play = Playbook(limits=GatewayLimits(retained_per_client=5)).connects().connects("b", "plug-2").forget()
    for name, code in (*((f"a{n}", 0) for n in range(5)), ("a5", 1)):
        topic = int.from_bytes(name.encode(), "big")
        play.hears("a", Publish(2, topic, 7, b"1", 1, True)).says(PubAck(topic, 7, code))
    topic = int.from_bytes(b"b0", "big")
    play.hears("b", Publish(2, topic, 7, b"1", 1, True)).says(("b", PubAck(topic, 7, 0)))


def test_what_a_client_said_of_itself_goes_with_it() -> None:
    play = Playbook(limits=GatewayLimits(clients_per_address=1)).hears(host_at("fw", 1), Connect("one", 60))
    play.hears(host_at("fw", 1), Publish(PREDEFINED, ABOUT, 0, b'{"class":"ev-charger"}'), Disconnect())
    assert "about/one" in play.store.retained
    play.hears(host_at("fw", 2), Connect("two", 60))
    assert not play.store.retained and set(play.store.sessions) == {"two"}


@pytest.mark.parametrize("state", ["active", "asleep", "lost"])
def test_a_name_that_moves_to_another_address_is_told(state: str) -> None:
    play = Playbook().connects(duration_s=60)
    if state == "asleep":
        play.sleeps()
    elif state == "lost":
        play.waits(200)
    play.hears("b", Connect("plug-1", 60))
    (moved,) = [event.fields for event in play.store.events if event.event == "adapter.moved"]
    assert moved == {"client": "plug-1", "before": "udp:a", "after": "udp:b", "state": state}


def test_a_sleeper_that_wakes_elsewhere_is_told_too_and_another_port_is_not() -> None:
    play = Playbook().connects().sleeps()
    play.hears("b", PingReq("plug-1"))
    assert play.store.event_names()[-1] == "adapter.moved"
    count = len(play.store.events)
    play.gateway.receive_datagram(("udp", "b", 77), Connect("plug-1", 60).encode(), play.now)
    play.commits()
    assert len(play.store.events) == count


def test_where_many_share_an_address_each_has_less() -> None:
    limits = GatewayLimits(subscriptions_per_address=40)
    play = Playbook(limits=limits)
    for number in range(10):
        play.hears(host_at("bad", number), Connect(f"x{number}", 60))
    play.forget()
    for number in range(10):
        play.hears(host_at("bad", 0), Subscribe(NORMAL, f"q/{number}/#", 7, 1))
    assert [message.return_code for _, message in play.out] == [0] * 8 + [1] * 2
    play.forget().connects("a", "alone")
    for number in range(10):
        play.hears("a", Subscribe(NORMAL, f"q/{number}/#", 7, 1))
    assert {message.return_code for _, message in play.out} == {0}


def test_addresses() -> None:
    assert address_of(("udp", "10.0.0.1", 5)) == ("udp", "10.0.0.1")
    assert address_of(("udp", "::ffff:10.0.0.1", 5)) == ("udp", "10.0.0.1")
    assert address_of(("udp", "fd00:1:2:3:4::5%eth0", 5)) == ("udp", "fd00:1:2:3::/64")
    assert address_of(("udp", "fd00:1:2:3:9::6", 6, b"node")) == ("udp", "fd00:1:2:3::/64")
    assert address_of(("zigbee", "0011223344556677")) == ("zigbee", "0011223344556677")


def test_every_request_waits_where_the_store_is_behind() -> None:
    play = Playbook(limits=GatewayLimits(pending_requests=2)).connects().forget()
    play.holds = True
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1), Publish(PREDEFINED, POWER, 2, b"5", 1))
    play.hears(
        "a", Register(0, 3, "x/y"), Subscribe(NORMAL, "x/#", 4, 1), WillTopicUpd("w"), Unsubscribe(NORMAL, "q", 5)
    )
    play.says(RegAck(0, 3, 1), SubAck(0, 4, 1), WillTopicResp(1))
    assert play.gateway.counters["refused.congestion"] == 4
