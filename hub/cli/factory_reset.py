"""`meterhub factory-reset`: forget the home, keep the identity. The running hub does it, and starts anew."""

import argparse

from hub.cli.common import FINE, PROBLEM, USAGE, Subparsers, add_verb, ask_daemon, complain, config_of, print_json, say
from hub.services.admin.client import NoDaemon, ask
from store import factory_reset


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "factory-reset", run, "forget adapters, readings and settings; keep the identity")
    parser.add_argument("--yes", action="store_true", help="do it: what has not reached the utility is lost")
    parser.add_argument("--now", action="store_true", help="on a hub that is stopped (meterhub-factory-reset.service)")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        complain("factory-reset: forgets the home, and what has not reached the utility; if that is meant, add --yes")
        return USAGE
    if arguments.now:
        return _perform(arguments)
    answer = ask_daemon(arguments, "factory_reset")
    if arguments.json:
        print_json(answer)
    else:
        say("the hub forgets its home and starts anew; adapters have to join again")
    return FINE


def _perform(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    try:
        ask(config.run_dir / "admin.sock", "queue")
    except NoDaemon:
        pass
    else:
        complain("factory-reset: the hub runs; leave --now out, or stop it first")
        return PROBLEM
    try:
        gone = factory_reset.perform(config.data_dir)
    except OSError as error:
        complain(f"factory-reset: {error.filename or config.data_dir}: {error.strerror or error}")
        return PROBLEM
    if arguments.json:
        print_json({"forgotten": gone})
    else:
        say(f"forgotten: {', '.join(gone) or 'nothing'}")
    return FINE
