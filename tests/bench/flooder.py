"""What one flooder in the home does to an honest adapter: its PUBACKs' p99, quiet and flooded. Not on one core.

`python -m tests.bench.flooder [--seconds N] [--a-second N]`: QoS 1 publishes of one adapter, one at a time, by turns
quiet and beside a flooder, from the same host's other port or from another address; quiet before and after each, for
the machine is not always as busy. The kernel drops whom the hub holds off (drivers/socket_filter.py), for longer each
time; the flooder goes on all the while.
"""

import argparse
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from deploy.pki import DevelopmentAuthority
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter


def _flood(host: str, port: int, datagram: bytes, a_second: float, stop: Event, sent: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        count, begun = 0, time.monotonic()
        while not stop.is_set():
            for _ in range(200):
                try:
                    sock.sendto(datagram, ("127.0.0.1", port))
                except OSError:
                    pass
            count += 200
            sent.value = count
            if a_second:
                time.sleep(max(0.0, begun + count / a_second - time.monotonic()))


def _honest(hub: Hub, seconds: float, name: str) -> tuple[list[float], int]:
    """Delays in ms, and how often it had to ask again."""
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
    return times, again


def measure(seconds: float = 10.0, rounds: int = 3, a_second: float = 80_000) -> Iterator[dict[str, Any]]:
    """One row for each flood."""
    connect, publish = bytes.fromhex("080404010e1062" + "61"), bytes.fromhex("080c61000100003530")[:8]
    with tempfile.TemporaryDirectory(prefix="mh-flooder-") as name:
        folder = Path(name)
        authority = DevelopmentAuthority(folder / "pki")
        authority.issue("MTR-1", file_name="hub")
        hub = Hub(folder / "hub", authority, 1).start()
        try:
            for number, (what, host, datagram) in enumerate(
                (
                    ("CONNECTs of another address", "127.0.0.66", connect),
                    ("publishes of another address", "127.0.0.67", publish),
                    ("publishes of the same address", "127.0.0.1", publish),
                )
            ):
                quiet, flooded, again, sent, flooded_s = _honest(hub, seconds / 2, "quiet")[0], [], 0, 0, 0.0
                for _ in range(rounds):
                    with _flooder(host, hub.udp_port, datagram, a_second) as count:
                        begun = time.monotonic()
                        times, asked = _honest(hub, seconds, f"honest-{number}")
                        sent, flooded_s = sent + count.value, flooded_s + time.monotonic() - begun
                    flooded += times
                    again += asked
                    quiet += _honest(hub, seconds / 2, "quiet")[0]
                yield {
                    "flood": what, "a_second": sent / flooded_s, "again": again, "count": len(flooded),
                    "quiet": statistics.quantiles(quiet, n=100), "flooded": statistics.quantiles(flooded, n=100),
                }  # fmt: skip
        finally:
            hub.kill()


@contextmanager
def _flooder(host: str, port: int, datagram: bytes, a_second: float) -> Iterator[Any]:
    stop, sent = multiprocessing.Event(), multiprocessing.Value("l", 0)
    worker = multiprocessing.Process(target=_flood, args=(host, port, datagram, a_second, stop, sent))
    worker.start()
    try:
        yield sent
    finally:
        stop.set()
        worker.join(10)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flooder", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--a-second", type=float, default=80_000, help="0: as fast as it can")
    args = parser.parse_args()
    print("| flood | a second | honest PUBACK p50, quiet / flooded | p99 | times the quiet one | asked again |")
    print("|---|---|---|---|---|---|")
    for row in measure(args.seconds, args.rounds, args.a_second):
        quiet, flooded = row["quiet"], row["flooded"]
        print(
            f"| {row['flood']} | {row['a_second']:,.0f} | {quiet[49]:.2f} / {flooded[49]:.2f} ms | "
            f"{quiet[98]:.1f} / {flooded[98]:.1f} ms | {flooded[98] / quiet[98]:.1f} | "
            f"{row['again']} of {row['count']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
