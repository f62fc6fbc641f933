"""What is fuzzed: the decoder alone, and the gateway machine with everything around it."""

import random
from collections.abc import Iterator
from pathlib import Path

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.core.order import EVERYTHING, Order
from hub.wire.mqttsn.messages import Malformed, decode
from hub.wire.mqttsn.v2.messages import decode2
from tests.hub.core.gateway.playbook import ModelStore

CORPUS = Path(__file__).with_name("corpus")


class Found(AssertionError):
    """A target broke its promise; the bytes that did it are in `data`."""

    def __init__(self, target: str, data: bytes, error: BaseException) -> None:
        super().__init__(f"{target}: {error!r} after {data[:2048].hex()}")
        self.data = data
        self.door = target


def corpus() -> list[bytes]:
    """One datagram a file, as hex; in the order of their names."""
    return [bytes.fromhex(path.read_text()) for path in sorted(CORPUS.glob("*.hex"))]


def mutated(rng: random.Random, seeds: list[bytes]) -> Iterator[bytes]:
    """Datagrams for ever: as they are, changed, cut, joined, and noise."""
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((0, 0, 1, 2, 5))):
            kind = rng.randrange(6)
            at = rng.randrange(len(data) + 1)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and at < len(data):
                data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
            elif kind == 2:
                del data[at : at + rng.randrange(1, 5)]
            elif kind == 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 4:
                data += rng.choice(seeds)
            else:
                data = bytearray(rng.randbytes(rng.randrange(64)))
        if data and rng.random() < 0.7:
            data[0] = len(data) & 0xFF
        yield bytes(data)


def fuzz_decode(data: bytes) -> None:
    """A message or Malformed, nothing else; and a message survives its own encoding."""
    try:
        message = decode(data)
    except Malformed:
        return
    assert decode(message.encode()) == message


def fuzz_decode2(data: bytes) -> None:
    """The same for 2.0."""
    try:
        message = decode2(data)
    except Malformed:
        return
    assert decode2(message.encode()) == message


def understand(said: bytes) -> None:
    """What the gateway says is a message of one version or the other."""
    try:
        decode(said)
    except Malformed:
        decode2(said)


class GatewayTarget:
    """One machine that lives through everything; its store answers, refuses, is slow, and the hub dies now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.config = GatewayConfig(
            limits=GatewayLimits(
                clients=8, topics_per_client=20, retained=20, queued_per_client=10, pending_requests=50, nameless=3
            ),
            publishes_per_s={"zigbee": 5.0},
            max_bytes={"zigbee": 60},
            forward_filters=("a/#",),
        )
        self.peers = [("udp", "10.0.0.1", 1), ("udp", "10.0.0.2", 2), ("zigbee", "0011223344556677")]
        self.store = ModelStore()
        self.start()

    def start(self) -> None:
        self.gateway = Gateway(self.config, self.now)
        self.gateway.restore(self.store.restored(), self.now)
        # One whose removal had not got through before the hub died is back, and stays until somebody new comes.
        self.most_sessions = max(self.config.limits.clients, len(self.gateway.sessions()))

    def take(self, data: bytes) -> None:
        rng = self.rng
        self.gateway.receive_datagram(rng.choice(self.peers), data, self.now)
        event = rng.random()
        if event < 0.5:
            self.settle(refuses=rng.random() < 0.1)
        elif event < 0.55:
            self.now += rng.choice((0.1, 1.0, 10.0, 60.0, 700.0))
        elif event < 0.56:
            self.gateway.publish("x/y", data[:20], self.now, qos=rng.randrange(3), retain=rng.random() < 0.5)
        elif event < 0.57:
            self.interfere()
        elif event < 0.571:
            self.store.samples.clear()
            self.store.seen = self.store.seen[-50:]
            self.store.events.clear()
            self.start()
        due = self.gateway.get_timer()
        if due is not None and due <= self.now:
            self.gateway.handle_timer(self.now)
            after = self.gateway.get_timer()
            assert after is None or after > self.now, "a timer that fires for ever"
        for _, said in self.gateway.datagrams_to_send():
            understand(said)
        self.check()

    def interfere(self) -> None:
        """What comes from elsewhere in the hub: orders, an engineer, a radio that is away for a while."""
        rng, gateway = self.rng, self.gateway
        clients = [session.client_id for session in gateway.sessions()] or ["plug-1"]
        choice = rng.randrange(8)
        if choice == 0:
            gateway.forget(rng.choice(clients))
        elif choice == 1:
            gateway.link_down("zigbee")
        elif choice == 2:
            gateway.link_up("zigbee", self.now)
        elif choice == 3:
            gateway.take_reading("zb-0011223344556677", "power", b"5", self.now)
        else:
            slot = rng.choice(("limit", "switch", EVERYTHING))
            gateway.give_order(rng.choice(clients), Order(slot, "limit 5", self.now + rng.choice((5, 50))), self.now)

    def settle(self, refuses: bool) -> None:
        batch = self.gateway.take_batch()
        if batch is None:
            return
        if refuses:
            self.gateway.refused(batch.id, self.now)
        else:
            self.store.commit(batch)
            self.gateway.committed(batch.id, self.now)

    def check(self) -> None:
        core = self.gateway._router
        assert len(core.sessions) <= self.most_sessions
        assert len(core._timers) <= 4 * len(core.sessions) + 100
        limits = self.config.limits
        assert len(core.nameless) <= limits.nameless
        # What an appliance says of itself has its place beside the others': one for each that is there.
        assert core.abouts == sum(topic.startswith("about/") for topic in core.retained)
        assert core.abouts <= self.most_sessions + limits.nameless
        assert len(core.retained) - core.abouts <= limits.retained
        assert core.pending_requests == len(core.completions) + sum(map(len, core.waiting.values()))
        for session in core.sessions.values():
            assert len(session.queue) <= limits.queued_per_client + 1, "one may be put back from the air"
            assert session.queued_bytes == sum(len(message.payload) for message in session.queue)
        translator = core.translator
        assert not translator.table.messages, "everything that was heard is taken up at once"
        assert len(translator.table.peers) <= 2 * self.config.limits.clients
        assert len(translator.table.clients) <= 2 * self.config.limits.clients
        assert len(core.counters) < 100, "counters by reason, not by what a stranger sends"
