"""`meterhub operators`: who may command this hub; and, where nobody can any more, the way back."""

import argparse
import sys
from typing import Any

from hub.cli.common import (
    FINE,
    PROBLEM,
    Subparsers,
    add_verb,
    ask_daemon,
    complain,
    format_time,
    print_json,
    print_table,
    say,
)
from hub.wire.keys.recovery import MAX_BYTES, BadRecovery, unarmour
from hub.wire.printable import why

_MOST_TEXT = 2 * MAX_BYTES


def register(subparsers: Subparsers) -> None:
    operators = subparsers.add_parser(
        "operators", help="who may command this hub", description="who may command this hub"
    )
    actions = operators.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_verb(actions, "list", show, "who may command, what, and until when")
    parser = add_verb(actions, "recover", recover, "put a list in force that the manufacturer signed for this hub")
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE",
        help="what the manufacturer sent; `-`: it is typed or piped in as text, an empty line ends it (default)",
    )  # fmt: skip


def show(arguments: argparse.Namespace) -> int:
    answer = ask_daemon(arguments, "operators")
    if arguments.json:
        print_json(answer)
        return FINE if answer["admins"] else PROBLEM
    rows = [
        (
            row["kid"],
            row["name"],
            ", ".join(row["roles"]),
            "" if row["not_after"] is None else format_time(row["not_after"] * 1000),
            row["priority"],
            "yes" if row["lpc"] else "",
        )
        for row in answer["operators"]
    ]
    if rows:
        print_table(("kid", "name", "roles", "until", "priority", "lpc"), rows)
    else:
        say("nobody may command this hub")
    if answer["trial_until"]:
        say(f"on trial until {format_time(answer['trial_until'] * 1000)}: one of its admins has to send trust.confirm")
    if not answer["admins"]:
        say("no admin is valid: only the manufacturer's word brings another list (meterhub operators recover)")
    return FINE if answer["admins"] else PROBLEM


def recover(arguments: argparse.Namespace) -> int:
    """Exit status 1 where the list is refused: then nothing has changed."""
    try:
        message = unarmour(_read(arguments.file))
    except OSError as error:
        complain(why(error))
        return PROBLEM
    except BadRecovery as error:
        complain(f"{arguments.file}: {error}")
        return PROBLEM
    answer: dict[str, Any] = ask_daemon(arguments, "operators.recover", message=message.hex())
    if arguments.json:
        print_json(answer)
    else:
        say(f"in force: {', '.join(answer['operators'])}; the utility is told of it (operators.recovered)")
    return FINE


def _read(name: str) -> bytes:
    if name != "-":
        with open(name, "rb") as file:
            return file.read(_MOST_TEXT)
    if sys.stdin.isatty():
        say("paste it; an empty line ends it")
    text = b""
    for line in sys.stdin.buffer:
        if not line.strip() or len(text) > _MOST_TEXT:
            break
        text += line
    return text
