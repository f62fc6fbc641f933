"""`meterhub bench forward`: raw forwards that really arrive at the far end, a second.

MQTT-SN clients over UDP, QoS 1, window 1, 64 bytes; a hub in a process of its own that makes each durable and hands it
on unchanged (`forward.out`); mosquitto over mutual TLS; a subscriber that counts. Beside it, by turns, a *bare loop*:
the least that does the same. It drains the socket, commits what came as one row with the store's own settings,
acknowledges, publishes at QoS 1 over TLS, and waits for the broker where too much is under way; it reads nothing of it,
keeps no order between clients, and forgets what it has committed.
"""

import multiprocessing
import selectors
import socket
import sqlite3
import ssl
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from drivers.process import cpu_s
from hub.bench.load import Figures, Load, run_load
from hub.bench.peer import LocalBroker, free_udp_port, start_hub
from hub.services.admin.client import ask

LOAD = Load(b"p" * 64, topic_id_type=2, topic_id=0x706C)  # short topic "pl"
HUB_TOPIC, BARE_TOPIC = "meters/hub/han/pl", "bench/bare"
_TOPICS = (HUB_TOPIC, BARE_TOPIC, "pl")  # the last: of a gateway that hands on under the name it was given
_WINDOW = 256
_ROUNDS = 2
_SETTLE_S = 30.0


def _string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(first: int, body: bytes) -> bytes:
    """A control packet of MQTT 3.1.1 (section 2.2)."""
    length, head = len(body), bytes((first,))
    while True:
        length, digit = length >> 7, length & 0x7F
        head += bytes((digit | (0x80 if length else 0),))
        if not length:
            return head + body


def _tls(directory: Path, port: int, name: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=directory / "broker.pem")
    context.load_cert_chain(directory / "headend.pem", directory / "headend.key")
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_packet(0x10, _string("MQTT") + b"\x04\x02\x00\x00" + _string(name)))
    answer = b""
    while len(answer) < 4:
        answer += sock.recv(4 - len(answer))
    if answer[3]:
        raise RuntimeError(f"mosquitto refused {name}: {answer.hex()}")
    return sock


def _acknowledge_at_once(sock: socket.socket) -> None:
    """A mosquitto with Nagle's algorithm on waits for this, 40 ms if left to the kernel; the hub does the same."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _count(directory: str, port: int, ready: Event, arrived: Any) -> None:
    """Subscribes at QoS 0 and counts what comes, by topic."""
    sock = _tls(Path(directory), port, "counter")
    sock.sendall(_packet(0x82, b"\x00\x01" + b"".join(_string(topic) + b"\x00" for topic in _TOPICS)))
    ready.set()
    data, lengths = b"", {len(topic): number for number, topic in enumerate(_TOPICS)}
    while read := sock.recv(65_536):
        _acknowledge_at_once(sock)
        data += read
        at = 0
        while len(data) - at > 4:
            length, size = data[at + 1], 2
            if length & 0x80:
                length, size = (length & 0x7F) | data[at + 2] << 7, 3
            end = at + size + length
            if end > len(data):
                break
            if data[at] >> 4 == 3:
                arrived[lengths[int.from_bytes(data[at + size : at + size + 2], "big")]] += 1
            at = end
        data = data[at:]


def _bare(pipe: Connection, directory: str, port: int) -> None:
    from store.database import PRAGMAS

    database = sqlite3.connect(Path(directory) / "bare.db", isolation_level=None)
    for pragma in PRAGMAS:
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB)")
    tls = _tls(Path(directory), port, "bare")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    selector = selectors.EpollSelector()
    selector.register(udp, selectors.EVENT_READ)
    selector.register(tls, selectors.EVENT_READ)
    pipe.send(udp.getsockname()[1])
    waiting: deque[bytes] = deque()
    under_way, mid, rest = 0, 0, 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is tls:
                acknowledged, rest = divmod(rest + len(tls.recv(65_536)), 4)  # PUBACKs, nothing else comes
                under_way -= acknowledged
                _acknowledge_at_once(tls)
                continue
            arrived: list[tuple[bytes, Any]] = []
            with suppress(BlockingIOError):
                while len(arrived) < 512:
                    arrived.append(udp.recvfrom(2048))
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO log (body) VALUES (?)", (b"".join(data for data, _ in arrived),))
            database.execute("COMMIT")
            for data, address in arrived:
                udp.sendto(b"\x07\x0d" + data[3:7] + b"\x00", address)
            waiting.extend(data[7:] for data, _ in arrived)
        out = b""
        while waiting and under_way < _WINDOW:
            mid, under_way = mid % 0xFFFF + 1, under_way + 1
            out += _packet(0x32, _string(BARE_TOPIC) + mid.to_bytes(2, "big") + waiting.popleft())
        if out:
            tls.sendall(out)


class Way(NamedTuple):
    """A way to the counter: a process at a UDP port. `at`: which topic it publishes to. `from_port`: the first of the
    ports of its clients, 0: any."""

    name: str
    at: int
    pid: int
    port: int
    has_sessions: bool
    from_port: int = 0


# What else is to be measured: called with the folder of certificates and the broker's port.
Others = Callable[[Path, int], Sequence[Way]]


def bench_forward(
    clients: list[int], duration_s: float, others: Others = lambda directory, port: ()
) -> list[dict[str, Any]]:
    """One row per number of clients. Raises NoBroker, TimeoutError."""
    with tempfile.TemporaryDirectory(prefix="mh-bench-", dir="/tmp") as place:
        directory = Path(place)
        broker = LocalBroker(directory)
        udp_port = free_udp_port()
        hub = start_hub(directory, broker.port, udp_port, '[forward]\nout = ["pl"]\n')
        context = multiprocessing.get_context("spawn")
        arrived, ready = context.Array("L", len(_TOPICS), lock=False), context.Event()
        counter = context.Process(target=_count, args=(place, broker.port, ready, arrived), daemon=True)
        pipe, theirs = context.Pipe()
        bare = context.Process(target=_bare, args=(theirs, place, broker.port), daemon=True)
        try:
            counter.start()
            bare.start()
            bare_port: int = pipe.recv()
            if not ready.wait(_SETTLE_S):
                raise TimeoutError("nobody counts")
            ways = [Way("hub", 0, hub.pid, udp_port, True), Way("bare", 1, bare.pid or 0, bare_port, False)]
            bench = _Forwarding(directory, [*ways, *others(directory, broker.port)], arrived)
            return [bench.row(count, duration_s) for count in clients]
        finally:
            bare.kill()
            counter.kill()
            hub.kill()
            hub.wait()
            broker.stop()


class _Forwarding:
    """The ways to the counter."""

    def __init__(self, directory: Path, ways: Sequence[Way], arrived: Any) -> None:
        self._socket = directory / "run" / "admin.sock"
        self._ways = ways
        self._arrived = arrived

    def row(self, clients: int, duration_s: float) -> dict[str, Any]:
        """By turns, since the machine is not always as busy."""
        found: dict[str, list[dict[str, float]]] = {way.name: [] for way in self._ways}
        for _ in range(_ROUNDS):
            for way in self._ways:
                found[way.name].append(self._run(clients, duration_s, way))
        means = {
            way: {name: statistics.mean(run[name] for run in runs) for name in runs[0]} for way, runs in found.items()
        }
        hub = means.pop("hub")
        row = {
            "clients": clients,
            "arrived_per_s": round(hub["arrived"]),
            "acknowledged_per_s": round(hub["acknowledged"]),
            "p50_ms": round(hub["p50_ms"], 2),
            "p99_ms": round(hub["p99_ms"], 2),
            "cpu_s_per_10000": round(hub["cpu_s"], 2),
            "flash_bytes_each": round(hub["flash_bytes"]),
        }
        for name, other in means.items():
            row[f"ratio_to_{name}"] = round(hub["arrived"] / other["arrived"], 2)
            row[f"{name}_per_s"] = round(other["arrived"])
            row[f"{name}_cpu_s_per_10000"] = round(other["cpu_s"], 2)
        return row

    def _run(self, clients: int, duration_s: float, way: Way) -> dict[str, float]:
        before, cpu, flash = self._arrived[way.at], cpu_s(way.pid), self._flash()
        try:
            load: Figures = run_load(
                ("127.0.0.1", way.port), clients, LOAD, duration_s, handshake=way.has_sessions, from_port=way.from_port
            )
        except TimeoutError:
            raise TimeoutError(f"{way.name}: a client was not let in") from None
        ended = time.monotonic()
        in_time = self._arrived[way.at] - before
        while self._arrived[way.at] - before < load.messages:  # what was acknowledged is to arrive, all of it
            if time.monotonic() - ended > _SETTLE_S:
                there = self._arrived[way.at] - before
                raise TimeoutError(f"{way.name}: {there} arrived of {load.messages} that were acknowledged")
            time.sleep(0.02)
        total = self._arrived[way.at] - before
        return {
            "arrived": in_time / load.duration_s,
            "acknowledged": load.rate,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "cpu_s": (cpu_s(way.pid) - cpu) / total * 10_000,
            "flash_bytes": (self._flash() - flash) / total if way.name == "hub" else 0.0,
        }

    def _flash(self) -> int:
        written: int = ask(self._socket, "status")["store"]["written_bytes"]
        return written
