"""`kill -9` between any two steps: what the store has is what the home sees again."""

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.core.records import MessageQueued, SessionChanged
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    RegAck,
    Register,
    SubAck,
    Subscribe,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, ModelStore, Playbook

POWER = 0x0001


def test_everything_comes_back() -> None:
    play = Playbook().connects(clean=False)
    play.subscribes("x/+", 1)
    play.hears("a", Register(0, 8, "x/y"), Register(0, 9, "x/z")).publishes("q/r", b"kept", retain=True).forget()
    play.restarts()
    assert play.state() == "active"
    play.hears("a", PingReq()).says(PingResp())
    play.hears("a", Publish(NORMAL, 1, 3, b"v", 0)).says(Publish(NORMAL, 1, 0, b"v"))
    play.hears("a", Subscribe(NORMAL, "q/r", 4, 1)).says(SubAck(3, 4, 0, 1), Publish(NORMAL, 3, 1, b"kept", 1, True))


def test_what_was_not_committed_was_never_answered_and_is_gone() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1), Subscribe(NORMAL, "x/y", 2, 1)).says_nothing()
    play.holds = False
    play.restarts()
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1, dup=True)).says(PubAck(POWER, 1, 0))
    assert play.store.values() == [5] and play.store.subscriptions == {}


def test_a_commit_whose_answer_was_lost_with_the_hub_is_recognised() -> None:
    play = Playbook().connects()
    play.holds = True
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1))
    for batch in play._take_held(None):
        play.store.commit(batch)  # durable, and the hub dies before it hears of it
    play.holds = False
    play.restarts()
    play.hears("a", Publish(PREDEFINED, POWER, 1, b"5", 1, dup=True)).says(PubAck(POWER, 1, 0))
    assert play.store.values() == [5]


def test_restored_clients_count_as_just_heard() -> None:
    play = Playbook().connects()
    play.now += 100_000
    play.restarts()
    play.waits(89)
    assert play.state() == "active"
    play.waits(2)
    assert play.state() == "lost"


def test_a_will_dialogue_is_not_resumed() -> None:
    play = Playbook().hears("a", Connect("plug-1", 60, will=True)).forget()
    play.restarts()
    play.hears("a", PingReq()).says(Disconnect())


def test_of_several_sessions_with_one_address_the_present_one_has_it() -> None:
    store = ModelStore()
    peer = ("udp", "a", 10000)
    for client_id, state in (("aaa", "active"), ("zzz", "lost")):
        store.sessions[client_id] = SessionChanged(client_id, peer, state, True, 60, "", b"", 0, False)
    Playbook(store).hears("a", Register(0, 1, "x/y")).says(RegAck(1, 1, 0))
    assert store.topics == {("aaa", 1): "x/y"}


def test_ids_go_on_behind_the_restored_ones() -> None:
    play = Playbook().connects().hears("a", Register(0, 1, "x/y")).forget()
    play.restarts()
    play.hears("a", Register(0, 2, "x/z"), Register(0, 3, "x/y")).says(RegAck(2, 2, 0), RegAck(1, 3, 0))


def test_a_clean_start_leaves_nothing_behind_for_the_next_start() -> None:
    play = Playbook().connects(clean=False).hears("a", Register(0, 1, "x/y"), Register(0, 2, "x/z")).forget()
    play.hears("a", Connect("plug-1", 60)).says(ConnAck(0))
    play.restarts()
    play.hears("a", Publish(NORMAL, 2, 5, b"v", 1)).says(PubAck(2, 5, 2))


def test_messages_keep_their_order() -> None:
    play = Playbook().connects(clean=False, duration_s=0)
    play.subscribes("x/y", 1)
    for number in range(12):
        play.publishes("x/y", b"%d" % number)
    play.forget().restarts()
    heard = []
    while play.out:
        ((_, message),) = play.out
        heard.append(int(message.data))
        play.forget().hears("a", PubAck(1, message.msg_id, 0))
    assert heard == list(range(12))


def test_silence_on_a_link_that_is_down_is_nobodys_fault() -> None:
    """A pulled radio stick must not declare every adapter lost and publish its will."""
    machine = Gateway(GatewayConfig(), 0.0)
    peer = ("zigbee", "000d6f0000000002")
    machine.receive_datagram(peer, Connect("boiler", 60).encode(), 0.0)
    batch = machine.take_batch()
    assert batch is not None
    machine.committed(batch.id, 0.0)
    machine.link_down("zigbee")
    machine.handle_timer(1000.0)
    assert machine.sessions()[0].state == "active"
    machine.link_up("zigbee", 1000.0)
    machine.handle_timer(1080.0)
    assert machine.sessions()[0].state == "active", "its silence began anew"
    machine.handle_timer(1091.0)
    assert machine.sessions()[0].state == "lost"


def test_what_comes_back_is_bounded_too() -> None:
    play = Playbook(limits=GatewayLimits(queued_per_client=3)).connects(clean=False)
    play.subscribes("x/y", 1)
    play.forget().hears("a", Disconnect(600)).forget()
    for number in range(1, 6):  # as a store has it whose last batch, with what was dropped, did not get through
        play.store.inbox["plug-1", number] = MessageQueued("plug-1", number, "x/y", b"%d" % number, 1, False)
    play.restarts()
    assert [message.payload for message in play.gateway.sessions()[0].queue] == [b"3", b"4", b"5"]
    play.waits(0).hears("zb1", PingReq())
    assert sorted(play.store.inbox) == [("plug-1", number) for number in (3, 4, 5)]
