"""`meterhub run`: be the hub, until SIGTERM or SIGINT."""

import argparse
import logging

from hub.cli.common import Subparsers, add_verb, config_of


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "run", run, "be the hub: serve the home and the uplink until told to stop")
    parser.add_argument("--verbose", action="store_true", help="log what is decided, not only what goes wrong")


def run(arguments: argparse.Namespace) -> int:
    # The journal adds time and unit; a line says who speaks and what.
    level = logging.INFO if arguments.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    config = config_of(arguments)
    from hub.daemon import run_daemon

    return run_daemon(config)
