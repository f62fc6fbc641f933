"""The gateway's rows over UDP: one running hub for all of them, every row with ClientIds of its own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import Authority
from tests.conformance.table import CONNACK, Row, connect, rows, title
from tests.harness.hub import Hub

ROWS = [row for row in rows("gateway") if "needs" not in row]

_SEARCHGW = bytes((3, 1, 0))
_GWINFO = bytes((3, 2, 1))


@pytest.fixture(scope="module")
def udp_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A hub whose broker does not exist: the home has to work without (P7)."""
    directory: Path = tmp_path_factory.mktemp("conformance")
    authority = Authority(directory / "pki")
    authority.issue("MTR-1", file_name="hub")
    hub = Hub(directory / "hub", authority, 1).start()
    yield hub.udp_port
    hub.kill()


class Nodes:
    """One socket a node; ClientIds are made the row's own, of the same length."""

    def __init__(self, port: int, number: int) -> None:
        self.port = port
        self.number = number
        self.sockets: dict[str, socket.socket] = {}

    def __getitem__(self, node: str) -> socket.socket:
        if node not in self.sockets:
            sock = self.sockets[node] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", self.port))
        return self.sockets[node]

    def own(self, data: bytes) -> bytes:
        for node in (b"a", b"b"):
            data = data.replace(b"dev-" + node, b"%04d" % self.number + node)
        return data

    def sends(self, node: str, data: bytes) -> None:
        self[node].send(self.own(data))

    def gets(self, node: str) -> bytes:
        return self[node].recv(65535)

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(ROWS)), ids=lambda value: title(value) if isinstance(value, dict) else ""
)
def test_row(udp_port: int, number: int, row: Row) -> None:
    nodes = Nodes(udp_port, number)
    try:
        for node in row["given"]:
            nodes.sends(node, connect(b"dev-" + node.encode()))
            assert nodes.gets(node) == CONNACK
        for step in row["exchange"]:
            verb, _, rest = step.partition(" ")
            if verb.endswith(">"):
                nodes.sends(verb[:-1], bytes.fromhex(rest))
            else:
                assert nodes.gets(verb[:-1]).hex(" ") == nodes.own(bytes.fromhex(rest)).hex(" ")
        for node in list(nodes.sockets):  # whatever else the hub had to say would come before this answer
            nodes.sends(node, _SEARCHGW)
            assert nodes.gets(node) == _GWINFO
    finally:
        nodes.close()
