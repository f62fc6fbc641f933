"""Every flood of floods.toml at one hub with its radio loaded, each from an address of its own and what it left still
there: memory stays within P8, the hub answers, and an adapter that comes afterwards is let in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import Authority
from tests.fuzz.floods import FLOODS, datagrams, send
from tests.harness.hub import Hub
from tests.harness.radio import Radio
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

MAX_RSS_BYTES = 64 << 20  # P8, x86-64, with the radio
_FOR_S = 4.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("floods")
    authority = Authority(folder / "pki")
    authority.issue("MTR-1", file_name="hub")
    radio = Radio([]).start()
    hub = Hub(folder / "hub", authority, 1, radio__path=str(radio.path)).start()
    wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up", 60)
    yield hub
    hub.kill()
    radio.close()


def test_each_flood_is_what_it_says() -> None:
    assert len({flood["says"] for flood in FLOODS}) == len(FLOODS) >= 12
    for flood in FLOODS:
        first = [data for _, data in zip(range(20), (data for _, data in datagrams(flood)), strict=False)]
        assert first and all(0 < len(data) < 65536 for data in first), flood["says"]


@pytest.mark.parametrize("number", range(len(FLOODS)), ids=[flood["says"].replace(" ", "-") for flood in FLOODS])
def test_memory_is_bounded_and_newcomers_are_let_in(hub: Hub, number: int) -> None:
    assert send(FLOODS[number], f"127.0.1.{number + 1}", hub.udp_port, _FOR_S) > 0
    honest = UdpAdapter(hub.udp_port, f"honest-{number}")
    wait_for("an honest adapter to be let in", lambda: honest.connect() == 0)
    assert honest.publish(1, b"5") == 0
    honest.close()
    status = hub.status()
    assert status["process"]["rss_bytes"] <= MAX_RSS_BYTES, (FLOODS[number]["says"], status["han"])
    assert not status["han"]["internal_errors"], Path(hub.log_file).read_text()[-2000:]
