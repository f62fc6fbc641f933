"""`meterhub headend watch`: verify and print what hubs send, and tell of any missing number."""

import argparse
import json
import queue
import sys
import time
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, PROBLEM, complain, format_time
from hub.cli.words import pairs
from hub.headend.archive import save
from hub.wire.printable import why
from hub.wire.uplink.reading import flags_in_words, format_decimal, unit_of


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "watch", help="verify and print what hubs send", description=_watch.__doc__
    )
    parser.set_defaults(verb=_watch)
    add_broker(parser, "--key")
    parser.add_argument(
        "--hub-cert", type=Path, nargs="+", required=True, metavar="FILE", help="the certificates of the hubs to verify"
    )
    parser.add_argument("--client-id", default="", help="keep a session at the broker under this name")
    parser.add_argument(
        "--from-start", action="store_true", help="numbers from 1 are expected, not from the first seen"
    )
    parser.add_argument("--seconds", type=float, help="end by itself; exit status 0 only when no number is missing")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep every message, for `meterhub headend audit`")
    return parser


def add_broker(parser: argparse.ArgumentParser, key_option: str) -> None:
    """The options that say where the broker is and who we are to it."""
    parser.add_argument("--host", default="localhost", help="the broker (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8883, help="(default: %(default)s)")
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="who certifies the broker")
    parser.add_argument("--cert", type=Path, required=True, metavar="FILE", help="the control point's certificate")
    parser.add_argument(key_option, dest="tls_key", type=Path, required=True, metavar="FILE", help="its key")


def _watch(arguments: argparse.Namespace) -> int:
    """Connect as the control point, verify every signature, print readings as they come, tell of any missing number."""
    from hub.headend.connection import BrokerConnection
    from hub.headend.inbox import Inbox

    try:
        inbox = Inbox(arguments.hub_cert, from_start=arguments.from_start)
        connection = BrokerConnection(
            arguments.host, arguments.port, arguments.ca, arguments.cert, arguments.tls_key, arguments.client_id
        )
        connection.start(["meters/#"])
    except (OSError, ValueError) as error:
        complain(f"headend: {arguments.host}:{arguments.port}: {why(error)}")
        return PROBLEM
    watch = _Watch(inbox, arguments.json, arguments.save)
    deadline = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    try:
        while deadline is None or time.monotonic() < deadline:
            watch.step(connection)
    except KeyboardInterrupt:
        pass
    connection.stop()
    return watch.conclude()


class _Watch:
    """Prints what an Inbox makes of messages."""

    def __init__(self, inbox: Any, as_json: bool, archive: Path | None) -> None:
        self._inbox = inbox
        self._archive = archive
        self._as_json = as_json
        self._faults = 0
        self._readings = 0
        self._reported: dict[Any, Any] = {}

    def step(self, connection: Any) -> None:
        try:
            message = connection.messages.get(timeout=0.2)
        except queue.Empty:
            message = None
        while not connection.notices.empty():
            self._say("link", connection.notices.get())
        if message is None:
            self._tell_missing()
            return
        if self._archive is not None:
            save(self._archive, *message)
        self._show(self._inbox.receive(*message))

    def _show(self, received: Any) -> None:
        if received.fault:
            self._faults += 1
            self._say("FAULT", f"{received.hub} {received.kind}: {received.fault}")
        elif not received.is_new:
            envelope = received.envelope
            name = f"{envelope.hub} epoch {envelope.epoch} {envelope.lane} {envelope.number}"
            same = "identical" if self._inbox.ledger.was_compared else "not compared: it came too long ago"
            self._say("repeat", f"{name}, {same}")
        elif received.readings:
            self._show_readings(received)
        elif received.kind not in ("heartbeat", "commands"):
            self._say(received.kind, f"{received.hub} {_compact(received.fields)}")

    def _show_readings(self, received: Any) -> None:
        envelope = received.envelope
        self._readings += len(received.readings)
        name = f"{envelope.hub} epoch {envelope.epoch} pack {envelope.number}"
        self._say("verified", f"{name}: {len(received.readings)} readings in {len(envelope.payload)} B")
        for reading in received.readings:
            if self._as_json:
                row = {"hub": envelope.hub, **reading._asdict()}
                print(json.dumps({"kind": "reading", **row}))
                continue
            flag = f"  ({flags_in_words(reading.flags)})" if reading.flags else ""
            value = format_decimal(reading.mantissa, reading.exponent)
            unit = unit_of(reading.quantity)
            print(
                f"  {format_time(reading.t_ms)}  {reading.client_id:20} {reading.quantity:12} {value:>10} {unit}{flag}"
            )
        sys.stdout.flush()

    def _tell_missing(self) -> None:
        missing = self._inbox.missing()
        if missing != self._reported:
            self._reported = missing
            for lane, ranges in missing.items():
                self._say("missing", f"{lane.hub} epoch {lane.epoch} {lane.lane}: {_ranges(ranges)}")
            if not missing:
                self._say("complete", "no number is missing")

    def conclude(self) -> int:
        """The last word: what was booked, what is missing."""
        missing = self._inbox.missing()
        for lane, upto, repeats in self._inbox.ledger.lanes():
            self._say("book", f"{lane.hub} epoch {lane.epoch} {lane.lane}: complete to {upto}, {repeats} repeats")
        for lane, ranges in missing.items():
            self._say("MISSING", f"{lane.hub} epoch {lane.epoch} {lane.lane}: {_ranges(ranges)}")
        fine = not missing and not self._faults
        self._say(
            "end",
            f"{self._readings} readings, {self._faults} faults, {'no number' if fine else 'SOMETHING'} is missing",
        )
        return FINE if fine else PROBLEM

    def _say(self, kind: str, text: str) -> None:
        print(json.dumps({"kind": kind, "text": text}) if self._as_json else f"{kind:9} {text}", flush=True)


def _ranges(ranges: list[tuple[int, int]]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _compact(fields: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in pairs(fields).items())
