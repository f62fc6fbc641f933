"""The gateway's rows, each against a machine of its own on a virtual clock."""

from collections import defaultdict, deque

import pytest

from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.core.records import Peer
from tests.conformance.table import CONNACK, Row, connect, rows, title
from tests.hub.core.gateway.playbook import ModelStore

ROWS = rows("gateway")


class Bench:
    """A machine, a model store, and what each node got."""

    def __init__(self, row: Row) -> None:
        settings = dict(row.get("settings", {}))
        if "limits" in settings:
            settings["limits"] = GatewayLimits(**settings["limits"])
        if "broadcast_links" in settings:
            settings["broadcast_links"] = tuple(settings["broadcast_links"])
        self.config = GatewayConfig(**settings)
        self.store = ModelStore()
        self.store_works = True
        self.now = 100.0
        self.got: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self.start()

    def start(self) -> None:
        self.gateway = Gateway(self.config, self.now)
        self.gateway.restore(self.store.restored(), self.now)
        self.settle()

    def settle(self) -> None:
        while (batch := self.gateway.take_batch()) is not None:
            if self.store_works:
                self.store.commit(batch)
                self.gateway.committed(batch.id, self.now)
            else:
                self.gateway.refused(batch.id, self.now)
                break
        for peer, data in self.gateway.datagrams_to_send():
            self.got[peer[1].removeprefix("10.0.0.")].append(data)

    def hears(self, node: str, data: bytes) -> None:
        peer: Peer = ("udp", "10.0.0." + node, 1)
        self.gateway.receive_datagram(peer, data, self.now)
        self.settle()

    def waits(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.gateway.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.gateway.handle_timer(self.now)
            self.settle()
        self.now = end

    def plays(self, step: str) -> None:
        verb, _, rest = step.partition(" ")
        if verb.endswith(">"):
            self.hears(verb[:-1], bytes.fromhex(rest))
        elif verb.endswith("<"):
            got = self.got[verb[:-1]]
            assert got, f"nothing came for `{step}`"
            assert got.popleft().hex(" ") == rest
        elif verb == "wait":
            self.waits(float(rest))
        elif verb == "restart":
            self.start()
        else:
            assert verb == "store"
            self.store_works = rest == "works"


@pytest.mark.parametrize("row", ROWS, ids=title)
def test_row(row: Row) -> None:
    bench = Bench(row)
    for node in row["given"]:
        bench.hears(node, connect(b"dev-" + node.encode()))
        assert bench.got[node].popleft() == CONNACK
    for step in row["exchange"]:
        bench.plays(step)
    left = {node: [data.hex(" ") for data in got] for node, got in bench.got.items() if got}
    assert not left, "more came than the row expects"


def test_the_table_is_well_formed() -> None:
    assert len(ROWS) >= 150
    assert len({title(row) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        uses_time = any(step.split()[0] in ("wait", "restart", "store", "*<") for step in row["exchange"])
        assert ("needs" in row) == (uses_time or "settings" in row), title(row)
