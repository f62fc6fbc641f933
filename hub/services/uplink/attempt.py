"""One session opened and closed again, as the hub would open it: what a doctor learns of a broker while the hub is
stopped. Only a whole session tells: with TLS 1.3 a broker refuses a certificate after the handshake, and who may enter
it says in its CONNACK."""

import asyncio
from pathlib import Path

from drivers.tls import client_context
from hub.core.uplink.config import UplinkConfig
from hub.core.uplink.reasons import REFUSED
from hub.services.uplink.failure import UplinkFailure
from hub.services.uplink.session import MqttSession, StateWill
from hub.wire.printable import why

_PATIENCE_S = 20.0
_NAME_WITHIN_S = 10.0  # an engineer is waiting


def login_of(config: UplinkConfig) -> tuple[str, str | None] | None:
    """User name and password, where the broker wants them. Raises UplinkFailure."""
    if config.username is None:
        return None
    if config.password_file is None:
        return config.username, None
    try:
        return config.username, config.password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UplinkFailure(REFUSED, f"uplink.password_file: {why(error)}") from None


def attempt(config: UplinkConfig, hub_id: str, files: tuple[Path, Path], host: str, port: int) -> str:
    """Open a session and close it in order; what was agreed on, in words. Raises UplinkFailure, OSError.

    Only while no hub runs: a broker serves a name once. `files`: certificate and key.
    """

    async def once(protocol: str) -> str:
        context = client_context(config.ca_file, *files, config.crl_file)
        session = MqttSession(
            client_id=hub_id, protocol=protocol, context=context, keepalive_s=config.keepalive_s,
            silence_s=_PATIENCE_S, login=login_of(config), published=lambda mid, reason: None,
            name_within_s=_NAME_WITHIN_S,
            # What the broker kept for the hub is not acknowledged: it comes again, to the hub.
            received=lambda message: None,
            will=StateWill(f"{config.topic_prefix}meters/{hub_id}/state", b"", retain=False),
        )  # fmt: skip
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await session.connect(host, port)
        except TimeoutError:
            raise UplinkFailure("uplink-unreachable", f"{host}:{port}: no answer within {_PATIENCE_S:.0f} s") from None
        await session.close()
        return f"{host}:{port}: {session.tls['version']}, MQTT {protocol}: the broker lets this hub in"

    if config.protocol != "auto":
        return asyncio.run(once(config.protocol))
    try:
        return asyncio.run(once("5"))
    except UplinkFailure as failure:
        if not failure.maybe_version:
            raise
    return asyncio.run(once("3.1.1"))
