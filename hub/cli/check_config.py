"""`meterhub check-config [FILE]`: is this configuration one that a hub can run with?"""

import argparse
from pathlib import Path

from hub.cli.common import FINE, Subparsers, add_verb, print_json
from hub.config import load_config


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "check-config", check, "check a configuration and the identity it names")
    parser.add_argument("file", nargs="?", type=Path, help="the file to check (default: as --config)")


def check(arguments: argparse.Namespace) -> int:
    from hub.preflight import identity_of, operators_of

    config = load_config(arguments.file or arguments.config)
    identity = identity_of(config)
    operators_of(config)
    until = identity.certificate.not_valid_after_utc
    if arguments.json:
        print_json({"file": str(config.source), "hub": identity.hub_id, "certificate_until": until.isoformat()})
    else:
        print(f"{config.source}: fine; hub {identity.hub_id}, certificate valid until {until:%Y-%m-%d}")
    return FINE
