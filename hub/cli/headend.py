"""`meterhub headend`: the control point's side, for tests, integrators and demonstrations."""

import argparse
from pathlib import Path

from hub.cli import headend_audit, headend_firmware, headend_keep, headend_keygen, headend_send, headend_watch
from hub.cli.common import Subparsers

_ACTIONS = (headend_watch, headend_keep, headend_send, headend_keygen, headend_audit, headend_firmware)


def register(subparsers: Subparsers) -> None:
    headend = subparsers.add_parser("headend", help="the control point's side", description="The control point's side.")
    actions = headend.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action in _ACTIONS:
        parser = action.register(actions)
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")
        # Every verb takes it; the control point has no hub's configuration to read.
        parser.add_argument("--config", type=Path, help=argparse.SUPPRESS)
