"""The doctor: looks at everything a hub needs, from its configuration to the broker's certificate, and says what to do.

Each check is a function in the table CHECKS; it returns findings and raises nothing. A running hub's own conditions are
findings, too, so that one command shows all that is known.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hub.app.config import Config, ConfigError
from hub.core.health import CONDITIONS, text_of, without_consequences

FINE, WARNING, ERROR = "fine", "warning", "error"
_NO_SPACE_BYTES = 256 * 1024
_LITTLE_SPACE_BYTES = 64 * 1024 * 1024


class Check(NamedTuple):
    """What one check found. `check`: its name, or the code of a condition; `severity`: "fine", "warning" or "error";
    `remedy`: what to do, `why`: why it matters, "" when it is fine."""

    check: str
    severity: str
    text: str
    remedy: str = ""
    why: str = ""


def examine(config: Config, status: dict[str, Any] | None, why_not: str = "") -> list[Check]:
    """Everything that can be found out. `status`: the running hub's, or None and why there is none.

    What is wrong stands once, under its code of hub/core/health.py where it has one, and hides what follows from it,
    whoever found which.
    """
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
    return _once(findings)


def _once(findings: list[Check]) -> list[Check]:
    """Each condition once, as the running hub has it where it has it, and no consequence of another."""
    last = {finding.check: finding for finding in findings if finding.severity != FINE}
    shown = set(without_consequences(list(last)))
    kept = [f for f in findings if f.severity == FINE or (f.check in shown and last[f.check] is f)]
    troubled = {_SUBJECTS.get(code.partition("-")[0], code) for code in shown}
    # A check that was fine in itself is not, where the hub knows better.
    return [finding for finding in kept if finding.severity != FINE or finding.check not in troubled]


_SUBJECTS = {"uplink": "broker", "certificate": "identity", "operators": "operators", "store": "storage"}


def condition(code: str, detail: str = "", remedy: str = "") -> Check:
    """A finding that is a condition of the table."""
    kind = CONDITIONS[code]
    severity = ERROR if kind.severity == "error" else WARNING
    return Check(code, severity, text_of(code, detail), remedy or kind.remedy, kind.why)


def daemon_findings(status: dict[str, Any]) -> Iterable[Check]:
    """What a running hub says of itself."""
    yield Check("daemon", FINE, f"{status['hub']}, version {status['version']}, up {status['uptime_s']:.0f} s")
    board = status.get("board")  # a bundle of an earlier version has none
    if board:
        text = f"{board['image']} in slot {board['slot']}, rollback index {board['rollback_index']}"
        yield Check("image", FINE, f"{text}; data in {'the ' * (board['data'] == 'partition')}{board['data']}")
    for row in status["conditions"]:
        severity = ERROR if row["severity"] == "error" else WARNING
        yield Check(row["code"], severity, row["text"], row["remedy"], row.get("why", ""))


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
    if now > ends:
        yield condition("certificate-expired", f"on {ends:%Y-%m-%d}; the clock says {now:%Y-%m-%d}")
    elif now < begins:
        yield condition("certificate-not-yet-valid", f"from {begins:%Y-%m-%d}; the clock says {now:%Y-%m-%d}")
    else:
        yield Check("identity", FINE, f"{identity.hub_id}, certificate valid until {ends:%Y-%m-%d}")


def _operators(config: Config, _status: Any) -> Iterable[Check]:
    from hub.app.startup_checks import operators_of

    try:
        operators = operators_of(config)
    except ConfigError as error:
        yield condition("operators-unreadable", str(error))
        return
    if operators:
        yield Check("operators", FINE, ", ".join(f"{o.kid} ({', '.join(sorted(o.roles))})" for o in operators.values()))
    else:
        yield condition("operators-none", str(config.operators_file))


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
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        yield condition("store-read-only", str(place))
        return
    free = shutil.disk_usage(place).free
    if free < _NO_SPACE_BYTES:
        yield condition("store-full", f"{free // 1024} KiB are free in {place}")
        return
    from hub.app.startup_checks import said_of_budget

    severity = WARNING if free < _LITTLE_SPACE_BYTES else FINE
    remedy = "free space there: the hub gives up old history first, then thins" if severity == WARNING else ""
    text = "; ".join(filter(None, (f"{free // 2**20} MiB are free in {place}", said_of_budget(config))))
    yield Check("storage", severity, text, remedy)


def _ports(config: Config, _status: Any) -> Iterable[Check]:
    wanted = [("radio", config.radio.path)] if config.radio else []
    wanted += [("meter", config.meter.path)] if config.meter else []
    for name, path in wanted:
        if "://" in path:
            continue
        if os.path.exists(path):
            yield Check(f"{name}-port", FINE, path)
        else:
            yield condition(f"{name}-missing", f"{path} does not exist")


def _broker(config: Config, status: Any) -> Iterable[Check]:
    if status is None:
        for host, port in config.uplink.hosts:
            yield try_broker(config, host, port)
        return
    # A broker serves a name once: what the running hub hears of it is in its conditions, and nobody else tries.
    uplink = status["uplink"]
    if uplink["state"] == "up":
        yield Check("broker", FINE, f"session with {uplink['host']}")
    else:
        yield Check("broker", FINE, f"{uplink['host'] or 'no host yet'}: {uplink['state']}")


def try_broker(config: Config, host: str, port: int) -> Check:
    """Open a session as the hub would, and close it: the first step that fails is told."""
    from hub.app.startup_checks import present_identity
    from hub.services.uplink.attempt import attempt
    from hub.services.uplink.failure import UplinkFailure
    from hub.services.uplink.status import condition_of

    place = f"{host}:{port}"
    try:
        identity, *files = present_identity(config)  # a renewed certificate is beside the configured one
        agreed = attempt(config.uplink, identity.hub_id, (files[0], files[1]), host, port)
        return Check("broker", FINE, agreed)
    except ConfigError:
        return Check("broker", WARNING, f"{place}: not tried without an identity", "see above: identity")
    except UplinkFailure as failure:
        text = str(failure)
        return condition(condition_of(failure.kind), text if host in text else f"{place}: {text}")
    except OSError as error:  # of the certificate files; ssl.SSLError is one
        return condition("uplink-refused", f"the hub's own certificate files: {error}")


CHECKS: dict[str, Callable[[Config, Any], Iterable[Check]]] = {
    "identity": _identity,
    "operators": _operators,
    "clock": _clock,
    "storage": _storage,
    "ports": _ports,
    "broker": _broker,
}
