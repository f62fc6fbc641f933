"""`meterhub headend keygen`: a key for an operator, and its entry for operators.toml."""

import argparse
import os
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, USAGE, complain, print_json


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "keygen", help="make an operator's key", description=_keygen.__doc__
    )
    parser.set_defaults(verb=_keygen)
    parser.add_argument("kid", help="the operator's key id, as commands name it")
    parser.add_argument("--roles", default="limit", help="out of limit,price,read,field,admin (default: %(default)s)")
    parser.add_argument("--name", help="who that is, for people (default: the key id)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIRECTORY", help="(default: here)")
    parser.add_argument("--ed25519", action="store_true", help="an Ed25519 key instead of P-256")
    return parser


def _keygen(arguments: argparse.Namespace) -> int:
    """Make KID.key (keep it where nobody else reads it) and KID.toml, to be added to operators.toml on the hubs."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    from hub.wire.keys.operators import BadOperators, operator_entry

    private = ed25519.Ed25519PrivateKey.generate() if arguments.ed25519 else ec.generate_private_key(ec.SECP256R1())
    roles = [role.strip() for role in arguments.roles.split(",")]
    try:
        entry = operator_entry(arguments.kid, private.public_key(), roles, arguments.name or arguments.kid)
    except BadOperators as error:
        complain(f"headend keygen: {error}")
        return USAGE
    key_file, toml_file = (arguments.out / f"{arguments.kid}.{suffix}" for suffix in ("key", "toml"))
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        # Never over an existing key: it could not be made again. Readable by its owner from the first moment.
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        toml_file.write_text(entry)
    except OSError as error:
        complain(f"headend keygen: {error.filename}: {error.strerror}")
        return USAGE
    if arguments.json:
        print_json({"key": str(key_file), "operators": str(toml_file)})
    else:
        print(f"{key_file}: the operator's private key\n{toml_file}: its entry for operators.toml")
    return FINE
