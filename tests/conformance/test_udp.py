"""The gateway's rows over UDP, every one of them.

Those that need nothing but a hub share a running one, every row with ClientIds of its own. Those for which time passes,
settings change, the hub dies or its disk is full have a home side of their own each (tests/harness/home.py).
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.conformance.table import CONNACK, Row, connect, rows, title
from tests.harness.home import LOOPBACK_BROADCAST, Home
from tests.harness.hub import Hub
from tests.harness.waiting import free_port

ROWS = [row for row in rows("gateway") if "needs" not in row]
DEMANDING = [row for row in rows("gateway") if "needs" in row]

_SEARCHGW = bytes((3, 1, 0))


@pytest.fixture(scope="module")
def udp_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A hub whose broker does not exist: the home has to work without (P7)."""
    directory: Path = tmp_path_factory.mktemp("conformance")
    authority = DevelopmentAuthority(directory / "pki")
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
            # An address of the row's own (all of 127/8 is ours): a port that the kernel gives out anew would be a node
            # of an earlier row, whom the hub still knows.
            sock.bind((f"127.2.{self.number >> 8}.{self.number & 0xFF}", 0))
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


def play(nodes: Nodes, row: Row, act: Callable[[str, str], None], gw_id: int = 1) -> None:
    """One row. `act(verb, argument)` does what is not said or heard by a node."""
    for node in row["given"]:
        nodes.sends(node, connect(b"dev-" + node.encode()))
        assert nodes.gets(node) == CONNACK
    for step in row["exchange"]:
        verb, _, rest = step.partition(" ")
        if verb == "*<" or verb[-1] not in "<>":
            act(verb, rest)
        elif verb.endswith(">"):
            nodes.sends(verb[:-1], bytes.fromhex(rest))
        else:
            assert nodes.gets(verb[:-1]).hex(" ") == nodes.own(bytes.fromhex(rest)).hex(" ")
    for node in list(nodes.sockets):  # whatever else the hub had to say would come before this answer
        nodes.sends(node, _SEARCHGW)
        assert nodes.gets(node) == bytes((3, 2, gw_id))


def _cannot(verb: str, argument: str) -> None:
    raise AssertionError(f"`{verb} {argument}` needs a hub of its own")


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(ROWS)), ids=lambda value: title(value) if isinstance(value, dict) else ""
)
def test_row(udp_port: int, number: int, row: Row) -> None:
    nodes = Nodes(udp_port, number)
    try:
        play(nodes, row, _cannot)
    finally:
        nodes.close()


@pytest.mark.parametrize("row", DEMANDING, ids=title)
def test_demanding_row(row: Row, tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    settings = row.get("settings", {})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as everybody:
        everybody.bind((LOOPBACK_BROADCAST, 0))
        everybody.settimeout(10)
        home = Home(tmp_path / "data", port, settings, everybody.getsockname()[1]).start()
        nodes = Nodes(port, 0)

        def act(verb: str, argument: str) -> None:
            if verb == "wait":
                home.wait(float(argument))
            elif verb == "restart":
                home.kill()
                home.start()
            elif verb == "store":
                home.full(argument == "full")
            else:
                assert verb == "*<"
                assert everybody.recv(65535).hex(" ") == argument

        try:
            play(nodes, row, act, settings.get("gw_id", 1))
            everybody.setblocking(False)
            with pytest.raises(BlockingIOError):
                everybody.recv(65535)
        finally:
            nodes.close()
            home.kill()
