"""What a fleet does to its brokers when it loses all of them at once, and in a rolling restart: real TLS, real
mosquitto, the hubs' own reconnect policy and beside it the habit of libraries.

`python -m tests.bench.edge [--hubs N] [--down-s S] [--rolling B]`: N connections of one process (sockets, TLS with a
client's certificate, CONNECT, CONNACK, and then nothing) at a mosquitto as deploy/broker has it. It is killed, and
started again after S seconds; each connection is tried again when its policy says so. Beside each line stands what
deploy/fleet/storm.py, which has neither sockets nor brokers, says of the same fleet. With `--rolling B` there are B
brokers instead, and one after the other is stopped and started as for an upgrade, the next once all hubs are back.
"""

import argparse
import errno
import heapq
import resource
import selectors
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.fleet.storm import PATIENCE_S, Delay, Outage, hub_delays, library_delays, simulate
from deploy.local_broker import MOSQUITTO, production_config
from deploy.parent import ends_with_us
from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port, wait_for

_OPENED_AT_ONCE = 40
_LIMIT_S = 600.0
_CONNACK = b"\x20\x02\x00\x00"


class Brokers:
    """Some mosquitto, each to be killed, stopped and started."""

    def __init__(self, place: Path, count: int) -> None:
        self._place = place
        authority = DevelopmentAuthority(place / "pki")
        self.ca_file = authority.ca_file
        authority.issue("broker", hosts=["localhost"])
        self.cert_file, self.key_file = authority.issue("SIM-1")
        self.ports = [free_port() for _ in range(count)]
        self._configs = [
            production_config(place / f"broker{n}", port, authority.directory) for n, port in enumerate(self.ports)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int) -> None:
        words = [str(MOSQUITTO), "-c", str(self._configs[number])]
        with (self._place / f"broker{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(words, stdout=log, stderr=log, preexec_fn=ends_with_us())

    def wait(self, number: int) -> None:
        wait_for("a broker to listen", lambda: self._listens(self.ports[number]))

    @staticmethod
    def _listens(port: int) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def end(self, number: int, *, is_killed: bool) -> None:
        process = self._processes.pop(number)
        (process.kill if is_killed else process.terminate)()
        process.wait()

    def stop(self) -> None:
        for number in list(self._processes):
            self.end(number, is_killed=True)


class Caller:
    """A hub as a broker sees it: comes, stays, comes again. It says nothing of its own."""

    __slots__ = ("_said", "_words", "at", "attempt", "delay", "is_online", "number", "sock", "tls")

    def __init__(self, number: int, delay: Delay, brokers: int) -> None:
        self.number, self.delay = number, delay
        name = f"SIM-{number:06d}".encode()
        self.at = zlib.crc32(name) % brokers
        said = b"\0\x04MQTT\x04\x02" + struct.pack(">H", 1200) + struct.pack(">H", len(name)) + name
        self._words = b"\x10" + bytes([len(said)]) + said
        self._said = False
        self.sock: socket.socket | None = None
        self.tls: ssl.SSLSocket | None = None
        self.is_online = False
        self.attempt = 0

    def go_on(self, context: ssl.SSLContext) -> int:
        """The socket can be read or written: what to wait for next. Raises OSError where it ended."""
        assert self.sock is not None
        if self.tls is None:
            if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "connect")
            self.tls = context.wrap_socket(self.sock, server_hostname="localhost", do_handshake_on_connect=False)
            self.sock = self.tls
        try:
            if not self._said:
                self.tls.do_handshake()
                self.tls.sendall(self._words)
                self._said = True
            while True:
                said = self.tls.recv(256)
                if not said or (not self.is_online and said != _CONNACK):
                    raise ConnectionResetError("the broker ended it")
                self.is_online = True
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE

    def begin(self, port: int) -> None:
        """Raises OSError where nobody listens."""
        self.attempt += 1
        self.sock, self.tls, self.is_online, self._said = socket.socket(), None, False, False
        self.sock.setblocking(False)
        error = self.sock.connect_ex(("127.0.0.1", port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "connect")


class Edge:
    """All callers and one loop. `delays`: the pace of each."""

    def __init__(self, brokers: Brokers, hubs: int) -> None:
        self._brokers = brokers
        self._context = ssl.create_default_context(cafile=str(brokers.ca_file))
        self._context.load_cert_chain(brokers.cert_file, brokers.key_file)
        self._selector = selectors.DefaultSelector()
        self.callers = [Caller(number, _at_once, len(brokers.ports)) for number in range(hubs)]
        self._due: list[tuple[float, int]] = []
        self._patience: deque[tuple[float, Caller, int]] = deque()
        self.online = 0
        self._zero = time.monotonic()
        self.attempts: Counter[int] = Counter()
        self.back: list[float] = []
        self.refused = 0

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def open(self) -> float:
        """All of them, a few at a time; sessions a second, which is what broker and callers can together."""
        waiting = deque(self.callers)
        begun = time.monotonic()
        while self.online < len(self.callers):
            while waiting and len(self.callers) - len(waiting) - self.online < _OPENED_AT_ONCE:
                self._try(waiting.popleft())
            self._turn()
        return len(self.callers) / (time.monotonic() - begun)

    def begin(self, delays: list[Delay]) -> None:
        """From now on time is counted, and each has this pace."""
        for caller, delay in zip(self.callers, delays):
            caller.delay = delay
        self._zero = time.monotonic()
        self.attempts, self.back, self.refused = Counter(), [], 0

    def run(self, until: Callable[[float], bool]) -> None:
        while not until(self._now()):
            self._turn()

    def _turn(self) -> None:
        now = self._now()
        for _ in range(200):
            if not self._due or self._due[0][0] > now:
                break
            self._try(self.callers[heapq.heappop(self._due)[1]])
        while self._patience and self._patience[0][0] <= now:
            _, caller, attempt = self._patience.popleft()
            if caller.attempt == attempt and not caller.is_online and caller.sock is not None:
                self._fail(caller, "uplink-unreachable")
        for key, _ in self._selector.select(0.01):
            self._serve(key.data)

    def _try(self, caller: Caller) -> None:
        self.attempts[int(self._now())] += 1
        try:
            caller.begin(self._brokers.ports[caller.at])
        except OSError:
            self.refused += 1
            self._fail(caller, "uplink-unreachable")
            return
        self._patience.append((self._now() + PATIENCE_S, caller, caller.attempt))
        self._selector.register(caller.sock, selectors.EVENT_WRITE, caller)  # type: ignore[arg-type]

    def _serve(self, caller: Caller) -> None:
        was_online = caller.is_online
        number = caller.sock.fileno()  # type: ignore[union-attr]
        try:
            wanted = caller.go_on(self._context)
        except OSError:
            if number >= 0:
                self._selector.unregister(number)
            self._fail(caller, "uplink-lost" if was_online else "uplink-unreachable", is_known=False)
            return
        self._selector.modify(number, wanted, caller)
        if caller.is_online and not was_online:
            self.online += 1
            self.back.append(self._now())

    def _fail(self, caller: Caller, failure: str, *, is_known: bool = True) -> None:
        if caller.is_online:
            self.online -= 1
        sock, caller.sock, caller.tls, caller.is_online = caller.sock, None, None, False
        if sock is not None:
            if is_known and sock.fileno() in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()
        caller.at = (caller.at + 1) % len(self._brokers.ports)
        heapq.heappush(self._due, (self._now() + caller.delay(failure), caller.number))

    def close(self) -> None:
        for caller in self.callers:
            if caller.sock is not None:
                caller.sock.close()
        self._selector.close()


def _at_once(_failure: str) -> float:
    return 0.1


@contextmanager
def _edge(hubs: int, brokers: int) -> Iterator[tuple[Brokers, Edge, float]]:
    with tempfile.TemporaryDirectory(prefix="mh-bench-") as folder:
        made = Brokers(Path(folder), brokers)
        try:
            for number in range(brokers):
                made.start(number)
                made.wait(number)
            edge = Edge(made, hubs)
            rate = edge.open()
            yield made, edge, rate
            edge.close()
        finally:
            made.stop()


def lose(hubs: int, down_s: float, policy: Callable[[Outage], list[Delay]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one broker is killed, and is back after `down_s`: what was seen, and what the model says of a broker that
    takes as many sessions a second as this one did."""
    with _edge(hubs, 1) as (brokers, edge, rate):
        outage = Outage(hubs, down_s, rate)
        edge.begin(policy(outage))
        brokers.end(0, is_killed=True)
        edge.run(lambda now: now >= down_s)
        brokers.start(0)
        edge.run(lambda now: edge.online == hubs or now > down_s + _LIMIT_S)
        seen = {
            "sessions_a_second": rate, "peak": max(edge.attempts.values()), "attempts": edge.attempts.total(),
            "peak_after": max((count for t, count in edge.attempts.items() if t >= down_s), default=0),
            "back": [at - down_s for at in edge.back], "refused": edge.refused,
        }  # fmt: skip
    return seen, simulate(outage, policy(outage)).figures(outage)


def rolling(hubs: int, count: int, policy: Callable[[Outage], list[Delay]]) -> Iterator[dict[str, Any]]:
    """Each of the brokers is stopped and started at once; the next when all hubs are back."""
    with _edge(hubs, count) as (brokers, edge, rate):
        for number in range(count):
            edge.begin(policy(Outage(hubs, 0, rate, seed=number)))
            before = edge.online
            brokers.end(number, is_killed=False)
            brokers.start(number)
            edge.run(lambda now: (now > 3 and edge.online == hubs) or now > _LIMIT_S)
            yield {"before": before, "peak": max(edge.attempts.values()), "attempts": edge.attempts.total(),
                   "back": edge.back}  # fmt: skip


def _shares(back: list[float], of: int) -> str:
    said = []
    for share in (50, 95, 100):
        at = max(0, of * share // 100 - 1)
        said.append(f"{back[at]:.0f}" if at < len(back) else "never")
    return " / ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.edge")
    parser.add_argument("--hubs", type=int, default=3000)
    parser.add_argument("--down-s", type=float, default=5.0)
    parser.add_argument("--rolling", type=int, default=0, metavar="BROKERS")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.hubs > most - 500:
        raise SystemExit(f"edge: no process may hold more than {most} files here")
    for name, policy in (("meterhub", hub_delays), ("doubling without jitter", library_delays)):
        if arguments.rolling:
            for number, row in enumerate(rolling(arguments.hubs, arguments.rolling, policy), 1):
                gone = len(row["back"])
                print(f"{name}, broker {number} of {arguments.rolling} anew: {row['attempts']:,} attempts,"
                      f" {row['peak']:,} in the worst second; {gone:,} had lost their session, 50 / 95 / 100 % of them"
                      f" were back after {_shares(row['back'], gone)} s", flush=True)  # fmt: skip
            continue
        seen, model = lose(arguments.hubs, arguments.down_s, policy)
        print(f"{name}: {arguments.hubs:,} sessions, {seen['sessions_a_second']:,.0f} opened a second; lost, a broker"
              f" {arguments.down_s:g} s later: {seen['attempts']:,} attempts, {seen['peak']:,} in the worst second,"
              f" {seen['peak_after']:,} once it listened; 50 / 95 / 100 % back after"
              f" {_shares(seen['back'], arguments.hubs)} s")  # fmt: skip
        print(f"  the model: {model['attempts']:,} attempts, {model['peak_per_s']:,} in the worst second,"
              f" {model['peak_after_return_per_s']:,} once it listened; half back after {model['half_back_after_s']} s,"
              f" all after {model['all_back_after_s']}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
