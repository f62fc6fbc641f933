"""The store refuses (disk full): nothing half done, every retry succeeds and is durable, and memory is caught up."""

import pytest

from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    PubAck,
    Publish,
    PubRec,
    RegAck,
    Register,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    WillMsg,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicResp,
    WillTopicUpd,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, Playbook

POWER, LIMIT = 0x0001, 0x0007


def held(clean: bool = True) -> Playbook:
    play = Playbook().connects(clean=clean)
    play.holds = True
    return play


def relents(play: Playbook) -> Playbook:
    """The store has room again; what was owed reaches it."""
    play.holds = False
    return play.commits()


def test_a_refused_connect_is_no_connection_and_the_retry_is_durable() -> None:
    play = Playbook()
    play.holds = True
    play.hears("a", Connect("plug-1", 60)).refuses().says(ConnAck(1))
    assert play.state() == "disconnected"
    play.hears("a", Connect("plug-1", 60)).commits().says(ConnAck(0))
    assert play.store.sessions["plug-1"].state == "active"
    assert play.store.event_names() == ["adapter.joined"]


def test_a_limit_that_is_no_more_is_told_though_the_store_refused_it_at_first() -> None:
    play = held()
    limit = Publish(PREDEFINED, LIMIT, 1, b"500", 1)
    play.hears("a", limit).commits().says(PubAck(LIMIT, 1, 0))
    none = Publish(PREDEFINED, LIMIT, 2, b"", 1)
    play.hears("a", none).refuses().says(PubAck(LIMIT, 2, 1))
    relents(play.hears("a", none)).says(PubAck(LIMIT, 2, 0))
    assert play.store.event_names().count("adapter.limit_cleared") == 1


def test_a_refused_connect_is_never_a_loss() -> None:
    play = Playbook()
    play.holds = True
    play.hears("a", Connect("plug-1", 60, will=True), WillTopic("alarm/plug-1"), WillMsg(b"gone")).forget().refuses()
    relents(play).waits(1000)
    assert "adapter.lost" not in play.store.event_names() and "adapter.alarm" not in play.store.event_names()


def test_a_repeated_connect_of_which_the_second_is_durable_stays_connected() -> None:
    play = Playbook()
    play.holds = True
    play.hears("a", Connect("plug-1", 60), Connect("plug-1", 60)).refuses(1).commits().says(ConnAck(1), ConnAck(0))
    assert play.state() == "active" == play.store.sessions["plug-1"].state


@pytest.mark.parametrize(
    ("request_", "refused", "accepted"),
    [
        (Register(0, 1, "x/y"), RegAck(1, 1, 1), RegAck(1, 1, 0)),
        (Subscribe(NORMAL, "x/y", 2, 1), SubAck(1, 2, 1), SubAck(1, 2, 0, 1)),
        (Subscribe(NORMAL, "x/#", 2, 1), SubAck(0, 2, 1), SubAck(0, 2, 0, 1)),
        (Publish(PREDEFINED, POWER, 3, b"5", 1), PubAck(POWER, 3, 1), PubAck(POWER, 3, 0)),
        (Publish(PREDEFINED, POWER, 3, b"5", 2), PubAck(POWER, 3, 1), PubRec(3)),
        (WillTopicUpd("x/y", 1), WillTopicResp(1), WillTopicResp(0)),
        (WillTopicUpd(""), WillTopicResp(1), WillTopicResp(0)),
        (Disconnect(), Disconnect(), Disconnect()),
        (Disconnect(600), Disconnect(), Disconnect()),
        (Unsubscribe(NORMAL, "x/y", 9), None, UnsubAck(9)),
    ],
)
def test_every_request_may_be_retried(request_: Message, refused: Message | None, accepted: Message) -> None:
    play = held().hears("a", request_).refuses().says(*([refused] if refused else []))
    play.hears("a", request_).refuses().says(
        *([refused] if refused and type(refused) is not Disconnect else [])
    ) if type(request_) is not Disconnect else play.forget()
    play.hears("a", request_).commits().says(accepted)


def test_a_refused_publish_leaves_no_trace() -> None:
    play = held().hears("a", Register(0, 1, "x/y"), Subscribe(NORMAL, "#", 1, 1)).commits().forget()
    play.hears("a", Publish(NORMAL, 1, 3, b"5", 1, retain=True)).refuses().says(PubAck(1, 3, 1))
    session = play.gateway.sessions()[0]
    assert not session.seen and not session.queue and session.inflight is None
    relents(play)
    store = play.store
    assert (store.retained, store.inbox, store.seen, store.samples) == ({}, {}, [], [])


def test_a_refused_subscription_is_kept_for_the_retry_and_made_durable_when_there_is_room() -> None:
    play = held().hears("a", Subscribe(NORMAL, "x/y", 2, 1)).refuses().forget()
    relents(play)
    assert play.store.subscriptions == {("plug-1", "x/y"): 1} and play.store.topics == {("plug-1", 1): "x/y"}


def test_a_refused_unsubscribe_does_not_come_back_after_a_restart() -> None:
    play = held()
    play.hears("a", Subscribe(NORMAL, "x/y", 2, 1)).commits().forget()
    play.hears("a", Unsubscribe(NORMAL, "x/y", 3)).refuses().says_nothing()
    play.hears("a", Unsubscribe(NORMAL, "x/y", 3)).commits().says(UnsubAck(3))
    assert play.store.subscriptions == {}


def test_a_later_batch_is_not_undone_by_what_an_earlier_one_owed() -> None:
    play = held()
    play.hears("a", Subscribe(NORMAL, "x/y", 2, 1)).commits().forget()
    play.hears("a", Unsubscribe(NORMAL, "x/y", 3), Subscribe(NORMAL, "x/y", 4, 2))
    play.refuses(1).commits()
    relents(play)
    assert play.store.subscriptions == {("plug-1", "x/y"): 2}


def test_a_refused_clean_start_does_not_resurrect_the_old_session() -> None:
    play = held(clean=False)
    play.hears("a", Subscribe(NORMAL, "x/y", 2, 1)).commits().forget()
    play.hears("a", Connect("plug-1", 60)).refuses().says(ConnAck(1))
    play.hears("a", Connect("plug-1", 60), Subscribe(NORMAL, "x/z", 2, 1)).commits()
    relents(play)
    assert play.store.subscriptions == {("plug-1", "x/z"): 1}
    assert set(play.store.sessions) == {"plug-1"}


def test_a_retained_message_of_qos_0_is_made_durable_later() -> None:
    play = held().publishes("x/y", b"1", qos=0, retain=True)
    play.refuses()
    relents(play)
    assert play.store.retained == {"x/y": (b"1", 0)}


def test_a_newer_retained_message_is_not_overwritten() -> None:
    play = held().publishes("x/y", b"1", qos=0, retain=True).publishes("x/y", b"2", qos=1, retain=True)
    play.refuses(1).commits()
    relents(play)
    assert play.store.retained == {"x/y": (b"2", 1)}


def test_the_hubs_own_publish_takes_effect_at_home_though_the_store_refuses() -> None:
    play = held()
    play.hears("a", Subscribe(PREDEFINED, 0x0030, 2, 1)).commits().forget()
    play.publishes("control/plug-1", b"release").refuses().says(Publish(PREDEFINED, 0x0030, 1, b"release", 1))
    relents(play)
    play.restarts()
    play.says(Publish(PREDEFINED, 0x0030, 1, b"release", 1, dup=True))


def test_a_will_is_published_and_its_event_kept_though_the_store_refuses() -> None:
    play = Playbook().connects("b", "display", duration_s=0)
    play.subscribes("#", 0, "b")
    play.hears("a", Connect("plug-1", 60, will=True), WillTopic("alarm/plug-1", 1), WillMsg(b"gone")).forget()
    play.holds = True
    play.waits(91).refuses().refuses()
    assert [type(message).__name__ for _, message in play.out] == ["Register"]
    relents(play)
    assert play.store.event_names().count("adapter.alarm") == 1 == play.store.event_names().count("adapter.lost")
    assert play.store.sessions["plug-1"].state == "lost"


def test_events_of_the_gateway_are_told_once_however_often_refused() -> None:
    play = Playbook()
    play.holds = True
    play.hears("a", Connect("plug-1", 60)).refuses().refuses().refuses()
    relents(play)
    assert play.store.event_names() == ["adapter.joined"]


def test_an_update_of_the_will_is_durable_after_the_retry() -> None:
    play = held().hears("a", WillTopicUpd("x/y", 1)).commits().forget()
    play.hears("a", WillMsgUpd(b"bye")).refuses().says(WillMsgResp(1))
    play.hears("a", WillMsgUpd(b"bye")).commits().says(WillMsgResp(0))
    assert play.store.sessions["plug-1"].will_message == b"bye"


def test_a_store_that_keeps_refusing_is_not_owed_without_bound() -> None:
    play = held()
    for number in range(3000):
        play.hears("a", Publish(PREDEFINED, POWER, number % 65535 + 1, b"5", 1)).publishes("x/y", b"1", qos=0).refuses()
    play.forget()
    core = play.gateway._router
    assert len(core._dirty_keys) < 10 and not core.waiting and not core.handed_over and core.pending_requests == 0


def test_a_qos_0_reading_rides_along_again() -> None:
    play = held().hears("a", Publish(PREDEFINED, POWER, 0, b"5")).refuses()
    relents(play)
    assert play.store.values() == [5]
