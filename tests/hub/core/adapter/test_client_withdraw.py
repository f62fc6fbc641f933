# SPDX-License-Identifier: GPL-3.0-or-later
"""A publish that is taken back, and times without fractions."""

from hub.wire.mqttsn.messages import Connect, PingReq, PubAck, Publish, Register
from tests.hub.core.adapter.talk import PREDEFINED, connected


def test_a_publish_under_way_is_forgotten_and_the_next_one_goes() -> None:
    talk = connected()
    first = talk.client.publish(1, b"5:100", 1, talk.now)
    second = talk.client.publish(1, b"200", 1, talk.now)
    talk.says(Publish(PREDEFINED, 1, first, b"5:100", 1))
    assert talk.client.withdraw(first, talk.now)
    talk.says(Publish(PREDEFINED, 1, second, b"200", 1))
    talk.hears(PubAck(1, first, 0))
    assert talk.client.ignored == 1, "an answer to what was withdrawn"
    talk.hears(PubAck(1, second, 0))
    talk.told(("published", second, 0))


def test_a_publish_that_waits_is_forgotten() -> None:
    talk = connected()
    first = talk.client.publish(1, b"1", 1, talk.now)
    second = talk.client.publish(1, b"2", 1, talk.now)
    assert talk.client.withdraw(second, talk.now)
    talk.says(Publish(PREDEFINED, 1, first, b"1", 1))
    talk.hears(PubAck(1, first, 0))
    talk.says()
    talk.told(("published", first, 0))


def test_a_publish_whose_topic_is_being_registered_is_forgotten() -> None:
    talk = connected()
    msg_id = talk.client.publish("plant/flow", b"1", 1, talk.now)
    talk.says(Register(0, msg_id + 1, "plant/flow"))
    assert talk.client.withdraw(msg_id, talk.now)
    talk.client.publish(1, b"2", 0, talk.now)
    talk.says(Publish(PREDEFINED, 1, 0, b"2"))


def test_a_lost_client_says_nothing_of_what_was_withdrawn() -> None:
    talk = connected()
    msg_id = talk.client.publish(1, b"1", 1, talk.now)
    talk.waits(100)
    talk.told(("lost",))
    talk.client.datagrams_to_send()
    assert talk.client.withdraw(msg_id, talk.now)
    talk.says()
    talk.client.connect(talk.now)
    talk.says(Connect("plug-1", 60, True, False))


def test_only_a_qos_1_publish_without_an_outcome_can_be_withdrawn() -> None:
    talk = connected()
    assert not talk.client.withdraw(1, talk.now)
    msg_id = talk.client.publish(1, b"1", 2, talk.now)
    assert not talk.client.withdraw(msg_id, talk.now), "QoS 2 would be delivered twice"
    assert talk.client.publish("plant/flow", b"1", 0, talk.now) == 0
    assert not talk.client.withdraw(0, talk.now)


def test_times_in_whole_seconds_stay_whole() -> None:
    """A board's float may have 24 bits: after half a year it no longer tells one second from the next."""
    talk = connected()
    now = 400_000_000
    talk.client.ping(now)
    assert type(talk.client.get_timer()) is int
    talk.client.receive_datagram(b"\x02\x17", now)
    talk.client.publish(1, b"1", 1, now)
    assert (talk.client.get_timer(), type(talk.client.get_timer())) == (now + 10, int)
    talk.client.receive_datagram(PubAck(1, 1, 1).encode(), now)
    assert (talk.client.get_timer(), type(talk.client.get_timer())) == (now + 10, int)
    talk.client.receive_datagram(PubAck(1, 1, 0).encode(), now)
    assert (talk.client.get_timer(), type(talk.client.get_timer())) == (now + 50, int), "the keep-alive"
    talk.client.datagrams_to_send()
    talk.client.handle_timer(now + 50)
    talk.says(PingReq())
