"""`meterhub adapters`: who is in the home, how well they are heard, and what of theirs was refused."""

import argparse
from pathlib import Path
from typing import Any

from hub.cli.common import (
    FINE,
    Subparsers,
    add_bundle_option,
    add_verb,
    ask_daemon,
    duration,
    paged,
    print_json,
    print_table,
    say,
)
from hub.cli.offline import ask_or_read

_COLUMNS = (
    "client", "link", "address", "state", "last_seen_s", "queued", "accepted", "repeats", "retransmissions", "lost",
    "lqi", "rssi_dbm",
)  # fmt: skip
_UNITS = (
    "", "", "", "", "s", "messages", "messages", "messages", "messages", "times", "of 255", "dBm",
)  # fmt: skip


_SORTS: dict[str, Any] = {
    "client": lambda row: row["client"],
    "state": lambda row: (row["state"], row["client"]),
    "seen": lambda row: (row["last_seen_s"] is None, row["last_seen_s"] or 0.0),
    "accepted": lambda row: -(row.get("accepted") or 0),
    "refused": lambda row: -sum(row["refused"].values()),
    "lqi": lambda row: (row.get("lqi") is None, row.get("lqi") or 0),
}


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "adapters", adapters, "the adapters and appliances that the hub knows")
    add_bundle_option(parser)
    parser.add_argument("--state", action="append", help="only these: active, asleep, lost, ...; may stand again")
    parser.add_argument("--link", help="only on this link: udp, zigbee")
    parser.add_argument("--like", metavar="TEXT", help="only those with this in their ClientId or address")
    parser.add_argument("--sort", choices=_SORTS, default="client", help="(default: %(default)s)")
    parser.add_argument("--wide", action="store_true", help="every column, however wide the terminal is")
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    summary = "free the ClientId of a device that was taken away, for the next one"
    # No defaults: they would overwrite what was said before the action.
    action = actions.add_parser("forget", help=summary, description=summary, argument_default=argparse.SUPPRESS)
    action.add_argument("client", metavar="CLIENT_ID")
    action.add_argument("--json", action="store_true", help="print JSON for programs")
    action.add_argument("--config", metavar="FILE", type=Path, help="the hub's configuration")
    action.set_defaults(verb=forget)


def adapters(arguments: argparse.Namespace) -> int:
    rows = [row for row in ask_or_read(arguments, "adapters") if _is_wanted(arguments, row)]
    rows.sort(key=_SORTS[arguments.sort])
    if arguments.json:
        print_json(rows)
        return FINE
    with paged(len(rows) + 2):
        if arguments.wide:
            table = [[*(row.get(column) for column in _COLUMNS), _refused(row)] for row in rows]
            print_table([*_COLUMNS, "refused"], table, units=[*_UNITS, "messages"])
        else:
            print_table(_NARROW, _narrow(rows), units=("", "", "", "", "messages", "of 255", "messages"))
    return FINE


def _is_wanted(arguments: argparse.Namespace, row: dict[str, Any]) -> bool:
    return (
        (not arguments.state or row["state"] in arguments.state)
        and arguments.link in (None, row["link"])
        and (arguments.like is None or arguments.like in row["client"] or arguments.like in row["address"])
    )


# Of 79 characters: 23 of a ClientId, 6 of a link, 12 of a state, 10 of a time, 8 of a count, 4 of the rest; what is
# left is for the reasons of refusals.
_NARROW = ("client", "link", "state", "seen", "accepted", "lqi", "refused")
_WIDTH = 79
_FLOOR = ("", "", "", "", "messages", "of 255")  # what the units take


def _narrow(rows: list[dict[str, Any]]) -> list[list[object]]:
    table: list[list[object]] = []
    for row in rows:
        seen = "-" if row["last_seen_s"] is None else duration(row["last_seen_s"]).replace(" min", "m").replace(" ", "")
        table.append([row["client"], row["link"], row["state"], seen, row.get("accepted"), row.get("lqi")])
    columns = zip(_NARROW, _FLOOR, *table)
    widths = [max(len(str(cell)) if cell is not None else 1 for cell in column) for column in columns]
    left = _WIDTH - sum(width + 2 for width in widths)
    return [[*cells, _most_refused(row, left)] for cells, row in zip(table, rows)]


def _most_refused(row: dict[str, Any], width: int) -> str:
    """The reasons with most refusals, as many as there is room for; "+2": so many more reasons."""
    reasons = sorted(row["refused"].items(), key=lambda item: -item[1])
    for shown in range(len(reasons), 0, -1):
        rest = f", +{len(reasons) - shown}" if shown < len(reasons) else ""
        text = ", ".join(f"{reason} {count}" for reason, count in reasons[:shown]) + rest
        if len(text) <= width:
            return text
    return str(sum(row["refused"].values()) or "-")


def _refused(row: dict[str, Any]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in row["refused"].items())


def forget(arguments: argparse.Namespace) -> int:
    answer = ask_daemon(arguments, "adapters.forget", client=arguments.client)
    if arguments.json:
        print_json(answer)
    else:
        say(f"{answer['client']} is forgotten: the next device that connects by this name bears it")
    return FINE
