"""Other people's brokers hold a hub to its own topics, by its certificate's name, as mosquitto does by its list."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from deploy.broker_access import UnfitName, main, nats_users, rabbitmq_definitions
from deploy.pki import DevelopmentAuthority
from deploy.waiting import wait_for
from tests.brokers.kinds import DebianNats, ForeignBroker, NatsServer, RabbitMq

HUBS = ("MTR-1", "MTR-2")
_QUIET_S, _ANSWER_S = 0.5, 3.0


class Peer:
    """An MQTT client with a certificate; `client_id` is its own name where none is given."""

    def __init__(self, broker: ForeignBroker, name: str, client_id: str = "") -> None:
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.granted: queue.Queue[int] = queue.Queue()
        self.is_in = False
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id or name, clean_session=False, reconnect_on_failure=False
        )
        self.client.tls_set(
            str(broker.pki / "ca.pem"), str(broker.pki / f"{name}.pem"), str(broker.pki / f"{name}.key")
        )
        self._answered = threading.Event()
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: setattr(self, "is_in", False)
        self.client.on_message = lambda _c, _u, message: self.heard.put((message.topic, bytes(message.payload)))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.granted.put(reasons[0].value)
        self.client.connect("localhost", broker.port)
        self.client.loop_start()

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        self.is_in = not reason.is_failure
        self._answered.set()

    def waits_to_be_in(self) -> bool:
        """Whether it is let in within a moment."""
        self._answered.wait(_ANSWER_S)
        return self.is_in

    def listen(self, topic: str) -> bool:
        """Whether the broker says that it may. One that ends the line says no."""
        self.client.subscribe(topic, 1)
        try:
            return self.granted.get(timeout=_ANSWER_S) < 0x80
        except queue.Empty:
            return False

    def says(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, 1)

    def hears_nothing(self) -> bool:
        try:
            self.heard.get(timeout=_QUIET_S)
        except queue.Empty:
            return True
        return False

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def peer(broker: ForeignBroker, name: str) -> Peer:
    """One that is let in. RabbitMQ listens before it has read who may come."""
    tried: list[Peer] = []

    def is_in() -> bool:
        if not tried or not tried[-1].client.is_connected():
            tried.append(Peer(broker, name))
        return tried[-1].waits_to_be_in()

    wait_for(f"{name} to be let in", is_in, timeout_s=60)
    for before in tried[:-1]:
        before.close()
    return tried[-1]


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.slow, id=kind.name) for kind in (NatsServer, DebianNats, RabbitMq)]
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForeignBroker]:
    kind: type[ForeignBroker] = request.param
    assert not kind.missing(), "deploy/setup.sh brokers"
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost"])
    for name in (*HUBS, "MTR-9", "headend"):
        authority.issue(name)
    broker = kind(tmp_path / "broker", authority)
    broker.hubs = HUBS
    broker.start()
    yield broker
    broker.kill()


def test_a_hub_speaks_and_hears_for_itself_alone(broker: ForeignBroker) -> None:
    headend = peer(broker, "headend")
    assert headend.listen("meters/+/readings") and headend.listen("meters/+/state")
    own = peer(broker, "MTR-1")
    assert own.listen("meters/MTR-1/commands") and own.listen("meters/all/commands")
    assert own.listen("meters/group/north/commands")
    own.says("meters/MTR-1/readings", b"mine")
    assert headend.heard.get(timeout=20) == ("meters/MTR-1/readings", b"mine")
    headend.says("meters/MTR-1/commands", b"for the first")
    headend.says("meters/all/commands", b"for all")
    assert {own.heard.get(timeout=20)[1] for _ in range(2)} == {b"for the first", b"for all"}

    for topic in ("meters/MTR-1/readings", "meters/MTR-1/state", "meters/MTR-1/commands", "meters/all/commands"):
        other = peer(broker, "MTR-2")  # anew: a broker may end the line of who says what it may not
        other.says(topic, b"not mine")
        assert headend.hears_nothing() and own.hears_nothing(), topic
        other.close()
    for topic in ("meters/MTR-1/commands", "meters/MTR-1/readings", "meters/+/commands", "meters/#", "#"):
        other = peer(broker, "MTR-2")
        other.listen(topic)
        headend.says("meters/MTR-1/commands", b"for the first")
        assert own.heard.get(timeout=20)[1] == b"for the first"
        assert other.hears_nothing(), topic
        other.close()
    headend.close()
    own.close()


def test_a_session_of_another_s_name_gives_nothing_of_it(broker: ForeignBroker) -> None:
    """Commands wait in a session, which is found by its client id: whoever gives another's hears none of them."""
    headend, own = peer(broker, "headend"), peer(broker, "MTR-1")
    assert own.listen("meters/MTR-1/commands")
    own.close()
    headend.says("meters/MTR-1/commands", b"for the first")
    thief = Peer(broker, "MTR-2", "MTR-1")
    thief.waits_to_be_in()
    assert thief.hears_nothing()
    thief.close()
    headend.close()


def test_whoever_is_not_on_the_list_is_not_let_in(broker: ForeignBroker) -> None:
    stranger = Peer(broker, "MTR-9")
    known = peer(broker, "MTR-1")
    assert not stranger.waits_to_be_in()
    stranger.close()
    known.close()


@pytest.mark.parametrize("name", ["MTR.1", "group", "headend", "a b", "", 'x"', "x" * 65])
def test_a_name_that_is_a_part_of_a_topic_is_refused(name: str) -> None:
    for make in (nats_users, rabbitmq_definitions):
        with pytest.raises(UnfitName):
            make(["MTR-1", name])
    assert main(["nats", "MTR-1", name]) == 1 and main(["nats", "MTR-1"]) == 0 and main([]) == 2
