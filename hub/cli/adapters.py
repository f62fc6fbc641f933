"""`meterhub adapters`: who is in the home, and how well they are heard."""

import argparse

from hub.cli.common import FINE, Subparsers, add_verb, ask_daemon, print_json, print_table

_COLUMNS = (
    "client", "link", "address", "state", "last_seen_s", "queued", "accepted", "repeats", "retransmissions", "lost",
)  # fmt: skip


def register(subparsers: Subparsers) -> None:
    add_verb(subparsers, "adapters", adapters, "the adapters and appliances that the hub knows")


def adapters(arguments: argparse.Namespace) -> int:
    rows = ask_daemon(arguments, "adapters")
    if arguments.json:
        print_json(rows)
        return FINE
    headers = [*_COLUMNS, "refused"]
    print_table(
        headers,
        [
            [*(row.get(column) for column in _COLUMNS), ", ".join(f"{k} {v}" for k, v in row["refused"].items())]
            for row in rows
        ],
    )
    return FINE
