"""`meterhub headend firmware`: vouch for an appliance's firmware, so that hubs offer it."""

import argparse
import hashlib
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, USAGE, complain, print_json
from hub.cli.headend_send import load_operator_key


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "firmware", help="sign an appliance's firmware", description=_firmware.__doc__
    )
    parser.set_defaults(verb=_firmware)
    parser.add_argument("image", type=Path, metavar="FILE", help="the maker's image, NAME.ota")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="an operator's private key")
    parser.add_argument("--kid", required=True, help="that operator's key id; it needs the role admin")
    return parser


def _firmware(arguments: argparse.Namespace) -> int:
    """Write FILE.cose: both go into the folder zigbee-firmware of a hub's data, and its radio offers the image."""
    from hub.wire.uplink.firmware import FirmwareNote, sign_firmware
    from hub.wire.zigbee.ota import parse_header

    note_file = arguments.image.with_name(arguments.image.name + ".cose")
    try:
        if arguments.image.suffix != ".ota":
            raise ValueError(f"{arguments.image}: expected a name that ends in .ota")
        data = arguments.image.read_bytes()
        header = parse_header(data)
        if len(data) < header.size:
            raise ValueError(f"{arguments.image}: it is shorter than it says")
        note = FirmwareNote(hashlib.sha256(data).digest(), header.manufacturer, header.image_type, header.version)
        note_file.write_bytes(sign_firmware(load_operator_key(arguments.key), arguments.kid, note))
    except (OSError, ValueError) as error:
        complain(f"headend firmware: {error}")
        return USAGE
    said = {"manufacturer": header.manufacturer, "type": header.image_type, "version": header.version}
    if arguments.json:
        print_json({"note": str(note_file), **said})
    else:
        print(
            f"{note_file}: manufacturer 0x{header.manufacturer:04X}, type 0x{header.image_type:04X}, "
            f"version 0x{header.version:08X}"
        )
    return FINE
