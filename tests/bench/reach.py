"""How long it takes to open N sessions, and how soon a load limit has reached all of them that are open.

`python -m tests.bench.reach [--hubs N] [--brokers B] [--restart]`: simulated hubs with a certificate each, on real TLS
sessions, at B mosquitto as deploy/broker has them, a swarm's process for each. All of it shares this machine.

Two figures: when a hub has the command in its hands (whatever it computes then, it does on a processor of its own), and
when the control point has everybody's receipt that it is obeyed, which includes signing two receipts for each hub here.
With `--restart` the first broker stops and starts anew, its hubs come back: after five seconds, one by one.
"""

import argparse
import math
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local_broker import MOSQUITTO, production_config
from deploy.parent import ends_with_us
from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port, wait_for
from hub.headend.connection import BrokerConnection, BrokerDelivery
from hub.wire.keys.operators import operator_entry
from hub.wire.uplink.command import Command, sign_command
from hub.wire.uplink.envelope import FileSigner, split_sign1
from hub.wire.uplink.receipt import decode_receipt

_SETTLE_S = 20.0
_OPEN_S = 3600.0
_TOLD_EVERY_S = 15.0


class Reached:
    """Brokers, swarms, and a session of the control point at each broker."""

    def __init__(self, place: Path, hubs: int, brokers: int) -> None:
        self.hubs = hubs
        self._place = place
        authority = DevelopmentAuthority(place / "pki")
        pki = authority.directory
        authority.issue("broker", hosts=["localhost"])
        authority.issue("headend")
        for number in range(brokers):
            (place / f"hubs{number}").mkdir()
        for number in range(hubs):
            authority.issue(f"SIM-{number:06d}", file_name=f"../hubs{number % brokers}/SIM-{number:06d}")
        self._key = ec.generate_private_key(ec.SECP256R1())
        (place / "operators.toml").write_text(operator_entry("op", self._key.public_key(), ["limit"], "Bench"))
        self._deliveries: queue.Queue[BrokerDelivery] = queue.Queue()
        self._ports = [free_port() for _ in range(brokers)]
        for number, port in enumerate(self._ports):
            production_config(place / f"broker{number}", port, pki)
        self.brokers = [self._start_broker(number) for number in range(brokers)]
        self._swarms: list[subprocess.Popen[bytes]] = []
        self._connections = []
        for port in self._ports:
            connection = BrokerConnection(
                "localhost", port, pki / "ca.pem", pki / "headend.pem", pki / "headend.key", "bench",
                acknowledges_late=True, deliveries=self._deliveries,
            )  # fmt: skip
            connection.start(["meters/+/receipts", "meters/+/state", "meters/+/events"])
            self._connections.append(connection)

    def _start_broker(self, number: int) -> subprocess.Popen[bytes]:
        words = [str(MOSQUITTO), "-c", str(self._place / f"broker{number}" / "mosquitto.conf")]
        with (self._place / f"broker{number}.log").open("ab") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, preexec_fn=ends_with_us())
        wait_for("a broker to listen", lambda: self._listens(self._ports[number]))
        return process

    @staticmethod
    def _listens(port: int) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def open(self) -> list[float]:
        """Start the swarms; seconds after which each hub was online."""
        begun = time.monotonic()
        for number, port in enumerate(self._ports):
            self._swarms.append(subprocess.Popen(
                [sys.executable, "-m", "tests.bench.counted_swarm", "--ca", str(self._place / "pki" / "ca.pem"),
                 "--hubs", str(self._place / f"hubs{number}"), "--operators", str(self._place / "operators.toml"),
                 "--brokers", f"localhost:{port}", "--a-second", "1000", "--interval-s", "300", "--pack-s", "300",
                 "--arrivals", str(self._place / f"arrivals{number}")],
                stdout=subprocess.DEVNULL, preexec_fn=ends_with_us()))  # fmt: skip
        online: dict[str, float] = {}
        told_at = 0.0
        while len(online) < self.hubs:
            now = time.monotonic() - begun
            if now > told_at:
                told_at = now + _TOLD_EVERY_S
                print(f"  {now:.0f} s: {len(online):,} of {self.hubs:,} online", flush=True)
            if now > _OPEN_S or any(swarm.poll() is not None for swarm in self._swarms):
                raise SystemExit(f"reach: {len(online):,} of {self.hubs:,} sessions are open after {now:.0f} s")
            # Waited for, not polled: a broker gives twenty, and the next when those are acknowledged.
            try:
                delivery = self._deliveries.get(timeout=1)
            except queue.Empty:
                continue
            delivery.acknowledge()
            if delivery.topic.endswith("/state"):
                online.setdefault(delivery.topic, time.monotonic() - begun)
        return sorted(online.values())

    def limit(self) -> tuple[list[float], list[float]]:
        """A limit for all: seconds after which each hub had it, and after which each hub's receipt was here."""
        t = int(time.time())
        command = Command("op", "all", t + 300, None, t, bytes(16), 1, "limit", {"watts": 500, "duration": 250})
        message = sign_command(FileSigner(self._key, b""), command)
        sent = time.monotonic()
        for connection in self._connections:
            connection.send("meters/all/commands", message)
        obeyed: dict[str, float] = {}
        while len(obeyed) < self.hubs and time.monotonic() < sent + 240:
            try:
                delivery = self._deliveries.get(timeout=1)
            except queue.Empty:
                continue
            delivery.acknowledge()
            # Only looked into: verifying belongs to the service (tests/bench/control_point.py).
            is_receipt = delivery.topic.endswith("/receipts")
            if is_receipt and decode_receipt(split_sign1(delivery.payload).payload).status == "applied":
                obeyed.setdefault(delivery.topic, time.monotonic() - sent)
        return sorted(at - sent for at in self._arrivals()), sorted(obeyed.values())

    def _arrivals(self) -> list[float]:
        found = []
        for number, swarm in enumerate(self._swarms):
            file = self._place / f"arrivals{number}"
            swarm.send_signal(signal.SIGUSR1)
            wait_for("a swarm to say it", file.exists, timeout_s=60)
            found += [float(line) for line in file.read_text().split()]
        return found

    def restart(self) -> list[float]:
        """The first broker stops and starts; seconds after which each of its hubs had a session again."""
        wanted = {file.stem for file in (self._place / "hubs0").glob("*.pem")}
        while not self._deliveries.empty():
            self._deliveries.get().acknowledge()
        begun = time.monotonic()
        self.brokers[0].terminate()
        self.brokers[0].wait()
        self.brokers[0] = self._start_broker(0)
        back: dict[str, float] = {}
        while len(back) < len(wanted) and time.monotonic() < begun + 1200:
            try:
                delivery = self._deliveries.get(timeout=1)
            except queue.Empty:
                continue
            delivery.acknowledge()
            _, hub, kind = delivery.topic.split("/")
            if kind == "events" and hub in wanted:  # `uplink.up`: the first word of a session
                back.setdefault(hub, time.monotonic() - begun)
        return sorted(back.values())

    def session_bytes(self) -> tuple[float, float]:
        """What a session costs a broker, and a swarm: their resident memory, divided."""
        return tuple(sum(map(_resident, processes)) / self.hubs for processes in (self.brokers, self._swarms))  # type: ignore[return-value]

    def stop(self) -> None:
        for process in [*self._swarms, *self.brokers]:
            process.kill()
            process.wait()
        for connection in self._connections:
            connection.stop()


def _resident(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _shares(times: list[float], of: int) -> str:
    """At which 50, 95, 99 and 100 % of all were there."""
    said = []
    for share in (50, 95, 99, 100):
        at = max(0, of * share // 100 - 1)
        said.append(f"{times[at]:.2f}" if at < len(times) else "never")
    return " / ".join(said)


_WIDTH, _HEIGHT, _LEFT, _TOP = 820, 300, 60, 70


def draw(row: dict[str, Any], hubs: int) -> str:
    """An SVG: which share of the hubs was there after how long; seconds as their logarithm."""
    curves = (
        ("opened", "#888", "open"),
        ("heard", "#0060a8", "has the limit"),
        ("obeyed", "#080", "its receipt is here"),
    )
    first_s, last_s = 0.1, max(1.0, *row["opened"], *row["obeyed"])

    def x(t: float) -> float:
        return _LEFT + math.log(max(t, first_s) / first_s) / math.log(last_s / first_s) * _WIDTH

    def y(share: float) -> float:
        return _TOP + (1 - share) * _HEIGHT

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + 30} {_HEIGHT + _TOP + 40}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="17">{hubs:,} hubs: time to open them, and to reach them once open</text>',
    ]
    for number, (_, colour, words) in enumerate(curves):
        parts.append(f'<text x="{_LEFT + 200 * number}" y="44" fill="{colour}">— {words}</text>')
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y(share)}" y2="{y(share)}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(share) + 4}" text-anchor="end">{share:.0%}</text>')
    for mark in (0.1, 1, 10, 100, 1000):
        if mark <= last_s:
            parts.append(f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{y(1)}" y2="{y(0)}" stroke="#ddd"/>')
            parts.append(f'<text x="{x(mark):.1f}" y="{y(0) + 18}" text-anchor="middle">{mark:g} s</text>')
    for name, colour, _ in curves:
        times = row[name]
        step = max(1, len(times) // 300)
        shown = [*range(0, len(times), step), len(times) - 1]
        points = " ".join(f"{x(times[n]):.1f},{y((n + 1) / hubs):.1f}" for n in shown if times)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def measure(hubs: int, brokers: int, *, is_restarted: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mh-bench-") as folder:
        reached = Reached(Path(folder), hubs, brokers)
        try:
            opened = reached.open()
            time.sleep(_SETTLE_S)  # the last ones are still saying their first words
            broker_bytes, swarm_bytes = reached.session_bytes()
            heard, obeyed = reached.limit()
            back = reached.restart() if is_restarted else []
        finally:
            reached.stop()
    return {
        "opened": opened, "heard": heard, "obeyed": obeyed, "back": back,
        "broker_kb": broker_bytes / 1000, "swarm_kb": swarm_bytes / 1000,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reach")
    parser.add_argument("--hubs", type=int, default=1000)
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="restart a broker, and see when its hubs are back")
    parser.add_argument("--svg", type=Path, help="draw it")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.hubs / arguments.brokers > most - 500:
        raise SystemExit(f"reach: no process may hold more than {most} files here; --brokers more")
    row = measure(arguments.hubs, arguments.brokers, is_restarted=arguments.restart)
    print(f"{arguments.hubs:,} sessions at {arguments.brokers} mosquitto open after"
          f" {_shares(row['opened'], arguments.hubs)} s (50 / 95 / 99 / 100 %);"
          f" {row['broker_kb']:.0f} kB each at the broker, {row['swarm_kb']:.0f} in the swarm;\n"
          f"a limit was with 50 / 95 / 99 / 100 % of them after {_shares(row['heard'], arguments.hubs)} s,"
          f" their receipts after {_shares(row['obeyed'], arguments.hubs)} s")  # fmt: skip
    print(f"load of this machine: {' / '.join(f'{load:.1f}' for load in os.getloadavg())} over 1, 5, 15 minutes")
    if arguments.svg is not None:
        arguments.svg.write_text(draw(row, arguments.hubs))
    if arguments.restart:
        at_one = -(-arguments.hubs // arguments.brokers)
        print(f"a broker was started anew: 50 / 95 / 99 / 100 % of its {at_one:,} hubs were back after"
              f" {_shares(row['back'], at_one)} s")  # fmt: skip


if __name__ == "__main__":
    main()
