"""`meterhub check-config [FILE]`: is this configuration one that a hub can run with?"""

import argparse
from pathlib import Path

from hub.app.config import load_config
from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, complain, print_json, say


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "check-config", check, "check a configuration and the identity it names")
    parser.add_argument("file", nargs="?", type=Path, help="the file to check (default: as --config)")


def check(arguments: argparse.Namespace) -> int:
    from hub.app.startup_checks import check_tls, meter_keys, operators_of, present_identity
    from hub.wire.keys.pkcs11 import HardwareError

    config = load_config(arguments.file or arguments.config)
    try:
        identity, *files = present_identity(config)
    except HardwareError as error:
        complain(f"{config.source}: uplink.key_file: {error}")
        return PROBLEM
    check_tls(config, *files)
    operators_of(config)
    meter_keys(config)
    until = identity.certificate.not_valid_after_utc
    if arguments.json:
        print_json({"file": str(config.source), "hub": identity.hub_id, "certificate_until": until.isoformat()})
    else:
        say(f"{config.source}: fine; hub {identity.hub_id}, certificate valid until {until:%Y-%m-%d}")
    return FINE
