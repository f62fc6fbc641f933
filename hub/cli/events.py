"""`meterhub events`: what happened at this hub; also on a stopped hub's database."""

import argparse

from hub.cli.common import FINE, Subparsers, add_bundle_option, add_verb, format_time, print_json, say
from hub.cli.offline import ask_or_open
from hub.cli.words import pairs

_NOT_IN_LINE = ("t", "event", "x5c")  # a certificate of a thousand bytes says nothing to a reader


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "events", events, "the last events, newest last")
    add_bundle_option(parser)
    parser.add_argument("--limit", type=int, default=100, help="how many (default: %(default)s)")


def events(arguments: argparse.Namespace) -> int:
    rows = ask_or_open(arguments, "events", lambda view: view.events(arguments.limit), limit=arguments.limit)
    rows = rows[-arguments.limit :] if arguments.limit > 0 else []
    if arguments.json:
        print_json(rows)
        return FINE
    rows = [pairs(row) for row in rows]
    for row in rows:
        fields = "  ".join(f"{key}={value}" for key, value in row.items() if key not in _NOT_IN_LINE)
        say(f"{format_time(row['t'])}  {row['event']:22}  {fields}".rstrip())
    return FINE
