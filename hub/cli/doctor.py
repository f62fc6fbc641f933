"""`meterhub doctor`: examines the hub, whether it runs or not, or a bundle; exit status 1 when something is wrong."""

import argparse

from hub.app.doctor import ERROR, Check, daemon_findings, examine
from hub.cli.common import (
    FINE,
    PROBLEM,
    Subparsers,
    add_bundle_option,
    add_verb,
    ask_daemon,
    config_of,
    print_json,
    say,
)
from hub.services.admin.client import NoDaemon

_MARKS = {"fine": "ok", "warning": "WARNING", "error": "ERROR"}


def register(subparsers: Subparsers) -> None:
    add_bundle_option(add_verb(subparsers, "doctor", doctor, "examine everything this hub needs, and say what to do"))


def doctor(arguments: argparse.Namespace) -> int:
    findings = _findings(arguments)
    if arguments.json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            say(f"{_MARKS[finding.severity]:8} {finding.check:25} {finding.text}", is_marked=True)
            if finding.why:
                say(f"{'':9} {finding.why}")
            if finding.remedy:
                say(f"{'':9} what to do: {finding.remedy}")
    return PROBLEM if any(finding.severity == ERROR for finding in findings) else FINE


def _findings(arguments: argparse.Namespace) -> list[Check]:
    if arguments.bundle is not None:
        from hub.services.admin.bundle import read_bundle

        parts = read_bundle(arguments.bundle)
        if "doctor" in parts:
            return [Check(**row) for row in parts["doctor"]]
        return list(daemon_findings(parts["status"]))
    config = config_of(arguments)
    try:
        return examine(config, ask_daemon(arguments, "status"))
    except NoDaemon as absent:
        return examine(config, None, str(absent))
