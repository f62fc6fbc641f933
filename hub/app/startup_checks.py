"""What is checked before a hub starts, and by `meterhub check-config`: the identity that the configuration names."""

import hashlib
import logging
import os
from pathlib import Path

from drivers.flash import bearable_mb
from drivers.meter.cipher import BadKeys, Keys, parse_keys
from hub.app.config import Config, ConfigError
from hub.core.control.controller import ControlSettings
from hub.core.gateway.limits import GatewayConfig
from hub.services.identity.renewal import newest_identity
from hub.wire.keys.identity import BadIdentity, Identity
from hub.wire.keys.operators import BadOperators, Operators, parse_operators
from hub.wire.keys.pkcs11 import uri_of
from hub.wire.keys.recovery import read_key
from hub.wire.mqttsn.topics import PREDEFINED
from hub.wire.uplink.cbor import decode_own, encode
from hub.wire.uplink.envelope import PublicKey

log = logging.getLogger(__name__)


def store_budget_mb(config: Config) -> int:
    """How large the database may become: store.max_mb, where the partition bears that beside an update."""
    update_mb = config.update_max_mb if config.slots_dir.is_dir() else 0
    bearable = bearable_mb(config.data_dir, update_mb)
    return config.max_mb if bearable is None else min(config.max_mb, bearable)


def said_of_budget(config: Config) -> str:
    """One line where the partition bears less than store.max_mb, else ""."""
    budget_mb = store_budget_mb(config)
    if budget_mb >= config.max_mb:
        return ""
    room = f" beside an update of {config.update_max_mb} MB" if config.slots_dir.is_dir() else ""
    return f"store.max_mb = {config.max_mb} is more than {config.data_dir} bears{room}: {budget_mb} MB are used"


_MAX_KEY_BYTES = 1024  # two lines of 32 digits, and comments


def present_identity(config: Config) -> tuple[Identity, Path, Path]:
    """The hub's identity, checked against the configuration, with the files of its certificate and key.

    Raises ConfigError, one line for the operator, or HardwareError where a key in hardware does not answer now.
    """
    try:
        present = newest_identity(config.uplink.cert_file, config.uplink.key_file, config.data_dir)
    except BadIdentity as error:
        raise ConfigError(f"{config.source}: uplink.cert_file, uplink.key_file: {error}") from None
    _check_key_is_private(config)
    identity = present[0]
    if config.hub_id is not None and config.hub_id != identity.hub_id:
        raise ConfigError(
            f"{config.source}: hub.id: expected {identity.hub_id!r}, the CN of {config.uplink.cert_file}, "
            f"found {config.hub_id!r}; leave hub.id out"
        )
    try:
        with config.uplink.ca_file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{config.source}: uplink.ca_file: {config.uplink.ca_file}: {error.strerror}") from None
    return present


def _check_key_is_private(config: Config) -> None:
    """A key that anybody on the machine may read is nobody's identity. Raises ConfigError."""
    file = config.uplink.key_file
    try:
        if uri_of(file) is not None:
            return  # in hardware: the file, if there is one, holds its name
        mode = file.stat().st_mode
    except (OSError, ValueError):
        return  # told where the file is read
    if mode & 0o007:
        raise ConfigError(
            f"{config.source}: uplink.key_file: {file}: others may read or change it (mode {mode & 0o777:04o}); "
            f"expected a private key: chmod o= {file}"
        )


def meter_keys(config: Config) -> Keys | None:
    """The keys of a meter that encrypts its telegrams, or None where no file is named. Raises ConfigError, which tells
    nothing of what the file holds."""
    path = None if config.meter is None else config.meter.key_file
    if path is None:
        return None
    says = f"{config.source}: meter.key_file: {path}: "
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"{says}{error.strerror}; expected a file with the meter's key") from None
    if mode & 0o007:
        raise ConfigError(f"{says}others may read or change it (mode {mode & 0o777:04o}); expected chmod o= {path}")
    try:
        return parse_keys(data)
    except BadKeys as error:
        raise ConfigError(f"{says}expected the meter's key, {error}") from None


def check_tls(config: Config, cert_file: Path, key_file: Path) -> None:
    """Whether OpenSSL can use what the uplink is to show. Raises ConfigError."""
    from drivers.tls import client_context

    try:
        client_context(config.uplink.ca_file, cert_file, key_file, config.uplink.crl_file)
    except OSError as error:  # ssl.SSLError is one
        files = f"{config.uplink.ca_file}, {cert_file} and {key_file}"
        raise ConfigError(
            f"{config.source}: uplink: OpenSSL cannot use {files} ({error}); "
            "for a key in hardware OPENSSL_CONF has to name a file that loads the provider pkcs11"
        ) from None


def operators_of(config: Config, kept: bytes | None = None) -> Operators:
    """Who may command: operators.toml, or what a `trust` command put in its place (`kept`, the store's item).

    A file that was changed after that command wins: somebody stood at the meter. No file: nobody may command. Raises
    ConfigError.
    """
    text, digest = _operators_file(config)
    if kept is not None:
        try:
            kept_digest, trusted = decode_own(kept)
            if kept_digest == digest:
                return parse_operators(trusted)
        except (ValueError, TypeError) as error:
            log.error("the operators of the last `trust` command do not read (%s): the file holds", error)
    try:
        return parse_operators(text)
    except BadOperators as error:
        raise ConfigError(f"{config.source}: control.operators_file: {config.operators_file}: {error}") from None


def recovery_key(config: Config) -> PublicKey | None:
    """The manufacturer's key for local recovery; None where the file is not there. Raises ConfigError."""
    says = f"{config.source}: control.recovery_key_file: {config.recovery_key_file}: "
    try:
        return read_key(config.recovery_key_file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{says}{error.strerror}; expected the manufacturer's certificate") from None
    except ValueError as error:
        raise ConfigError(f"{says}expected {error}") from None


class OperatorFile:
    """How lists of operators are kept: operators.toml, and in the store's item what a command put in its place."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def item_of(self, text: str) -> bytes:
        """The store's item for a list that a `trust` command brought."""
        return encode([_operators_file(self._config)[1], text])

    def read(self, item: bytes | None) -> Operators:
        """The list that holds. Raises ConfigError, which is a ValueError."""
        return operators_of(self._config, item)


def stamp_or_none(file: Path) -> tuple[int, int] | None:
    """Differs when the file was changed; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _operators_file(config: Config) -> tuple[str, bytes]:
    try:
        data = config.operators_file.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise ConfigError(
            f"{config.source}: control.operators_file: {config.operators_file}: {error.strerror or error}"
        ) from None
    try:
        return data.decode(), hashlib.sha256(data).digest()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{config.source}: control.operators_file: {config.operators_file}: not a text file"
        ) from None


def control_settings(config: Config) -> ControlSettings:
    """What the configuration says to control."""
    return ControlSettings(
        heartbeat_s=config.heartbeat_s,
        failsafe_w=None if isinstance(config.failsafe, str) else float(config.failsafe),
        failsafe_min_s=config.failsafe_min_s,
        floor_w=float(config.floor_w),
        groups=config.groups,
    )


def gateway_config(config: Config) -> GatewayConfig:
    """What the configuration says to the gateway."""
    # A radio channel carries some sixty frames a second for the whole home: one babbler must not have them all.
    rates = {"zigbee": 10.0}
    if config.udp_publishes_per_s is not None:
        rates["udp"] = float(config.udp_publishes_per_s)
    carries_broadcast = {"zigbee": config.radio is not None, "udp": config.udp_advertise is not None}
    return GatewayConfig(
        predefined=PREDEFINED | config.predefined,
        max_bytes={"zigbee": 60},
        publishes_per_s=rates,
        broadcast_links=tuple(link for link, carries in carries_broadcast.items() if carries),
        forward_filters=config.forward_out,
    )
