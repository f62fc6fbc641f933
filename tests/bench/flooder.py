"""What one flooder in the home does to an honest adapter: its PUBACKs' p99, quiet and flooded. Not on one core.

`python -m tests.bench.flooder [--seconds N]`: QoS 1 publishes of one adapter, one at a time; the flooder sends as fast
as it can, from the same host's other port or from another address.
"""

import argparse
import multiprocessing
import socket
import statistics
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from deploy.pki import DevelopmentAuthority
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter


def _flood(host: str, port: int, datagram: bytes, stop: Event, sent: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        count = 0
        while not stop.is_set():
            for _ in range(200):
                try:
                    sock.sendto(datagram, ("127.0.0.1", port))
                except OSError:
                    pass
            count += 200
            sent.value = count


def _honest(hub: Hub, seconds: float, name: str) -> dict[str, float]:
    adapter = UdpAdapter(hub.udp_port, name, timeout_s=2.0)
    while True:
        try:
            assert adapter.connect() == 0
            break
        except TimeoutError:
            continue
    times, again, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        msg_id = adapter.next_msg_id()
        for attempt in range(20):
            try:
                assert adapter.publish(1, b"5", msg_id=msg_id, dup=attempt > 0) == 0
                break
            except TimeoutError:
                again += 1
        times.append((time.monotonic() - begun) * 1000)
        time.sleep(0.005)
    adapter.close()
    cuts = statistics.quantiles(times, n=100)
    return {"count": len(times), "p50_ms": cuts[49], "p99_ms": cuts[98], "again": again}


def measure(seconds: float = 10.0) -> list[dict[str, Any]]:
    """One row for a quiet home, and one for each flood."""
    connect, publish = bytes.fromhex("080404010e1062" + "61"), bytes.fromhex("080c61000100003530")[:8]
    with tempfile.TemporaryDirectory(prefix="mh-flooder-") as name:
        folder = Path(name)
        authority = DevelopmentAuthority(folder / "pki")
        authority.issue("MTR-1", file_name="hub")
        hub = Hub(folder / "hub", authority, 1).start()
        try:
            rows = [{"flood": "none", "a_second": 0, **_honest(hub, seconds, "quiet")}]
            for number, (what, host, datagram) in enumerate(
                (
                    ("CONNECTs of another address", "127.0.0.66", connect),
                    ("publishes of another address", "127.0.0.67", publish),
                    ("publishes of the same address", "127.0.0.1", publish),
                )
            ):
                stop, sent = multiprocessing.Event(), multiprocessing.Value("l", 0)
                worker = multiprocessing.Process(target=_flood, args=(host, hub.udp_port, datagram, stop, sent))
                worker.start()
                begun = time.monotonic()
                try:
                    figures = _honest(hub, seconds, f"honest-{number}")
                finally:
                    stop.set()
                    worker.join(10)
                rows.append({"flood": what, "a_second": sent.value / (time.monotonic() - begun), **figures})
            return rows
        finally:
            hub.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flooder", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    print("| flood | a second | honest PUBACK p50 | p99 | asked again |\n|---|---|---|---|---|")
    for row in measure(parser.parse_args().seconds):
        print(
            f"| {row['flood']} | {row['a_second']:,.0f} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | "
            f"{row['again']} of {row['count']} |"
        )


if __name__ == "__main__":
    main()
