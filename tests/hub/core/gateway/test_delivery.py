"""The gateway's PUBLISH to a client: one at a time, retransmitted, exactly once at QoS 2 (5.4.14, 6.10, 6.13)."""

from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
)
from tests.hub.core.gateway.playbook import NORMAL, Playbook


def listener(qos: int = 1, clean: bool = False) -> Playbook:
    play = Playbook().connects(clean=clean, duration_s=0)
    play.subscribes("x/y", qos)
    return play


def test_one_exchange_at_a_time() -> None:
    play = listener().publishes("x/y", b"1").publishes("x/y", b"2").publishes("x/y", b"3", qos=0)
    play.says(Publish(NORMAL, 1, 1, b"1", 1))
    play.hears("a", PubAck(1, 1, 0)).says(Publish(NORMAL, 1, 2, b"2", 1))
    play.hears("a", PubAck(1, 2, 0)).says(Publish(NORMAL, 1, 0, b"3"))


def test_retransmissions_carry_dup_and_the_client_is_lost_after_n_retry() -> None:
    play = listener().publishes("x/y", b"1").forget().waits(49)
    play.says(*[Publish(NORMAL, 1, 1, b"1", 1, dup=True)] * 4)
    play.waits(2).says_nothing()
    assert play.state() == "lost"
    play.hears("a", Connect("plug-1", 0, False)).says(ConnAck(0), Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 0)).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))


def test_a_congested_client_is_asked_again_and_not_lost() -> None:
    play = listener().publishes("x/y", b"1").forget()
    for _ in range(20):
        play.hears("a", PubAck(1, 1, 1)).waits(10).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))
    assert play.state() == "active"
    play.hears("a", PubAck(1, 1, 0))
    assert play.store.inbox == {}


def test_a_message_the_client_does_not_support_is_dropped() -> None:
    play = listener().publishes("x/y", b"1").publishes("x/y", b"2").forget()
    play.hears("a", PubAck(1, 1, 3)).says(Publish(NORMAL, 1, 2, b"2", 1))
    assert play.gateway.counters["refused.client-refused-message"] == 1


def test_stray_acknowledgements_change_nothing() -> None:
    play = listener().publishes("x/y", b"1").forget()
    play.hears("a", PubAck(1, 9, 0), PubComp(1), RegAck(1, 1, 0), PubAck(9, 0, 2)).says_nothing()
    assert len(play.store.inbox) == 1


def test_a_dropped_head_does_not_lend_its_topic_id_to_the_next() -> None:
    play = Playbook(max_bytes={"udp": 60}).connects()
    play.subscribes("#", 1)
    play.publishes("x/y", b"1").says(Register(1, 1, "x/y"))
    play.gateway.sessions()[0].dequeue()  # as the queue's bound would
    play.publishes("x/z", b"2").hears("a", RegAck(1, 1, 0)).says(Register(2, 2, "x/z"))


def test_qos_2_in_four_steps() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).says(Publish(NORMAL, 1, 1, b"1", 2))
    play.hears("a", PubRec(1)).says(PubRel(1))
    play.hears("a", PubComp(1)).says_nothing()
    assert play.store.inbox == {}


def test_pubrel_waits_until_the_message_is_durably_done() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget()
    play.holds = True
    play.hears("a", PubRec(1), PubRec(1)).says_nothing()
    play.waits(25).says_nothing()
    play.commits().says(PubRel(1))


def test_a_repeated_pubrec_is_answered_again() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget()
    play.hears("a", PubRec(1)).says(PubRel(1)).hears("a", PubRec(1)).says(PubRel(1))
    play.hears("a", PubComp(1)).hears("a", PubRec(1)).says(PubRel(1))


def test_pubrel_is_retransmitted() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget().hears("a", PubRec(1)).forget()
    play.waits(10).says(PubRel(1))


def test_qos_2_goes_on_after_a_restart_where_it_was() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget()
    play.restarts()
    play.says(Publish(NORMAL, 1, 1, b"1", 2, dup=True)).hears("a", PubRec(1)).says(PubRel(1))
    play.restarts()
    play.says(PubRel(1)).hears("a", PubComp(1)).says_nothing()
    play.restarts()
    play.says_nothing()


def test_the_next_message_does_not_reuse_the_id_of_an_open_exchange_after_a_restart() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).hears("a", PubRec(1)).forget()
    play.restarts()
    play.publishes("x/y", b"2", qos=2).says(PubRel(1))
    play.hears("a", PubComp(1)).says(Publish(NORMAL, 1, 2, b"2", 2))


def test_qos_2_goes_on_after_a_new_connect() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).hears("a", PubRec(1)).forget()
    play.hears("a", Connect("plug-1", 0, False)).says(ConnAck(0), PubRel(1))


def test_a_client_that_leaves_between_pubrec_and_commit_is_not_sent_the_message_again() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget()
    play.holds = True
    play.hears("a", PubRec(1), Connect("plug-1", 0, False)).commits()
    play.says(ConnAck(0), PubRel(1))


def test_a_refused_release_asks_for_another_pubrec() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget()
    play.holds = True
    play.hears("a", PubRec(1)).refuses().says_nothing()
    play.waits(10).says(Publish(NORMAL, 1, 1, b"1", 2, dup=True))
    play.hears("a", PubRec(1)).commits().says(PubRel(1))


def test_a_puback_does_not_end_a_qos_2_exchange_unless_it_refuses() -> None:
    play = listener(2).publishes("x/y", b"1", qos=2).forget().hears("a", PubAck(1, 1, 0))
    assert play.store.inbox
    play.hears("a", PubAck(1, 1, 3))
    assert not play.store.inbox


def test_qos_1_is_sent_again_after_a_restart_with_dup_and_the_same_id() -> None:
    play = listener().publishes("x/y", b"1").publishes("x/y", b"2").forget()
    play.restarts()
    play.says(Publish(NORMAL, 1, 1, b"1", 1, dup=True)).hears("a", PubAck(1, 1, 0))
    play.says(Publish(NORMAL, 1, 2, b"2", 1))


def test_too_long_for_the_link_is_dropped_silently() -> None:
    play = Playbook(max_bytes={"udp": 60}).connects(duration_s=0)
    play.subscribes("x/#", 1)
    play.publishes("x/" + "y" * 60, b"1").publishes("x/y", bytes(60)).says(Register(2, 2, "x/y"))
    play.hears("a", RegAck(2, 2, 0)).says_nothing()
    assert play.gateway.counters["too-long-for-link"] == 2
    assert play.store.inbox == {}


def test_an_unanswered_register_is_retransmitted_and_loses_the_client() -> None:
    play = Playbook().connects(duration_s=0)
    play.subscribes("x/#", 1)
    play.publishes("x/y", b"1").forget().waits(45).says(*[Register(1, 1, "x/y")] * 4)
    play.waits(10)
    assert play.state() == "lost"


def test_a_client_that_talks_is_still_retransmitted_to() -> None:
    play = listener().publishes("x/y", b"1").forget()
    for _ in range(12):
        play.waits(1).hears("a", PingReq())
    assert Publish(NORMAL, 1, 1, b"1", 1, dup=True) in [message for _, message in play.out]


def test_a_release_that_the_store_refused_has_its_tries_anew() -> None:
    """The client answered, so it is there: our disk's trouble must not use up what is left of its patience."""
    play = listener(2).publishes("x/y", b"1", qos=2).says(Publish(NORMAL, 1, 1, b"1", 2))
    again = Publish(NORMAL, 1, 1, b"1", 2, dup=True)
    play.waits(40).says(again, again, again, again)
    play.holds = True
    play.hears("a", PubRec(1)).refuses().says_nothing()
    play.holds = False
    play.waits(10).says(again)
    assert play.state() == "active", "a client that answered was taken for lost"
    play.hears("a", PubRec(1)).says(PubRel(1))
