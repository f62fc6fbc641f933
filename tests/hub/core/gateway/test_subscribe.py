"""SUBSCRIBE, UNSUBSCRIBE, local routing, retained messages (MQTT-SN 1.2 sections 6.5, 6.9, 6.10)."""

import pytest

from hub.wire.mqttsn.messages import PubAck, Publish, RegAck, Register, SubAck, Subscribe, UnsubAck, Unsubscribe
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, SHORT, Playbook

PRICE = 0x0040


def test_a_suback_waits_for_the_commit() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", Subscribe(NORMAL, "x/y", 7, 2)).says_nothing()
    play.commits().says(SubAck(1, 7, 0, 2))
    assert play.store.subscriptions == {("plug-1", "x/y"): 2}


def test_the_three_kinds_of_topic() -> None:
    play = Playbook().connects()
    play.hears("a", Subscribe(NORMAL, "x/y", 1, 1)).says(SubAck(1, 1, 0, 1))
    play.hears("a", Subscribe(PREDEFINED, PRICE, 2, 1)).says(SubAck(PRICE, 2, 0, 1))
    play.hears("a", Subscribe(SHORT, 0x4142, 3, 1)).says(SubAck(0, 3, 0, 1))
    play.publishes("x/y", b"1").says(Publish(NORMAL, 1, 1, b"1", 1)).hears("a", PubAck(1, 1, 0))
    play.publishes("price", b"2").says(Publish(PREDEFINED, PRICE, 2, b"2", 1)).hears("a", PubAck(PRICE, 2, 0))
    play.publishes("AB", b"3").says(Publish(SHORT, 0x4142, 3, b"3", 1)).hears("a", PubAck(0x4142, 3, 0))
    assert play.store.inbox == {}


def test_a_wildcard_gets_no_id_and_its_topics_are_registered_first() -> None:
    play = Playbook().connects().hears("a", Subscribe(NORMAL, "x/#", 1, 1)).says(SubAck(0, 1, 0, 1))
    play.publishes("x/y", b"1").says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 0)).says(Publish(NORMAL, 1, 1, b"1", 1)).hears("a", PubAck(1, 1, 0))
    play.publishes("x/y", b"2").says(Publish(NORMAL, 1, 2, b"2", 1))


def test_the_id_in_a_regack_is_the_one_that_was_offered() -> None:
    play = Playbook().connects().hears("a", Subscribe(NORMAL, "x/#", 1, 0)).says(SubAck(0, 1, 0, 0))
    play.publishes("x/y", b"1", qos=0).says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(0, 1, 0)).says(Publish(NORMAL, 1, 0, b"1"))


@pytest.mark.parametrize("topic", ["a/#/b", "a+", "#a", "+a/b", "x" * 256])
def test_what_is_no_filter_is_not_supported(topic: str) -> None:
    Playbook().connects().hears("a", Subscribe(NORMAL, topic, 1)).says(SubAck(0, 1, 3))


def test_what_the_hub_orders_one_appliance_is_no_others_business() -> None:
    play = Playbook().connects().connects("b", "plug-2")
    play.hears("b", Subscribe(NORMAL, "control/plug-1", 1, 1)).says(("b", SubAck(0, 1, 3)))
    assert play.gateway.sessions()[1].stats.refused == {"forbidden-topic": 1}
    for topic_filter in ("#", "+/+", "control/#"):
        play.subscribes(topic_filter, 1, "b")
    play.subscribes(0x0030, 1, "a")
    play.forget().publishes("control/plug-1", b"off 60").says(Publish(PREDEFINED, 0x0030, 1, b"off 60", 1))
    play.publishes("control/plug-2", b"on").says(("b", Register(1, 1, "control/plug-2")))


def test_a_forbidden_subscription_of_an_older_version_brings_nothing() -> None:
    play = Playbook().connects("b", "plug-2", clean=False)
    play.store.subscriptions["plug-2", "control/plug-1"] = 1
    play.store.retained["control/plug-1"] = (b"off 60", 1)
    play.restarts()
    play.publishes("control/plug-1", b"off 60").says_nothing()
    play.hears("b", Subscribe(NORMAL, "control/#", 3, 1)).says(("b", SubAck(0, 3, 0, 1)))


def test_an_unknown_predefined_id_is_invalid() -> None:
    play = Playbook().connects().hears("a", Subscribe(PREDEFINED, 0x0999, 1)).says(SubAck(0, 1, 2))
    play.hears("a", Subscribe(SHORT, 0x0001, 1)).says(SubAck(0, 1, 3))


def test_overlapping_filters_deliver_once_with_the_highest_qos() -> None:
    play = Playbook().connects()
    for topic_filter, qos in (("x/y", 0), ("x/+", 2), ("#", 1)):
        play.subscribes(topic_filter, qos)
    play.publishes("x/y", b"1", qos=2).says(Publish(NORMAL, 1, 1, b"1", 2))
    assert len(play.store.inbox) == 1


def test_the_qos_is_the_lower_of_publish_and_subscription() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    play.publishes("x/y", b"1", qos=2).says(Publish(NORMAL, 1, 1, b"1", 1)).hears("a", PubAck(1, 1, 0))
    play.publishes("x/y", b"1", qos=0).says(Publish(NORMAL, 1, 0, b"1", 0))


def test_adapters_hear_each_other_and_themselves_only_once_it_is_durable() -> None:
    play = Playbook().connects().connects("b", "display")
    play.subscribes("x/y", 1, "b")
    play.subscribes("x/y", 1, "a")
    play.hears("a", Register(0, 1, "x/y")).forget()
    play.holds = True
    play.hears("a", Publish(NORMAL, 1, 2, b"1", 1)).says_nothing()
    play.commits().says(PubAck(1, 2, 0), ("b", Publish(NORMAL, 1, 1, b"1", 1)), Publish(NORMAL, 1, 1, b"1", 1))


def test_unsubscribe_is_always_answered_and_ends_delivery() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    for _ in range(2):
        play.hears("a", Unsubscribe(NORMAL, "x/y", 9)).says(UnsubAck(9))
    play.publishes("x/y", b"1").says_nothing()
    assert play.store.subscriptions == {}
    play.restarts()
    play.publishes("x/y", b"1").says_nothing()


def test_unsubscribe_by_predefined_id_and_short_name() -> None:
    play = Playbook().connects()
    play.subscribes(PRICE)
    play.hears("a", Subscribe(SHORT, 0x4142, 3, 1)).forget()
    play.hears("a", Unsubscribe(PREDEFINED, PRICE, 1), Unsubscribe(SHORT, 0x4142, 2)).says(UnsubAck(1), UnsubAck(2))
    play.publishes("price", b"1").publishes("AB", b"1").says_nothing()


def test_subscribing_again_changes_the_qos() -> None:
    play = Playbook().connects()
    assert play.subscribes("x/y", 2) == play.subscribes("x/y", 0)
    play.publishes("x/y", b"1").says(Publish(NORMAL, 1, 0, b"1", 0))


def test_retained_messages_follow_the_suback() -> None:
    play = Playbook().connects().publishes("x/y", b"1", retain=True).publishes("x/z", b"2", qos=0, retain=True)
    play.hears("a", Subscribe(NORMAL, "x/y", 1, 1)).says(SubAck(1, 1, 0, 1), Publish(NORMAL, 1, 1, b"1", 1, True))
    play.hears("a", PubAck(1, 1, 0))
    play.hears("a", Subscribe(NORMAL, "x/+", 2, 1)).says(SubAck(0, 2, 0, 1), Publish(NORMAL, 1, 2, b"1", 1, True))
    play.hears("a", PubAck(1, 2, 0)).says(Register(2, 1, "x/z"))
    play.hears("a", RegAck(2, 1, 0)).says(Publish(NORMAL, 2, 0, b"2", 0, True))


def test_an_empty_payload_removes_the_retained_message_and_is_passed_on() -> None:
    play = Playbook().connects().publishes("x/y", b"1", retain=True)
    play.subscribes("x/y", 0)
    play.forget().publishes("x/y", b"", retain=True).says(Publish(NORMAL, 1, 0, b""))
    assert play.store.retained == {}
    play.hears("a", Subscribe(NORMAL, "x/y", 2, 1)).says(SubAck(1, 2, 0, 1))


def test_a_live_message_is_not_marked_retained() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    play.publishes("x/y", b"1", retain=True).says(Publish(NORMAL, 1, 1, b"1", 1, False))


def test_wildcards_do_not_match_the_dollar_namespace() -> None:
    play = Playbook().connects()
    play.subscribes("#", 1)
    play.publishes("$SYS/x", b"1").says_nothing()


def test_refusing_a_register_unsubscribes_that_name() -> None:
    play = Playbook().connects(clean=False)
    play.subscribes("x/y", 1)
    play.connects(clean=False).publishes("x/y", b"1").publishes("x/y", b"2").says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 3)).says_nothing()
    assert play.store.subscriptions == {} and play.store.inbox == {}


def test_an_invalid_topic_id_makes_the_gateway_register_and_send_again() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    play.publishes("x/y", b"1").says(Publish(NORMAL, 1, 1, b"1", 1))
    play.hears("a", PubAck(1, 1, 2)).says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 0)).says(Publish(NORMAL, 1, 1, b"1", 1))
    play.hears("a", PubAck(1, 1, 2)).says_nothing()  # told twice: given up
    assert play.store.inbox == {}


def test_an_invalid_topic_id_of_a_qos_0_publish_registers_before_the_next() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 0)
    play.publishes("x/y", b"1").says(Publish(NORMAL, 1, 0, b"1"))
    play.hears("a", PubAck(1, 0, 2)).publishes("x/y", b"2").says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 0)).says(Publish(NORMAL, 1, 0, b"2"))


def test_a_refused_predefined_id_is_replaced_by_a_registered_one() -> None:
    play = Playbook().connects()
    play.subscribes(PRICE)
    play.publishes("price", b"1").says(Publish(PREDEFINED, PRICE, 1, b"1", 1))
    play.hears("a", PubAck(PRICE, 1, 2)).says(Register(1, 1, "price"))


def test_a_predefined_subscription_is_served_by_its_id_after_a_restart() -> None:
    play = Playbook().connects()
    play.subscribes(PRICE)
    play.restarts()
    play.publishes("price", b"1").says(Publish(PREDEFINED, PRICE, 1, b"1", 1))
