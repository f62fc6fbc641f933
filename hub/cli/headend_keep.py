"""`meterhub headend keep`: the control point's durable book; asks for what is missing and tells hubs what is booked."""

import argparse
import json
import queue
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.cli.common import FINE, PROBLEM, complain
from hub.cli.headend_send import load_operator_key
from hub.cli.headend_watch import add_broker
from hub.wire.printable import why

_AT_ONCE = 500

if TYPE_CHECKING:
    from hub.headend.connection import BrokerDelivery


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "keep", help="keep the book of what hubs send, without a gap", description=_keep.__doc__
    )
    parser.set_defaults(verb=_keep)
    add_broker(parser, "--cert-key")
    parser.add_argument(
        "--hub-cert", type=Path, nargs="+", required=True, metavar="FILE", help="the hubs' certificates"
    )
    parser.add_argument("--book", type=Path, required=True, metavar="FILE", help="the book (SQLite); made if missing")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="key of an operator with the role read")
    parser.add_argument("--kid", required=True, help="that operator's key id")
    parser.add_argument("--client-id", default="headend-keep", help="the session at the broker (default: %(default)s)")
    parser.add_argument(
        "--gap-after-s", type=float, default=60, help="how long a number may be missing (default: %(default)s)"
    )
    parser.add_argument(
        "--booked-every-s", type=float, default=3600, help="how often hubs are told (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, help="end by itself; exit status 0 only when nothing is missing")
    return parser


def _keep(arguments: argparse.Namespace) -> int:
    """Enter each message durably before the broker is told that it was taken; ask for gaps; send `booked`."""
    from hub.headend.book import Book
    from hub.headend.bookkeeper import Bookkeeper
    from hub.headend.command_signer import CommandSigner
    from hub.headend.connection import BrokerConnection
    from hub.headend.inbox import Inbox

    try:
        key = load_operator_key(arguments.key)
        book = Book(arguments.book)
        keeper = Bookkeeper(
            Inbox(arguments.hub_cert, has_ledger=False), book, CommandSigner(book, arguments.kid, key),
            gap_after_s=arguments.gap_after_s,
        )  # fmt: skip
        connection = BrokerConnection(
            arguments.host, arguments.port, arguments.ca, arguments.cert, arguments.tls_key, arguments.client_id,
            acknowledges_late=True,
        )  # fmt: skip
        connection.start([f"meters/+/{lane}" for lane in ("readings", "events", "receipts", "answers", "heartbeat")])
    except (OSError, ValueError, sqlite3.Error) as error:
        complain(f"headend keep: {why(error)}")
        return PROBLEM
    loop = _Loop(arguments, keeper, connection)
    try:
        loop.run(None if arguments.seconds is None else time.monotonic() + arguments.seconds)
    except KeyboardInterrupt:
        pass
    connection.stop()
    status = loop.conclude()
    keeper.book.close()
    return status


class _Loop:
    def __init__(self, arguments: argparse.Namespace, keeper: Any, connection: Any) -> None:
        self._as_json = arguments.json
        self._keeper = keeper
        self._connection = connection
        self._booked_every_s = arguments.booked_every_s
        self._faults = 0

    def run(self, deadline: float | None) -> None:
        booked_at = time.monotonic() + min(self._booked_every_s, 10.0)
        asked_at = 0.0
        while deadline is None or time.monotonic() < deadline:
            self._take()
            now = time.monotonic()
            if now >= asked_at:
                asked_at = now + 1.0
                self._send(self._keeper.questions(now, int(time.time())))
            if now >= booked_at:
                booked_at = now + self._booked_every_s
                self._send(self._keeper.bookings(int(time.time())))
        self._send(self._keeper.bookings(int(time.time())))

    def _take(self) -> None:
        """What has arrived, in one transaction; then the broker has its acknowledgements."""
        taken = []
        try:
            taken.append(self._enter(self._connection.deliveries.get(timeout=0.2)))
            while len(taken) < _AT_ONCE:
                taken.append(self._enter(self._connection.deliveries.get_nowait()))
        except queue.Empty:
            pass
        self._keeper.book.commit()
        for delivery in taken:
            delivery.acknowledge()

    def _enter(self, delivery: "BrokerDelivery") -> "BrokerDelivery":
        received = self._keeper.take(delivery.topic, delivery.payload)
        if received.fault:
            self._faults += 1
            self._say("FAULT", f"{received.hub} {received.kind}: {received.fault}")
        return delivery

    def _send(self, commands: list[Any]) -> None:
        self._keeper.book.commit()  # a counter is used up before it is sent
        for command in commands:
            self._connection.send(command.topic, command.message)
            self._say(command.op, f"to {command.hub}")

    def conclude(self) -> int:
        book = self._keeper.book
        for lane in book.lanes():
            self._say("book", f"{lane.hub} epoch {lane.epoch} {lane.lane}: complete to {book.complete_to(lane)}")
        for kind, gaps in (("MISSING", book.gaps()), ("LOST", book.lost())):
            for gap in gaps:
                self._say(kind, f"{gap.lane.hub} epoch {gap.lane.epoch} {gap.lane.lane}: {gap.first}-{gap.last}")
        fine = not book.gaps() and not book.lost() and not self._faults
        self._say("end", f"{book.count()} messages in the book, {self._faults} faults")
        return FINE if fine else PROBLEM

    def _say(self, kind: str, text: str) -> None:
        print(json.dumps({"kind": kind, "text": text}) if self._as_json else f"{kind:9} {text}", flush=True)
