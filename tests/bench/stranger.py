"""What the worst stranger costs: 10,000 messages of each hostile kind on the hub's command topic, over a real broker.

`python -m tests.bench.stranger [--count N]`: flash, uplink bytes, and the delay of an honest operator's limit
meanwhile. The honest operator's own cost is in each row; the rows without a stranger say what it is.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from deploy.pki import Authority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.memory import scratch
from tests.harness.operator import Operator, cti_of, dumps, write_operators
from tests.harness.waiting import wait_for

_HONEST = 12  # limits of the honest operator while each kind comes


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
        "for another hub": lambda i: stranger.sign({1: -7, 3: 61, 4: grid.kid.encode()}, dumps({7: os.urandom(16)})),
    }


def measure(count: int = 10_000) -> list[dict[str, Any]]:
    """One row a kind."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="mh-stranger-"))
        folder = Path(name)
        authority = Authority(folder / "pki")
        authority.issue("broker", hosts=["localhost"])
        for common_name, file in (("MTR-1", "hub"), ("headend", "headend"), ("stranger", "stranger")):
            authority.issue(common_name, file_name=file)
        broker = Broker(folder / "broker", authority).start()
        control = ControlPoint(authority.directory, broker.port)
        grid, honest, stranger = Operator("grid"), Operator("honest"), Operator("stranger")
        operators = write_operators(folder / "operators.toml", grid, honest)
        # As on a board: run_dir in memory, for what is in hand is noted there before it is judged, 4 KiB a message.
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mh-", dir=scratch())))
        settings = {"control__operators_file": str(operators), "hub__run_dir": str(run_dir)}
        hub = Hub(folder / "hub", authority, broker.port, **settings)
        hub.run_dir = run_dir
        hub.start()
        try:
            hub.wait_uplink()
            time.sleep(2)
            return [
                {"kind": kind, **_one(hub, control, honest, broker, authority, make, count)}
                for kind, make in (("nothing", None), ("nothing, again", None), *kinds(grid, stranger).items())
            ]
        finally:
            hub.kill()
            control.stop()
            broker.stop()


def _one(
    hub: Hub, control: ControlPoint, honest: Operator, broker: Broker, authority: Authority,
    make: Callable[[int], bytes] | None, count: int,
) -> dict[str, Any]:  # fmt: skip
    messages = [] if make is None else [make(number) for number in range(count)]
    before = hub.status()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    pki = authority.directory
    client.tls_set(str(authority.ca_file), str(pki / "stranger.pem"), str(pki / "stranger.key"))
    client.max_inflight_messages_set(100)
    client.max_queued_messages_set(0)
    client.connect("localhost", broker.port)
    client.loop_start()
    begun = time.monotonic()
    last = None
    for message in messages:
        last = client.publish("meters/MTR-1/commands", message, qos=1)
    delays = []
    for _ in range(_HONEST):
        command = honest.command("limit", {"watts": 3000, "duration": 3600})
        sent = time.monotonic()
        control.send(command)
        wait_for("the receipt", lambda command=command: bool(control.receipts(cti_of(command))), 120)
        delays.append((time.monotonic() - sent) * 1000)
        time.sleep(0.02)
    if last is not None:
        last.wait_for_publish(300)
    final = honest.command("limit.cancel", {})
    control.send(final)  # the hub takes them in order: with this one's receipt it has seen all
    wait_for("the last receipt", lambda: bool(control.receipts(cti_of(final))), 300)
    took_s = time.monotonic() - begun
    client.loop_stop()
    client.disconnect()
    after = hub.status()
    return {
        "count": len(messages),
        "seconds": round(took_s, 1),
        "flash_bytes": after["store"]["written_bytes"] - before["store"]["written_bytes"],
        "uplink_bytes": after["uplink"]["payload_bytes"] - before["uplink"]["payload_bytes"],
        "honest_p50_ms": round(statistics.median(delays), 1),
        "honest_max_ms": round(max(delays), 1),
        "rss_bytes": after["process"]["rss_bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stranger", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    print("| messages | flash | uplink | an honest limit's receipt, p50 / longest | took |\n|---|---|---|---|---|")
    for row in measure(parser.parse_args().count):
        print(
            f"| {row['kind']} | {row['flash_bytes'] / 1000:.0f} kB | {row['uplink_bytes'] / 1000:.1f} kB | "
            f"{row['honest_p50_ms']:.0f} / {row['honest_max_ms']:.0f} ms | {row['seconds']} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
