"""`meterhub headend audit`: is every number there, is the receipt chain whole, which commands are not over?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.cli.common import FINE, PROBLEM, complain, print_json
from hub.wire.printable import why
from hub.wire.uplink.envelope import LANES

if TYPE_CHECKING:
    from hub.headend.auditor import Audit
    from hub.headend.ledger import Lane


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "audit", help="prove that an archive is complete and its receipts are whole", description=_audit.__doc__
    )
    parser.set_defaults(verb=_audit)
    parser.add_argument("archive", type=Path, help="what `meterhub headend watch --save FILE` kept")
    parser.add_argument(
        "--hub-cert", type=Path, nargs="+", required=True, metavar="FILE", help="the hubs' certificates"
    )
    parser.add_argument(
        "--from", dest="starts", action="append", type=_start, default=[], metavar="LANE=NUMBER",
        help="the archive begins here: earlier numbers of this lane are not missed; may stand again",
    )  # fmt: skip
    parser.add_argument(
        "--from-first", action="store_true", help="each lane begins at the first number that the archive has"
    )
    return parser


def _start(text: str) -> tuple[str, int]:
    lane, _, number = text.partition("=")
    if lane not in LANES or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LANE=NUMBER; lanes: {', '.join(LANES)}")
    return lane, int(number)


def _audit(arguments: argparse.Namespace) -> int:
    """Verify every signature of an archive; exit status 0 when no number is missing and every chain is whole."""
    from hub.headend.archive import load
    from hub.headend.auditor import Auditor
    from hub.headend.inbox import Inbox

    try:
        is_late = arguments.from_first or bool(arguments.starts)
        inbox = Inbox(arguments.hub_cert, from_start=not is_late)
        auditor = Auditor(inbox)
        for topic, payload in load(arguments.archive):
            auditor.take(topic, payload)
    except (OSError, ValueError) as error:
        complain(f"headend audit: {why(error)}")
        return PROBLEM
    finding = auditor.conclude()
    if is_late:
        _since(finding, dict(arguments.starts), {lane for lane, _, _ in inbox.ledger.lanes()}, arguments.from_first)
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


def _since(finding: "Audit", starts: dict[str, int], lanes: "set[Lane]", is_late: bool) -> None:
    """Leave out what lies before the start: numbers of a lane, lanes that were only spoken of, and the link of the
    first receipt to one that the archive cannot have."""
    for lane, ranges in list(finding.missing.items()):
        first = starts.get(lane.lane, 1)
        finding.missing[lane] = [(max(low, first), high) for low, high in ranges if high >= first and lane in lanes]
        if not finding.missing[lane]:
            del finding.missing[lane]
    if is_late or "receipts" in starts:
        for hub, first in finding.first_receipts.items():
            if first in finding.broken.get(hub, ()):
                finding.broken[hub].remove(first)
                if not finding.broken[hub]:
                    del finding.broken[hub]
