"""`make run`: the main job, live, on this machine.

A development PKI, a broker, an emulated Zigbee radio on a pty with a small home behind it, the hub, and the control
point's view of it: readings arriving, each signature verified, every number accounted for. After a while the link to
the broker is cut for ten seconds, to show the backlog grow and drain; then the control point limits the household, and
the receipts that prove it are verified. Ctrl-C ends it all.
"""

import argparse
import contextlib
import errno
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from deploy.child_processes import ChildProcesses, spawn_radio
from deploy.faulty_proxy import Proxy
from deploy.janitor import Janitor
from deploy.local_broker import MOSQUITTO, Broker
from deploy.parent import end_with_parent
from deploy.pki import DevelopmentAuthority
from deploy.screen import Screen
from deploy.waiting import free_port
from hub.headend.connection import BrokerConnection
from hub.headend.inbox import Inbox, Received
from hub.headend.ledger import Lane
from hub.services.admin.client import NoDaemon, RequestRefused, ask
from hub.wire.keys.operators import operator_entry
from hub.wire.uplink.command import Command, sign_command
from hub.wire.uplink.envelope import FileSigner
from hub.wire.uplink.reading import UNITS, format_decimal
from hub.wire.uplink.receipt import FIRST_PREV, chain_hash

ROOT = Path(__file__).resolve().parents[1]
HUB_ID = "MTR-DEMO-1"
# The story, for SECONDS=60 and longer; a shorter one is squeezed to these fractions of a minute.
CUT_AFTER_S, CUT_FOR_S, LIMIT_FOR_S = 18.0, 10.0, 15.0
LIMIT_W = 2500
LEAST_S = 20.0
# Nothing else uses this broker, so the hub need not keep away from it: it is back well within three seconds.
RETRY_CAP_S = 1.5
DRAIN_S = 60.0
CONCLUDE_S = 3.0  # kept of the time that was asked for, to count in
SETTLE_S = 30.0
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


class DemoFailed(Exception):
    """The demonstration cannot go on; the text says why."""


class Parts:
    """PKI, broker, proxy, radio and hub in a folder: started one by one, ended together."""

    def __init__(self, folder: Path, screen: Screen, janitor: Janitor, pack_interval_s: float) -> None:
        self.folder, self.socket = folder, folder / "run" / "admin.sock"
        self.operator = ec.generate_private_key(ec.SECP256R1())
        self._screen, self._pack_interval_s = screen, pack_interval_s
        self._children = ChildProcesses(folder, janitor)
        self._cleanups: list[Callable[[], None]] = []
        self.protocol = "auto"

    def start_broker(self, *, embedded: bool) -> None:
        self.pki = self.folder / "pki"
        authority = DevelopmentAuthority(self.pki)
        authority.issue("broker", hosts=["localhost", "127.0.0.1"])
        authority.issue(HUB_ID, file_name="hub")
        authority.issue("headend")
        self._screen.say("keys", f"a CA; certificates for the broker, the hub {HUB_ID}, the control point")
        if MOSQUITTO and not embedded:
            broker = Broker(self.folder / "broker", authority).start(
                start_new_session=True, preexec_fn=self._children.enlist
            )  # fmt: skip
            self._cleanups.append(broker.stop)
            self.broker_port = broker.port
            self._screen.say("broker", "mosquitto, mutual TLS")
        else:
            self.broker_port = free_port()
            words = ["-m", "deploy.embedded_broker", str(self.broker_port), str(self.pki)]
            self._children.spawn("broker", *words, is_heard=True)
            self._first_line("broker")
            self.protocol = "3.1.1"
            self._screen.say("broker", "embedded (amqtt); with mosquitto installed it is that")
        self.proxy = Proxy(self.broker_port)
        self._cleanups.append(self.proxy.close)

    def start_radio(self) -> None:
        self.pty = spawn_radio(self._children, self.folder, HOME, is_heard=True)
        self._first_line("radio")
        self._screen.say("radio", "an emulated EZSP radio on a pty: a boiler, an EV charger, a fridge, a kettle's plug")

    def start_hub(self) -> Path:
        """Start it; the configuration file that it runs with."""
        operators = self.folder / "operators.toml"
        operators.write_text(operator_entry("demo", self.operator.public_key(), ["limit"], "Grid control"))
        config = self.folder / "hub.toml"
        config.write_text(
            f'[hub]\ndata_dir = "{self.folder}/data"\nrun_dir = "{self.folder}/run"\n'
            f'[radio]\npath = "{self.pty}"\n[han.udp]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[uplink]\nhost = "localhost"\nport = {self.proxy.port}\nca_file = "{self.pki}/ca.pem"\n'
            f'cert_file = "{self.pki}/hub.pem"\nkey_file = "{self.pki}/hub.key"\nprotocol = "{self.protocol}"\n'
            f"pack_interval_s = {self._pack_interval_s}\nboot_spread_s = 0\nretry_cap_s = {RETRY_CAP_S}\n"
            f'[control]\noperators_file = "{operators}"\n'
        )
        self._children.spawn("hub", "-m", "hub", "run", "--config", str(config))
        return config

    def _first_line(self, name: str) -> None:
        said = self._children[name].stdout
        assert said is not None
        if not said.readline():
            raise DemoFailed(f"a part did not start: {name}")

    def check(self) -> None:
        if name := self._children.ended():
            raise DemoFailed(f"a part ended by itself: {name}")

    def ask(self, what: str, **arguments: Any) -> Any:
        return ask(self.socket, what, **arguments)

    def stop(self) -> None:
        """End every part; nothing is left running."""
        self._children.stop()
        for cleanup in reversed(self._cleanups):
            with contextlib.suppress(Exception):
                cleanup()


class DemoControlPoint:
    """What the utility holds: each message verified and booked, each reading, each receipt in its chain."""

    def __init__(self, parts: Parts) -> None:
        self.inbox = Inbox([parts.pki / "hub.pem"])
        self.connection = BrokerConnection(
            "localhost", parts.broker_port, parts.pki / "ca.pem", parts.pki / "headend.pem", parts.pki / "headend.key",
            "control-point",
        )  # fmt: skip
        self.readings = self.doubled = self.repeats = self.sealed_bytes = self.messages = 0
        self.faults: list[str] = []
        self.statuses: list[str] = []
        self.watts: dict[str, float] = {}
        self._seen: set[tuple[str, str, int]] = set()
        self._chain, self._receipts = FIRST_PREV, 0

    def start(self) -> None:
        self.connection.start(["meters/#"])

    def next(self, timeout_s: float) -> Received | None:
        """The next message that is new, verified and booked; None when there is none for so long."""
        try:
            topic, payload = self.connection.messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        received = self.inbox.receive(topic, payload)
        if received.fault:
            self.faults.append(f"{topic}: {received.fault}")
        elif not received.is_new:
            self.repeats += 1
        else:
            self._book(received, payload)
        return received

    def _book(self, received: Received, message: bytes) -> None:
        self.messages += received.envelope is not None
        if received.kind == "readings":
            self.sealed_bytes += len(message)
        for reading in received.readings:
            key = (reading.client_id, reading.quantity, reading.t_ms)
            self.doubled += key in self._seen
            self._seen.add(key)
            self.readings += 1
            if reading.quantity == "power":
                self.watts[reading.client_id] = reading.mantissa * 10.0**reading.exponent
        if received.kind == "receipts":
            claims = received.fields
            if claims["prev"] != self._chain or claims["i"] != self._receipts + 1:
                self.faults.append(f"receipt {claims['i']} does not follow the one before")
            self._chain, self._receipts = chain_hash(message), claims["i"]
            self.statuses.append(claims["status"])

    def household_w(self) -> float:
        """What the appliances draw, by what they last said of their power."""
        return sum(self.watts.values())

    def missing(self, status: dict[str, Any]) -> int:
        """How many messages that the hub has numbered are not here."""
        for lane, row in status["queue"].items():
            self.inbox.announced.note(Lane(HUB_ID, status["epoch"], lane), row["next"])
        return sum(high - low + 1 for ranges in self.inbox.missing().values() for low, high in ranges)

    def lanes(self) -> str:
        """What is here without a gap."""
        return ", ".join(f"{lane.lane} 1-{upto}" for lane, upto, _ in self.inbox.ledger.lanes() if upto)


class Demo:
    """The story, told as it happens."""

    def __init__(self, parts: Parts, screen: Screen, seconds: float | None) -> None:
        self._parts, self._screen = parts, screen
        self._begun = time.monotonic()
        self._ends_at = None if seconds is None else self._begun + seconds
        self._squeeze = min(1.0, (seconds or 60.0) / 60.0)
        self._repeats_told = 0
        self._reconnected_s: float | None = None
        self._limited = False
        self._lost = 0

    def start(self, *, embedded: bool) -> None:
        screen, parts = self._screen, self._parts
        screen.line(screen.colour("meterhub: a hub, an emulated home, a broker and a control point, live", "bold"))
        screen.section("1  The parts")
        parts.start_broker(embedded=embedded)
        self.control_point = DemoControlPoint(parts)
        self.control_point.start()
        self._wait("the control point to connect", lambda: not self.control_point.connection.notices.empty())
        parts.start_radio()
        config = parts.start_hub()
        self._wait("the hub to serve", lambda: bool(parts.socket.exists() and parts.ask("status")))
        screen.say("hub", "serving; in another terminal, try:", "green")
        screen.line(f"    .venv/bin/meterhub status --config {config}")
        self._wait("the radio to come up", lambda: parts.ask("status")["radio"]["state"] == "up")
        radio = parts.ask("status")["radio"]
        screen.say("radio", f"network formed: channel {radio['channel']}, PAN {radio['pan_id']}; joining is permitted")
        parts.ask("radio.permit", duration_s=120)

    def tell(self) -> bool:
        """Show it all until the time is over (for ever where none was set); True when every reading arrived once."""
        self._screen.section("2  The home reports; the control point verifies each signature")
        self._show_until(self._begun + CUT_AFTER_S * self._squeeze)
        self._cut(CUT_FOR_S * self._squeeze)
        self._limit(max(5, round(LIMIT_FOR_S * self._squeeze)))
        try:
            if self._ends_at is None:
                self._screen.section("5  The home goes on until Ctrl-C")
            while self._ends_at is None or time.monotonic() < self._ends_at - CONCLUDE_S:
                self.show()
        except KeyboardInterrupt:
            self._screen.line()
        return self._conclude()

    # What is shown of each message

    def show(self, timeout_s: float = 0.1) -> None:
        """Show what arrived within a moment."""
        received = self.control_point.next(timeout_s)
        if received is None:
            return
        if received.fault:
            self._screen.say("FAULT", f"{received.kind}: {received.fault}", "red")
        elif received.is_new:
            self._tell_repeats()
            if received.kind == "readings":
                self._show_pack(received)
            elif received.kind == "receipts":
                self._show_receipt(received)
            elif received.kind in ("events", "state"):
                self._show_event(received)

    def _tell_repeats(self) -> None:
        count = self.control_point.repeats - self._repeats_told
        self._repeats_told += count
        if count:
            self._screen.say("again", f"{count} messages of before the cut came once more, byte for byte: booked once")

    def _show_pack(self, received: Received) -> None:
        latest: dict[str, dict[str, str]] = {}
        for reading in received.readings:
            value = f"{format_decimal(reading.mantissa, reading.exponent)} {UNITS.get(reading.quantity, '')}".strip()
            latest.setdefault(reading.client_id, {})[reading.quantity] = value
        what = ", ".join(
            f"{client} {row.get('power') or f'{next(iter(row))} {next(iter(row.values()))}'}"
            for client, row in latest.items()
        )
        envelope = received.envelope
        assert envelope is not None
        size = len(envelope.payload)
        self._screen.say(f"pack {envelope.number}", f"{len(received.readings)} readings, {size} B: {what}")
        if self._limited:
            self._draw_household("household")

    def _show_receipt(self, received: Received) -> None:
        claims = received.fields
        detail = ", ".join(
            f"{key} {time.strftime('%H:%M:%S', time.localtime(value)) if key in ('start', 'end') else _plain(value)}"
            for key, value in claims["detail"].items()
            if value not in ([], {})
        )
        text = f"{claims['status']}; verified, chained to the one before" + (f"; {detail}" if detail else "")
        self._screen.say(f"receipt {claims['i']}", text, "green" if claims["status"] != "refused" else "red")

    def _show_event(self, received: Received) -> None:
        fields = {key: value for key, value in received.fields.items() if key not in ("t", "clock", "event", "state")}
        name = received.fields.get("event") or received.fields.get("state", "")
        told = ", ".join(f"{key} {_plain(value)}" for key, value in fields.items())
        self._screen.say(received.kind.removesuffix("s"), f"{name}: {told}" if told else f"{name}")

    # The story

    def _wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._parts.check()
            with contextlib.suppress(NoDaemon, RequestRefused):
                if condition():
                    return
            self.show()
        raise DemoFailed(f"waited in vain for {what}")

    def _show_until(self, moment: float) -> None:
        while time.monotonic() < moment:
            self.show()

    def _waiting(self) -> int:
        """How many readings are at the hub alone."""
        return int(self._parts.ask("status")["queue"]["readings"]["unsealed"])

    def _cut(self, duration_s: float) -> None:
        screen = self._screen
        screen.section(f"3  The broker is cut off for {duration_s:.0f} s; the home goes on")
        screen.line("  readings that wait at the hub:")
        full = 30.0 * max(1.0, duration_s / 10)
        self._parts.proxy.cut()
        mended_at, drawn_at = time.monotonic() + duration_s, 0.0
        while time.monotonic() < mended_at:
            self.show()
            if time.monotonic() - drawn_at >= 1:
                drawn_at = time.monotonic()
                screen.bar("cut", self._waiting(), "", full, "yellow")
        self._parts.proxy.mend()
        mended_at = time.monotonic()
        screen.bar("mended", most := self._waiting(), "", full, "yellow")
        self._wait("the hub to reconnect", lambda: bool(self._parts.ask("status")["uplink"]["state"] == "up"), DRAIN_S)
        self._reconnected_s = time.monotonic() - mended_at
        screen.say("connected", f"the hub is back after {self._reconnected_s:.1f} s, by itself", "green")
        drawn = most
        while time.monotonic() < mended_at + DRAIN_S:
            waiting = self._waiting()
            if waiting < drawn:
                drawn = waiting
                screen.bar("drains", waiting, "", full, "green")
            if waiting < most / 2 and self._is_complete():
                break
            self.show(0.02)
        self._tell_completeness()

    def _is_complete(self) -> bool:
        """Whether the control point holds everything that the hub has numbered until now."""
        return self.control_point.missing(self._parts.ask("status")) == 0

    def _tell_completeness(self) -> None:
        """Told when the control point has read everything, not when the broker has."""
        self._wait_while_incomplete()
        if self._lost:
            self._screen.say("MISSING", f"{self._lost} messages", "red")
        else:
            self._screen.say("complete", f"no number is missing: {self.control_point.lanes()}", "green")

    def _wait_while_incomplete(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while (lost := self.control_point.missing(self._parts.ask("status"))) and time.monotonic() < deadline:
            self.show(0.02)
        self._lost = lost

    def _limit(self, duration_s: int) -> None:
        """Limit the household, as an operator would: `meterhub headend send limit ...`."""
        screen, point = self._screen, self.control_point
        screen.section(f"4  The control point limits the household to {LIMIT_W} W for {duration_s} s")
        self._full_w = max(point.household_w(), float(LIMIT_W))
        self._draw_household("before")
        screen.bar("limit", LIMIT_W, "W", self._full_w, "yellow")
        now = int(time.time())
        command = Command(
            kid="demo", aud=HUB_ID, exp=now + 300, nbf=None, iat=now, cti=os.urandom(16), ctr=now, op="limit",
            args={"watts": LIMIT_W, "duration": duration_s},
        )  # fmt: skip
        screen.say("command", 'limit, signed by operator "Grid control"', "yellow")
        message = sign_command(FileSigner(self._parts.operator, b""), command)
        self._limited = True
        point.connection.send(f"meters/{HUB_ID}/commands", message)
        self._wait("the limit to be over", lambda: "completed" in point.statuses, duration_s + 60.0)
        told_at = time.monotonic()
        while point.household_w() <= LIMIT_W and time.monotonic() < told_at + 8:
            self.show()
        self._limited = False
        self._draw_household("after")

    def _draw_household(self, label: str) -> None:
        watts = self.control_point.household_w()
        colour = "green" if watts <= LIMIT_W else "blue"
        self._screen.bar(label, watts, "W", self._full_w, colour, limit=LIMIT_W)

    def _conclude(self) -> bool:
        """Count: what the hub took, against what the control point holds."""
        screen, point = self._screen, self.control_point
        taken = self._settled_readings()
        lost = taken - (point.readings - point.doubled)
        fine = not lost and not self._lost and not point.doubled and not point.faults and point.readings > 0
        fine = fine and "completed" in point.statuses and "refused" not in point.statuses
        screen.section("Result")
        bad = "red" if lost or self._lost else "green"
        screen.row("readings", str(point.readings), "each signed, verified and booked")
        screen.row("lost", str(lost), f"of {taken} that the hub took", bad)
        screen.row("doubled", str(point.doubled), f"{point.repeats} messages came again, and were known", bad)
        each = point.sealed_bytes / point.readings if point.readings else 0.0
        screen.row("bytes a reading", f"{each:.1f}", "signed, in packs of seconds; a minute: 4")
        if self._reconnected_s is not None:
            screen.row("seconds to reconnect", f"{self._reconnected_s:.1f}", "from the broker's return")
        for fault in dict.fromkeys(point.faults):
            screen.say("FAULT", fault, "red")
        screen.line(
            "  " + (screen.colour("fine", "green", "bold") if fine else screen.colour("NOT fine", "red", "bold"))
        )
        return fine

    def _settled_readings(self) -> int:
        """How many readings the hub has taken and sealed, once the control point holds them: the home goes on, so what
        waits for its pack does not count. After SETTLE_S: as it is."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            status = self._parts.ask("status")
            taken = int(status["store"]["readings"]) - int(status["queue"]["readings"]["unsealed"])
            self._lost = self.control_point.missing(status)
            if (self._lost == 0 and taken == self.control_point.readings) or time.monotonic() > deadline:
                return taken
            self.show(0.05)


def _plain(value: Any) -> str:
    """A value of a receipt or an event as a person writes it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bytes):
        return value.hex()
    return f"{value:.0f}" if isinstance(value, float) else str(value)


class _Ended(BaseException):
    """A signal that ends the demonstration."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, _frame: FrameType | None) -> None:
    raise _Ended(number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end by itself; exit status 0 only if every number arrived")
    parser.add_argument("--pack-interval", type=float, default=3.0, help="seconds of readings per pack (default: 3)")
    parser.add_argument("--embedded-broker", action="store_true", help="even where mosquitto is installed")
    parser.add_argument("--end-with-parent", action="store_true", help="end when the process that started this is gone")
    arguments = parser.parse_args()
    if arguments.seconds is not None and arguments.seconds < LEAST_S:
        parser.error(f"--seconds: {LEAST_S:.0f} at least, for the whole story")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if arguments.end_with_parent:
        end_with_parent(signal.SIGHUP)
    folder = Path(tempfile.mkdtemp(prefix="meterhub-", dir="/tmp"))
    janitor = Janitor(folder)
    screen = Screen()
    parts = Parts(folder, screen, janitor, arguments.pack_interval)
    failure: str | None = ""
    status = 1
    try:
        status, failure = _show(parts, screen, arguments.seconds, embedded=arguments.embedded_broker)
    except _Ended as ended:  # also while it was being told that the terminal has gone
        status, failure = 128 + ended.number, None
    finally:
        # From here on nothing interrupts: a second Ctrl-C must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        parts.stop()
        with contextlib.suppress(OSError):
            _tidy(folder, screen, failure)
        janitor.dismiss()
    return status


def _show(parts: Parts, screen: Screen, seconds: float | None, *, embedded: bool) -> tuple[int, str | None]:
    """The whole of it: the exit status, and what failed (None: nothing, so that no log need be kept)."""
    try:
        demo = Demo(parts, screen, seconds)
        demo.start(embedded=embedded)
        return (0, None) if demo.tell() else (1, "")
    except KeyboardInterrupt:
        return 130, None
    except DemoFailed as error:
        return 1, str(error)
    except OSError as error:
        nobody_looks = error.errno in (errno.EPIPE, errno.EIO)
        return 1, None if nobody_looks else str(error)


def _tidy(folder: Path, screen: Screen, failure: str | None) -> None:
    """Remove the folder: after a failure all of it but the logs. No key stays in any case."""
    if failure is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            for log in path.glob("*.log"):
                log.replace(folder / log.name)
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".log":
            path.unlink()
    if failure:
        screen.say("failed", failure, "red")
    screen.line(f"the logs are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
