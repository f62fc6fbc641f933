"""`meterhub slots-helper`: carry out the request about slots that waits; a systemd unit starts it."""

import argparse
from pathlib import Path

from hub.cli.common import FINE, PROBLEM, Subparsers, complain
from hub.services.update.helper import SystemPlaces, serve_one


def register(subparsers: Subparsers) -> None:
    summary = "carry out the hub's request about slots (started by meterhub-slots.path)"
    parser = subparsers.add_parser("slots-helper", help=summary, description=summary)
    here = SystemPlaces()
    parser.add_argument("--folder", type=Path, default=here.folder, help="of request and answer (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, default=here.bundle, help="what is installed (default: %(default)s)")
    parser.add_argument("--rauc", default=here.rauc, help="RAUC's command (default: %(default)s)")
    parser.add_argument("--os-release", type=Path, default=here.os_release, help="names IMAGE_VERSION")
    parser.add_argument("--boot-id", type=Path, default=here.boot_id, help="differs in every boot")
    parser.add_argument("--root", type=Path, default=here.root, help="of the slot that runs (default: %(default)s)")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> int:
    place = SystemPlaces(
        arguments.folder, arguments.bundle, arguments.rauc, arguments.os_release, arguments.boot_id, arguments.root
    )
    try:
        serve_one(place)
    except OSError as error:
        complain(f"{error.filename or place.folder}: {error.strerror or error}")
        return PROBLEM
    return FINE
