# SPDX-License-Identifier: GPL-3.0-or-later
"""The I/O loop: its clock, its socket, and an example in a process of its own in front of a running hub."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.adapter import udp_main
from deploy.adapter.adapter import Adapter
from deploy.adapter.udp_main import Loop, TickClock, UdpSocket
from hub.wire.mqttsn import messages
from tests.acceptance.conftest import authority, broker, control_point, hub, make_hub
from tests.deploy.adapter.home import Recorder
from tests.deploy.adapter.ports import ROOT, compiled_tree, mpy_cross, unix_command
from tests.harness.broker import MOSQUITTO
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.waiting import free_port, wait_for

__all__ = ["authority", "broker", "control_point", "hub", "make_hub"]

WRAP = 1 << 30  # of MicroPython's ticks_ms


def test_the_clock_outlives_the_wrap_of_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([WRAP - 1000, WRAP - 500, 200, 200 + WRAP // 3, 200 + WRAP // 3 * 2, 100])
    monkeypatch.setattr(udp_main, "_ticks_ms", lambda: next(ticks))
    monkeypatch.setattr(udp_main, "_ticks_diff", lambda a, b: (a - b + WRAP // 2) % WRAP - WRAP // 2)
    clock = TickClock()
    assert [clock.ms() for _ in range(4)] == [500, 1200, 1200 + WRAP // 3, 1200 + WRAP // 3 * 2]
    assert clock.ms() == 1000 + WRAP + 100


def adapter_of(period_s: int = 1) -> Adapter:
    return Adapter("plug-1", Recorder(lambda: 5), lambda bits: 0, period_s=period_s)


class Desk:
    """A UDP socket that plays the hub's port."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10)
        self.port: int = self.socket.getsockname()[1]

    def hears(self) -> tuple[messages.Message, Any]:
        data, address = self.socket.recvfrom(2048)
        return messages.decode(data), address

    def says(self, message: messages.Message, address: Any) -> None:
        self.socket.sendto(message.encode(), address)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.socket.close()


def test_it_connects_and_hears_the_hub_alone(desk: Desk) -> None:
    adapter = adapter_of()
    loop = Loop(adapter, UdpSocket("127.0.0.1", desk.port))
    loop.turn()
    message, address = desk.hears()
    assert isinstance(message, messages.Connect)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(messages.ConnAck(0).encode(), address)
    desk.says(messages.PingResp(), address)
    wait_for("the hub's datagram", lambda: loop.turn() or adapter.client.ignored == 1)
    assert adapter.client.state == "connecting", "a stranger's CONNACK is not heard"
    desk.says(messages.ConnAck(0), address)
    wait_for("the session", lambda: loop.turn() or adapter.client.state == "active")


def test_a_network_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name, no route, nobody at the port: the loop goes on, feeds its watchdog, and lets go in time."""
    monkeypatch.setattr(udp_main, "_LONGEST_WAIT_MS", 20)
    for host, port in (("no-such-host.invalid", 10000), ("127.0.0.1", free_port(socket.SOCK_DGRAM))):
        fed = []
        adapter = adapter_of()
        loop = Loop(adapter, UdpSocket(host, port), feed=lambda fed=fed: fed.append(1))
        adapter.orders.obey(b"off 1", 0)
        wait_for("the order's end", lambda loop=loop, adapter=adapter: loop.turn() or adapter.orders.on)
        assert fed


def test_it_dozes_only_while_nobody_can_reach_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_main, "_LONGEST_WAIT_MS", 20)
    dozed: list[str] = []
    adapter = adapter_of()
    loop = Loop(adapter, UdpSocket("127.0.0.1", desk.port), doze=lambda ms: dozed.append(adapter.client.state))
    loop.turn()
    _, address = desk.hears()
    loop.turn()
    desk.says(messages.ConnAck(0), address)
    wait_for("the session", lambda: loop.turn() or adapter.client.state == "active")
    assert set(dozed) <= {"disconnected"}


class Concatenating:
    """A socket as MicroPython has it: `readinto` fills the buffer from as many datagrams as there are."""

    def __init__(self, *datagrams: bytes) -> None:
        self._waiting = list(datagrams)

    def readinto(self, buffer: memoryview) -> int | None:
        data = b"".join(self._waiting)[: len(buffer)]
        self._waiting.clear()
        buffer[: len(data)] = data
        return len(data) or None

    def close(self) -> None: ...


def test_datagrams_that_came_in_one_go_are_taken_apart() -> None:
    link = UdpSocket("127.0.0.1", 1)
    pair = messages.PingResp().encode(), messages.PubAck(1, 2, 0).encode()
    for said, heard in (
        (pair, [*pair]),
        ((b"\x01\x00\x05abc",), [b"\x01\x00\x05abc"]),  # what does not read is not lost between two others
        ((pair[0], b"\x09short"), [pair[0], b"\x09short"]),
        ((b"",), []),
    ):
        link._socket = Concatenating(*said)  # type: ignore[assignment]
        assert list(iter(link.receive, None)) == heard


def test_a_turn_without_memory_is_not_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order's end comes all the same."""
    monkeypatch.setattr(udp_main, "_LONGEST_WAIT_MS", 20)
    adapter = adapter_of()

    class Short(UdpSocket):
        left = 3

        def receive(self) -> bytes | None:
            if self.left:
                self.left -= 1
                raise MemoryError
            return super().receive()

    fed: list[int] = []
    loop = Loop(adapter, Short("127.0.0.1", desk.port), feed=lambda: fed.append(1))
    adapter.orders.obey(b"off 1", 0)
    wait_for("the order's end", lambda: loop.turn() or adapter.orders.on)
    assert loop.shortages == 3 and len(fed) > 3


@pytest.fixture
def run_adapter(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts an adapter's process; it is ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], cwd: Path) -> subprocess.Popen[bytes]:
        with (tmp_path / "adapter.log").open("ab") as log:
            processes.append(subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env=dict(os.environ)))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def cpython(tmp_path: Path, example: str, *arguments: str) -> tuple[list[str], Path]:
    return [sys.executable, "-m", f"deploy.adapter.examples.{example}", *arguments], ROOT


def micropython(tmp_path: Path, example: str, *arguments: str) -> tuple[list[str], Path]:
    """The 32-bit unix port with 64 KB of heap: the adapter as a board has it."""
    tree = compiled_tree(tmp_path / "board")
    return unix_command(tree, f"deploy.adapter.examples.{example}", *arguments), tree


needs_broker = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")


@needs_broker
@pytest.mark.parametrize("interpreter", [cpython, micropython])
def test_its_readings_reach_the_control_point(
    interpreter: Callable[..., tuple[list[str], Path]],
    tmp_path: Path,
    hub: Hub,
    control_point: ControlPoint,
    run_adapter: Callable[..., subprocess.Popen[bytes]],
) -> None:
    command, cwd = interpreter(tmp_path, "always_on", "127.0.0.1", str(hub.udp_port), "boiler", "1")
    process = run_adapter(command, cwd)

    def arrived() -> bool:
        assert process.poll() is None, (tmp_path / "adapter.log").read_text()
        return control_point.values("boiler").count(2000.0) >= 4

    wait_for("four readings", arrived)
    hub.kill()
    hub.start()
    before = len(control_point.values("boiler"))
    wait_for("readings after the hub was killed", lambda: len(control_point.values("boiler")) >= before + 6)
    assert not control_point.faults and not control_point.books.missing()
    assert process.poll() is None


@needs_broker
def test_a_sleeper_of_its_own_process_wakes_and_reports(
    tmp_path: Path, hub: Hub, control_point: ControlPoint, run_adapter: Callable[..., subprocess.Popen[bytes]]
) -> None:
    run_adapter(*cpython(tmp_path, "sleeping", "127.0.0.1", str(hub.udp_port), "room", "1", "2"))

    def temperatures() -> list[float]:
        return [value for value in control_point.values("room") if value == pytest.approx(20.4)]

    wait_for("three wake-ups", lambda: len(temperatures()) >= 6)
    assert not control_point.faults and not control_point.books.missing()


@needs_broker
@pytest.mark.slow
@pytest.mark.parametrize("example", ["always_on", "sleeping"])
def test_an_hour_with_64_kb_and_a_hub_that_is_killed_now_and_then(
    example: str,
    tmp_path: Path,
    hub: Hub,
    control_point: ControlPoint,
    run_adapter: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """The 32-bit port, its heap a cap, its clock a hundred times faster; the hub's is ours."""
    tree = compiled_tree(tmp_path / "board")
    script = Path(__file__).parent / "micropython/hour.py"
    subprocess.run([mpy_cross(), "-O3", "-s", "hour.py", "-o", str(tree / "hour.mpy"), str(script)], check=True)
    process = run_adapter(unix_command(tree, "hour", example, str(hub.udp_port), "plug-1", "100", "3600"), tree)
    for _ in range(3):
        values = len(control_point.values("plug-1"))
        wait_for(
            "its readings",
            lambda values=values: len(control_point.values("plug-1")) > values or process.poll() is not None,
        )
        hub.kill()
        hub.start()
    assert process.wait(120) == 0, (tmp_path / "adapter.log").read_text()
    said = (tmp_path / "adapter.log").read_text()
    print(f"\n{example}: {said.strip()}")
    assert "short 0 free " in said and " dropped 0 " in said, said
    assert not control_point.faults
