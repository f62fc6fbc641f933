"""`meterhub bench gateway`: acknowledged QoS 1 publishes per second, each durable before its PUBACK.

Beside it, in the same run, the same load against two peers that set the machine's limits: an *echo* that answers PUBACK
at once and stores nothing (sockets, the load, the interpreter), and a *ceiling*, the least that keeps the same promise:
it drains the socket, commits what came in one SQLite transaction with the store's own settings, then acknowledges.
"""

import asyncio
import multiprocessing
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from drivers.process import cpu_s, rss_bytes
from hub.bench.load import Figures, Load, run_load

PAYLOADS = {
    "number": Load(b"230.1"),
    # 64 bytes that are nothing but a message: kept, acknowledged, passed on.
    "plain": Load(b"p" * 64, topic_id_type=2, topic_id=0x706C),
    # 64 bytes: seven readings that an adapter buffered while it slept.
    "samples": Load(b"60:2000,50:2010,40:2020,30:2030,20:2040,10:2050,0:2060.123456789"),
}


def _echo(pipe: Connection) -> None:
    """Answers each PUBLISH with its PUBACK; nothing else."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    pipe.send(sock.getsockname()[1])
    while True:
        data, address = sock.recvfrom(2048)
        sock.sendto(b"\x07\x0d" + data[3:7] + b"\x00", address)


def _ceiling(pipe: Connection, directory: str) -> None:
    """Drains the socket, commits all of it as one row (fsync), acknowledges; it reads none of it."""
    from store.database import PRAGMAS

    database = sqlite3.connect(Path(directory) / "ceiling.db", isolation_level=None)
    for pragma in PRAGMAS:
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB)")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    pipe.send(sock.getsockname()[1])
    while True:
        sock.setblocking(True)
        arrived = [sock.recvfrom(2048)]
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while len(arrived) < 512:
                arrived.append(sock.recvfrom(2048))
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO log (body) VALUES (?)", (b"".join(data for data, _ in arrived),))
        database.execute("COMMIT")
        for data, address in arrived:
            sock.sendto(b"\x07\x0d" + data[3:7] + b"\x00", address)


def _gateway(pipe: Connection, directory: str) -> None:
    """The hub's home side alone: UDP link, gateway machine, store; no uplink, no radio."""
    asyncio.run(_serve(pipe, Path(directory)))


async def _serve(pipe: Connection, directory: Path) -> None:
    from drivers.clock import monotonic
    from drivers.udp import UdpLink
    from hub.core.gateway.gateway import Gateway
    from hub.core.gateway.limits import GatewayConfig
    from hub.services.home.bridge import Bridge
    from store import Store

    store = Store(directory, seal=lambda *_: b"")
    store.start()
    bridge = Bridge(Gateway(GatewayConfig(), monotonic()), store)
    await bridge.start()
    link = UdpLink("127.0.0.1", 0)
    await bridge.add_link(link)
    pipe.send(link.address[1])
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(None, pipe.recv)
        pipe.send(
            {"commits": store.status()["commits"], "rss_bytes": rss_bytes(), "written": store.status()["written_bytes"]}
        )


class Served:
    """A child process that serves on `port` of the loopback."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        self.port: int = self.pipe.recv()

    def cpu_s(self) -> float:
        assert self.process.pid is not None
        return cpu_s(self.process.pid)

    def figures(self) -> dict[str, Any]:
        """What the gateway says of itself: commits, bytes written, resident memory."""
        self.pipe.send("figures")
        answer: dict[str, Any] = self.pipe.recv()
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def serve_gateway(directory: Path) -> Served:
    """The hub's home side alone, its database in `directory`."""
    return Served(_gateway, str(directory))


def serve_echo() -> Served:
    """A peer that answers each PUBLISH with its PUBACK and does nothing else."""
    return Served(_echo)


def serve_ceiling(directory: Path) -> Served:
    """A peer that makes each PUBLISH durable before its PUBACK and does nothing else."""
    return Served(_ceiling, str(directory))


def bench_gateway(clients: list[int], duration_s: float, load: Load, directory: Path | None) -> list[dict[str, Any]]:
    """One row per number of clients: the gateway, with the echo and the ceiling beside it."""
    return [_one(count, duration_s, load, directory) for count in clients]


def _one(clients: int, duration_s: float, load: Load, directory: Path | None) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(prefix="meterhub-bench-", dir=directory))
    served: list[Served] = []

    def run(peer: Served, handshake: bool) -> Figures:
        served.append(peer)
        return run_load(("127.0.0.1", peer.port), clients, load, duration_s, handshake=handshake)

    try:
        echo = run(serve_echo(), handshake=False)
        ceiling = run(serve_ceiling(place), handshake=False)
        gateway = serve_gateway(place)
        before = gateway.cpu_s()
        figures = run(gateway, handshake=True)
        return _row(figures, echo, ceiling, gateway, gateway.cpu_s() - before)
    finally:
        for peer in served:
            peer.stop()
        time.sleep(0.1)
        shutil.rmtree(place, ignore_errors=True)


def _row(figures: Figures, echo: Figures, ceiling: Figures, gateway: Served, cpu_s: float) -> dict[str, Any]:
    inside = gateway.figures()
    return {
        "clients": figures.clients,
        "rate": round(figures.rate),
        "p50_ms": round(figures.p50_ms, 2),
        "p99_ms": round(figures.p99_ms, 2),
        "cpu_s_per_10000": round(cpu_s / figures.messages * 10_000, 3),
        "messages_per_commit": round(figures.messages / max(1, inside["commits"]), 1),
        "bytes_written_per_message": round(inside["written"] / figures.messages, 1),
        "rss_bytes": inside["rss_bytes"],
        "retransmissions": figures.retransmissions,
        "echo_rate": round(echo.rate),
        "ratio_to_echo": round(figures.rate / echo.rate, 3),
        "ceiling_rate": round(ceiling.rate),
        "ratio_to_ceiling": round(figures.rate / ceiling.rate, 3),
    }
