"""Every flood of floods.toml, each at a hub of its own: what the hub keeps of it is bounded, it answers meanwhile,
and an adapter that comes afterwards is let in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.fuzz.floods import FLOODS, datagrams, send
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

# Beyond what it has when it has started. It shows that a bound is there, not P8's: what waits unread for a busy machine
# is 4,096 datagrams, and the allocator keeps their places.
MAX_GROWTH_BYTES = 10 << 20
# The same of a hub that many hosts flood in turn, each in its own way, and at any moment of it (VmHWM).
MAX_GROWTH_IN_TURN_BYTES = 12 << 20
_FOR_S = 2.5
# What one left behind made the next one dear: each topic that 250 sleepers hear was remembered with all of them.
_IN_TURN = (
    "messages for many sleepers that heard of all", "retained messages", "quantities that nobody has",
    "datagrams as long as UDP has them",
)  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("MTR-1", file_name="hub")
    hub = Hub(tmp_path / "hub", authority, 1).start()
    first = UdpAdapter(hub.udp_port, "first")
    assert first.connect() == 0 and first.publish(1, b"5") == 0
    first.close()
    yield hub
    hub.kill()


def test_each_flood_is_what_it_says() -> None:
    assert len({flood["says"] for flood in FLOODS}) == len(FLOODS) >= 12
    for flood in FLOODS:
        first = [data for _, (_, data) in zip(range(20), datagrams(flood), strict=False)]
        assert first and all(0 < len(data) < 65536 for data in first), flood["says"]


@pytest.mark.parametrize("flood", FLOODS, ids=[flood["says"].replace(" ", "-") for flood in FLOODS])
def test_memory_is_bounded_and_newcomers_are_let_in(hub: Hub, flood: dict[str, object]) -> None:
    before = hub.status()["process"]["rss_bytes"]
    assert send(flood, "127.0.1.9", hub.udp_port, _FOR_S) > 0
    honest = UdpAdapter(hub.udp_port, "honest")
    wait_for("an honest adapter to be let in", lambda: honest.connect_again() == 0)
    assert honest.publish(1, b"5") == 0
    honest.close()
    status = hub.status()
    grown = max(status["process"]["rss_bytes"], hub.peak_bytes()) - before
    print(f"{flood['says']}: {grown >> 10} KiB more than {before >> 10}, {status['han']['known']} known")
    assert grown <= MAX_GROWTH_BYTES, (flood["says"], status["han"])
    assert not status["han"]["internal_errors"], Path(hub.log_file).read_text()[-2000:]


def test_many_hosts_in_turn_cost_no_more_than_their_places(hub: Hub) -> None:
    before = hub.status()["process"]["rss_bytes"]
    for number, says in enumerate(_IN_TURN):
        flood = next(flood for flood in FLOODS if flood["says"] == says)
        assert send(flood, f"127.0.2.{number + 1}", hub.udp_port, _FOR_S) > 0
        hub.status()  # it has read what there was
    grown = hub.peak_bytes() - before
    print(f"in turn: {grown >> 10} KiB more than {before >> 10}, {hub.status()['han']['known']} known")
    assert grown <= MAX_GROWTH_IN_TURN_BYTES
