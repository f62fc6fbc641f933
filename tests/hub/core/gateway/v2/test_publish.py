# SPDX-License-Identifier: GPL-3.0-or-later
"""2.0 clients at the real gateway machine: topics, publishing, subscribing, receiving."""

import pytest

from hub.wire.mqttsn import messages as v1
from hub.wire.mqttsn.v2 import messages as v2
from hub.wire.mqttsn.v2.messages import (
    PREDEFINED_ALIAS,
    SESSION_ALIAS,
    TOPIC_NAME,
    PubAckV2,
    PubCompV2,
    PublishV2,
    PubRecV2,
    PubRelV2,
    RegAckV2,
    RegisterV2,
    SubAckV2,
    SubscribeV2,
    UnsubAckV2,
    UnsubscribeV2,
)
from tests.hub.core.gateway.v2.playbook import Talk2, subscribed

POWER = 0x0001
CONTROL = 0x0030


def test_register_and_publish_at_every_qos() -> None:
    talk = Talk2().speaks2()
    talk.hears("n", RegisterV2(1, "readings/flow")).says(RegAckV2(1, 0, 1))
    talk.hears("n", PublishV2(SESSION_ALIAS, 1, 0, b"1")).says_nothing()
    talk.hears("n", PublishV2(SESSION_ALIAS, 1, 2, b"2", 1)).says(PubAckV2(2))
    talk.hears("n", PublishV2(SESSION_ALIAS, 1, 3, b"3", 2)).says(PubRecV2(3))
    talk.hears("n", PubRelV2(3)).says(PubCompV2(3))
    assert talk.store.values("flow") == [1, 2, 3]


def test_a_name_with_a_predefined_alias_is_given_that() -> None:
    """4.7.2.2."""
    talk = Talk2().speaks2().hears("n", RegisterV2(1, "readings/power"))
    talk.says(RegAckV2(1, 0x1A, POWER, PREDEFINED_ALIAS))
    talk.hears("n", PublishV2(PREDEFINED_ALIAS, POWER, 2, b"42", 1)).says(PubAckV2(2))


@pytest.mark.parametrize("topic", ["readings/power", "readings/flow"])
def test_publish_by_topic_name(topic: str) -> None:
    talk = Talk2().speaks2()
    for packet_id in (1, 2):
        talk.hears("n", PublishV2(TOPIC_NAME, topic, packet_id, b"42", 1)).says(PubAckV2(packet_id))
    assert talk.store.values(topic.rpartition("/")[2]) == [42, 42]


def test_two_bytes_are_a_name_too() -> None:
    talk = Talk2().speaks2().connects("a", "plug-1")
    talk.hears("a", v1.Subscribe(v1.TOPIC_NORMAL, "ab", 5, 0)).says(("a", v1.SubAck(1, 5, 0)))
    talk.hears("n", PublishV2(TOPIC_NAME, "ab", 0, b"x")).says(("a", v1.Publish(v1.TOPIC_NORMAL, 1, 0, b"x")))


@pytest.mark.parametrize(
    ("publish", "reason_code"),
    [
        (PublishV2(SESSION_ALIAS, 99, 7, b"1", 1), 0xF0),
        (PublishV2(PREDEFINED_ALIAS, 0x7777, 7, b"1", 1), 0xF0),
        (PublishV2(PREDEFINED_ALIAS, POWER, 7, b"no number", 1), 0x83),
        (PublishV2(TOPIC_NAME, "control/plug-2", 7, b"off", 1), 0x83),
        (PublishV2(TOPIC_NAME, "a/+", 7, b"", 1), 0x90),
    ],
)
def test_a_publish_that_is_refused(publish: PublishV2, reason_code: int) -> None:
    talk = Talk2().speaks2().hears("n", publish).says(PubAckV2(7, reason_code))
    publish.qos = 2
    talk.hears("n", publish).says(PubRecV2(7, reason_code))


def test_a_retransmission_at_qos_1_has_no_dup_and_is_stored_once() -> None:
    talk = Talk2().speaks2().hears("n", RegisterV2(1, "readings/flow")).forget()
    publish = PublishV2(SESSION_ALIAS, 1, 2, b"42", 1)
    talk.hears("n", publish, publish).says(PubAckV2(2), PubAckV2(2))
    assert talk.store.values("flow") == [42]


def test_a_client_that_never_changes_its_packet_identifier_is_not_mistaken() -> None:
    talk = Talk2().speaks2()
    for value in (b"1", b"2", b"2"):
        talk.hears("n", PublishV2(PREDEFINED_ALIAS, POWER, 77, value, 1)).says(PubAckV2(77))
    assert talk.store.values() == [1, 2, 2]


def test_subscribe_by_every_type() -> None:
    talk = Talk2().speaks2().hears("n", RegisterV2(1, "garden/pump")).says(RegAckV2(1, 0, 1))
    talk.hears("n", SubscribeV2(SESSION_ALIAS, 1, 2, 1)).says(SubAckV2(2, 1, 1))
    talk.hears("n", SubscribeV2(PREDEFINED_ALIAS, CONTROL, 3, 2)).says(SubAckV2(3, 2, None, PREDEFINED_ALIAS))
    talk.hears("n", SubscribeV2(TOPIC_NAME, "garden/#", 4)).says(SubAckV2(4, 0, None, PREDEFINED_ALIAS))
    talk.hears("n", UnsubscribeV2(TOPIC_NAME, "garden/#", 5)).says(UnsubAckV2(5))
    talk.hears("n", UnsubscribeV2(TOPIC_NAME, "garden/#", 6)).says(UnsubAckV2(6, 0x11))


@pytest.mark.parametrize(
    ("subscribe", "reason_code"),
    [
        (SubscribeV2(SESSION_ALIAS, 99, 2), 0xF0),
        (SubscribeV2(PREDEFINED_ALIAS, 0x7777, 2), 0xF0),
        (SubscribeV2(TOPIC_NAME, "a/#/b", 2), 0x8F),
        (SubscribeV2(TOPIC_NAME, "a", 2, no_local=True), 0x83),
        (SubscribeV2(TOPIC_NAME, "a", 2, as_published=True), 0x83),
        (SubscribeV2(TOPIC_NAME, "a", 2, retain_handling=1), 0x83),
    ],
)
def test_a_subscribe_that_is_refused(subscribe: SubscribeV2, reason_code: int) -> None:
    Talk2().speaks2().hears("n", subscribe).says(("n", SubAckV2(2, reason_code, None, PREDEFINED_ALIAS)))


def test_receive_at_every_qos() -> None:
    talk = subscribed(Talk2().speaks2())
    talk.publishes("garden/pump", b"0", 0).says(PublishV2(SESSION_ALIAS, 1, 0, b"0"))
    talk.publishes("garden/pump", b"1", 1).says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1)).hears("n", PubAckV2(1))
    talk.publishes("garden/pump", b"2", 2).says(PublishV2(SESSION_ALIAS, 1, 2, b"2", 2)).hears("n", PubRecV2(2))
    talk.says(PubRelV2(2)).hears("n", PubCompV2(2)).says_nothing()
    assert talk.store.inbox == {}


def test_dup_only_at_qos_2() -> None:
    talk = subscribed(Talk2(t_retry_s=5).speaks2()).publishes("garden/pump", b"1", 1).forget()
    talk.waits(6).says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1)).hears("n", PubAckV2(1))
    talk.publishes("garden/pump", b"2", 2).forget().waits(6).says(PublishV2(SESSION_ALIAS, 1, 2, b"2", 2, dup=True))


@pytest.mark.parametrize("answer", [PubAckV2(1, 0x97), PubRecV2(1, 0x80), PubAckV2(1, 0xFE)])
def test_an_unknown_refusal_is_final(answer: v2.Message) -> None:
    qos = 1 if isinstance(answer, PubAckV2) else 2
    talk = subscribed(Talk2().speaks2()).publishes("garden/pump", b"1", qos).forget()
    talk.hears("n", answer).says_nothing()
    assert talk.store.inbox == {}


def test_congestion_at_the_client_delays_and_an_unknown_alias_registers_anew() -> None:
    talk = subscribed(Talk2(t_retry_s=5).speaks2()).publishes("garden/pump", b"1", 1).forget()
    talk.hears("n", PubAckV2(1, 0xF1)).waits(6).says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1))
    talk.hears("n", PubAckV2(1, 0xF0)).says(RegisterV2(1, "garden/pump", 1)).hears("n", RegAckV2(1))
    talk.says(PublishV2(SESSION_ALIAS, 1, 1, b"1", 1))
