"""Sleeping clients (MQTT-SN 1.2 section 6.14, figures 4 and 5)."""

from hub.wire.mqttsn.messages import ConnAck, Connect, Disconnect, PingReq, PingResp, PubAck, Publish, RegAck, Register
from tests.hub.core.gateway.playbook import NORMAL, Playbook


def sleeper(duration_s: int = 600, qos: int = 1, clean: bool = True) -> Playbook:
    play = Playbook().connects(clean=clean)
    play.subscribes("x/y", qos)
    return play.sleeps(duration_s=duration_s)


def test_messages_wait_until_the_sleeper_asks() -> None:
    play = sleeper().publishes("x/y", b"1").publishes("x/y", b"2").publishes("x/y", b"3", qos=0).says_nothing()
    play.hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1))
    assert play.state() == "awake"
    play.hears("a", PubAck(1, 1, 0)).says(Publish(NORMAL, 1, 2, b"2", 1))
    play.hears("a", PubAck(1, 2, 0)).says(Publish(NORMAL, 1, 0, b"3"), PingResp())
    assert play.state() == "asleep"


def test_nothing_waiting_is_answered_at_once() -> None:
    play = sleeper().hears("a", PingReq("plug-1")).says(PingResp())
    assert play.state() == "asleep"


def test_a_ping_without_client_id_wakes_too() -> None:
    play = sleeper().publishes("x/y", b"1").hears("a", PingReq()).says(Publish(NORMAL, 1, 1, b"1", 1))
    play.hears("a", PubAck(1, 1, 0)).says(PingResp())


def test_a_message_that_comes_while_awake_is_sent_before_the_pingresp() -> None:
    play = sleeper().publishes("x/y", b"1").hears("a", PingReq("plug-1")).forget().publishes("x/y", b"2")
    play.hears("a", PubAck(1, 1, 0)).says(Publish(NORMAL, 1, 2, b"2", 1))
    play.hears("a", PubAck(1, 2, 0)).says(PingResp())


def test_a_second_ping_while_awake_brings_the_message_again() -> None:
    play = sleeper().publishes("x/y", b"1").hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1))
    play.waits(3).hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))
    play.hears("a", PubAck(1, 1, 0)).says(PingResp())


def test_a_sleeper_that_does_not_answer_sleeps_on_and_is_not_lost() -> None:
    play = sleeper().publishes("x/y", b"1").hears("a", PingReq("plug-1")).forget().waits(60)
    assert [message.dup for _, message in play.out] == [True] * 4
    assert play.state() == "asleep"
    play.forget().waits(300).hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))


def test_a_sleeper_is_lost_after_its_sleep_and_the_tolerance() -> None:
    play = sleeper(600).waits(659)
    assert play.state() == "asleep"
    play.waits(2)
    assert play.state() == "lost"
    play.hears("a", PingReq("plug-1")).says(Disconnect())


def test_each_ping_starts_the_sleep_anew() -> None:
    play = sleeper(60)
    for _ in range(10):
        play.waits(80).hears("a", PingReq("plug-1")).says(PingResp())
    assert play.state() == "asleep"


def test_a_new_duration_replaces_the_old() -> None:
    play = sleeper(60).hears("a", Disconnect(1000)).says(Disconnect()).waits(900)
    assert play.state() == "asleep"
    assert play.store.sessions["plug-1"].duration_s == 1000


def test_the_goodnight_may_be_repeated() -> None:
    play = sleeper()
    for _ in range(3):
        play.hears("a", Disconnect(600)).says(Disconnect())
    assert play.state() == "asleep"


def test_a_sleeper_may_leave() -> None:
    play = sleeper(clean=False).hears("a", Disconnect()).says(Disconnect())
    assert play.state() == "disconnected"
    assert play.store.subscriptions


def test_duration_zero_is_a_goodbye() -> None:
    play = Playbook().connects().hears("a", Disconnect(0)).says(Disconnect())
    assert play.state() == "disconnected"


def test_connect_out_of_sleep_brings_everything_whatever_its_flags() -> None:
    play = sleeper().publishes("x/y", b"1")
    play.hears("a", Connect("plug-1", 30, clean_session=True, will=True))
    play.says(ConnAck(0), Publish(NORMAL, 1, 1, b"1", 1))
    assert play.state() == "active"
    assert play.store.subscriptions == {("plug-1", "x/y"): 1}
    assert play.store.sessions["plug-1"].duration_s == 30


def test_connect_out_of_awake_sends_again_what_was_in_flight() -> None:
    play = sleeper().publishes("x/y", b"1").hears("a", PingReq("plug-1")).forget()
    play.hears("a", Connect("plug-1", 30)).says(ConnAck(0), Publish(NORMAL, 1, 1, b"1", 1, dup=True))


def test_sleep_with_a_message_in_flight_keeps_it() -> None:
    play = Playbook().connects()
    play.subscribes("x/y", 1)
    play.publishes("x/y", b"1").forget().sleeps().waits(300)
    play.hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))


def test_a_sleeper_may_wake_behind_a_new_address() -> None:
    play = sleeper().publishes("x/y", b"1")
    play.hears("b", PingReq("plug-1")).says(("b", Publish(NORMAL, 1, 1, b"1", 1)))
    play.hears("b", PubAck(1, 1, 0)).says(("b", PingResp()))
    play.hears("a", PingReq()).says(Disconnect())
    play.restarts()
    play.hears("b", PingReq("plug-1")).says(("b", PingResp()))


def test_a_zigbee_sleeper_may_not() -> None:
    play = Playbook().connects("zb1").sleeps("zb1")
    play.hears("zb2", PingReq("plug-1")).says(("zb2", Disconnect()))
    play.hears("a", PingReq("plug-1")).says(Disconnect())


def test_an_active_client_cannot_be_pinged_for_from_elsewhere() -> None:
    play = Playbook().connects().hears("b", PingReq("plug-1")).says(("b", Disconnect()))
    play.hears("a", PingReq("plug-1")).says(PingResp())


def test_a_wildcard_sleeper_is_sent_a_register_first() -> None:
    play = Playbook().connects()
    play.subscribes("x/#", 0)
    play.sleeps().publishes("x/y", b"1").hears("a", PingReq("plug-1")).says(Register(1, 1, "x/y"))
    play.hears("a", RegAck(1, 1, 0)).says(Publish(NORMAL, 1, 0, b"1"), PingResp())


def test_sleep_survives_a_restart() -> None:
    play = sleeper().publishes("x/y", b"1")
    play.restarts()
    assert play.state() == "asleep"
    play.says_nothing().hears("a", PingReq("plug-1")).says(Publish(NORMAL, 1, 1, b"1", 1, dup=True))
    play.hears("a", PubAck(1, 1, 0)).says(PingResp())


def test_wake_ups_leave_no_timers_behind() -> None:
    play = sleeper(65535)
    for _ in range(500):
        play.publishes("x/y", b"1").waits(60).hears("a", PingReq("plug-1"), PubAck(1, play.store.seen.__len__(), 0))
        play.hears("a", *[PubAck(1, message.msg_id, 0) for _, message in play.out if isinstance(message, Publish)])
        play.forget()
    assert len(play.gateway._router._timers) < 100
