"""`meterhub check-config [FILE]`: is this configuration one that a hub can run with?"""

import argparse
import errno
import os
from pathlib import Path

from hub.app.config import Config, ConfigError, load_config
from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, ask_daemon, complain, print_json, say
from hub.services.admin.client import NoDaemon, RequestRefused


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "check-config", check, "check a configuration and the identity it names")
    parser.add_argument("file", nargs="?", type=Path, help="the file to check (default: as --config)")


def check(arguments: argparse.Namespace) -> int:
    from hub.app.startup_checks import check_tls, meter_keys, operators_of, present_identity, said_of_budget
    from hub.wire.keys.pkcs11 import HardwareError

    config = load_config(arguments.file or arguments.config)
    try:
        identity, *files = present_identity(config)
    except HardwareError as error:
        complain(f"{config.source}: uplink.key_file: {error}")
        return PROBLEM
    except ConfigError as error:
        if not _is_kept_from_us(error) or (hub_id := _running_hub(arguments)) is None:
            raise
        return _without_key(arguments, config, hub_id)
    check_tls(config, *files)
    operators_of(config)
    meter_keys(config)
    until = identity.certificate.not_valid_after_utc
    if arguments.json:
        print_json({"file": str(config.source), "hub": identity.hub_id, "certificate_until": until.isoformat()})
    else:
        say(f"{config.source}: fine; hub {identity.hub_id}, certificate valid until {until:%Y-%m-%d}")
        if budget := said_of_budget(config):
            say(f"{config.source}: {budget}")
    return FINE


def _is_kept_from_us(error: ConfigError) -> bool:
    return str(error).endswith(os.strerror(errno.EACCES))


def _running_hub(arguments: argparse.Namespace) -> str | None:
    """Who runs with the configuration that is asked about. A file of somebody's own is nobody's yet."""
    if arguments.file is not None:
        return None
    try:
        return str(ask_daemon(arguments, "status")["hub"])
    except (NoDaemon, RequestRefused):
        return None


def _without_key(arguments: argparse.Namespace, config: Config, hub_id: str) -> int:
    """For a field engineer, who may not read the key and need not: the hub runs with it. The rest is looked at."""
    from hub.app.startup_checks import operators_of
    from hub.wire.keys.identity import BadIdentity, load_chain

    operators_of(config)
    try:
        until = load_chain(config.uplink.cert_file)[0].not_valid_after_utc
    except BadIdentity as error:
        raise ConfigError(f"{config.source}: uplink.cert_file: {error}") from None
    if arguments.json:
        print_json({"file": str(config.source), "hub": hub_id, "certificate_until": until.isoformat()})
    else:
        says = f"hub {hub_id}, which runs with it; certificate valid until {until:%Y-%m-%d}"
        say(f"{config.source}: fine; {says}; the key is the hub's alone to read")
    return FINE
