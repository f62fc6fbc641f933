"""A client's PUBLISH: custody before the answer, every repeat stored once, what is refused and how (6.6 to 6.8)."""

import pytest

from hub.core.records import Sample
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, SHORT, Playbook

POWER, ENERGY = 0x0001, 0x0002


def power(msg_id: int, value: bytes = b"5", qos: int = 1, dup: bool = False) -> Publish:
    return Publish(PREDEFINED, POWER, msg_id, value, qos, False, dup)


def test_a_puback_waits_for_the_commit() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", power(7)).says_nothing()
    play.commits().says(PubAck(POWER, 7, 0))
    assert play.store.samples == [Sample("plug-1", "power", 1000.0, 5, 0)]


def test_a_repeat_during_the_commit_is_answered_once() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", power(7), power(7, dup=True), power(7)).commits().says(PubAck(POWER, 7, 0))
    assert play.store.values() == [5]


def test_a_retransmission_is_stored_once_and_answered_again() -> None:
    play = Playbook().connects()
    for dup in (False, True, True):
        play.hears("a", power(7, dup=dup)).says(PubAck(POWER, 7, 0))
    assert play.store.values() == [5]
    assert play.gateway.counters["repeats"] == 2


def test_a_retransmission_is_recognised_after_a_restart_and_a_clean_connect() -> None:
    play = Playbook().connects().hears("a", power(7)).says(PubAck(POWER, 7, 0))
    play.restarts()
    play.hears("a", power(7, dup=True)).says(PubAck(POWER, 7, 0))
    play.connects().hears("a", power(7, dup=True)).says(PubAck(POWER, 7, 0))
    assert play.store.values() == [5]


def test_a_message_id_may_be_used_again() -> None:
    play = Playbook().connects()
    for value in (b"5", b"6", b"6", b"6"):  # a client that always uses the same id, and sends the same value again
        play.hears("a", power(1, value)).says(PubAck(POWER, 1, 0))
    assert play.store.values() == [5, 6, 6, 6]
    play.hears("a", power(1, b"7", dup=True)).says(PubAck(POWER, 1, 0))  # never seen: the first was lost
    assert play.store.values()[-1] == 7


@pytest.mark.parametrize("restarts", [False, True])
def test_a_retransmission_of_the_last_message_is_stored_once_however_late(restarts: bool) -> None:
    play = Playbook(dup_window_s=600.0).connects(duration_s=0).hears("a", power(6), power(7)).waits(6600)
    if restarts:
        play.restarts()
        play.waits(6600)
    play.forget().hears("a", power(7, dup=True)).says(PubAck(POWER, 7, 0))
    assert play.store.values() == [5, 5]
    play.hears("a", power(6, dup=True))  # an older one long after: its MsgId has come round
    assert play.store.values() == [5, 5, 5]


def test_of_a_client_that_gives_all_its_messages_one_id_a_late_one_is_new() -> None:
    """Its first transmission may have been lost: what it says once more with DUP is not what it said an hour ago."""
    play = Playbook(dup_window_s=600.0).connects(duration_s=0).hears("a", power(1), power(1)).waits(3600)
    play.forget().hears("a", power(1, dup=True)).says(PubAck(POWER, 1, 0))
    assert play.store.values() == [5, 5, 5]


@pytest.mark.parametrize("first_id", [1, 65530])
def test_a_repeat_without_dup_is_recognised_of_a_client_that_counts(first_id: int) -> None:
    play = Playbook().connects()
    for step in range(34):
        play.hears("a", power((first_id + step - 1) % 0xFFFF + 1, b"1"))
    play.forget().hears("a", power((first_id + 32) % 0xFFFF + 1, b"1")).says(
        PubAck(POWER, (first_id + 32) % 0xFFFF + 1, 0)
    )
    assert len(play.store.samples) == 34
    play.connects().hears("a", power((first_id + 32) % 0xFFFF + 1, b"1"))  # it started anew: this is a new message
    assert len(play.store.samples) == 35


@pytest.mark.parametrize("period", [1, 2, 3, 15, 16, 31, 32])
def test_a_client_that_counts_in_a_small_circle_is_not_mistaken(period: int) -> None:
    play = Playbook().connects()
    for number in range(100):
        play.hears("a", power(number % period + 1, b"1"))
    assert len(play.store.samples) == 100


def test_a_refused_repeat_is_not_remembered() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", power(7)).refuses().says(PubAck(POWER, 7, 1))
    play.hears("a", power(7, dup=True)).commits().says(PubAck(POWER, 7, 0))
    assert play.store.values() == [5]


def test_qos_2_is_stored_once_whatever_is_repeated() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", power(7, qos=2)).says_nothing()
    play.commits().says(PubRec(7))
    play.hears("a", power(7, qos=2)).says(PubRec(7))
    play.hears("a", power(7, qos=2, dup=True)).says(PubRec(7))
    play.hears("a", PubRel(7)).says(PubComp(7))
    play.hears("a", PubRel(7)).says(PubComp(7))
    assert play.store.values() == [5]
    play.hears("a", power(7, qos=2)).commits().says(PubRec(7))
    assert play.store.values() == [5, 5]


def test_qos_2_over_a_restart() -> None:
    play = Playbook().connects().hears("a", power(7, qos=2)).says(PubRec(7))
    play.restarts()
    play.hears("a", power(7, qos=2, dup=True)).says(PubRec(7))
    play.hears("a", PubRel(7)).says(PubComp(7))
    assert play.store.values() == [5]
    play.restarts()
    # Whether the PUBREL came is not known any more; without DUP this can only be a new message.
    play.hears("a", power(7, qos=2)).says(PubRec(7))
    assert play.store.values() == [5, 5]


def test_qos_0_is_taken_without_an_answer() -> None:
    play = Playbook().connects().hears("a", Publish(PREDEFINED, POWER, 0, b"5")).says_nothing()
    assert play.store.values() == [5]


def test_an_unknown_topic_id_is_told_at_every_qos_but_minus_one() -> None:
    play = Playbook().connects()
    for qos in (0, 1, 2):
        play.hears("a", Publish(NORMAL, 99, 5, b"5", qos)).says(PubAck(99, 5, 2))
        play.hears("a", Publish(PREDEFINED, 0x0999, 5, b"5", qos)).says(PubAck(0x0999, 5, 2))
    play.hears("a", Publish(PREDEFINED, 0x0999, 5, b"5", -1)).says_nothing()
    assert play.gateway.counters["refused.unknown-topic-id"] == 7


@pytest.mark.parametrize("topic", ["control/plug-1", "home/power", "price", "about/other", "readings/a b", "$SYS/x"])
def test_topics_of_others_are_not_supported(topic: str) -> None:
    play = Playbook().connects()
    play.forget().hears("a", Register(0, 1, topic))
    ((_, regack),) = play.out
    if regack.return_code == 0:
        play.forget().hears("a", Publish(NORMAL, regack.topic_id, 2, b"5", 1)).says(PubAck(regack.topic_id, 2, 3))
    else:
        assert regack == RegAck(0, 1, 3)
    assert play.store.samples == []


@pytest.mark.parametrize("payload", [b"", b"x", b"5W", b"1:", b"NaN", b"\xff"])
def test_what_is_no_reading_is_not_supported(payload: bytes) -> None:
    play = Playbook().connects().hears("a", power(7, payload)).says(PubAck(POWER, 7, 3))
    play.hears("a", power(8, payload, qos=2)).says(PubAck(POWER, 8, 3))
    play.hears("a", Publish(PREDEFINED, POWER, 0, payload)).says_nothing()
    assert play.gateway.counters["refused.bad-reading"] == 3


def test_buffered_readings_are_dated_back() -> None:
    play = Playbook().connects().hears("a", power(7, b"60:5,0:6")).says(PubAck(POWER, 7, 0))
    assert [(s.sampled_s, s.mantissa) for s in play.store.samples] == [(940.0, 5), (1000.0, 6)]


def test_qos_minus_one_needs_no_connection_and_is_named_after_the_address() -> None:
    play = Playbook().hears("10.0.0.7", Publish(PREDEFINED, POWER, 0, b"5", -1)).says_nothing()
    play.hears("zb0011223344556677", Publish(PREDEFINED, POWER, 0, b"6", -1)).says_nothing()
    play.hears("10.0.0.7", Publish(SHORT, 0x4142, 0, b"6", -1)).says_nothing()
    assert [s.client_id for s in play.store.samples] == ["udp-10.0.0.7", "zb-zb0011223344556677"]
    play.hears("10.0.0.7", Publish(PREDEFINED, POWER, 1, b"5", 1)).says(("10.0.0.7", Disconnect()))


def test_qos_minus_one_of_a_client_counts_as_the_clients() -> None:
    play = Playbook().connects().hears("a", Publish(PREDEFINED, POWER, 0, b"5", -1)).says_nothing()
    play.hears("a", Disconnect()).says(Disconnect()).hears("a", Publish(PREDEFINED, POWER, 0, b"6", -1)).says_nothing()
    assert [s.client_id for s in play.store.samples] == ["plug-1", "plug-1"]


def test_an_alarm_becomes_an_event() -> None:
    play = Playbook().connects().hears("a", Publish(PREDEFINED, 0x0021, 1, b"hot", 1)).says(PubAck(0x0021, 1, 0))
    assert play.store.events[-1].fields == {"client": "plug-1", "text": "hot"}


def test_forwarded_topics_go_up_too() -> None:
    play = Playbook(forward_filters=("alarm/#", "x/+")).connects()
    play.hears("a", Publish(PREDEFINED, 0x0021, 1, b"hot", 1), Register(0, 2, "x/y"), Publish(NORMAL, 1, 3, b"z", 1))
    assert [tuple(f) for f in play.store.forwards] == [("alarm/plug-1", b"hot"), ("x/y", b"z")]


def test_registered_ids_publish_and_are_the_same_for_the_same_name() -> None:
    play = Playbook().connects().hears("a", Register(0, 1, "readings/flow")).says(RegAck(1, 1, 0))
    play.hears("a", Register(0, 2, "readings/flow")).says(RegAck(1, 2, 0))
    play.hears("a", Publish(NORMAL, 1, 3, b"5", 1)).says(PubAck(1, 3, 0))
    play.restarts()
    play.hears("a", Publish(NORMAL, 1, 4, b"6", 1)).says(PubAck(1, 4, 0))
    assert play.store.values("flow") == [5, 6]
    play.hears("a", Register(0, 5, "readings/heat")).says(RegAck(2, 5, 0))


@pytest.mark.parametrize("topic", ["a/+", "#", "$SYS/x", "x" * 256])
def test_a_name_that_is_none_is_not_registered(topic: str) -> None:
    Playbook().connects().hears("a", Register(0, 1, topic)).says(RegAck(0, 1, 3))


def test_ids_belong_to_one_client() -> None:
    play = Playbook().connects().connects("b", "plug-2").hears("a", Register(0, 1, "x/y")).says(RegAck(1, 1, 0))
    play.hears("b", Publish(NORMAL, 1, 2, b"z", 1)).says(("b", PubAck(1, 2, 2)))


def test_a_client_asleep_may_publish() -> None:
    play = Playbook().connects().sleeps().hears("a", power(7)).says(PubAck(POWER, 7, 0))
    assert play.state() == "asleep"
    assert play.store.values() == [5]


def test_qos_1_with_message_id_zero_is_answered_with_it() -> None:
    Playbook().connects().hears("a", power(0)).says(PubAck(POWER, 0, 0))


def test_a_client_that_connects_again_with_an_open_exchange_gets_its_answer() -> None:
    play = Playbook().connects(clean=False)
    play.holds = True
    play.hears("a", power(7), Connect("plug-1", 60, False), power(7, dup=True)).commits()
    assert [type(message).__name__ for _, message in play.out] == ["PubAck", "ConnAck"]
    assert play.store.values() == [5]


ABOUT, TEMPERATURE = 0x0020, 0x0005


def test_a_thermometer_that_sends_energy_is_refused_counted_and_told_once() -> None:
    play = Playbook().connects()
    play.hears("a", Publish(PREDEFINED, ENERGY, 1, b"5", 1)).says(PubAck(ENERGY, 1, 0))  # not said yet: anything
    play.hears("a", Publish(PREDEFINED, ABOUT, 2, b'{"class":"thermometer"}', 1)).says(PubAck(ABOUT, 2, 0))
    for number in (3, 4):
        play.hears("a", Publish(PREDEFINED, ENERGY, number, b"6", 1)).says(PubAck(ENERGY, number, 3))
    play.hears("a", Publish(PREDEFINED, TEMPERATURE, 5, b"21.5", 1)).says(PubAck(TEMPERATURE, 5, 0))
    play.hears("a", Publish(PREDEFINED, POWER, 0, b"9", 0)).says(PubAck(POWER, 0, 3))
    assert play.store.values("energy") == [5] and play.store.values("temperature") == [215]
    assert play.store.values("power") == []
    assert (
        play.gateway.sessions()[0].stats.refused == {"out-of-class": 3}
        and play.gateway.counters["refused.out-of-class"] == 3
    )
    told = [event.fields for event in play.store.events if event.event == "adapter.withheld"]
    assert [fields["quantity"] for fields in told] == ["energy", "power"]
    assert told[0] == {"client": "plug-1", "quantity": "energy", "reason": "a thermometer has none"}
    assert play.gateway.pressures(play.now)["adapter-out-of-class"] == "plug-1: power of a thermometer"


def test_what_a_class_may_publish_is_known_after_a_restart_and_until_it_says_otherwise() -> None:
    play = Playbook().connects(clean=False)
    play.hears("a", Publish(PREDEFINED, ABOUT, 1, b'{"class":"thermometer"}', 1)).says(PubAck(ABOUT, 1, 0))
    play.restarts()
    play.hears("a", Publish(PREDEFINED, ENERGY, 2, b"6", 1)).says(PubAck(ENERGY, 2, 3))
    play.hears("a", Publish(PREDEFINED, ABOUT, 3, b'{"class":"kettle"}', 1)).says(PubAck(ABOUT, 3, 0))
    play.hears("a", Publish(PREDEFINED, ENERGY, 4, b"6", 1)).says(PubAck(ENERGY, 4, 0))


def test_nobody_is_the_meter_but_the_meter() -> None:
    play = Playbook()
    for name in ("meter", "meter-gas", "meter-water", "meter-heat"):
        play.hears("a", Connect(name, 60)).says(ConnAck(3))
    play.connects()
    play.hears("a", Publish(PREDEFINED, ABOUT, 1, b'{"class":"meter"}', 1)).says(PubAck(ABOUT, 1, 3))
    assert "about/plug-1" not in play.store.retained
    assert play.gateway.sessions()[0].stats.refused == {"out-of-class": 1}
    assert play.gateway.pressures(play.now)["adapter-out-of-class"] == "plug-1 says that it is the meter"


def test_a_nameless_sender_has_a_class_too() -> None:
    play = Playbook()
    play.hears("10.0.0.7", Publish(PREDEFINED, ABOUT, 0, b'{"class":"thermometer"}', -1))
    play.hears("10.0.0.7", Publish(PREDEFINED, ENERGY, 0, b"6", -1), Publish(PREDEFINED, TEMPERATURE, 0, b"20", -1))
    play.says_nothing()
    assert play.store.values("energy") == [] and play.store.values("temperature") == [20]
    assert play.gateway.counters["refused.out-of-class"] == 1
