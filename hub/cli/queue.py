"""`meterhub queue`: what waits for the utility, lane by lane; also on a stopped hub's database."""

import argparse

from hub.cli.common import FINE, Subparsers, add_bundle_option, add_verb, duration, print_json, print_table
from hub.cli.offline import ask_or_open


def register(subparsers: Subparsers) -> None:
    add_bundle_option(add_verb(subparsers, "queue", queue, "what waits to be sent, lane by lane"))


def queue(arguments: argparse.Namespace) -> int:
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
    )  # fmt: skip
    return FINE
