"""`meterhub adapters`: who is in the home, how well they are heard, and what of theirs was refused."""

import argparse
from pathlib import Path

from hub.cli.common import FINE, Subparsers, add_bundle_option, add_verb, ask_daemon, print_json, print_table, say
from hub.cli.offline import ask_or_read

_COLUMNS = (
    "client", "link", "address", "state", "last_seen_s", "queued", "accepted", "repeats", "retransmissions", "lost",
    "lqi", "rssi",
)  # fmt: skip


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "adapters", adapters, "the adapters and appliances that the hub knows")
    add_bundle_option(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    summary = "free the ClientId of a device that was taken away, for the next one"
    # No defaults: they would overwrite what was said before the action.
    action = actions.add_parser("forget", help=summary, description=summary, argument_default=argparse.SUPPRESS)
    action.add_argument("client", metavar="CLIENT_ID")
    action.add_argument("--json", action="store_true", help="print JSON for programs")
    action.add_argument("--config", metavar="FILE", type=Path, help="the hub's configuration")
    action.set_defaults(verb=forget)


def adapters(arguments: argparse.Namespace) -> int:
    rows = ask_or_read(arguments, "adapters")
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


def forget(arguments: argparse.Namespace) -> int:
    answer = ask_daemon(arguments, "adapters.forget", client=arguments.client)
    if arguments.json:
        print_json(answer)
    else:
        say(f"{answer['client']} is forgotten: the next device that connects by this name bears it")
    return FINE
