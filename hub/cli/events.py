"""`meterhub events`: what happened at this hub; also on a stopped hub's database."""

import argparse
import time
from typing import Any

from hub.cli.common import (
    FINE,
    USAGE,
    Subparsers,
    add_bundle_option,
    add_verb,
    ask_daemon,
    complain,
    format_time,
    print_json,
    print_json_line,
    say,
)
from hub.cli.moments import moment_ms
from hub.cli.offline import ask_or_open
from hub.cli.words import pairs

_NOT_IN_LINE = ("t", "event", "x5c")  # a certificate of a thousand bytes says nothing to a reader


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "events", events, "the last events, newest last")
    add_bundle_option(parser)
    parser.add_argument("--limit", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--since", type=moment_ms, metavar="TIME", help="from this time on: 10m, 2h, 2026-01-31T12:00")
    parser.add_argument("--event", metavar="NAME", action="append", help="only these, by name or first word (radio)")
    parser.add_argument("--follow", action="store_true", help="go on with what happens, until Ctrl-C")


def events(arguments: argparse.Namespace) -> int:
    rows = _wanted(arguments, _ask(arguments, arguments.limit))
    rows = rows[-arguments.limit :] if arguments.limit > 0 else []
    if not arguments.follow:
        if arguments.json:
            print_json(rows)
        else:
            _print(rows)
        return FINE
    if arguments.bundle is not None:
        complain("a bundle has no more to come: --follow is for a hub")
        return USAGE
    _show_on(arguments, rows)
    seen = {_key(row) for row in rows} | {_key(row) for row in _ask(arguments, _A_LOOK)}
    while True:
        time.sleep(_EVERY_S)
        found = ask_daemon(arguments, "events", limit=_A_LOOK)
        _show_on(arguments, _wanted(arguments, [row for row in found if _key(row) not in seen]))
        seen = {_key(row) for row in found}


_EVERY_S = 1.0
_A_LOOK = 200  # more in a second are not recorded


def _ask(arguments: argparse.Namespace, limit: int) -> list[dict[str, Any]]:
    if limit > 0 and (arguments.since is not None or arguments.event):
        limit = max(limit, 10_000)  # what is wanted may lie behind what is not
    rows: list[dict[str, Any]] = ask_or_open(arguments, "events", lambda view: view.events(limit), limit=limit)
    return rows


def _wanted(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = arguments.event or ()
    return [
        row
        for row in rows
        if (arguments.since is None or row["t"] >= arguments.since)
        and (not names or row["event"] in names or row["event"].partition(".")[0] in names)
    ]


def _key(row: dict[str, Any]) -> tuple[Any, Any]:
    return row.get("epoch"), row.get("number")


def _show_on(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    if arguments.json:
        for row in rows:
            print_json_line(row)
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    for row in map(pairs, rows):
        fields = "  ".join(f"{key}={value}" for key, value in row.items() if key not in _NOT_IN_LINE)
        say(f"{format_time(row['t'])}  {row['event']:22}  {fields}".rstrip(), flush=True)
