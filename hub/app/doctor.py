"""The doctor: looks at everything a hub needs, from its configuration to the broker's certificate, and says what to do.

Each check is a function in the table CHECKS; it returns findings and raises nothing. A running hub's own conditions are
findings, too, so that one command shows all that is known.
"""

import errno
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hub.app.config import Config, ConfigError

FINE, WARNING, ERROR = "fine", "warning", "error"
_CONNECT_S = 8.0
_LITTLE_SPACE_BYTES = 64 * 1024 * 1024


class Check(NamedTuple):
    """What one check found. `severity`: "fine", "warning" or "error"; `remedy`: what to do, "" when it is fine."""

    check: str
    severity: str
    text: str
    remedy: str = ""


def examine(config: Config, status: dict[str, Any] | None, why_not: str = "") -> list[Check]:
    """Everything that can be found out. `status`: the running hub's, or None and why there is none."""
    findings = [Check("configuration", FINE, str(config.source))]
    for name, check in CHECKS.items():
        try:
            findings += check(config, status)
        except Exception as error:  # a doctor that falls ill helps nobody
            findings.append(Check(name, ERROR, f"could not be checked: {error!r}", "send this to the maintainers"))
    if status is None:
        findings.append(Check("daemon", ERROR, why_not, "systemctl start meterhub; journalctl -u meterhub"))
    else:
        findings += daemon_findings(status)
    return findings


def daemon_findings(status: dict[str, Any]) -> Iterable[Check]:
    """What a running hub says of itself."""
    yield Check("daemon", FINE, f"{status['hub']}, version {status['version']}, up {status['uptime_s']:.0f} s")
    for condition in status["conditions"]:
        severity = ERROR if condition["severity"] == "error" else WARNING
        yield Check(condition["code"], severity, condition["text"], condition["remedy"])


def _identity(config: Config, status: Any) -> Iterable[Check]:
    from hub.app.startup_checks import present_identity
    from hub.wire.keys.pkcs11 import HardwareError

    try:
        identity = present_identity(config)[0]
    except HardwareError as error:
        yield Check("identity", ERROR, f"uplink.key_file: {error}", "look at the PKCS#11 module and its token")
        return
    except ConfigError as error:
        if status is not None and str(error).endswith(os.strerror(errno.EACCES)):
            # A field engineer may not read the key, and need not: the hub runs with it.
            yield Check("identity", FINE, f"{status['hub']}; its key is the hub's alone to read")
            return
        yield Check("identity", ERROR, str(error), "give the hub its certificate, its key and the utility's CA")
        return
    begins, ends = identity.certificate.not_valid_before_utc, identity.certificate.not_valid_after_utc
    now = datetime.now(UTC)
    if begins <= now <= ends:
        yield Check("identity", FINE, f"{identity.hub_id}, certificate valid until {ends:%Y-%m-%d}")
    else:
        text = f"{identity.hub_id}: the certificate is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
        yield Check("identity", ERROR, text, f"check the clock (it says {now:%Y-%m-%d}), then renew the certificate")


def _operators(config: Config, _status: Any) -> Iterable[Check]:
    from hub.app.startup_checks import operators_of

    try:
        operators = operators_of(config)
    except ConfigError as error:
        yield Check("operators", ERROR, str(error), "mend the file: until then the hub obeys nobody in it")
        return
    if operators:
        yield Check("operators", FINE, ", ".join(f"{o.kid} ({', '.join(sorted(o.roles))})" for o in operators.values()))
    else:
        remedy = f"put the utility's operators into {config.operators_file}"
        yield Check("operators", WARNING, "nobody may command this hub", remedy)


def _clock(_config: Config, status: Any) -> Iterable[Check]:
    now = datetime.now(UTC)
    if status is not None and not status["process"]["clock_trusted"]:
        return  # the hub says so itself, with what to do
    yield Check("clock", FINE, f"{now:%Y-%m-%dT%H:%M:%SZ}")


def _storage(config: Config, _status: Any) -> Iterable[Check]:
    place = config.data_dir
    if not place.is_dir():
        yield Check("storage", ERROR, f"{place} is not a directory", "check hub.data_dir and that it is mounted")
        return
    free = shutil.disk_usage(place).free
    severity = WARNING if free < _LITTLE_SPACE_BYTES else FINE
    remedy = "free space there: the hub gives up old history first, then thins" if severity == WARNING else ""
    yield Check("storage", severity, f"{free // 2**20} MiB are free in {place}", remedy)


def _ports(config: Config, _status: Any) -> Iterable[Check]:
    wanted = [("radio", config.radio.path)] if config.radio else []
    wanted += [("meter", config.meter.path)] if config.meter else []
    for name, path in wanted:
        if "://" in path:
            continue
        if os.path.exists(path):
            yield Check(f"{name}-port", FINE, path)
        else:
            yield Check(f"{name}-port", ERROR, f"{path} does not exist", f"check {name}.path and what is plugged in")


def _broker(config: Config, status: Any) -> Iterable[Check]:
    if status is not None and status["uplink"]["state"] == "up":
        yield Check("broker", FINE, f"session with {status['uplink']['host']}")
        return
    for host, port in config.uplink.hosts:
        yield try_broker(config, host, port)


def try_broker(config: Config, host: str, port: int) -> Check:
    """Look up the name, open TCP, shake hands in TLS with the hub's own certificate: the first that fails is told."""
    place = f"{host}:{port}"
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Check(
            "broker", ERROR, f"{place}: the name is not known: {error}", "check uplink.host and the DNS server"
        )
    from drivers.tls import client_context
    from hub.app.startup_checks import present_identity

    begun = time.monotonic()
    try:
        _, cert_file, key_file = present_identity(config)  # a renewed certificate is beside the configured one
        context = client_context(config.uplink.ca_file, cert_file, key_file, config.uplink.crl_file)
        with (
            socket.create_connection((host, port), _CONNECT_S) as sock,
            context.wrap_socket(sock, server_hostname=host) as tls,
        ):
            took_ms = (time.monotonic() - begun) * 1000
            return Check("broker", FINE, f"{place}: {tls.version()}, certificate accepted, {took_ms:.0f} ms")
    except ConfigError:
        return Check("broker", WARNING, f"{place}: not tried without an identity", "see above: identity")
    except ssl.SSLCertVerificationError as error:
        remedy = "compare the broker's certificate with uplink.ca_file and uplink.host; check the clock"
        return Check("broker", ERROR, f"{place}: its certificate is not accepted: {error.verify_message}", remedy)
    except ssl.SSLError as error:
        remedy = "is this the broker's TLS port? does the broker accept this hub's certificate?"
        return Check("broker", ERROR, f"{place}: TLS fails: {error.reason or error}", remedy)
    except OSError as error:
        remedy = "check the modem and its antenna, then uplink.host and uplink.port"
        return Check("broker", ERROR, f"{place}: {error.strerror or error}", remedy)


CHECKS: dict[str, Callable[[Config, Any], Iterable[Check]]] = {
    "identity": _identity,
    "operators": _operators,
    "clock": _clock,
    "storage": _storage,
    "ports": _ports,
    "broker": _broker,
}
