"""`meterhub`: the list of verbs, and what an error becomes.

Verbs are imported when they are asked for: `meterhub status` on a small ARM must not pay for the daemon's libraries.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from hub.app.config import ConfigError
from hub.cli.common import NO_DAEMON, PROBLEM, USAGE, complain
from hub.services.admin.bundle import BadBundle
from hub.services.admin.client import NoDaemon, RequestRefused
from hub.wire.version import VERSION

# name: (module, summary). Each module has `register(subparsers)`.
VERBS = {
    "run": "hub.cli.run",
    "reload": "hub.cli.reload",
    "check-config": "hub.cli.check_config",
    "config": "hub.cli.config",
    "status": "hub.cli.status",
    "top": "hub.cli.top",
    "adapters": "hub.cli.adapters",
    "queue": "hub.cli.queue",
    "uplink": "hub.cli.uplink",
    "readings": "hub.cli.readings",
    "events": "hub.cli.events",
    "limits": "hub.cli.limits",
    "operators": "hub.cli.operators",
    "radio": "hub.cli.radio",
    "meter": "hub.cli.meter",
    "trace": "hub.cli.trace",
    "doctor": "hub.cli.doctor",
    "bundle": "hub.cli.bundle",
    "bench": "hub.cli.bench",
    "headend": "hub.cli.headend",
    "factory-reset": "hub.cli.factory_reset",
    "slots-helper": "hub.cli.slots_helper",
}


class _Parser(argparse.ArgumentParser):
    """One that says what a mistyped word may have meant; its subparsers are of the same kind."""

    def error(self, message: str) -> NoReturn:
        super().error(message + _meant(message))


def _meant(message: str) -> str:
    """`; did you mean 'status'?` for a word that is near one of those that it could have been."""
    import re  # only for who mistypes
    from difflib import get_close_matches

    found = re.search(r"invalid choice: '([^']*)' \(choose from ([^)]*)\)", message)
    if found is None:
        return ""
    near = get_close_matches(found[1], re.findall(r"[\w.-]+", found[2]), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def build_parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with the verbs in `wanted`."""
    parser = _Parser(prog="meterhub", description="The hub inside a smart electricity meter.")
    parser.add_argument("--version", action="version", version=f"meterhub {VERSION}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in wanted:
        import_module(VERBS[name]).register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit status: 0 fine, 1 a problem found, 2 wrong usage, 3 no daemon."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's locale has no letters for is no crash
            stream.reconfigure(errors="backslashreplace")
    verb = next((word for word in argv if not word.startswith("-")), None)
    arguments = build_parser([verb] if verb in VERBS else list(VERBS)).parse_args(argv)
    try:
        status: int = arguments.verb(arguments)
        sys.stdout.flush()
        return status
    except ConfigError as error:
        complain(str(error))
        return USAGE
    except BadBundle as error:
        complain(str(error))
        return USAGE
    except NoDaemon as error:
        complain(str(error))
        return NO_DAEMON
    except RequestRefused as error:
        complain(str(error))
        return PROBLEM
    except BrokenPipeError:  # `meterhub readings | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
