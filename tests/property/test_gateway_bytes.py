"""Any bytes at any moment, from anybody, with a store that answers, refuses or keeps silent: nothing is raised."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.core.records import Peer
from hub.wire.mqttsn.v2 import messages
from tests.hub.core.gateway.playbook import ModelStore
from tests.property.test_states import MESSAGES

PEERS: tuple[Peer, ...] = (("udp", "10.0.0.1", 1), ("udp", "10.0.0.2", 1), ("zigbee", "0011223344556677"), ("x", b"n"))
VALID = [message.encode() for message in MESSAGES.values()]
MESSAGES_2_0: tuple[messages.Message, ...] = (
    messages.ConnectV2("plug-1", 60, 7),
    messages.ConnectV2("plug-1", 60, 8, False, 600, max_packet_size=20),
    messages.ConnectV2("plug-2", 60, 7, False, 600, True, will=messages.Will(messages.TOPIC_NAME, "x/will", b"bye", 1)),
    messages.ConnectV2("", 60, 9),
    messages.RegisterV2(1, "x/z"),
    messages.RegAckV2(1),
    messages.PublishV2(messages.PREDEFINED_ALIAS, 1, 2, b"5", 1),
    messages.PublishV2(messages.SESSION_ALIAS, 1, 3, b"5", 2),
    messages.PublishV2(messages.TOPIC_NAME, "x/y", 4, b"5", 1),
    messages.PubWos(messages.PREDEFINED_ALIAS, 1, b"5"),
    messages.PubAckV2(1),
    messages.PubRecV2(1),
    messages.PubRelV2(3),
    messages.PubCompV2(1),
    messages.SubscribeV2(messages.TOPIC_NAME, "x/y", 5, 2),
    messages.UnsubscribeV2(messages.TOPIC_NAME, "x/y", 6),
    messages.PingReqV2(7),
    messages.SleepReq(8, 600),
    messages.SleepReq(9, 600, False),
    messages.DisconnectV2(),
    messages.DisconnectV2(0x04, 0),
    messages.Protection(bytes(20)),
    messages.ConnectionEncapsulation("plug-2", messages.PingReqV2(10).encode()),
    messages.Forwarder(b"7", messages.ConnectV2("plug-3", 60, 7).encode()),
    messages.Forwarder(b"7", messages.PingReqV2(8).encode()),
)
VALID_2_0 = [message.encode() for message in MESSAGES_2_0]


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Sound messages, sound messages with bytes changed, and noise; the Length mostly right."""
    data = bytearray(draw(st.sampled_from(draw(st.sampled_from((VALID, VALID_2_0))))))
    kind = draw(st.sampled_from(("sound", "sound", "changed", "noise")))
    if kind == "noise":
        data = bytearray(draw(st.binary(max_size=40)))
    elif kind == "changed":
        for at, byte in draw(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 255)), max_size=4)):
            data[at % len(data)] = byte
        data += draw(st.binary(max_size=8))
        data[0] = len(data)
    return bytes(data)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hears"), st.integers(0, len(PEERS) - 1), datagrams()),
        st.tuples(st.just("waits"), st.floats(0, 700), st.none()),
        st.tuples(st.sampled_from(("commits", "refuses", "restarts", "publishes")), st.none(), st.none()),
    ),
    max_size=60,
)
CONFIG = GatewayConfig(
    limits=GatewayLimits(clients=2, topics_per_client=3, subscriptions_per_client=2, queued_per_client=3)
)


class House:
    def __init__(self) -> None:
        self.store = ModelStore()
        self.now = 0.0
        self.restarts()

    def restarts(self) -> None:
        self.gateway = Gateway(CONFIG, self.now)
        self.gateway.restore(self.store.restored(), self.now)

    def settles(self, accepts: bool) -> None:
        batch = self.gateway.take_batch()
        if batch is None:
            return
        if accepts:
            self.store.commit(batch)
            self.gateway.committed(batch.id, self.now)
        else:
            self.gateway.refused(batch.id, self.now)

    def waits(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.gateway.get_timer()) is not None and due <= end:
            assert due >= self.now - 1e-9, "a timer was late"
            self.now = max(self.now, due)
            self.gateway.handle_timer(self.now)
            after = self.gateway.get_timer()
            assert after is None or after > self.now, "a timer that fires for ever"
        self.now = end

    def is_sound(self) -> None:
        core = self.gateway._router
        limits = CONFIG.limits
        assert len(core.sessions) <= limits.clients
        for session in core.sessions.values():
            assert len(session.topics_by_id) <= limits.topics_per_client
            assert len(session.subscriptions) <= limits.subscriptions_per_client
            assert len(session.queue) <= limits.queued_per_client + 1  # and what came back from being in flight
            assert session.queued_bytes == sum(len(message.payload) for message in session.queue)
            assert {i: t for t, i in session.ids_by_topic.items()}.items() <= session.topics_by_id.items()
            if session.inflight is not None:
                assert session.state in ("active", "awake")
        translator = core.translator
        assert not translator.table.messages, "everything that was heard is taken up at once"
        assert len(translator.table.peers) <= 2 * limits.clients and len(translator.table.clients) <= 2 * limits.clients
        for _, data in self.gateway.datagrams_to_send():
            assert data


Steps = list[tuple[str, object, object]]


def live_through(steps: Steps) -> None:
    house = House()
    for kind, first, second in steps:
        if kind == "hears":
            assert isinstance(first, int) and isinstance(second, bytes)
            house.gateway.receive_datagram(PEERS[first], second, house.now)
        elif kind == "waits":
            assert isinstance(first, float)
            house.waits(first)
        elif kind == "publishes":
            house.gateway.publish("x/y", b"1", house.now, qos=2, retain=True)
        elif kind == "restarts":
            house.restarts()
        else:
            house.settles(kind == "commits")
        house.is_sound()
    for _ in range(4):
        house.settles(True)
    memory_and_store_agree(house)


def memory_and_store_agree(house: House) -> None:
    """Whatever was said and refused: once the store works, a restart changes nothing."""
    sessions = house.gateway._router.sessions
    assert set(house.store.sessions) <= set(sessions)
    for client_id, session in sessions.items():
        kept = {
            topic_filter: qos for (name, topic_filter), qos in house.store.subscriptions.items() if name == client_id
        }
        assert kept == session.subscriptions
        ids = {i: t for (name, i), t in house.store.topics.items() if name == client_id and i < 0x10000}
        assert ids == session.topics_by_id
        waiting = {message.seq for message in session.queue if message.seq is not None}
        if session.inflight is not None and session.inflight.message is not None:
            waiting.add(session.inflight.message.seq)
        assert {seq for name, seq in house.store.inbox if name == client_id} == waiting - {None}
    assert house.store.retained == house.gateway._router.retained


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_nothing_is_raised_and_every_table_stays_sound(steps: Steps) -> None:
    live_through(steps)


@pytest.mark.slow
@given(STEPS)
@settings(max_examples=20_000, deadline=None)
def test_nothing_is_raised_at_length(steps: Steps) -> None:
    live_through(steps)
