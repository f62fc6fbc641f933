"""`make run`: the main job, live, on this machine.

A development PKI, a broker, an emulated Zigbee radio on a pty with a small home behind it, the hub, and the control
point's view of it: readings arriving, each signature verified, every number accounted for. After a while the link to
the broker is cut for ten seconds, to show the backlog grow and drain; then the control point limits the household, and
the receipts that prove it are verified. Ctrl-C ends it all.
"""

import argparse
import contextlib
import ctypes
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from deploy.pki import Authority
from hub.headend.connection import Connection
from hub.headend.inbox import Inbox, Received
from hub.headend.ledger import Lane
from hub.services.admin.client import NoDaemon, Refused, ask
from hub.wire.keys.operators import operator_entry
from hub.wire.uplink.command import Command, sign_command
from hub.wire.uplink.envelope import FileSigner
from hub.wire.uplink.reading import UNITS, format_decimal
from hub.wire.uplink.receipt import FIRST_PREV, chain_hash
from tests.harness.broker import MOSQUITTO, Broker
from tests.harness.proxy import Proxy
from tests.harness.waiting import free_port

ROOT = Path(__file__).resolve().parents[1]
HUB_ID = "MTR-DEMO-1"
CUT_AFTER_S = 20.0
CUT_FOR_S = 10.0
LIMIT_W, LIMIT_FOR_S = 2500, 15
SETTLE_S = 20.0
HOME = {
    "seed": 1,
    "devices": [
        _adapter := {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "name": "Boiler",
                     "period_s": 2, "appliance": {"kind": "boiler", "nominal_w": 2000}},
        {**_adapter, "ieee": "00:0d:6f:00:00:00:00:03", "client_id": "ev-charger", "name": "EV charger",
         "appliance": {"kind": "ev", "nominal_w": 7200}},
        {**_adapter, "ieee": "00:0d:6f:00:00:00:00:04", "client_id": "fridge", "name": "Fridge", "period_s": 5,
         "appliance": {"kind": "fridge"}},
        {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "name": "Kettle", "appliance": "kettle"},
    ],
}  # fmt: skip


def _die_with_parent() -> None:
    """In a child before exec: if the demonstration is killed outright, its children go too (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Demo:
    """Starts the parts, shows what the control point sees, and takes everything down again."""

    def __init__(self, directory: Path, pack_interval_s: float, *, embedded_broker: bool = False) -> None:
        self._embedded_broker = embedded_broker
        self._directory = directory
        self._children: list[subprocess.Popen[bytes]] = []
        self._cleanups: list[Callable[[], None]] = []
        self._pack_interval_s = pack_interval_s
        self._begun = time.monotonic()
        self._readings = 0
        self._faults = 0
        self._repeats = 0
        self._socket = directory / "run" / "admin.sock"
        self._chain, self._receipts = FIRST_PREV, 0
        self._statuses: list[str] = []

    def say(self, who: str, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f}  {who:9} {text}", flush=True)

    # Parts

    def start(self) -> None:
        pki = self._directory / "pki"
        authority = Authority(pki)
        authority.issue("broker", hosts=["localhost", "127.0.0.1"])
        authority.issue(HUB_ID, file_name="hub")
        authority.issue("headend")
        self.say("pki", f"a CA and certificates for the broker, the hub {HUB_ID} and the control point")
        broker_port = self._start_broker(authority)
        self.proxy = Proxy(broker_port)
        self._cleanups.append(self.proxy.close)
        self.inbox = Inbox([pki / "hub.pem"])
        self.control_point = Connection(
            "localhost", broker_port, authority.ca_file, pki / "headend.pem", pki / "headend.key", "control-point"
        )
        self.control_point.start(["meters/#"])
        self._cleanups.append(self.control_point.stop)
        self._wait("the control point to connect", lambda: not self.control_point.notices.empty())
        self._start_radio()
        self._operator = ec.generate_private_key(ec.SECP256R1())
        self._start_hub(pki)

    def _start_broker(self, authority: Authority) -> int:
        if MOSQUITTO and not self._embedded_broker:
            broker = Broker(self._directory / "broker", authority).start()
            self._cleanups.append(broker.stop)
            self.protocol = "auto"
            self.say("broker", "mosquitto, mutual TLS")
            return broker.port
        port = free_port()
        child = self._spawn("broker", "-m", "deploy.embedded_broker", str(port), str(authority.directory))
        assert child.stdout is not None
        child.stdout.readline()
        self.protocol = "3.1.1"
        self.say("broker", "embedded (amqtt); install mosquitto for the real thing")
        return port

    def _start_radio(self) -> None:
        home = self._directory / "home.json"
        home.write_text(json.dumps(HOME))
        self._pty = self._directory / "radio"
        child = self._spawn(
            "radio", "-m", "tests.emulators.serve", "--link", str(self._pty), "--home", str(home),
            "--state", str(self._directory / "ncp.json"), "--control", str(self._directory / "radio.sock"),
            "--baud", "115200",
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        self.say("radio", "an emulated EZSP radio on a pty, with a boiler, an EV charger, a fridge and a kettle's plug")

    def _start_hub(self, pki: Path) -> None:
        config = self._directory / "hub.toml"
        config.write_text(
            f'[hub]\ndata_dir = "{self._directory}/data"\nrun_dir = "{self._directory}/run"\n'
            f'[radio]\npath = "{self._pty}"\n[han.udp]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[uplink]\nhost = "localhost"\nport = {self.proxy.port}\nca_file = "{pki}/ca.pem"\n'
            f'cert_file = "{pki}/hub.pem"\nkey_file = "{pki}/hub.key"\nprotocol = "{self.protocol}"\n'
            f"pack_interval_s = {self._pack_interval_s}\nboot_spread_s = 0\n"
            f'[control]\noperators_file = "{self._write_operators()}"\n'
        )
        self._spawn("hub", "-m", "hub", "run", "--config", str(config))
        self._wait("the hub to serve", lambda: self._socket.exists())
        self.say("hub", f"serving; try: .venv/bin/meterhub status --config {config}")
        self._wait("the radio to come up", lambda: self._ask("status")["radio"]["state"] == "up")
        radio = self._ask("status")["radio"]
        self.say(
            "hub", f"Zigbee network formed: channel {radio['channel']}, PAN {radio['pan_id']}; joining is permitted"
        )
        self._ask("radio.permit", duration_s=120)

    def _write_operators(self) -> Path:
        """Who may command this hub: one operator, who may limit load."""
        file = self._directory / "operators.toml"
        file.write_text(operator_entry("demo", self._operator.public_key(), ["limit"], "Grid control"))
        return file

    def _spawn(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._directory / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE if name != "hub" else log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self._children.append(child)
        return child

    def _ask(self, what: str, **arguments: Any) -> Any:
        return ask(self._socket, what, **arguments)

    def _wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for child in self._children:
                if child.poll() is not None:
                    raise SystemExit(f"demo: a part ended by itself; see the logs in {self._directory}")
            with contextlib.suppress(NoDaemon, Refused):
                if condition():
                    return
            self.show()
        raise SystemExit(f"demo: waited in vain for {what}; see the logs in {self._directory}")

    # What the control point sees

    def show(self, timeout_s: float = 0.1) -> None:
        """Print what arrived within a moment."""
        try:
            topic, payload = self.control_point.messages.get(timeout=timeout_s)
        except queue.Empty:
            return
        received = self.inbox.receive(topic, payload)
        if received.is_new and self._repeats:
            self.say("repeats", f"{self._repeats} messages of just before the cut came again, byte for byte the same")
            self._repeats = 0
        if received.fault:
            self._faults += 1
            self.say("FAULT", f"{topic}: {received.fault}")
        elif not received.is_new:
            self._repeats += 1  # said in one line, when something new comes
            return
        elif received.readings:
            self._show_pack(received)
        elif received.kind == "receipts":
            self._show_receipt(received, payload)
        elif received.kind in ("events", "state"):
            fields = {key: value for key, value in received.fields.items() if key not in ("t", "clock")}
            self.say(received.kind, "  ".join(f"{key}={value}" for key, value in fields.items()))

    def _show_receipt(self, received: Received, message: bytes) -> None:
        claims = received.fields
        whole = claims["prev"] == self._chain and claims["i"] == self._receipts + 1
        self._chain, self._receipts = chain_hash(message), claims["i"]
        self._faults += not whole
        detail = "  ".join(f"{key}={value}" for key, value in claims["detail"].items() if value not in ([], {}))
        chained = "chained to the one before" if whole else "NOT chained"
        self.say("receipt", f"{claims['i']}, verified, {chained}: {claims['status']}   {detail}")
        self._statuses.append(claims["status"])

    def _show_pack(self, received: Received) -> None:
        self._readings += len(received.readings)
        latest: dict[str, dict[str, str]] = {}
        for reading in received.readings:
            value = format_decimal(reading.mantissa, reading.exponent) + " " + UNITS.get(reading.quantity, "")
            latest.setdefault(reading.client_id, {})[reading.quantity] = value.strip()
        envelope = received.envelope
        assert envelope is not None
        what = "; ".join(f"{client} {row.get('power') or next(iter(row.values()))}" for client, row in latest.items())
        size = len(envelope.payload)
        self.say("verified", f"pack {envelope.number}: {len(received.readings):3} readings in {size:4} B   {what}")

    # The story

    def tell(self, seconds: float | None) -> bool:
        """Show the home until `seconds` are over (for ever when None); True when every number arrived."""
        ends_at = None if seconds is None else self._begun + seconds
        cut_at = self._begun + CUT_AFTER_S
        if ends_at is not None:
            cut_at = min(cut_at, self._begun + max(0.0, seconds or 0.0) / 3)
        self._show_until(cut_at, ends_at)
        if ends_at is None or time.monotonic() < ends_at:
            self._cut(min(CUT_FOR_S, (seconds or 60.0) / 4))
        self._limit(round(min(LIMIT_FOR_S, (seconds or 60.0) / 4)))
        try:
            while ends_at is None or time.monotonic() < ends_at:
                self.show()
        except KeyboardInterrupt:
            self.say("end", "Ctrl-C")
        return self._conclude()

    def _show_until(self, moment: float, ends_at: float | None) -> None:
        while time.monotonic() < moment and (ends_at is None or time.monotonic() < ends_at):
            self.show()

    def _cut(self, duration_s: float) -> None:
        self.say("CUT", f"the broker is gone for {duration_s:.0f} s; the home goes on")
        self.proxy.cut()
        mended_at = time.monotonic() + duration_s
        told_at = 0.0
        while time.monotonic() < mended_at:
            self.show()
            if time.monotonic() - told_at >= 2:
                told_at = time.monotonic()
                status = self._ask("status")
                self.say(
                    "backlog",
                    f"{status['queue']['readings']['unsealed']} readings wait; uplink {status['uplink']['state']}",
                )
        self.say("MENDED", "the broker is back; the hub reconnects by itself")
        self.proxy.mend()
        self._wait("the backlog to drain", self._is_drained, 120)
        self.say("drained", self._completeness())

    def _limit(self, duration_s: int) -> None:
        """Limit the household, as an operator would: `meterhub headend send limit ...`."""
        now = int(time.time())
        command = Command(
            kid="demo", aud=HUB_ID, exp=now + 300, nbf=None, iat=now, cti=os.urandom(16), ctr=now, op="limit",
            args={"watts": LIMIT_W, "duration": duration_s},
        )  # fmt: skip
        self.say("LIMIT", f"the control point limits the household to {LIMIT_W} W for {duration_s} s, signed")
        message = sign_command(FileSigner(self._operator, b""), command)
        self.control_point.send(f"meters/{HUB_ID}/commands", message)
        self._wait("the limit's end", lambda: "completed" in self._statuses, duration_s + 30.0)
        self.say("released", f"after {duration_s} s everybody has their power back; receipts: {self._statuses}")

    def _is_drained(self) -> bool:
        status = self._ask("status")
        lanes = status["queue"]
        return status["uplink"]["state"] == "up" and all(row["pending"] == 0 for row in lanes.values()) and (
            lanes["readings"]["unsealed"] < 50
        )  # fmt: skip

    def _missing(self) -> dict[Lane, list[tuple[int, int]]]:
        status = self._ask("status")
        for lane, row in status["queue"].items():
            self.inbox.announced[Lane(HUB_ID, status["epoch"], lane)] = row["next"]
        return self.inbox.missing()

    def _completeness(self) -> str:
        missing = self._missing()
        if missing:
            return f"MISSING: {missing}"
        counts = ", ".join(f"{lane.lane} 1-{upto}" for lane, upto, _ in self.inbox.ledger.lanes() if upto)
        return f"no number is missing ({counts}; {self._readings} readings verified)"

    def _conclude(self) -> bool:
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and (not self._is_drained() or self._missing()):
            self.show()
        fine = not self._missing() and not self._faults and self._readings > 0 and "applied" in self._statuses
        self.say("result", self._completeness() + ("" if fine else "; NOT fine"))
        return fine

    def stop(self) -> None:
        """End every part; nothing is left running."""
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(6)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for cleanup in reversed(self._cleanups):
            with contextlib.suppress(Exception):
                cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end by itself; exit status 0 only if every number arrived")
    parser.add_argument("--pack-interval", type=float, default=3.0, help="seconds of readings per pack (default: 3)")
    parser.add_argument("--embedded-broker", action="store_true", help="even where mosquitto is installed")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="meterhub-", dir="/tmp"))
    demo = Demo(directory, arguments.pack_interval, embedded_broker=arguments.embedded_broker)
    fine = False
    try:
        demo.start()
        fine = demo.tell(arguments.seconds)
        return 0 if fine else 1
    except KeyboardInterrupt:
        fine = arguments.seconds is None
        return 130
    finally:
        demo.stop()
        if fine:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"the logs are in {directory}")


if __name__ == "__main__":
    sys.exit(main())
