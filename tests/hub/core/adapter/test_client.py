# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter's half in conversations: find a gateway, connect, the will, register, publish (6.1 to 6.8)."""

import pytest

from hub.core.adapter.client import Client, LocalProtocolError
from hub.wire.mqttsn.messages import (
    Advertise,
    ConnAck,
    Connect,
    Disconnect,
    GwInfo,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
    SearchGw,
    WillMsg,
    WillMsgReq,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicReq,
    WillTopicResp,
    WillTopicUpd,
)
from tests.hub.core.adapter.talk import NORMAL, PREDEFINED, SHORT, Talk, connected

# 6.1 to 6.4: find a gateway, connect, the will.


def test_search_repeats_ever_more_slowly_and_gives_up_quietly() -> None:
    talk = Talk(n_retry=2)
    talk.client.search_gateway(0.0, radius=2)
    talk.says(SearchGw(2))
    talk.waits(20)
    talk.says(SearchGw(2))
    talk.waits(40)
    talk.says(SearchGw(2))
    talk.waits(1000)
    talk.says()
    talk.told()
    assert talk.client.get_timer() is None


def test_gateway_found_by_answer_or_advertisement() -> None:
    talk = Talk()
    talk.client.search_gateway(0.0)
    talk.hears(GwInfo(7, b"\x1a\x2b"), Advertise(8, 900))
    talk.told(("gateway", 7, b"\x1a\x2b"), ("gateway", 8, b""))
    assert talk.client.get_timer() is None


def test_connect() -> None:
    talk = Talk()
    talk.client.connect(0.0)
    assert talk.client.state == "connecting"
    talk.says(Connect("plug-1", 60))
    talk.hears(ConnAck(0))
    talk.told(("connected",))


def test_connect_in_bytes() -> None:
    client = Client("ab", keepalive_s=300)
    client.connect(0.0)
    assert [d.hex() for d in client.datagrams_to_send()] == ["08040401012c6162"]
    client.receive_datagram(bytes.fromhex("030500"), 0.1)
    client.publish(1, b"230", 1, 0.2)
    assert [d.hex() for d in client.datagrams_to_send()] == ["0a0c2100010001323330"]
    client.receive_datagram(bytes.fromhex("070d0001000100"), 0.3)
    assert [client.next_event() for _ in range(3)] == [("connected",), ("published", 1, 0), None]


def test_connect_refused() -> None:
    talk = Talk()
    talk.client.connect(0.0)
    talk.hears(ConnAck(3))
    talk.told(("refused", 3))
    assert talk.client.state == "disconnected"
    talk.client.connect(1.0)
    assert talk.client.state == "connecting"


def test_connect_with_a_will() -> None:
    talk = Talk(will=("alarm/plug-1", b"gone", 1, True))
    talk.client.connect(0.0)
    talk.says(Connect("plug-1", 60, will=True))
    talk.hears(WillTopicReq())
    talk.says(WillTopic("alarm/plug-1", 1, True))
    talk.hears(WillMsgReq())
    talk.says(WillMsg(b"gone"))
    talk.hears(ConnAck(0))
    talk.told(("connected",))


def test_a_will_dialogue_that_stops_starts_again_with_connect() -> None:
    talk = Talk(will=("w", b"gone", 0, False))
    talk.client.connect(0.0)
    talk.says(Connect("plug-1", 60, will=True))
    talk.waits(9)
    talk.hears(WillTopicReq())
    talk.says(WillTopic("w"))
    talk.waits(9)
    talk.says()
    talk.waits(1)
    talk.says(Connect("plug-1", 60, will=True))


def test_connect_is_retried_and_then_the_gateway_is_lost() -> None:
    talk = Talk(n_retry=4)
    talk.client.connect(0.0)
    talk.waits(49)
    talk.says(*[Connect("plug-1", 60)] * 5)
    talk.waits(1)
    talk.says()
    talk.told(("lost",))
    assert talk.client.state == "lost"
    assert talk.client.get_timer() is None
    talk.client.connect(talk.now)
    talk.says(Connect("plug-1", 60))


def test_update_the_will() -> None:
    talk = connected()
    talk.client.update_will("w", b"bye", 2, True, talk.now)
    talk.says(WillTopicUpd("w", 2, True))
    talk.hears(WillTopicResp(0))
    talk.says(WillMsgUpd(b"bye"))
    talk.hears(WillMsgResp(0))
    talk.told(("will_updated",))
    assert talk.client.will == ("w", b"bye", 2, True)


def test_delete_the_will() -> None:
    talk = connected(will=("w", b"x", 0, False))
    talk.client.update_will("", b"", 0, False, talk.now)
    talk.says(WillTopicUpd("", 0, False))
    talk.hears(WillTopicResp(0))
    talk.told(("will_updated",))
    talk.says()
    assert talk.client.will is None


def test_a_will_update_can_be_refused_or_delayed() -> None:
    talk = connected(t_wait_s=30)
    talk.client.update_will("w", b"bye", 0, False, talk.now)
    talk.hears(WillTopicResp(1))
    talk.client.datagrams_to_send()
    talk.waits(30)
    talk.says(WillTopicUpd("w", 0, False))
    talk.hears(WillTopicResp(3))
    talk.told(("refused", 3))
    assert talk.client.state == "active"


# 6.5 to 6.8: register and publish.


def test_publish_on_a_name_registers_it_once() -> None:
    talk = connected()
    assert talk.client.publish("readings/flow", b"1", 1, talk.now) == 1
    talk.says(Register(0, 2, "readings/flow"))
    talk.hears(RegAck(300, 2, 0))
    talk.says(Publish(NORMAL, 300, 1, b"1", 1))
    talk.hears(PubAck(300, 1, 0))
    talk.told(("published", 1, 0))
    talk.client.publish("readings/flow", b"2", 0, talk.now, retain=True)
    talk.says(Publish(NORMAL, 300, 0, b"2", 0, True))
    talk.told()


def test_publish_on_predefined_and_short_topics_needs_no_registration() -> None:
    talk = connected()
    assert talk.client.publish(1, b"5", 0, talk.now) == 0
    assert talk.client.publish("pr", b"6", 0, talk.now) == 0
    talk.says(Publish(PREDEFINED, 1, 0, b"5"), Publish(SHORT, 0x7072, 0, b"6"))


def test_publish_at_qos_minus_1_needs_no_connection() -> None:
    talk = Talk()
    assert talk.client.publish(8, b"77", -1, 0.0) == 0
    talk.client.publish("ab", b"", -1, 0.0)
    talk.says(Publish(PREDEFINED, 8, 0, b"77", -1), Publish(SHORT, 0x6162, 0, b"", -1))
    with pytest.raises(LocalProtocolError):
        talk.client.publish("long/name", b"", -1, 0.0)


def test_one_publish_in_flight_and_the_others_in_order() -> None:
    talk = connected(max_queue=3)
    ids = [talk.client.publish(1, b"%d" % i, 1, talk.now) for i in range(3)]
    assert ids == [1, 2, 3]
    talk.says(Publish(PREDEFINED, 1, 1, b"0", 1))
    with pytest.raises(LocalProtocolError, match="full"):
        talk.client.publish(1, b"3", 1, talk.now)
    talk.hears(PubAck(1, 1, 0))
    talk.says(Publish(PREDEFINED, 1, 2, b"1", 1))
    talk.hears(PubAck(1, 2, 0))
    talk.says(Publish(PREDEFINED, 1, 3, b"2", 1))


def test_publish_is_repeated_with_dup_and_then_the_gateway_is_lost() -> None:
    talk = connected(n_retry=2, keepalive_s=0)
    talk.client.publish(1, b"5", 1, talk.now)
    talk.says(Publish(PREDEFINED, 1, 1, b"5", 1))
    talk.waits(29)
    talk.says(*[Publish(PREDEFINED, 1, 1, b"5", 1, dup=True)] * 2)
    talk.waits(1)
    talk.told(("lost",))


def test_a_publish_survives_the_loss_of_the_gateway() -> None:
    talk = connected(n_retry=0, keepalive_s=0)
    talk.client.publish("a/b", b"5", 1, talk.now)
    talk.hears(RegAck(9, 2, 0))
    talk.client.publish(1, b"6", 1, talk.now)
    talk.waits(10)
    talk.told(("lost",))
    talk.client.connect(talk.now)
    talk.client.datagrams_to_send()
    talk.hears(ConnAck(0))
    talk.says(Register(0, 4, "a/b"))
    talk.hears(RegAck(10, 4, 0))
    talk.says(Publish(NORMAL, 10, 1, b"5", 1, dup=True))
    talk.hears(PubAck(10, 1, 0))
    talk.says(Publish(PREDEFINED, 1, 3, b"6", 1))
    talk.told(("connected",), ("published", 1, 0))


def test_congestion_waits_and_sends_the_same_again() -> None:
    talk = connected(t_wait_s=300, keepalive_s=0)
    talk.client.publish(1, b"5", 1, talk.now)
    talk.client.publish(1, b"later", 0, talk.now)
    talk.says(Publish(PREDEFINED, 1, 1, b"5", 1))
    talk.hears(PubAck(1, 1, 1))
    talk.waits(299)
    talk.says()
    talk.told()
    talk.waits(1)
    talk.says(Publish(PREDEFINED, 1, 1, b"5", 1, dup=True))
    talk.hears(PubAck(1, 1, 0))
    talk.told(("published", 1, 0))
    talk.says(Publish(PREDEFINED, 1, 0, b"later"))


def test_congestion_of_a_registration() -> None:
    talk = connected(t_wait_s=300, keepalive_s=0)
    talk.client.publish("a/b", b"5", 1, talk.now)
    talk.says(Register(0, 2, "a/b"))
    talk.hears(RegAck(0, 2, 1))
    talk.waits(300)
    talk.says(Register(0, 2, "a/b"))


def test_an_invalid_topic_id_is_registered_again_once() -> None:
    talk = connected()
    talk.client.publish("a/b", b"5", 1, talk.now)
    talk.hears(RegAck(9, 2, 0))
    talk.client.datagrams_to_send()
    talk.hears(PubAck(9, 1, 2))
    talk.says(Register(0, 3, "a/b"))
    talk.hears(RegAck(10, 3, 0))
    talk.says(Publish(NORMAL, 10, 1, b"5", 1, dup=True))
    talk.hears(PubAck(10, 1, 2))
    talk.says()
    talk.told(("published", 1, 2))


def test_an_invalid_topic_id_at_qos_0_makes_the_next_publish_register() -> None:
    talk = connected()
    talk.client.publish("a/b", b"5", 0, talk.now)
    talk.hears(RegAck(9, 1, 0), PubAck(9, 0, 2))
    talk.says(Register(0, 1, "a/b"), Publish(NORMAL, 9, 0, b"5"))
    talk.client.publish("a/b", b"6", 0, talk.now)
    talk.says(Register(0, 2, "a/b"))


@pytest.mark.parametrize("return_code", [2, 3])
def test_final_outcomes(return_code: int) -> None:
    talk = connected()
    talk.client.publish(1, b"5", 1, talk.now)
    talk.hears(PubAck(1, 1, return_code))
    talk.client.publish("a/b", b"5", 2, talk.now)
    talk.hears(RegAck(0, 3, return_code))
    talk.told(("published", 1, return_code), ("published", 2, return_code))


def test_qos_2_out() -> None:
    talk = connected()
    talk.client.publish(1, b"5", 2, talk.now)
    talk.says(Publish(PREDEFINED, 1, 1, b"5", 2))
    talk.hears(PubAck(1, 1, 0), PubRec(2), PubComp(1))
    assert talk.client.ignored == 3
    talk.hears(PubRec(1))
    talk.says(PubRel(1))
    talk.waits(10)
    talk.says(PubRel(1))
    talk.hears(PubRec(1))
    talk.says(PubRel(1))
    talk.told()
    talk.hears(PubComp(1))
    talk.told(("published", 1, 0))


def test_qos_2_goes_on_where_it_was() -> None:
    talk = connected(clean=False)
    talk.client.publish(1, b"5", 2, talk.now)
    talk.hears(PubRec(1), Disconnect())
    talk.told(("disconnected",))
    talk.client.connect(talk.now)
    talk.client.datagrams_to_send()
    talk.hears(ConnAck(0))
    talk.says(PubRel(1))


@pytest.mark.parametrize("clean", [True, False])
def test_topic_ids_live_as_long_as_the_session(clean: bool) -> None:
    talk = connected(clean=clean)
    talk.client.publish("a/b", b"5", 0, talk.now)
    talk.hears(RegAck(9, 1, 0), Disconnect())
    talk.client.connect(talk.now)
    talk.hears(ConnAck(0))
    talk.client.datagrams_to_send()
    talk.client.publish("a/b", b"6", 0, talk.now)
    talk.says(Register(0, 2, "a/b") if clean else Publish(NORMAL, 9, 0, b"6"))
