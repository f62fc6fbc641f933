"""What the worst stranger costs: 10,000 messages of each hostile kind on the hub's command topic, over a real broker.

`python -m tests.bench.stranger [--count N] [--rounds N] [--a-second N] [--share] [--only KIND]`: bytes of flash and of
uplink that the hub spends on them, its processor time for each message, and the delay of an honest operator's limits
meanwhile, from the control point's publish to the receipt's arrival. Costs and delays are measured in runs of their
own, so that a row's flash and uplink are the stranger's alone. The hub has a core of its own, as it has a machine of
its own; broker, sender and control point share the other. `--share`: everything on all cores. Beside it the same delay
where a bare peer takes the hub's place, that judges nothing and keeps nothing: what is not the hub's.

The honest operator sends a limit each 25 ms, whether or not the one before was answered: who waits does not send less.
"""

import argparse
import multiprocessing
import os
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.hub import Hub
from tests.harness.memory import scratch
from tests.harness.operator import Operator, cti_of, dumps, write_operators
from tests.harness.scripted_broker import CONNECT, PUBACK, PUBLISH, SUBSCRIBE, packet
from tests.harness.waiting import wait_for

_EACH_S = 0.025
_QUIET_LIMITS = 40
_CANCEL_EVERY = 8  # an operator holds 16 limits at most
# As deploy/broker/mosquitto.conf; without a log line for each packet.
_AS_DEPLOYED = "set_tcp_nodelay true\nautosave_on_changes false\nautosave_interval 1800\nlog_type none\n"
_TOPIC, _BARE_TOPIC = "meters/MTR-1/commands", "meters/bare/commands"
_COSTS = ("seconds", "flash_bytes", "uplink_bytes", "cpu_us", "rss_bytes")
_BURST = 20
_IDLE_S = 0.05  # of processor time in half a second: it has nothing to do
_HONEST = "honest-operator"


def kinds(grid: Operator, stranger: Operator) -> dict[str, Callable[[int], bytes]]:
    """Hostile messages by kind. `grid` is a captured operator, whose genuine messages a stranger may repeat."""
    now = int(time.time())
    expired = grid.command("limit", {"watts": 1, "duration": 60}, exp=now - 10, iat=now - 400)
    genuine = grid.command("limit.cancel", {})
    forged = Operator(grid.kid)
    nested = dumps({1: -7, 3: 61, 4: b"x"}) + b"\x81" * 400
    return {
        "bytes that are nothing": lambda i: os.urandom(200),
        "nested CBOR": lambda i: b"\xd2\x84" + nested + i.to_bytes(4, "big"),
        "the longest, 16 KiB": lambda i: b"\xd2\x84\x59\x3f\xf0" + bytes(16_368) + i.to_bytes(4, "big"),
        "operators nobody knows": lambda i: stranger.command("limit", {"watts": 1, "duration": 60}),
        "a forged signature": lambda i: forged.command("limit", {"watts": 1, "duration": 60}),
        "a captured one, expired": lambda i: expired,
        "a captured one, answered": lambda i: genuine,
        "captured ones, for another hub": lambda i: grid.command("limit", {"watts": 1, "duration": 60}, aud="MTR-2"),
        "genuine claims that do not read": lambda i: grid.sign(
            {1: -7, 3: 61, 4: grid.kid.encode()}, dumps({7: os.urandom(16)})
        ),
        "retained ones": lambda i: stranger.command("limit", {"watts": 1, "duration": 60}),
    }


def _connected(pki: Path, port: int, name: str) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set(str(pki / "ca.pem"), str(pki / f"{name}.pem"), str(pki / f"{name}.key"))
    client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.max_inflight_messages_set(100)
    client.max_queued_messages_set(0)
    client.connect("localhost", port)
    client.loop_start()
    return client


def _strange(
    pki: Path, port: int, topic: str, messages: list[bytes], retain: bool, a_second: float, ready: Event, begin: Event
) -> None:
    """A process of its own. `a_second` 0: as fast as the broker takes them."""
    client = _connected(pki, port, "stranger")
    wait_for("the stranger's session", client.is_connected)
    ready.set()
    begin.wait()
    last, begun = None, time.monotonic()
    for number, message in enumerate(messages):
        if a_second and number % _BURST == 0:
            time.sleep(max(0.0, begun + number / a_second - time.monotonic()))
        last = client.publish(topic, message, qos=1, retain=retain)
    if last is not None:
        last.wait_for_publish(600)
    if retain:
        client.publish(topic, b"", qos=1, retain=True).wait_for_publish(60)
    client.loop_stop()
    client.disconnect()


def _bare(pki: Path, port: int, ready: Event) -> None:
    """A peer that does nothing but take messages, acknowledge them, and send the honest operator's back: what broker,
    sender and control point take on these cores by themselves. TLS and MQTT by hand, for paho would be the slower part.
    """
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    context.load_cert_chain(pki / "bare.pem", pki / "bare.key")
    raw = socket.create_connection(("localhost", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(raw, server_hostname="localhost")
    sock.sendall(packet(CONNECT, b"\0\4MQTT\5\2\0\0" + b"\3\x21\4\0" + b"\0\4bare"))
    sock.sendall(packet(SUBSCRIBE, b"\0\1\0" + _string(_BARE_TOPIC) + b"\1", 2))
    ready.set()
    data, mid = b"", 0
    while True:
        data += (read := sock.recv(65_536))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not read:
            return
        out = b""
        while (taken := _packet_of(data)) is not None:
            kind, body, data = taken
            if kind != PUBLISH:
                continue
            at = 2 + int.from_bytes(body[:2], "big")
            out += packet(PUBACK, body[at : at + 2])
            if _HONEST.encode() in body:
                mid = mid % 65_535 + 1
                out += packet(PUBLISH, _string("meters/bare/receipts") + mid.to_bytes(2, "big") + b"\0" + body[at:], 2)
        if out:
            sock.sendall(out)


def _string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet_of(data: bytes) -> tuple[int, bytes, bytes] | None:
    """`(kind, body, the rest)` of the first packet (MQTT 5 section 2.1); None: it is not all there."""
    length, shift = 0, 0
    for at in range(1, len(data)):
        length |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            end = at + 1 + length
            return (data[0] >> 4, data[at + 1 : end], data[end:]) if len(data) >= end else None
    return None


class _ControlPoint:
    """Sends limits and notes when the first receipt of each came; reads nothing else of what hubs send."""

    def __init__(self, pki: Path, port: int) -> None:
        self._client = _connected(pki, port, "headend")
        self._sent: dict[bytes, float] = {}
        self._lock = threading.Lock()
        self.delays_ms: list[float] = []
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._on_message
        lanes = ("receipts", "events", "readings", "state", "heartbeat")
        topics = [*(f"meters/MTR-1/{lane}" for lane in lanes), "meters/bare/receipts"]
        self._client.subscribe([(topic, mqtt.SubscribeOptions(qos=1)) for topic in topics])
        assert subscribed.wait(30)

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        at = time.monotonic()
        with self._lock:
            for cti in [cti for cti in self._sent if cti in message.payload]:
                self.delays_ms.append((at - self._sent.pop(cti)) * 1000)

    def send(self, command: bytes, topic: str) -> None:
        with self._lock:
            self._sent[cti_of(command)] = time.monotonic()
        self._client.publish(topic, command, qos=1)

    def has_all(self) -> bool:
        with self._lock:
            return not self._sent

    def stop(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


class _Bench:
    """A hub, a broker, an honest operator; strangers come and go."""

    def __init__(
        self, hub: Hub, broker: Broker, pki: Path, control: _ControlPoint, honest: Operator, a_second: float
    ) -> None:
        self._a_second = a_second
        self._hub, self._broker, self._pki = hub, broker, pki
        self._control, self._honest = control, honest

    def costs(self, messages: list[bytes], retain: bool) -> dict[str, Any]:
        """What the messages alone cost the hub."""
        before, cpu_s = self._hub.status(), _cpu_s(self._hub.pid)
        seen = before["limit"]["counters"]["commands"]
        with self._stranger(_TOPIC, messages, retain) as sender:
            begun = time.monotonic()
            sender.join(600)
            wait_for("all of them", lambda: self._commands() >= seen + len(messages), 300, 0.1)
            took_s = time.monotonic() - begun
        self._settle()
        wait_for("the last receipt to leave", lambda: self._hub.status()["queue"]["receipts"]["pending"] == 0, 60)
        after, used_s = self._hub.status(), _cpu_s(self._hub.pid) - cpu_s
        return {
            "seconds": took_s,
            "flash_bytes": after["store"]["written_bytes"] - before["store"]["written_bytes"],
            "uplink_bytes": after["uplink"]["payload_bytes"] - before["uplink"]["payload_bytes"],
            "cpu_us": used_s / max(1, len(messages)) * 1e6,
            "rss_bytes": after["process"]["rss_bytes"],
        }

    def delays(self, topic: str, messages: list[bytes], retain: bool) -> list[float]:
        """The delays of honest limits, in ms, while the messages come; without messages, of as many as in a second."""
        self._control.delays_ms.clear()
        with self._stranger(topic, messages, retain) as sender:
            number, begun = 0, time.monotonic()
            while sender.is_alive() if messages else number < _QUIET_LIMITS:
                number += 1
                command = self._honest.command("limit", {"watts": 3000, "duration": 3600})
                self._control.send(command, topic)
                if number % _CANCEL_EVERY == 0:
                    self._control.send(self._honest.command("limit.cancel", {}), topic)
                time.sleep(max(0.0, begun + number * _EACH_S - time.monotonic()))
        self._control.send(self._honest.command("limit.cancel", {}), topic)
        wait_for("the last receipt", self._control.has_all, 60)
        self._settle()
        return list(self._control.delays_ms)

    def _settle(self) -> None:
        """Wait until the hub has judged all that it took in: what is left would be the next measurement's."""
        used_s = -1.0
        while _cpu_s(self._hub.pid) - used_s > _IDLE_S:
            used_s = _cpu_s(self._hub.pid)
            time.sleep(0.5)

    def _commands(self) -> int:
        count: int = self._hub.status()["limit"]["counters"]["commands"]
        return count

    @contextmanager
    def _stranger(self, topic: str, messages: list[bytes], retain: bool) -> Iterator[multiprocessing.Process]:
        ready, begin = multiprocessing.Event(), multiprocessing.Event()
        arguments = (self._pki, self._broker.port, topic, messages, retain, self._a_second, ready, begin)
        sender = multiprocessing.Process(target=_strange, args=arguments, daemon=True)
        sender.start()
        assert ready.wait(60)
        begin.set()
        yield sender
        sender.join(600)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    count: int = 10_000, rounds: int = 3, a_second: float = 2_000, *, share: bool = False, only: str = ""
) -> Iterator[dict[str, Any]]:
    """One row a kind; the first, without a stranger, says what an honest operator is used to."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mh-stranger-")))
        authority = DevelopmentAuthority(folder / "pki")
        authority.issue("broker", hosts=["localhost"])
        for common_name, file in (("MTR-1", "hub"), ("headend", "headend"), ("stranger", "stranger"), ("bare", "bare")):
            authority.issue(common_name, file_name=file)
        grid, honest, stranger = Operator("grid"), Operator(_HONEST), Operator("stranger")
        operators = write_operators(folder / "operators.toml", grid, honest)
        # As on a board: run_dir in memory, for what is in hand is noted there before it is judged.
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mh-", dir=scratch())))
        if len(cores) > 1 and not share:
            os.sched_setaffinity(0, cores[1:])
        stack.callback(os.sched_setaffinity, 0, cores)
        broker = Broker(folder / "broker", authority, extra=_AS_DEPLOYED, somebody=False).start()
        stack.callback(broker.stop)
        control = _ControlPoint(authority.directory, broker.port)
        stack.callback(control.stop)
        hub = Hub(
            folder / "hub", authority, broker.port, control__operators_file=str(operators), hub__run_dir=str(run_dir)
        )
        hub.run_dir = run_dir
        hub.start()
        stack.callback(hub.kill)
        hub.wait_uplink()
        if len(cores) > 1 and not share:
            for thread in Path(f"/proc/{hub.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores[:1])
        time.sleep(2)
        ready = multiprocessing.Event()
        bare = multiprocessing.Process(target=_bare, args=(authority.directory, broker.port, ready), daemon=True)
        bare.start()
        stack.callback(bare.kill)
        assert ready.wait(60) and bare.pid is not None
        if len(cores) > 1 and not share:
            os.sched_setaffinity(bare.pid, cores[:1])
        bench = _Bench(hub, broker, authority.directory, control, honest, a_second)
        for kind, make in {"nothing": None, **kinds(grid, stranger)}.items():
            if only not in kind:
                continue
            messages = [] if make is None else [make(number) for number in range(count)]
            retain = kind == "retained ones"
            costs = bench.costs(messages, retain) if messages else dict.fromkeys(_COSTS, 0)
            delays: dict[str, list[float]] = {_TOPIC: [], _BARE_TOPIC: []}
            for _ in range(rounds):
                for topic, found in delays.items():  # in turn, since the machine is not always as busy
                    found += bench.delays(topic, messages, retain)
            bare_cuts = {f"bare_{name}": value for name, value in _cuts(delays[_BARE_TOPIC]).items()}
            yield {"kind": kind, **costs, **_cuts(delays[_TOPIC]), **bare_cuts}


def _cuts(delays_ms: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(delays_ms, n=100)
    return {"limits": len(delays_ms), "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(delays_ms)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stranger", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--a-second", type=float, default=2_000, help="0: as fast as the broker takes them")
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    parser.add_argument("--share", action="store_true", help="hub, broker and senders on the same cores")
    args = parser.parse_args()
    print("| messages | flash | uplink | hub's CPU each | a second | an honest receipt, p50 / p99 | of a bare echo |")
    print("|---|---|---|---|---|---|---|")
    for row in measure(args.count, args.rounds, args.a_second, share=args.share, only=args.only):
        rate = f"{args.count / row['seconds']:,.0f}" if row["seconds"] else "-"
        print(
            f"| {row['kind']} | {row['flash_bytes'] / 1000:.0f} kB | {row['uplink_bytes'] / 1000:.1f} kB | "
            f"{row['cpu_us']:.0f} µs | {rate} | {row['p50_ms']:.0f} / {row['p99_ms']:.0f} ms of {row['limits']} | "
            f"{row['bare_p50_ms']:.0f} / {row['bare_p99_ms']:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
