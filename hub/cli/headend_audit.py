"""`meterhub headend audit`: is every number there, is the receipt chain whole, which commands are not over?"""

import argparse
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, PROBLEM, complain, print_json
from hub.wire.printable import why


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "audit", help="prove that an archive is complete and its receipts are whole", description=_audit.__doc__
    )
    parser.set_defaults(verb=_audit)
    parser.add_argument("archive", type=Path, help="what `meterhub headend watch --save FILE` kept")
    parser.add_argument(
        "--hub-cert", type=Path, nargs="+", required=True, metavar="FILE", help="the hubs' certificates"
    )
    return parser


def _audit(arguments: argparse.Namespace) -> int:
    """Verify every signature of an archive; exit status 0 when no number is missing and every chain is whole."""
    from hub.headend.archive import load
    from hub.headend.auditor import Auditor
    from hub.headend.inbox import Inbox

    try:
        auditor = Auditor(Inbox(arguments.hub_cert))
        for topic, payload in load(arguments.archive):
            auditor.take(topic, payload)
    except (OSError, ValueError) as error:
        complain(f"headend audit: {why(error)}")
        return PROBLEM
    finding = auditor.conclude()
    lines = [
        *(f"fault: {fault}" for fault in finding.faults),
        *(f"missing: {lane.hub} epoch {lane.epoch} {lane.lane} {r}" for lane, r in finding.missing.items()),
        *(f"broken: {hub}: receipt {i} does not follow" for hub, found in finding.broken.items() for i in found),
        *(f"open: {hub}: command {cti.hex()} is {status}" for hub, cti, status in finding.open_commands),
        *(f"unanswered: command {c.cti.hex()} {c.op} for {c.aud}" for c in finding.silent_commands),
    ]
    if arguments.json:
        figures = {"messages": finding.messages, "readings": finding.readings, "receipts": finding.receipts}
        print_json({"sound": finding.is_sound, **figures, "found": lines})
    else:
        print("\n".join(lines)) if lines else None
        figures_text = f"{finding.messages} messages, {finding.readings} readings, {finding.receipts} receipts"
        print(f"{figures_text}: {'sound' if finding.is_sound else 'NOT sound'}")
    return FINE if finding.is_sound else PROBLEM
