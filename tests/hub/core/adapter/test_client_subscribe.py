# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter's half in conversations: subscribe and receive, keep alive, leave, sleep (6.9 to 6.14)."""

import pytest

from hub.core.adapter.client import LocalProtocolError
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    WillMsgReq,
    WillTopicReq,
)
from tests.hub.core.adapter.talk import NORMAL, PREDEFINED, SHORT, Talk, asleep, connected

# 6.9 and 6.10: subscribe, and what comes of it.


def test_subscribe_to_a_name_and_receive() -> None:
    talk = connected()
    assert talk.client.subscribe("a/b", 1, talk.now) == 1
    talk.says(Subscribe(NORMAL, "a/b", 1, 1))
    talk.hears(SubAck(9, 1, 0, 1), Publish(NORMAL, 9, 5, b"hi", 1, True))
    talk.says(PubAck(9, 5, 0))
    talk.told(("subscribed", 1, 9, 1, 0), ("message", "a/b", b"hi", 1, True))


def test_subscribe_to_predefined_and_short() -> None:
    talk = connected()
    talk.client.subscribe(0x40, 0, talk.now)
    talk.says(Subscribe(PREDEFINED, 0x40, 1, 0))
    talk.hears(SubAck(0x40, 1, 0, 0))
    talk.client.subscribe("pr", 2, talk.now)
    talk.says(Subscribe(SHORT, 0x7072, 2, 2))
    talk.hears(SubAck(0, 2, 0, 2), Publish(PREDEFINED, 0x40, 0, b"x"), Publish(SHORT, 0x7072, 0, b"y"))
    talk.told(
        ("subscribed", 1, 0x40, 0, 0),
        ("subscribed", 2, 0, 2, 0),
        ("message", 0x40, b"x", 0, False),
        ("message", "pr", b"y", 0, False),
    )


def test_a_filter_of_two_characters_is_not_a_short_topic() -> None:
    talk = connected()
    talk.client.subscribe("/#", 0, talk.now)
    talk.says(Subscribe(NORMAL, "/#", 1, 0))


def test_topics_of_a_filter_are_registered_by_the_gateway() -> None:
    talk = connected()
    talk.client.subscribe("a/+", 0, talk.now)
    talk.hears(SubAck(0, 1, 0, 0))
    talk.client.datagrams_to_send()
    talk.hears(Register(77, 40, "a/x"))
    talk.says(RegAck(77, 40, 0))
    talk.hears(Publish(NORMAL, 77, 0, b"x"))
    talk.told(("subscribed", 1, 0, 0, 0), ("message", "a/x", b"x", 0, False))


def test_an_unknown_topic_id_is_said_to_be_invalid() -> None:
    talk = connected()
    talk.hears(Publish(NORMAL, 77, 3, b"x", 1), Publish(NORMAL, 77, 0, b"x", 0), Publish(SHORT, 0xFFFF, 4, b"", 2))
    talk.says(PubAck(77, 3, 2), PubAck(0xFFFF, 4, 2))
    talk.told()
    assert talk.client.ignored == 3


def test_reserved_ids_and_too_many_topics_are_not_remembered() -> None:
    talk = connected()
    talk.hears(Register(0, 1, "a"), Register(0xFFFF, 2, "a"))
    talk.says(RegAck(0, 1, 2), RegAck(0xFFFF, 2, 2))
    for i in range(1, 65):
        talk.hears(Register(i, i, f"t/{i}"))
    talk.client.datagrams_to_send()
    talk.hears(Register(65, 65, "t/65"), Register(64, 66, "t/new"))
    talk.says(RegAck(65, 65, 1), RegAck(64, 66, 0))


def test_qos_2_in_is_delivered_once() -> None:
    talk = connected()
    first = Publish(PREDEFINED, 0x40, 9, b"x", 2)
    again = Publish(PREDEFINED, 0x40, 9, b"x", 2, dup=True)
    talk.hears(first, again)
    talk.says(PubRec(9), PubRec(9))
    talk.hears(PubRel(9), PubRel(9))
    talk.says(PubComp(9), PubComp(9))
    talk.told(("message", 0x40, b"x", 2, False))
    talk.hears(first)
    talk.told(("message", 0x40, b"x", 2, False))


def test_qos_2_in_is_bounded() -> None:
    talk = connected()
    for msg_id in range(1, 18):
        talk.hears(Publish(PREDEFINED, 1, msg_id, b"", 2))
    talk.says(*[PubRec(i) for i in range(1, 17)], PubAck(1, 17, 1))


def test_unsubscribe_and_one_transaction_at_a_time() -> None:
    talk = connected()
    assert talk.client.unsubscribe("a/b", talk.now) == 1
    talk.says(Unsubscribe(NORMAL, "a/b", 1))
    with pytest.raises(LocalProtocolError):
        talk.client.subscribe("c", 0, talk.now)
    talk.waits(10)
    talk.says(Unsubscribe(NORMAL, "a/b", 1))
    talk.hears(UnsubAck(2), UnsubAck(1))
    talk.told(("unsubscribed", 1))
    talk.client.subscribe("c", 0, talk.now)


def test_subscribe_is_repeated_with_dup_and_waits_for_a_congested_gateway() -> None:
    talk = connected(keepalive_s=0, t_wait_s=100)
    talk.client.subscribe("a/b", 0, talk.now)
    talk.waits(10)
    talk.says(Subscribe(NORMAL, "a/b", 1, 0), Subscribe(NORMAL, "a/b", 1, 0, True))
    talk.hears(SubAck(0, 1, 1, 0))
    talk.waits(99)
    talk.says()
    talk.waits(1)
    talk.says(Subscribe(NORMAL, "a/b", 1, 0, True))
    talk.hears(SubAck(0, 1, 3, 0))
    talk.told(("subscribed", 1, 0, 0, 3))


# 6.11 and 6.12: keep alive, leave.


def test_keep_alive_leaves_room_for_one_retry() -> None:
    talk = connected(keepalive_s=60)
    talk.waits(49.9)
    talk.says()
    talk.waits(0.1)
    talk.says(PingReq())
    talk.waits(10)
    talk.says(PingReq())
    talk.hears(PingResp())
    talk.waits(49)
    talk.says()
    talk.told()


def test_keep_alive_short_and_none() -> None:
    talk = connected(keepalive_s=6)
    talk.waits(3)
    talk.says(PingReq())
    assert connected(keepalive_s=0).client.get_timer() is None


def test_keep_alive_asks_also_when_we_only_talk() -> None:
    talk = connected(keepalive_s=60)
    for _ in range(4):
        talk.waits(12)
        talk.client.publish(1, b"5", 0, talk.now)
    talk.waits(2)
    assert talk.client.datagrams_to_send()[-1] == PingReq().encode()


def test_no_answer_to_pings_is_a_loss() -> None:
    talk = connected(keepalive_s=60, n_retry=1)
    talk.waits(70)
    talk.told(("lost",))


def test_pings_both_ways() -> None:
    talk = connected()
    talk.client.ping(talk.now)
    with pytest.raises(LocalProtocolError):
        talk.client.ping(talk.now)
    talk.hears(PingResp(), PingReq())
    talk.says(PingReq(), PingResp())
    talk.told()


def test_disconnect() -> None:
    talk = connected()
    talk.client.disconnect(talk.now)
    with pytest.raises(LocalProtocolError):
        talk.client.publish(1, b"", 0, talk.now)
    talk.waits(10)
    talk.says(Disconnect(), Disconnect())
    talk.hears(Disconnect())
    talk.told(("disconnected",))
    assert talk.client.state == "disconnected"
    assert talk.client.get_timer() is None


def test_nothing_new_is_sent_while_leaving() -> None:
    talk = connected()
    talk.client.publish(1, b"1", 1, talk.now)
    talk.client.publish(1, b"2", 1, talk.now)
    talk.client.disconnect(talk.now, 60)
    talk.client.datagrams_to_send()
    talk.hears(PubAck(1, 1, 0))
    talk.says()
    talk.hears(Disconnect())
    talk.told(("published", 1, 0), ("asleep",))
    talk.client.connect(talk.now)
    talk.hears(ConnAck(0))
    talk.says(Connect("plug-1", 60, False), Publish(PREDEFINED, 1, 2, b"2", 1))


# 6.14: sleep.


def test_wake_for_messages_and_sleep_on() -> None:
    talk = asleep()
    assert talk.client.get_timer() is None
    talk.waits(300)
    talk.client.ping(talk.now)
    talk.says(PingReq("plug-1"))
    talk.told(("awake",))
    assert talk.client.state == "awake"
    talk.waits(9)
    talk.hears(Register(77, 1, "a/x"), Publish(NORMAL, 77, 2, b"x", 1))
    talk.says(RegAck(77, 1, 0), PubAck(77, 2, 0))
    talk.waits(9)
    talk.says()
    talk.hears(PingResp())
    talk.told(("message", "a/x", b"x", 1, False), ("asleep",))
    assert talk.client.state == "asleep"


def test_wake_retries_and_can_be_lost() -> None:
    talk = asleep(n_retry=1)
    talk.client.ping(talk.now)
    talk.waits(20)
    talk.says(PingReq("plug-1"), PingReq("plug-1"))
    talk.told(("awake",), ("lost",))


def test_messages_to_a_sleeper_are_not_heard() -> None:
    talk = asleep()
    talk.hears(Publish(PREDEFINED, 1, 1, b"x", 1), PingReq(), Register(1, 1, "a"), PubRel(1))
    talk.says()
    talk.told()
    assert talk.client.ignored == 4


def test_out_of_sleep_the_session_and_the_will_stay() -> None:
    talk = Talk(will=("w", b"gone", 0, False))
    talk.client.connect(0.0)
    talk.hears(WillTopicReq(), WillMsgReq(), ConnAck(0))
    talk.client.disconnect(0.0, 60)
    talk.hears(Disconnect())
    talk.client.datagrams_to_send()
    talk.client.connect(1.0)
    talk.says(Connect("plug-1", 60, clean_session=False, will=False))


def test_a_sleeper_sleeps_longer_or_leaves() -> None:
    talk = asleep()
    talk.client.disconnect(talk.now, 1200)
    talk.hears(Disconnect())
    talk.told(("asleep",))
    talk.client.disconnect(talk.now)
    talk.hears(Disconnect())
    talk.says(Disconnect(1200), Disconnect())
    talk.told(("disconnected",))


def test_the_gateway_ends_it_at_any_moment() -> None:
    for talk in (connected(), asleep()):
        talk.hears(Disconnect())
        talk.told(("disconnected",))
        assert talk.client.state == "disconnected"
        talk.client.connect(talk.now)
