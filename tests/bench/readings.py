"""Readings, one in each message, from adapters over UDP to the far end: how many a second are acknowledged, and arrive.

A whole hub, mosquitto over mutual TLS, the C load, a control point that keeps every message. Afterwards each signature
is verified, no number may be missing, and there must be as many readings as were acknowledged. The hub sends packs as
fast as it can (`uplink.drain_kb_s = 0`). `.venv/bin/python -m tests.bench.readings`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from drivers.process import cpu_s
from hub.bench.peer import LocalBroker, free_udp_port, start_hub
from hub.bench.uplink import HUB, Child, listen
from hub.headend.inbox import Inbox
from hub.services.admin.client import ask
from tests.bench.gateway import build_load

_DRAINED_S = 120.0
_READING = "230.1"


def measure(clients: int, seconds: float) -> dict[str, Any]:
    """One run. Raises AssertionError where a reading is missing, or more came than were sent."""
    with tempfile.TemporaryDirectory(prefix="mh-bench-", dir="/tmp") as folder:
        place = Path(folder)
        program = build_load(place)
        if program is None:
            raise SystemExit("bench: a C compiler is needed (apt-get install gcc)")
        broker = LocalBroker(place)
        listener = Child(listen, str(place), broker.port)
        listener.ask(30)
        port = free_udp_port()
        hub = start_hub(place, broker.port, port, "pack_interval_s = 1\ndrain_kb_s = 0\n")
        try:
            begun, cpu = time.monotonic(), cpu_s(hub.pid)
            words = [program, port, clients, seconds, _READING, 1, 1, 1]
            done = subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)
            count, took, p50_us, p99_us, again = done.stdout.split()
            _wait_drained(place)
            drained_s, cpu = time.monotonic() - begun, cpu_s(hub.pid) - cpu
            listener.pipe.send("end")
            listener.ask(60)
        finally:
            hub.kill()
            hub.wait()
            listener.stop()
            broker.stop()
        arrived = _arrived(place)
        # What was under way as the load ended was taken, and not acknowledged to anybody.
        assert int(count) <= arrived <= int(count) + clients, f"{arrived} arrived of {count} that were acknowledged"
    return {
        "clients": clients,
        "acknowledged_per_s": round(int(count) / float(took)),
        "arrived_per_s": round(arrived / drained_s),
        "p50_ms": int(p50_us) / 1000,
        "p99_ms": int(p99_us) / 1000,
        "retransmissions": int(again),
        "cpu_s_per_10000": round(cpu / arrived * 10_000, 2),
        "verified": arrived,
    }


def _wait_drained(place: Path) -> None:
    ends_at = time.monotonic() + _DRAINED_S
    while time.monotonic() < ends_at:
        lane = ask(place / "run" / "admin.sock", "queue")["readings"]
        if not lane["unsealed"] and not lane["pending"]:
            return
        time.sleep(0.05)
    raise TimeoutError("the readings did not drain")


def _arrived(place: Path) -> int:
    """Readings in messages that are genuine and new; no number missing."""
    inbox, readings = Inbox([place / "hub.pem"]), 0
    with (place / "arrived").open("rb") as file:
        while head := file.read(4):
            received = inbox.receive(f"meters/{HUB}/readings", file.read(int.from_bytes(head, "big")))
            assert not received.fault, received.fault
            readings += len(received.readings) if received.is_new else 0
    assert not [gap for lane, _, _ in list(inbox.ledger.lanes()) for gap in inbox.ledger.missing(lane)]
    return readings


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    for clients in (1, 20, 100):
        print(json.dumps(measure(clients, seconds)), flush=True)
