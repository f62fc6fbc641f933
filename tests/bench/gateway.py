"""Gateway: acknowledged QoS 1 publishes per second under the C load, beside a bare echo under the same load."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hub.bench.gateway import PAYLOADS, serve_echo, serve_gateway

HERE = Path(__file__).resolve().parent
PAYLOAD = PAYLOADS["samples"].decode()


def build_load(directory: Path) -> Path | None:
    """Compile the load; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    load = directory / "load"
    subprocess.run([compiler, "-O2", "-o", str(load), str(HERE / "load.c")], check=True)
    return load


def _run(load: Path, port: int, clients: int, seconds: float, payload: str, handshake: bool) -> dict[str, float]:
    words = [str(load), str(port), str(clients), str(seconds), payload, str(int(handshake))]
    count, took, p50, p99, again = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return {
        "messages": int(count), "rate": int(count) / float(took), "p50_ms": int(p50) / 1000, "p99_ms": int(p99) / 1000,
        "retransmissions": int(again),
    }  # fmt: skip


def measure(seconds: float = 3.0, clients: tuple[int, ...] = (1, 20, 100)) -> list[dict[str, Any]]:
    """One row per payload and number of clients."""
    directory = Path(tempfile.mkdtemp(prefix="meterhub-bench-"))
    rows: list[dict[str, Any]] = []
    try:
        load = build_load(directory)
        if load is None:
            raise SystemExit("bench: a C compiler is needed (apt-get install gcc); or use: meterhub bench gateway")
        for name, payload in (("number", PAYLOADS["number"].decode()), ("64 octets", PAYLOAD)):
            rows += [
                {"payload": name, "clients": count, **_one(load, directory, count, seconds, payload)}
                for count in clients
            ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return rows


def _one(load: Path, directory: Path, clients: int, seconds: float, payload: str) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(dir=directory))
    gateway, echo = serve_gateway(place), serve_echo()
    try:
        limit = _run(load, echo.port, clients, seconds, payload, False)
        before = gateway.cpu_s()
        figures = _run(load, gateway.port, clients, seconds, payload, True)
        cpu_s = gateway.cpu_s() - before
        return {
            **figures,
            "cpu_s_per_10000": cpu_s / figures["messages"] * 10_000,
            "echo_rate": limit["rate"],
            "ratio_to_echo": figures["rate"] / limit["rate"],
            **gateway.figures(),
        }
    finally:
        gateway.stop()
        echo.stop()


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0), indent=1))
