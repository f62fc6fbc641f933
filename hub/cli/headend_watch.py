"""`meterhub headend watch`: verify and print what hubs send, and tell of any missing number."""

import argparse
import json
import os
import queue
import sys
import time
from pathlib import Path
from typing import Any

from hub.cli.colour import marked
from hub.cli.common import FINE, PROBLEM, complain, format_time
from hub.cli.words import pairs, words
from hub.headend.archive import load, save
from hub.wire.printable import one_line, why
from hub.wire.uplink.cbor import encode
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
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep every message, for `meterhub headend audit`; goes on with an archive that is there",
    )
    return parser


def add_broker(parser: argparse.ArgumentParser, key_option: str) -> None:
    """The options that say where the broker is and who we are to it."""
    parser.add_argument("--host", default="localhost", help="the broker (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8883, help="(default: %(default)s)")
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="who certifies the broker")
    parser.add_argument("--cert", type=Path, required=True, metavar="FILE", help="the control point's certificate")
    parser.add_argument(key_option, dest="tls_key", type=Path, required=True, metavar="FILE", help="its key")


def _watch(arguments: argparse.Namespace) -> int:
    """Connect as the control point, verify every signature, print readings as they come, tell of any missing number.

    It may join at any time: what was sent before is missed by nobody, unless `--from-start` asks for it. With `--save`
    it goes on where the archive ends.
    """
    from hub.headend.connection import BrokerConnection
    from hub.headend.inbox import Inbox

    try:
        inbox = Inbox(arguments.hub_cert, from_start=arguments.from_start)
        watch = _Watch(inbox, arguments.json, arguments.save, from_start=arguments.from_start)
        watch.resume()
        connection = BrokerConnection(
            arguments.host, arguments.port, arguments.ca, arguments.cert, arguments.tls_key, arguments.client_id
        )
        # Of the hubs whose certificates were given, and what is said to all: another's messages could not be verified.
        own = [f"meters/{hub}/#" for hub in inbox.hubs]
        connection.start([*own, "meters/all/commands", "meters/group/+/commands"])
    except (OSError, ValueError) as error:
        complain(f"headend: {arguments.host}:{arguments.port}: {why(error)}")
        return PROBLEM
    deadline = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    try:
        while deadline is None or time.monotonic() < deadline:
            watch.step(connection)
    except KeyboardInterrupt:
        pass
    connection.stop()
    return watch.conclude()


class _Watch:
    """Prints what an Inbox makes of messages: a line for people, or with `as_json` one object a line."""

    def __init__(self, inbox: Any, as_json: bool, archive: Path | None, *, from_start: bool) -> None:
        self._inbox = inbox
        self._archive = archive
        self._as_json = as_json
        self._from_start = from_start
        self._begins: dict[Any, int] = {}  # where a lane was when it was first spoken of
        self._commands: dict[bytes, str] = {}  # what a receipt is about
        self._faults = 0
        self._readings = 0
        self._reported: dict[Any, Any] = {}

    def resume(self) -> None:
        """Go on with an earlier watch's archive; a last message that was cut short goes. Raises OSError, ValueError."""
        if self._archive is None or not self._archive.exists():
            return
        whole = count = 0
        for topic, payload in load(self._archive):
            whole += len(encode([topic, payload]))
            count += 1
            self._note(self._inbox.receive(topic, payload), payload)
        if whole < self._archive.stat().st_size:
            os.truncate(self._archive, whole)
        self._say("resumed", f"{self._archive}: {count} messages", file=str(self._archive), messages=count)

    def step(self, connection: Any) -> None:
        try:
            message = connection.messages.get(timeout=0.2)
        except queue.Empty:
            message = None
        while not connection.notices.empty():
            notice = connection.notices.get()
            self._say("link", notice, text=notice)
        if message is None:
            self._tell_missing()
            return
        if self._archive is not None:
            save(self._archive, *message)
        received = self._inbox.receive(*message)
        self._note(received, message[1])
        self._show(received)

    def _note(self, received: Any, payload: bytes) -> None:
        """Remember where lanes began, and what was commanded."""
        from hub.headend.ledger import Lane
        from hub.wire.uplink.command import BadCommand, parse_command

        if received.kind == "commands":
            try:
                command = parse_command(payload)
            except BadCommand:
                return
            if len(self._commands) > _COMMANDS:
                self._commands.clear()
            self._commands[command.cti] = f"{command.op} {words(command.args)} by {command.kid}"
        elif received.kind == "heartbeat" and not received.fault and not self._from_start:
            for lane, number in received.fields["n"].items():
                self._begins.setdefault(Lane(received.hub, received.fields["epoch"], lane), number)

    def _show(self, received: Any) -> None:
        envelope, at = received.envelope, {"hub": received.hub}
        if envelope is not None:
            at |= {"epoch": envelope.epoch, "lane": envelope.lane, "number": envelope.number}
        if received.fault:
            self._faults += 1
            self._say("FAULT", f"{received.hub} {received.kind}: {received.fault}", **at, text=received.fault)
        elif not received.is_new:
            name = f"{envelope.hub} epoch {envelope.epoch} {envelope.lane} {envelope.number}"
            was_compared = self._inbox.ledger.was_compared
            same = "identical" if was_compared else "not compared: it came too long ago, or before this watch"
            self._say("repeat", f"{name}, {same}", **at, compared=was_compared)
        elif received.readings:
            self._show_readings(received, at)
        elif received.kind == "receipts":
            self._show_receipt(received.fields, at)
        elif received.kind == "events":
            fields = {key: value for key, value in received.fields.items() if key not in ("t", "event", "x5c")}
            text = f"{received.hub} {received.fields.get('event')}  {_compact(fields)}".rstrip()
            self._say("event", f"{_moment(received.fields.get('t'))}  {text}", **at, **_plain(received.fields))
        elif received.kind not in ("heartbeat", "commands"):
            fields = _plain(received.fields)
            if type(fields.get("t")) is int:
                fields["t"] = _moment(fields["t"])
            self._say(received.kind, f"{received.hub} {_compact(fields)}", **at, **_plain(received.fields))

    def _show_receipt(self, claims: dict[Any, Any], at: dict[str, Any]) -> None:
        """`receipt 5: limit watts 1500, duration 60 by grid: accepted`."""
        cti = claims.get("re")
        about = self._commands.get(cti, f"command {cti.hex()}") if isinstance(cti, bytes) else "no command"
        detail = {key: _in_words(key, value) for key, value in (claims.get("detail") or {}).items()}
        parts = (words(claims.get("status")), claims.get("reason"), words(detail or None).strip("-"))
        said = " ".join(str(part) for part in parts if part)
        row = {key: claims.get(key) for key in ("re", "status", "reason", "detail", "i")}
        issued = claims.get(6)
        when = _moment(issued * 1000) if isinstance(issued, int) else "-"
        self._say("receipt", f"{when}  {at['hub']} {claims.get('i')}: {about}: {said}", **at, **_plain(row), iat=issued)

    def _show_readings(self, received: Any, at: dict[str, Any]) -> None:
        envelope = received.envelope
        self._readings += len(received.readings)
        name = f"{envelope.hub} epoch {envelope.epoch} pack {envelope.number}"
        count, size = len(received.readings), len(envelope.payload)
        self._say("verified", f"{name}: {count} readings in {size} B", **at, readings=count, bytes=size)
        for reading in received.readings:
            value, unit = format_decimal(reading.mantissa, reading.exponent), unit_of(reading.quantity)
            if self._as_json:
                row = {**reading._asdict(), "client": reading.client_id, "value": value, "unit": unit}
                del row["client_id"]
                print(json.dumps({"kind": "reading", "hub": envelope.hub, **row}))
                continue
            flag = f"  ({flags_in_words(reading.flags)})" if reading.flags else ""
            print(
                f"  {format_time(reading.t_ms)}  {reading.client_id:20} {reading.quantity:12} {value:>10} {unit}{flag}"
            )
        sys.stdout.flush()

    def _missing(self) -> dict[Any, list[tuple[int, int]]]:
        """What is missing of what was sent since this watch, or its archive, began."""
        found = {}
        for lane, ranges in self._inbox.missing().items():
            first = self._begins.get(lane, 1)
            if clipped := [(max(low, first), high) for low, high in ranges if high >= first]:
                found[lane] = clipped
        return found

    def _tell_missing(self) -> None:
        missing = self._missing()
        if missing != self._reported:
            self._reported = missing
            for lane, ranges in missing.items():
                self._say_missing("missing", lane, ranges)
            if not missing:
                self._say("complete", "no number is missing")

    def _say_missing(self, kind: str, lane: Any, ranges: list[tuple[int, int]]) -> None:
        self._say(
            kind, f"{lane.hub} epoch {lane.epoch} {lane.lane}: {_ranges(ranges)}", **lane._asdict(), ranges=ranges
        )

    def conclude(self) -> int:
        """The last word: what was booked, what is missing."""
        missing = self._missing()
        for lane, upto, repeats in self._inbox.ledger.lanes():
            text = f"{lane.hub} epoch {lane.epoch} {lane.lane}: complete to {upto}, {repeats} repeats"
            self._say("book", text, **lane._asdict(), upto=upto, repeats=repeats)
        for lane, ranges in missing.items():
            self._say_missing("MISSING", lane, ranges)
        fine = not missing and not self._faults
        self._say(
            "end",
            f"{self._readings} readings, {self._faults} faults, {'no number' if fine else 'SOMETHING'} is missing",
            readings=self._readings, faults=self._faults, complete=not missing,
        )  # fmt: skip
        return FINE if fine else PROBLEM

    def _say(self, kind: str, line: str, **row: Any) -> None:
        """`line` for people; `row` for programs."""
        print(
            json.dumps({"kind": kind.lower(), "text": line, **row})
            if self._as_json
            else marked(one_line(f"{kind:9} {line}")),
            flush=True,
        )


_COMMANDS = 10_000


def _moment(t_ms: Any) -> str:
    return format_time(t_ms) if type(t_ms) is int else "-"


_TIMES = ("start", "end", "until")  # of a receipt's detail, in UTC epoch seconds


def _in_words(key: Any, value: Any) -> Any:
    is_time = key in _TIMES and isinstance(value, int | float) and not isinstance(value, bool)
    return format_time(value * 1000) if is_time else value


def _plain(value: Any) -> Any:
    """As JSON has it: bytes in hexadecimal digits."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _ranges(ranges: list[tuple[int, int]]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _compact(fields: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in pairs(fields).items())
