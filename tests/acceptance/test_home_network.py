"""Who may speak at home, how much, and what of whom: rules on the network, the rate, topics and names."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter

CONNECT, CONNACK, SUBSCRIBE, SUBACK = 0x04, 0x05, 0x12, 0x13
NO_BROKER = 1  # a port where nobody listens: the home has to work without (P7)


@pytest.fixture
def hub(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[Hub]:
    rules = {"networks": ["127.0.0.1/32", "::1/128"], "publishes_per_s": 20}
    hub = Hub(tmp_path / "hub", authority, NO_BROKER, **{f"han__udp__{key}": value for key, value in rules.items()})
    yield hub.start()
    hub.kill()


def from_host(host: str, port: int, client_id: str) -> UdpAdapter:
    """An adapter with an address of its own: all of 127/8 is ours."""
    adapter = UdpAdapter(port, client_id)
    adapter.sock.close()
    adapter.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    adapter.sock.settimeout(10)
    adapter.sock.bind((host, 0))
    adapter.sock.connect(("127.0.0.1", port))
    return adapter


def test_a_stranger_to_the_network_is_not_heard(hub: Hub) -> None:
    stranger = from_host("127.0.0.2", hub.udp_port, "stranger")
    stranger.send(CONNECT, b"\x04\x01\x00\x3cstranger")
    assert UdpAdapter(hub.udp_port, "plug-1").connect() == 0
    stranger.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        stranger.receive()
    han = hub.status()["han"]
    assert (han["links"]["udp"]["strangers"], han["known"]) == (1, 1)


def test_a_babbling_adapter_does_not_starve_the_others(hub: Hub) -> None:
    babbler, plug = UdpAdapter(hub.udp_port, "babbler"), UdpAdapter(hub.udp_port, "plug-1")
    assert babbler.connect() == plug.connect() == 0
    codes = []
    for value in range(100):
        for _ in range(40):
            babbler.publish(0x0001, b"1", qos=0)
        if value % 10 == 0:
            codes.append(babbler.publish(0x0001, b"2"))
            assert plug.publish(0x0001, b"%d" % value) == 0
    assert codes[-1] == 0x01, "congestion: it is to come again later"
    rows = {row["client"]: row for row in hub.ask("adapters")}
    assert rows["babbler"]["refused"]["rate"] > 1000 and rows["plug-1"]["refused"] == {}
    assert f"rate {rows['babbler']['refused']['rate']}" in hub.cli("adapters").stdout


def test_orders_to_another_are_no_adapters_business_and_the_engineer_sees_who_asked(hub: Hub) -> None:
    nosy = UdpAdapter(hub.udp_port, "nosy")
    assert nosy.connect() == 0
    nosy.send(SUBSCRIBE, b"\x20\x00\x01control/boiler")
    assert nosy.expect(SUBACK)[-1] == 0x03
    nosy.send(SUBSCRIBE, b"\x20\x00\x02control/nosy")
    assert nosy.expect(SUBACK)[-1] == 0x00
    assert nosy.publish(0x0030, b"release") == 0x03
    assert "forbidden-topic 2" in hub.cli("adapters").stdout


def test_an_engineer_frees_the_name_of_a_device_that_was_taken_away(hub: Hub) -> None:
    plug = UdpAdapter(hub.udp_port, "plug-1")
    assert plug.connect(clean=False) == 0
    done = hub.cli("adapters", "forget", "plug-1")
    assert (done.returncode, done.stderr) == (0, "") and "plug-1 is forgotten" in done.stdout
    assert plug.receive() == (0x18, b""), "it is told, and may connect again"
    assert hub.ask("adapters") == []
    assert json.loads(hub.cli("events", "--json").stdout)[-1]["reason"] == "forgotten"
    again = hub.cli("adapters", "forget", "plug-1")
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "no adapter 'plug-1'" in again.stderr
    hub.kill()
    hub.start()
    assert hub.ask("adapters") == []
