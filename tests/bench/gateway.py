"""Gateway: acknowledged QoS 1 publishes per second under the C load, beside the limits of this machine."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hub.bench.gateway import PAYLOADS, Served, serve_ceiling, serve_echo, serve_gateway
from hub.bench.load import Load

HERE = Path(__file__).resolve().parent
SESSIONS = 5000


def build_load(directory: Path) -> Path | None:
    """Compile the load; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    load = directory / "load"
    subprocess.run([compiler, "-O2", "-o", str(load), str(HERE / "load.c")], check=True)
    return load


def _run(program: Path, peer: Served, clients: int, seconds: float, load: Load, handshake: bool) -> dict[str, float]:
    before = peer.cpu_s()
    words = [program, peer.port, clients, seconds, load.payload.decode(), load.topic_id_type, load.topic_id]
    done = subprocess.run([*map(str, words), str(int(handshake))], check=True, capture_output=True, text=True)
    count, took, p50, p99, again = done.stdout.split()
    return {
        "messages": int(count), "rate": int(count) / float(took), "p50_ms": int(p50) / 1000, "p99_ms": int(p99) / 1000,
        "retransmissions": int(again), "cpu_s_per_10000": (peer.cpu_s() - before) / int(count) * 10_000,
    }  # fmt: skip


def measure(seconds: float = 3.0, clients: tuple[int, ...] = (1, 20, 100)) -> list[dict[str, Any]]:
    """One row per payload and number of clients."""
    directory = Path(tempfile.mkdtemp(prefix="meterhub-bench-"))
    try:
        program = build_load(directory)
        if program is None:
            raise SystemExit("bench: a C compiler is needed (apt-get install gcc); or use: meterhub bench gateway")
        return [
            {"payload": name, "clients": count, **_one(program, directory, count, seconds, load)}
            for name, load in PAYLOADS.items()
            for count in clients
        ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _one(program: Path, directory: Path, clients: int, seconds: float, load: Load) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(dir=directory))
    echo, ceiling, gateway = serve_echo(), serve_ceiling(place), serve_gateway(place)
    try:
        least = _run(program, echo, clients, seconds, load, False)
        durable = _run(program, ceiling, clients, seconds, load, False)
        figures = _run(program, gateway, clients, seconds, load, True)
        return {
            **figures,
            "echo_rate": least["rate"],
            "ratio_to_echo": figures["rate"] / least["rate"],
            "ceiling_rate": durable["rate"],
            "ceiling_cpu_s_per_10000": durable["cpu_s_per_10000"],
            "ratio_to_ceiling": figures["rate"] / durable["rate"],
            **gateway.figures(),
        }
    finally:
        for peer in (echo, ceiling, gateway):
            peer.stop()


def measure_sessions(sessions: int = SESSIONS) -> dict[str, float]:
    """Resident memory of the home side with so many adapters: each connected, subscribed, and heard once."""
    directory = Path(tempfile.mkdtemp(prefix="meterhub-bench-"))
    gateway = serve_gateway(directory)
    try:
        _adapter(gateway.port, 0)
        before = gateway.figures()["rss_bytes"]
        for number in range(1, sessions):
            _adapter(gateway.port, number)
        after = gateway.figures()["rss_bytes"]
    finally:
        gateway.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return {"sessions": sessions, "rss_bytes": after, "bytes_per_session": (after - before) / (sessions - 1)}


def _adapter(port: int, number: int) -> None:
    """An adapter with an address of its own (all of 127/8 is ours) says what each says first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((f"127.1.{number >> 8}.{number & 0xFF}", 20000))
        sock.settimeout(10)
        sock.connect(("127.0.0.1", port))
        client_id = b"adapter-%d" % number
        for request in (
            bytes((6 + len(client_id), 0x04, 0x00, 0x01, 0x0E, 0x10)) + client_id,
            bytes.fromhex("07122100010030"),  # SUBSCRIBE to control/{me} at QoS 1
            bytes.fromhex("0a0c2100010002") + b"230",  # PUBLISH at QoS 1
        ):
            sock.send(request)
            assert sock.recv(64)[-1] == 0


if __name__ == "__main__":
    print(json.dumps([*measure(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0), measure_sessions()], indent=1))
