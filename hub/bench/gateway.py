"""`meterhub bench gateway`: acknowledged QoS 1 publishes per second, each durable before its PUBACK.

Beside it, in the same run, the same load against a bare UDP echo that answers PUBACK at once and stores nothing: the
limit that sockets, the load and the interpreter set on this machine.
"""

import asyncio
import multiprocessing
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hub.bench.load import Figures, run_load
from hub.process import cpu_s, rss_bytes

PAYLOADS = {
    # 64 octets: seven readings that an adapter buffered while it slept.
    "samples": b"60:2000,50:2010,40:2020,30:2030,20:2040,10:2050,0:2060.123456789",
    "number": b"230.1",
}


def _echo(pipe: Connection) -> None:
    """Answers each PUBLISH with its PUBACK; nothing else."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    pipe.send(sock.getsockname()[1])
    while True:
        data, address = sock.recvfrom(2048)
        sock.sendto(b"\x07\x0d" + data[3:7] + b"\x00", address)


def _gateway(pipe: Connection, directory: str) -> None:
    """The hub's home side alone: UDP link, gateway machine, store; no uplink, no radio."""
    asyncio.run(_serve(pipe, Path(directory)))


async def _serve(pipe: Connection, directory: Path) -> None:
    from drivers.clock import monotonic
    from drivers.udp import UdpLink
    from hub.bridge import Bridge
    from hub.mqttsn.gateway import Gateway
    from hub.mqttsn.limits import GatewayConfig
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


def bench_gateway(
    clients: list[int], duration_s: float, payload: bytes, directory: Path | None
) -> list[dict[str, Any]]:
    """One row per number of clients: the gateway, and the echo beside it."""
    rows = []
    for count in clients:
        place = Path(tempfile.mkdtemp(prefix="meterhub-bench-", dir=directory))
        gateway, echo = serve_gateway(place), serve_echo()
        try:
            limit = run_load(("127.0.0.1", echo.port), count, payload, duration_s, handshake=False)
            before = gateway.cpu_s()
            figures = run_load(("127.0.0.1", gateway.port), count, payload, duration_s, handshake=True)
            rows.append(_row(figures, limit, gateway, gateway.cpu_s() - before))
        finally:
            gateway.stop()
            echo.stop()
            time.sleep(0.1)
            shutil.rmtree(place, ignore_errors=True)
    return rows


def _row(figures: Figures, limit: Figures, gateway: Served, cpu_s: float) -> dict[str, Any]:
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
        "echo_rate": round(limit.rate),
        "ratio_to_echo": round(figures.rate / limit.rate, 3),
    }
