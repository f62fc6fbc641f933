"""`meterhub reload`: have the hub read its operators' file again, without a restart."""

import argparse

from hub.cli.common import FINE, Subparsers, add_verb, ask_daemon, print_json, say


def register(subparsers: Subparsers) -> None:
    add_verb(subparsers, "reload", _reload, "read the operators' file again")


def _reload(arguments: argparse.Namespace) -> int:
    """Exit status 1 where the file does not read: then nothing has changed."""
    answer = ask_daemon(arguments, "reload")
    if arguments.json:
        print_json(answer)
    else:
        say(f"operators: {', '.join(answer['operators']) or 'nobody may command'}")
    return FINE
