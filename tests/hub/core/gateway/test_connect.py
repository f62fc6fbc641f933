"""CONNECT, the will dialogue, keep-alive, DISCONNECT, loss, take-over (MQTT-SN 1.2: 6.2 to 6.4, 6.11, 6.12)."""

import pytest

from hub.wire.mqttsn.messages import (
    Advertise,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    Register,
    SearchGw,
    SubAck,
    Subscribe,
    WillMsg,
    WillMsgReq,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicReq,
    WillTopicResp,
    WillTopicUpd,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, Playbook

POWER = 0x0001


def with_will(
    play: Playbook, topic: str = "alarm/plug-1", message: bytes = b"gone", *, clean: bool = False
) -> Playbook:
    play.hears("a", Connect("plug-1", 60, clean, will=True)).says(WillTopicReq())
    play.hears("a", WillTopic(topic, 1)).says(WillMsgReq())
    return play.hears("a", WillMsg(message)).says(ConnAck(0))


def test_a_connack_waits_for_the_commit() -> None:
    play = Playbook()
    play.holds = True
    play.hears("a", Connect("plug-1", 60)).says_nothing()
    play.commits().says(ConnAck(0))
    assert play.store.sessions["plug-1"].state == "active"
    assert play.store.event_names() == ["adapter.joined"]


@pytest.mark.parametrize("client_id", ["", "a" * 24, "a b", "a/b", "é", "meter", "zb-0011223344556677", "udp-10.0.0.1"])
def test_what_is_no_client_id_or_is_reserved_is_not_supported(client_id: str) -> None:
    Playbook().hears("a", Connect(client_id, 60)).says(ConnAck(3))


def test_an_unknown_protocol_is_not_supported() -> None:
    Playbook().hears("a", Connect("plug-1", 60, protocol_id=2)).says(ConnAck(3))


def test_a_repeated_connect_is_answered_again() -> None:
    play = Playbook().connects().connects()
    assert play.store.event_names() == ["adapter.joined"]


def test_a_repeated_connect_starts_the_will_dialogue_again() -> None:
    play = Playbook().hears("a", Connect("plug-1", 60, will=True)).says(WillTopicReq())
    play.hears("a", Connect("plug-1", 60, will=True)).says(WillTopicReq())
    play.hears("a", WillTopic("alarm/plug-1")).says(WillMsgReq())
    play.hears("a", WillTopic("alarm/plug-1")).says(WillMsgReq())
    play.hears("a", WillMsg(b"gone")).says(ConnAck(0))
    play.hears("a", WillMsg(b"gone")).says(ConnAck(0))
    play.hears("a", WillMsg(b"another")).says_nothing()
    assert play.store.sessions["plug-1"].will_message == b"gone"


def test_an_empty_will_topic_means_no_will_and_may_be_repeated() -> None:
    play = with_will(Playbook())
    play.hears("a", Connect("plug-1", 60, clean_session=False, will=True)).says(WillTopicReq())
    play.hears("a", WillTopic("")).says(ConnAck(0))
    play.hears("a", WillTopic("")).says(ConnAck(0))
    assert play.store.sessions["plug-1"].will_topic == ""


def test_an_abandoned_will_dialogue_leaves_the_stored_will_as_it_was() -> None:
    play = with_will(Playbook())
    play.hears("a", Connect("plug-1", 60, clean_session=False, will=True), WillTopic("elsewhere")).forget()
    play.waits(31)
    assert play.state() == "disconnected"
    assert play.store.sessions["plug-1"][5:7] == ("alarm/plug-1", b"gone")


@pytest.mark.parametrize("topic", ["control/plug-1", "alarm/other", "a/+", "readings/no such", "$x"])
def test_a_will_that_could_not_be_published_is_refused_at_once(topic: str) -> None:
    play = Playbook().hears("a", Connect("plug-1", 60, will=True)).says(WillTopicReq())
    play.hears("a", WillTopic(topic)).says(ConnAck(3))
    assert play.state() == "disconnected"


def test_a_will_message_is_refused_rather_than_cut() -> None:
    play = Playbook().hears("a", Connect("plug-1", 60, will=True), WillTopic("x/y")).forget()
    play.hears("a", WillMsg(bytes(1025))).says(ConnAck(3))


def test_in_the_will_dialogue_nothing_else_is_served() -> None:
    play = Playbook().hears("a", Connect("plug-1", 60, will=True)).says(WillTopicReq())
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1)).says(Disconnect())
    assert play.store.samples == []


def test_a_will_step_out_of_place_is_not_answered_but_a_stranger_is_told() -> None:
    play = Playbook().connects().hears("a", WillMsg(b"x"), WillTopic("x/y")).says_nothing()
    play.hears("b", WillMsg(b"x")).says(("b", Disconnect()))
    play.hears("a", Disconnect()).says(Disconnect())
    play.hears("a", WillTopic("")).says(Disconnect())


def test_will_updates_change_one_part_each() -> None:
    play = with_will(Playbook())
    play.hears("a", WillTopicUpd("x/y", 2, True)).says(WillTopicResp(0))
    play.hears("a", WillMsgUpd(b"bye")).says(WillMsgResp(0))
    assert play.store.sessions["plug-1"][5:9] == ("x/y", b"bye", 2, True)
    play.hears("a", WillTopicUpd("control/plug-1")).says(WillTopicResp(3))
    play.hears("a", WillMsgUpd(bytes(1025))).says(WillMsgResp(3))
    play.hears("a", WillTopicUpd("")).says(WillTopicResp(0))
    play.hears("a", WillMsgUpd(b"x")).says(WillMsgResp(3))
    play.waits(91)
    assert "adapter.alarm" not in play.store.event_names()


def test_silence_beyond_the_tolerance_publishes_the_will_once() -> None:
    play = with_will(Playbook())
    play.waits(89)
    assert play.state() == "active"
    play.waits(2)
    assert play.state() == "lost"
    assert play.store.event_names() == ["adapter.joined", "adapter.lost", "adapter.alarm"]
    play.waits(1000)
    play.restarts()
    play.waits(1000)
    assert play.store.event_names().count("adapter.alarm") == 1


def test_a_will_is_kept_like_a_subscription_and_serves_every_loss() -> None:
    play = with_will(Playbook()).waits(91)
    play.connects(clean=False).waits(91)
    assert play.store.event_names().count("adapter.alarm") == 2
    play.connects(clean=True).waits(91)
    assert play.store.event_names().count("adapter.alarm") == 2


def test_a_will_survives_a_restart_and_is_published_once() -> None:
    play = with_will(Playbook())
    play.restarts()
    play.waits(89)
    assert "adapter.alarm" not in play.store.event_names()
    play.waits(2)
    play.restarts()
    play.waits(200)
    assert play.store.event_names().count("adapter.alarm") == 1


def test_a_goodbye_publishes_no_will() -> None:
    play = with_will(Playbook()).hears("a", Disconnect()).says(Disconnect()).waits(200)
    assert "adapter.alarm" not in play.store.event_names()


def test_a_will_reaches_subscribers_and_may_be_retained() -> None:
    play = Playbook()
    play.hears("a", Connect("plug-1", 60, will=True), WillTopic("x/y", 1, True), WillMsg(b"gone"))
    play.forget().connects("b", "display", duration_s=0)
    topic_id = play.subscribes("x/y", 1, "b")
    play.waits(91).says(("b", Publish(NORMAL, topic_id, 1, b"gone", 1)))
    assert play.store.retained == {"x/y": (b"gone", 1)}


@pytest.mark.parametrize(("duration_s", "tolerated_s"), [(10, 15), (60, 90), (61, 91), (600, 660)])
def test_the_tolerance_is_half_up_to_a_minute_and_a_tenth_beyond(duration_s: int, tolerated_s: int) -> None:
    play = Playbook().connects(duration_s=duration_s)
    play.waits(tolerated_s - 0.5)
    assert play.state() == "active"
    play.waits(1)
    assert play.state() == "lost"


def test_any_message_keeps_a_client_alive() -> None:
    play = Playbook().connects()
    for message in (PingReq(), Publish(PREDEFINED, POWER, 0, b"1"), PingResp(), Register(0, 1, "x/y")):
        play.waits(80).hears("a", message)
        assert play.state() == "active"


def test_a_client_without_keep_alive_is_never_lost() -> None:
    play = Playbook().connects(duration_s=0).waits(10_000_000)
    assert play.state() == "active"


def test_a_talking_client_does_not_keep_others_from_being_lost() -> None:
    play = Playbook().connects().connects("b", "plug-2")
    for _ in range(100):
        play.waits(1).hears("b", PingReq())
    assert play.state("plug-1") == "lost" and play.state("plug-2") == "active"


def test_a_new_address_takes_the_client_over_and_the_old_one_is_told() -> None:
    play = Playbook().connects(clean=False)
    play.subscribes("x/y", 1)
    play.hears("b", Connect("plug-1", 60, clean_session=False)).says(("a", Disconnect()), ("b", ConnAck(0)))
    play.hears("a", PingReq()).says(Disconnect())
    play.publishes("x/y", b"1")
    assert [name for name, _ in play.out] == ["b"]


def test_another_client_at_the_same_address_replaces_the_first_which_is_lost() -> None:
    play = with_will(Playbook())
    play.hears("a", Connect("plug-2", 60)).says(ConnAck(0))
    assert play.state("plug-1") == "lost" and play.state("plug-2") == "active"
    assert "adapter.alarm" in play.store.event_names()
    play.restarts()
    play.hears("a", PingReq()).says(PingResp())


def test_a_client_id_learnt_from_a_radio_address_stays_with_it() -> None:
    play = Playbook().connects("zb1")
    play.hears("zb2", Connect("plug-1", 60)).says(("zb2", ConnAck(3)))
    play.hears("a", Connect("plug-1", 60)).says(("a", ConnAck(3)))
    play.restarts()
    play.hears("zb2", Connect("plug-1", 60)).says(("zb2", ConnAck(3)))
    play.connects("zb1")


def test_the_client_id_must_match_exactly() -> None:
    play = Playbook().connects(client_id="plug-1").connects("b", "plug-10").connects("c", "PLUG-1")
    assert [s.client_id for s in play.gateway.sessions()] == ["plug-1", "plug-10", "PLUG-1"]


def test_strangers_are_told_to_connect() -> None:
    play = Playbook()
    for message in (PingReq(), PingReq("plug-1"), Register(0, 1, "x/y"), Subscribe(NORMAL, "x/y", 1), Disconnect()):
        play.hears("a", message).says(Disconnect())
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1)).says(Disconnect())
    assert play.gateway.counters["refused.not-connected"] == 5


def test_a_goodbye_may_be_repeated() -> None:
    play = Playbook().connects()
    for _ in range(3):
        play.hears("a", Disconnect()).says(Disconnect())
    assert play.store.sessions["plug-1"].state == "disconnected"


def test_a_clean_session_ends_with_its_connection() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    play.hears("a", Disconnect()).says(Disconnect())
    assert play.store.subscriptions == {} and play.store.topics == {}
    play.publishes("x/y", b"1").connects(clean=False).says_nothing()
    assert play.store.inbox == {}


def test_a_kept_session_keeps_subscriptions_and_messages() -> None:
    play = Playbook().connects(clean=False)
    topic_id = play.subscribes("x/y", 1)
    play.hears("a", Disconnect()).says(Disconnect())
    play.publishes("x/y", b"1").publishes("x/y", b"lost", qos=0)
    play.hears("a", Connect("plug-1", 60, clean_session=False))
    # The client may have forgotten its ids: it is told again before the first PUBLISH (section 6.10).
    play.says(ConnAck(0), Register(topic_id, 1, "x/y"))


def test_a_clean_connect_forgets_everything_in_the_store_too() -> None:
    play = Playbook().connects(clean=False)
    play.subscribes("x/y", 1)
    play.hears("a", Register(0, 8, "x/z"), Disconnect()).forget()
    play.publishes("x/y", b"1")
    play.hears("a", Connect("plug-1", 60)).says(ConnAck(0))
    store = play.store
    assert (store.subscriptions, store.topics, store.inbox) == ({}, {}, {})
    assert "plug-1" in store.sessions


def test_a_publish_on_its_way_to_a_session_that_is_cleaned_meanwhile_is_void() -> None:
    play = Playbook().connects(clean=False).connects("b", "other")
    play.subscribes(0x0040, 1)
    play.holds = True
    play.publishes("price", b"{}").hears("a", Connect("plug-1", 60))
    play.commits().says(ConnAck(0))
    assert play.store.inbox == {}


def test_search_is_answered_to_whoever_asks() -> None:
    play = Playbook(gw_id=9).hears("a", SearchGw(1)).hears("f>n", SearchGw(0))
    assert [(name, message.gw_id) for name, message in play.out] == [("a", 9), ("f>n", 9)]


def test_advertise_goes_to_links_that_broadcast_on_time() -> None:
    play = Playbook(gw_id=9, advertise_s=900, broadcast_links=("udp",)).waits(0)
    assert [message.duration for _, message in play.out] == [900]
    play.waits(1800)
    assert len(play.out) == 3


def test_a_node_behind_a_forwarder_is_a_client_of_its_own() -> None:
    play = Playbook().connects("f>1", "plug-1").connects("f>2", "plug-2")
    play.hears("f>1", PingReq()).says(("f>1", PingResp()))
    play.hears("f", PingReq()).says(("f", Disconnect()))
    assert play.hears("f>1", Subscribe(PREDEFINED, 0x40, 3, 1)).says(("f>1", SubAck(0x40, 3, 0, 1)))


def test_a_link_that_comes_up_is_told_of_the_gateway_at_once() -> None:
    play = Playbook(broadcast_links=("zigbee",)).waits(100).forget()
    play.gateway.link_up("udp", play.now)
    play.waits(1).says_nothing()
    play.gateway.link_up("zigbee", play.now)
    play.waits(0).says(("*", Advertise(1, 900)))
    play.waits(899).says_nothing().waits(1).says(("*", Advertise(1, 900)))
