"""`meterhub run`: be the hub, until SIGTERM or SIGINT."""

import argparse

from hub.cli.common import Subparsers, add_verb
from hub.cli.service import serve


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "run", run, "be the hub: serve the home and the uplink until told to stop")
    parser.add_argument("--verbose", action="store_true", help="log what is decided, not only what goes wrong")


def run(arguments: argparse.Namespace) -> int:
    return serve(arguments.config, arguments.verbose)
