"""`meterhub bench limit`: from a control point's publish to the order on the home network.

A real hub process, mosquitto over mutual TLS, and adapters over UDP: some can be held back, all report readings. Each
command lowers the limit a little, so each makes the hub order anew. Measured is the time from handing the command to
the control point's MQTT library to the arrival of the order at the adapter's socket. Beside it, in the same run, the
floor: a message of the same size through the same broker and back.

With a backlog the hub has so many readings to send when it comes up, at the pace that a hub has by default, and only
what is measured while they go counts. More than one round where the backlog is gone before there were enough commands.
"""

import json
import selectors
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from hub.bench.load import connect
from hub.bench.peer import LocalBroker, free_udp_port, start_hub
from hub.bench.uplink import Child, fill
from hub.headend.connection import BrokerConnection
from hub.services.admin.client import ask
from hub.wire.keys.operators import operator_entry
from hub.wire.uplink.command import Command, sign_command
from hub.wire.uplink.envelope import FileSigner

START_W = 7000.0
STEP_W = 5.0
_ORDER_S = 5.0
_LOOK_EVERY = 10  # commands between two looks at the backlog
_READINGS_PER_ROW = 10
_ABOUT_CAR = {"class": "ev-charger", "nominal_w": 7200}
_ABOUT_OTHER = {"class": "plug", "sheddable": False}


class Adapters:
    """Adapters over UDP in one thread: the first is the car that every command limits, the others report."""

    def __init__(self, port: int, count: int, readings_per_s: float) -> None:
        self._socks = [connect(("127.0.0.1", port), number) for number in range(count)]
        self._ordered = threading.Event()
        self.ordered_at = 0.0
        self.orders = 0
        self._period_s = 1.0 / readings_per_s
        self._stopping = False
        self._msg_id = 1
        self._say(0, 0x0020, json.dumps(_ABOUT_CAR).encode())
        for number in range(1, count):
            self._say(number, 0x0020, json.dumps(_ABOUT_OTHER).encode())
        self._socks[0].send(b"\x07\x12\x21\x00\x01\x00\x30")  # SUBSCRIBE to control/{me}, QoS 1
        self._say(0, 0x0001, b"7200")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _say(self, number: int, topic_id: int, payload: bytes) -> None:
        self._msg_id = self._msg_id % 0xFFFF + 1
        self._socks[number].send(struct.pack(">BBBHH", 7 + len(payload), 0x0C, 0x21, topic_id, self._msg_id) + payload)

    def _run(self) -> None:
        selector = selectors.EpollSelector()
        for sock in self._socks:
            selector.register(sock, selectors.EVENT_READ)
        due, turn = time.monotonic(), 0
        while not self._stopping:
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                self._receive(key.fileobj)
            if time.monotonic() >= due:
                due += self._period_s
                turn = turn % (len(self._socks) - 1) + 1
                self._say(turn, 0x0001, b"5")

    def _receive(self, sock: Any) -> None:
        data = sock.recv(2048)
        if data[1] == 0x0C:
            at = time.monotonic()
            sock.send(b"\x07\x0d" + data[3:7] + b"\x00")
            if not self._ordered.is_set():
                self.ordered_at = at
                self._ordered.set()
            self.orders += 1

    def expect_order(self) -> None:
        self._ordered.clear()

    def await_order(self) -> float:
        """When the order came. Raises TimeoutError."""
        if not self._ordered.wait(_ORDER_S):
            raise TimeoutError("no order came")
        return self.ordered_at

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def bench_limit(
    commands: int, adapters: int, readings_per_s: float, backlog: int = 0, commands_per_s: float = 200.0
) -> dict[str, Any]:
    """Measure; times in milliseconds. `commands_per_s`: at most. Raises NoBroker, TimeoutError, BenchFailed."""
    limits: list[float] = []
    floor: list[float] = []
    while len(limits) < commands:
        some = _round(commands - len(limits), adapters, readings_per_s, backlog, 1 / commands_per_s)
        limits += some[0]
        floor += some[1]
    return {
        "commands": commands,
        "adapters": adapters,
        "backlog": backlog,
        "p50_ms": round(statistics.median(limits), 2),
        "p99_ms": round(statistics.quantiles(limits, n=100)[98], 2),
        "max_ms": round(max(limits), 2),
        "echo_p50_ms": round(statistics.median(floor), 2),
        "echo_p99_ms": round(statistics.quantiles(floor, n=100)[98], 2),
        "ratio_p50": round(statistics.median(limits) / statistics.median(floor), 1),
    }


def _round(
    commands: int, adapters: int, readings_per_s: float, backlog: int, pause_s: float
) -> tuple[list[float], list[float]]:
    """Times of so many commands, fewer where a backlog was sent before; and of echoes."""
    with tempfile.TemporaryDirectory(prefix="mh-bench-", dir="/tmp") as place:
        directory = Path(place)
        broker = LocalBroker(directory)
        operator = ec.generate_private_key(ec.SECP256R1())
        udp_port = free_udp_port()
        (directory / "operators.toml").write_text(operator_entry("bench", operator.public_key(), ["limit"], "bench"))
        control = f'[control]\noperators_file = "{directory}/operators.toml"\n'
        if backlog:
            filler = Child(fill, place, backlog, _READINGS_PER_ROW)
            filler.ask(60 + backlog / 500)
            filler.stop()
        hub = start_hub(directory, broker.port, udp_port, control)
        try:
            home = Adapters(udp_port, adapters, readings_per_s)
            control_point = BrokerConnection(
                "127.0.0.1", broker.port, directory / "broker.pem", directory / "headend.pem",
                directory / "headend.key", "",
            )  # fmt: skip
            control_point.start(["bench/echo"])
            if not backlog:
                time.sleep(1.0)  # the home has told what it is
            queue = Path(place) / "run" / "admin.sock"
            limits = _limit_times(
                control_point, home, FileSigner(operator, b""), commands, pause_s, lambda: not backlog or _waits(queue)
            )
            floor = _echo_times(control_point, min(commands, 300))
            home.stop()
            control_point.stop()
        finally:
            hub.kill()
            hub.wait()
            broker.stop()
    return limits, floor


def _waits(queue: Path) -> bool:
    """Whether readings of the backlog are still to be sent."""
    lane = ask(queue, "queue")["readings"]
    return bool(lane["pending"] or lane["unsealed"] > _READINGS_PER_ROW)


def _limit_times(
    control_point: BrokerConnection,
    home: Adapters,
    signer: FileSigner,
    commands: int,
    pause_s: float,
    goes_on: Callable[[], bool],
) -> list[float]:
    times: list[float] = []
    for number in range(commands):
        if number % _LOOK_EVERY == 0 and not goes_on():
            break
        message = _command(signer, number, START_W - number * STEP_W)
        home.expect_order()
        begun = time.monotonic()
        control_point.send("meters/hub/commands", message)
        times.append((home.await_order() - begun) * 1000)
        # The next one is a command of its own, not part of a burst.
        time.sleep(max(0.005, begun + pause_s - time.monotonic()))
    return times


def _echo_times(control_point: BrokerConnection, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.monotonic()
        control_point.send("bench/echo", bytes(250))
        control_point.messages.get(timeout=_ORDER_S)
        times.append((time.monotonic() - begun) * 1000)
    return times


def _command(signer: FileSigner, number: int, watts: float) -> bytes:
    now = int(time.time())
    return sign_command(
        signer,
        Command("bench", "hub", now + 600, None, now, number.to_bytes(16, "big"), number + 1, "limit",
                {"watts": watts, "duration": 3600}),
    )  # fmt: skip
