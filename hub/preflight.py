"""What is checked before a hub starts, and by `meterhub check-config`: the identity that the configuration names."""

from hub.config import Config, ConfigError
from hub.contract.identity import BadIdentity, Identity, load_identity


def identity_of(config: Config) -> Identity:
    """The hub's identity, checked against the configuration. Raises ConfigError, one line for the operator."""
    try:
        identity = load_identity(config.uplink.cert_file, config.uplink.key_file)
    except BadIdentity as error:
        raise ConfigError(f"{config.source}: uplink.cert_file, uplink.key_file: {error}") from None
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
    return identity
