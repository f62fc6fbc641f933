"""`meterhub queue`: what waits for the utility, lane by lane, and how that went; also on a stopped hub's database."""

import argparse
from collections.abc import Iterable
from typing import Any

from hub.cli.common import FINE, Subparsers, add_bundle_option, add_verb, duration, print_json, print_table
from hub.cli.drawing import add_drawing_options, draw, is_drawing
from hub.cli.offline import ask_or_open, ask_or_read

_LANES = ("readings", "events", "receipts", "answers")


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "queue", queue, "what waits to be sent, lane by lane")
    add_bundle_option(parser)
    add_drawing_options(parser, "how much waited during the last day")


def queue(arguments: argparse.Namespace) -> int:
    if is_drawing(arguments):
        return draw(arguments, list(history_rows(ask_or_read(arguments, "history"))))
    lanes = ask_or_open(arguments, "queue", lambda view: view.queue_status())
    if arguments.json:
        print_json(lanes)
        return FINE
    print_table(
        ("lane", "pending", "oldest", "acknowledged", "booked", "next", "unsealed"),
        [
            (
                lane, row["pending"], None if row["oldest_s"] is None else duration(row["oldest_s"]),
                row.get("acknowledged"), row.get("booked"), row["next"], row.get("unsealed"),
            )
            for lane, row in lanes.items()
        ],
        units=("", "messages", "", "up to number", "up to number", "number", "readings"),
    )  # fmt: skip
    return FINE


def history_rows(points: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Rows to draw: what waited in each lane that was not always empty, and of readings what was not packed yet and how
    old the oldest was."""
    shown = [("readings", "readings", "pending", "messages")]
    shown += [(lane, lane, "pending", "messages") for lane in _LANES[1:] if any(point[lane] for point in points)]
    shown += [("readings", "unsealed", "not packed", "readings"), ("readings", "oldest_s", "oldest", "s")]
    for client, key, quantity, unit in shown:
        for point in points:
            yield {"client": client, "quantity": quantity, "unit": unit, "t_ms": point["t_ms"], "value": point[key],
                   "flags": 0}  # fmt: skip
