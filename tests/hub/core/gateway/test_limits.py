"""Every table has a limit, every limit a counter and a clear answer; nothing grows without end."""

import random
import tracemalloc

import pytest

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.core.records import SessionChanged
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    Forward,
    PingReq,
    PubAck,
    Publish,
    RegAck,
    Register,
    SubAck,
    Subscribe,
    WillMsgUpd,
    WillTopicUpd,
)
from tests.hub.core.gateway.playbook import NORMAL, PREDEFINED, SHORT, Playbook

POWER = 0x0001


def limited(**limits: int) -> Playbook:
    return Playbook(limits=GatewayLimits(**limits)).connects(duration_s=0)


def test_clients() -> None:
    play = limited(clients=2).connects("b", "plug-2", duration_s=0)
    play.hears("c", Connect("plug-3", 60)).says(("c", ConnAck(1)))
    play.hears("a", Disconnect()).forget().connects("c", "plug-3")
    assert [s.client_id for s in play.gateway.sessions()] == ["plug-2", "plug-3"]
    assert "plug-1" not in play.store.sessions
    assert play.gateway.counters["refused.congestion"] == 1 == play.gateway.counters["dropped.session"]


def test_sessions_that_came_back_over_the_limit_make_place_too() -> None:
    play = Playbook(limits=GatewayLimits(clients=2))
    for number in range(4):  # as a store has it that refused their removals before the hub died
        name = f"plug-{number}"
        play.store.sessions[name] = SessionChanged(name, ("udp", "x", number), "lost", True, 60, "", b"", 0, False)
    play.restarts()
    play.connects("c", "new")
    assert len(play.gateway.sessions()) == 2 == len(play.store.sessions)


def test_a_clean_session_makes_place_before_a_kept_one() -> None:
    play = Playbook(limits=GatewayLimits(clients=2)).connects("a", "kept", clean=False).connects("b", "clean")
    play.hears("a", Disconnect()).waits(10).hears("b", Disconnect()).forget().connects("c", "new")
    assert [s.client_id for s in play.gateway.sessions()] == ["kept", "new"]
    play.connects("d", "newer")
    assert [s.client_id for s in play.gateway.sessions()] == ["new", "newer"]


def test_a_thousand_topics_a_client_and_more() -> None:
    play = limited(topics_per_client=1500)
    for number in range(1500):
        play.hears("a", Register(0, 1, f"x/{number}"))
    assert [message.topic_id for _, message in play.out] == list(range(1, 1501))
    play.forget().hears("a", Register(0, 1, "x/more")).says(RegAck(0, 1, 1))
    play.hears("a", Register(0, 1, "x/7")).says(RegAck(8, 1, 0))


def test_quantities_of_a_client_whatever_its_clean_sessions_have_forgotten() -> None:
    """Each becomes a series that lives as long as its readings, so leaving and coming back frees none."""
    play = limited(quantities_per_client=3)
    for number in range(2):
        play.hears("a", Register(0, 1, f"readings/q{number}"), Publish(NORMAL, number + 1, 7, b"1", 1))
    play.forget().connects("a", "plug-1", duration_s=0)
    for number, topic in enumerate(("q1", "q2", "q3", "q0"), 1):
        play.hears("a", Register(0, 1, f"readings/{topic}")).forget()
        play.hears("a", Publish(NORMAL, number, number, b"1", 1))
        play.says(PubAck(number, number, 3 if topic == "q3" else 0))
    play.forget().hears("a", Publish(NORMAL, 3, 0, b"2", 0)).says(PubAck(3, 0, 3))
    assert [sample.quantity for sample in play.store.samples] == ["q0", "q1", "q1", "q2", "q0"]
    assert play.gateway.sessions()[0].stats.refused == {"too-many-quantities": 2}
    # The others, and what is no reading, go on.
    play.forget().hears("a", Publish(PREDEFINED, 0x21, 9, b"hot", 1)).says(PubAck(0x21, 9, 0))
    play.connects("b", "plug-2").forget().hears("b", Publish(PREDEFINED, 1, 1, b"5", 1))
    play.says(("b", PubAck(1, 1, 0)))


def test_a_will_is_no_way_around_that_bound() -> None:
    play = Playbook(limits=GatewayLimits(quantities_per_client=1)).connects(duration_s=60)
    play.hears("a", Publish(PREDEFINED, 1, 0, b"5", 0))
    play.hears("a", WillTopicUpd("readings/other", 0, False), WillMsgUpd(b"1"))
    play.waits(1000)
    assert [sample.quantity for sample in play.store.samples] == ["power"]
    assert play.gateway.sessions()[0].stats.refused == {"too-many-quantities": 1}


def test_subscriptions() -> None:
    play = limited(subscriptions_per_client=2)
    play.subscribes("x/1")
    play.subscribes("x/2")
    play.hears("a", Subscribe(NORMAL, "x/3", 1)).says(SubAck(0, 1, 1))
    play.hears("a", Subscribe(NORMAL, "x/2", 1)).says(SubAck(2, 1, 0))


def test_the_queue_by_number_drops_qos_0_first_then_the_oldest() -> None:
    play = limited(queued_per_client=3)
    play.subscribes("x/y", 2)
    play.sleeps()
    for number, qos in enumerate((1, 0, 1, 1, 1)):
        play.publishes("x/y", b"%d" % number, qos)
    assert [m.payload for m in play.gateway.sessions()[0].queue] == [b"2", b"3", b"4"]
    assert play.gateway.counters["dropped.queue-full"] == 2
    assert [m.payload for m in play.store.inbox.values()] == [b"2", b"3", b"4"]


def test_the_queue_by_bytes_even_of_few_messages() -> None:
    play = limited(queued_bytes_per_client=1000)
    play.subscribes("x/y", 1)
    play.sleeps()
    for _ in range(5):
        play.publishes("x/y", bytes(400))
    session = play.gateway.sessions()[0]
    assert len(session.queue) == 2 and session.queued_bytes == 800
    play.publishes("x/y", bytes(4000))  # one message is carried whatever its length, if the link takes it
    assert [len(m.payload) for m in session.queue] == [4000]


def test_fan_out() -> None:
    play = limited(fan_out=2)
    for name in ("b", "c", "d"):
        play.connects(name, "display-" + name, duration_s=0)
        play.subscribes("x/y", 0, name)
    play.forget().publishes("x/y", b"1")
    assert len(play.out) == 2 and play.gateway.counters["dropped.fan-out"] == 1


def test_retained_messages_by_number_and_bytes() -> None:
    play = limited(retained=2, retained_bytes=100)
    for topic, payload in (("r/1", b"1"), ("r/2", b"2"), ("r/3", b"3"), ("r/1", bytes(99)), ("r/1", bytes(100))):
        play.publishes(topic, payload, retain=True)
    assert {topic: len(payload) for topic, (payload, _) in play.store.retained.items()} == {"r/1": 99, "r/2": 1}
    assert play.gateway.counters["dropped.retained-full"] == 2


def test_retained_messages_in_one_batch() -> None:
    play = limited(retained=2)
    play.holds = True
    for number in range(5):
        play.publishes(f"r/{number}", b"1", retain=True)
    play.holds = False
    play.commits()
    assert set(play.store.retained) == {"r/0", "r/1"}


def test_a_wildcard_brings_no_more_retained_messages_than_the_queue_holds() -> None:
    play = limited(queued_per_client=5)
    for number in range(9):
        play.publishes(f"r/{number}", b"1", retain=True)
    play.subscribes("#", 1)
    assert len(play.store.inbox) == 5
    assert play.gateway.counters["dropped.retained-over-queue"] == 4


def test_requests_under_way() -> None:
    play = limited(pending_requests=2)
    play.holds = True
    publishes = [Publish(PREDEFINED, POWER, number, b"5", 1) for number in (1, 2, 3)]
    play.hears("a", *publishes).says(PubAck(POWER, 3, 1))
    play.hears("b", Connect("plug-2", 60)).says(("b", ConnAck(1)))
    play.commits().forget().hears("a", publishes[2]).commits().says(PubAck(POWER, 3, 0))


def test_a_babbling_adapter_is_slowed_and_nobody_else() -> None:
    play = Playbook(publishes_per_s={"udp": 2.0}).connects().connects("b", "plug-2").connects("zb1", "plug-3")
    for number in range(1, 26):
        play.hears("a", Publish(PREDEFINED, POWER, number, b"5", 1))
    codes = [message.return_code for _, message in play.out]
    assert codes == [0] * 20 + [1] * 5
    play.forget().hears("a", Publish(PREDEFINED, POWER, 0, b"5")).says_nothing()
    play.hears("b", Publish(PREDEFINED, POWER, 1, b"5", 1)).says(("b", PubAck(POWER, 1, 0)))
    for number in range(1, 40):
        play.hears("zb1", Publish(PREDEFINED, POWER, number, b"5", 1))
    assert {message.return_code for _, message in play.out} == {0}
    play.forget().waits(1).hears("a", Publish(PREDEFINED, POWER, 21, b"5", 1, dup=True)).says(PubAck(POWER, 21, 0))
    assert play.gateway.counters["refused.rate"] == 6


def test_nameless_senders() -> None:
    play = limited(nameless=2)
    for last in (1, 2, 3, 1):
        play.hears(f"10.0.0.{last}", Publish(PREDEFINED, POWER, 0, b"5", -1))
    assert len(play.store.samples) == 3 and play.gateway.counters["refused.nameless-sender"] == 1


def test_a_babbling_sender_without_a_name_is_slowed_and_nobody_else() -> None:
    play = Playbook(publishes_per_s={"udp": 2.0}).connects("b", "plug-2")
    for _ in range(25):
        play.hears("10.0.0.1", Publish(PREDEFINED, POWER, 0, b"5", -1))
    assert len(play.store.samples) == 20 and play.gateway.counters["refused.rate"] == 5
    play.hears("10.0.0.2", Publish(PREDEFINED, POWER, 0, b"5", -1))
    play.hears("b", Publish(PREDEFINED, POWER, 1, b"5", 1)).says(("b", PubAck(POWER, 1, 0)))
    assert len(play.store.samples) == 22
    play.waits(1).hears("10.0.0.1", *[Publish(PREDEFINED, POWER, 0, b"5", -1)] * 3)
    assert len(play.store.samples) == 24


def test_a_replaced_device_may_take_the_name_once_it_is_forgotten() -> None:
    play = Playbook().hears("zb1", Connect("plug-1", 60, False)).says(("zb1", ConnAck(0)))
    play.subscribes("x/y", 1, "zb1")
    play.hears("zb2", Connect("plug-1", 60)).says(("zb2", ConnAck(3)))
    assert play.gateway.forget("plug-1") and not play.gateway.forget("plug-9")
    play.waits(0).commits().says(("zb1", Disconnect()))
    assert not play.store.sessions and not play.store.subscriptions and play.store.event_names()[-1] == "adapter.left"
    play.publishes("x/y", b"1").says_nothing()
    play.hears("zb2", Connect("plug-1", 60)).says(("zb2", ConnAck(0)))
    play.hears("zb1", Connect("plug-1", 60)).says(("zb1", ConnAck(3)))
    play.restarts()
    play.hears("zb1", Connect("plug-1", 60)).says(("zb1", ConnAck(3)))


def test_one_forwarder_deep_and_no_further() -> None:
    play = limited().hears("a", Forward(0, b"1", Forward(0, b"2", PingReq().encode()).encode())).says_nothing()
    assert play.gateway.counters["refused.forwarded-twice"] == 1
    play.hears("10.0.0.1>n", Publish(PREDEFINED, POWER, 0, b"5", -1)).says_nothing()
    assert play.gateway.counters["refused.nameless-sender"] == 1


def test_an_own_publish_that_is_too_long_is_an_error_of_the_caller() -> None:
    play = limited()
    for topic, payload in (("x/y", bytes(65527)), ("", b"1")):
        with pytest.raises(ValueError, match="not a publish"):
            play.gateway.publish(topic, payload, play.now)
    play.subscribes("x/y", 0)
    play.publishes("x/y", bytes(65526), qos=0)
    assert len(play.out) == 1


def test_nothing_grows_with_what_one_client_says() -> None:
    play = limited()
    rng = random.Random(7)

    def chatter(rounds: int) -> None:
        for _ in range(rounds):
            msg_id = rng.randrange(1, 65536)
            kind, topic = rng.choice(((PREDEFINED, POWER), (SHORT, rng.randrange(65536)), (NORMAL, 3)))
            play.hears("a", Publish(kind, topic, msg_id, b"5", rng.choice((0, 1, 2))), PingReq())
            play.forget()
            play.transcript.clear()
            play.store.__init__()  # type: ignore[misc]

    tracemalloc.start()
    chatter(3000)
    before = tracemalloc.get_traced_memory()[0]
    chatter(3000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 40_000  # a leak of a dozen bytes a message would be more


def test_what_an_invented_name_costs_in_memory() -> None:
    """A stranger may bring thousands; each is a session. With a queue that holds a block ready it was 2,160 bytes."""
    gateway = Gateway(GatewayConfig(), 0.0)

    def connect(numbers: range) -> None:
        for number in numbers:
            peer = ("udp", f"10.0.0.{number // 100}", number)
            gateway.receive_datagram(peer, Connect(f"x{number}", 60).encode(), number / 1000)
            batch = gateway.take_batch()
            assert batch is not None
            gateway.committed(batch.id, number / 1000)
            gateway.datagrams_to_send()

    connect(range(1000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        connect(range(1000, 2000))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(gateway.sessions()) == 2000
    assert grown / 1000 < 1800
