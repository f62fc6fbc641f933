"""What the worst stranger costs: 10,000 messages of each hostile kind on the hub's command topic, over a real broker.

`python -m tests.bench.stranger [--count N] [--rounds N] [--share]`: octets of flash and of uplink that the hub spends
on them, its processor time for each message, and the delay of an honest operator's limits meanwhile, from the control
point's publish to the receipt's arrival. Costs and delays are measured in runs of their own, so that a row's flash and
uplink are the stranger's alone. The hub has a core of its own, as it has a machine of its own; broker, sender and
control point share the other. `--share`: everything on all cores.

The honest operator sends a limit each 25 ms, whether or not the one before was answered: who waits does not send less.
"""

import argparse
import multiprocessing
import os
import socket
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

from deploy.pki import Authority
from tests.harness.broker import Broker
from tests.harness.hub import Hub
from tests.harness.memory import scratch
from tests.harness.operator import Operator, cti_of, dumps, write_operators
from tests.harness.waiting import wait_for

_EACH_S = 0.025
_QUIET_LIMITS = 40
_CANCEL_EVERY = 8  # an operator holds 16 limits at most
# As deploy/broker/mosquitto.conf; without a log line for each packet.
_AS_DEPLOYED = "set_tcp_nodelay true\nautosave_on_changes false\nautosave_interval 1800\nlog_type none\n"
_TOPIC = "meters/MTR-1/commands"


def kinds(grid: Operator, stranger: Operator) -> dict[str, Callable[[int], bytes]]:
    """Hostile messages by kind. `grid` is a captured operator, whose genuine messages a stranger may repeat."""
    now = int(time.time())
    expired = grid.command("limit", {"watts": 1, "duration": 60}, exp=now - 10, iat=now - 400)
    genuine = grid.command("limit.cancel", {})
    forged = Operator(grid.kid)
    nested = dumps({1: -7, 3: 61, 4: b"x"}) + b"\x81" * 400
    return {
        "octets that are nothing": lambda i: os.urandom(200),
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


def _strange(pki: Path, port: int, messages: list[bytes], retain: bool, ready: Event, begin: Event) -> None:
    """A process of its own: as fast as the broker takes them."""
    client = _connected(pki, port, "stranger")
    wait_for("the stranger's session", client.is_connected)
    ready.set()
    begin.wait()
    last = None
    for message in messages:
        last = client.publish(_TOPIC, message, qos=1, retain=retain)
    if last is not None:
        last.wait_for_publish(600)
    if retain:
        client.publish(_TOPIC, b"", qos=1, retain=True).wait_for_publish(60)
    client.loop_stop()
    client.disconnect()


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
        self._client.subscribe([(f"meters/MTR-1/{lane}", mqtt.SubscribeOptions(qos=1)) for lane in (
            "receipts", "events", "readings", "state", "heartbeat")])  # fmt: skip
        assert subscribed.wait(30)

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        at = time.monotonic()
        with self._lock:
            for cti in [cti for cti in self._sent if cti in message.payload]:
                self.delays_ms.append((at - self._sent.pop(cti)) * 1000)

    def send(self, command: bytes) -> None:
        with self._lock:
            self._sent[cti_of(command)] = time.monotonic()
        self._client.publish(_TOPIC, command, qos=1)

    def has_all(self) -> bool:
        with self._lock:
            return not self._sent

    def stop(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


class _Bench:
    """A hub, a broker, an honest operator; strangers come and go."""

    def __init__(self, hub: Hub, broker: Broker, pki: Path, control: _ControlPoint, honest: Operator) -> None:
        self._hub, self._broker, self._pki = hub, broker, pki
        self._control, self._honest = control, honest

    def costs(self, messages: list[bytes], retain: bool) -> dict[str, Any]:
        """What the messages alone cost the hub."""
        before, cpu_s = self._hub.status(), _cpu_s(self._hub.pid)
        seen = before["limit"]["counters"]["commands"]
        with self._stranger(messages, retain) as sender:
            begun = time.monotonic()
            sender.join(600)
            wait_for("all of them", lambda: self._commands() >= seen + len(messages), 300, 0.1)
            took_s = time.monotonic() - begun
        wait_for("the last receipt to leave", lambda: self._hub.status()["queue"]["receipts"]["pending"] == 0, 60)
        after, used_s = self._hub.status(), _cpu_s(self._hub.pid) - cpu_s
        return {
            "seconds": took_s,
            "flash_bytes": after["store"]["written_bytes"] - before["store"]["written_bytes"],
            "uplink_bytes": after["uplink"]["payload_bytes"] - before["uplink"]["payload_bytes"],
            "cpu_us": used_s / max(1, len(messages)) * 1e6,
            "rss_bytes": after["process"]["rss_bytes"],
        }

    def delays(self, messages: list[bytes], retain: bool) -> list[float]:
        """The delays of honest limits, in ms, while the messages come; without messages, of as many as in a second."""
        self._control.delays_ms.clear()
        with self._stranger(messages, retain) as sender:
            number, begun = 0, time.monotonic()
            while sender.is_alive() if messages else number < _QUIET_LIMITS:
                number += 1
                command = self._honest.command("limit", {"watts": 3000, "duration": 3600})
                self._control.send(command)
                if number % _CANCEL_EVERY == 0:
                    self._control.send(self._honest.command("limit.cancel", {}))
                time.sleep(max(0.0, begun + number * _EACH_S - time.monotonic()))
        self._control.send(self._honest.command("limit.cancel", {}))
        try:
            wait_for("the last receipt", self._control.has_all, 20)
        except AssertionError:
            print(
                self._hub.status()["limit"],
                self._hub.status()["queue"],
                self._hub.status()["uplink"],
                len(self._control._sent),
            )
            print(self._hub.log()[-3000:])
            raise
        return list(self._control.delays_ms)

    def _commands(self) -> int:
        count: int = self._hub.status()["limit"]["counters"]["commands"]
        return count

    @contextmanager
    def _stranger(self, messages: list[bytes], retain: bool) -> Iterator[multiprocessing.Process]:
        ready, begin = multiprocessing.Event(), multiprocessing.Event()
        arguments = (self._pki, self._broker.port, messages, retain, ready, begin)
        sender = multiprocessing.Process(target=_strange, args=arguments, daemon=True)
        sender.start()
        assert ready.wait(60)
        begin.set()
        yield sender
        sender.join(600)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(count: int = 10_000, rounds: int = 3, *, share: bool = False) -> Iterator[dict[str, Any]]:
    """One row a kind; the first, without a stranger, says what an honest operator is used to."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mh-stranger-")))
        authority = Authority(folder / "pki")
        authority.issue("broker", hosts=["localhost"])
        for common_name, file in (("MTR-1", "hub"), ("headend", "headend"), ("stranger", "stranger")):
            authority.issue(common_name, file_name=file)
        grid, honest, stranger = Operator("grid"), Operator("honest"), Operator("stranger")
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
        bench = _Bench(hub, broker, authority.directory, control, honest)
        quiet = [delay for _ in range(rounds) for delay in bench.delays([], False)]
        yield {"kind": "nothing", "seconds": 0.0, "flash_bytes": 0, "uplink_bytes": 0, "cpu_us": 0.0, **_cuts(quiet)}
        for kind, make in kinds(grid, stranger).items():
            messages, retain = [make(number) for number in range(count)], kind == "retained ones"
            costs = bench.costs(messages, retain)
            delays = [delay for _ in range(rounds) for delay in bench.delays(messages, retain)]
            yield {"kind": kind, **costs, **_cuts(delays)}


def _cuts(delays_ms: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(delays_ms, n=100)
    return {"limits": len(delays_ms), "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(delays_ms)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stranger", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", action="store_true", help="hub, broker and senders on the same cores")
    args = parser.parse_args()
    print("| messages | flash | uplink | hub's CPU each | a second | an honest limit's receipt, p50 / p99 / longest |")
    print("|---|---|---|---|---|---|")
    for row in measure(args.count, args.rounds, share=args.share):
        rate = f"{args.count / row['seconds']:,.0f}" if row["seconds"] else "-"
        print(
            f"| {row['kind']} | {row['flash_bytes'] / 1000:.0f} kB | {row['uplink_bytes'] / 1000:.1f} kB | "
            f"{row['cpu_us']:.0f} µs | {rate} | "
            f"{row['p50_ms']:.0f} / {row['p99_ms']:.0f} / {row['max_ms']:.0f} ms of {row['limits']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
