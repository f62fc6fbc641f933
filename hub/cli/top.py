"""`meterhub top`: the hub and who is in the home on one screen, again and again; made for 80x24 over a serial line."""

import argparse
import shutil
import time
from typing import Any

from hub.cli.common import FINE, Subparsers, add_verb, ask_daemon, duration, format_bytes
from hub.cli.live import repeat
from hub.wire.printable import one_line

_CONDITIONS_MOST = 5


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "top", top, "the hub and its home on one screen, until Ctrl-C")
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, metavar="N", help="end after so many screens")


def top(arguments: argparse.Namespace) -> int:
    before: dict[str, int] = {}

    def page() -> list[str]:
        status, rows = ask_daemon(arguments, "status"), ask_daemon(arguments, "adapters")
        size = shutil.get_terminal_size((80, 24))
        lines = screen(status, rows, before, size.lines)
        before.update({row["client"]: row.get("accepted") or 0 for row in rows})
        return [one_line(line)[: size.columns - 1] for line in lines]

    repeat(page, max(0.2, arguments.every), arguments.rounds)
    return FINE


def screen(status: dict[str, Any], rows: list[dict[str, Any]], before: dict[str, int], height: int) -> list[str]:
    """One page of at most `height` lines: the hub, what is wrong, and who was heard last. `before`: how many messages
    of each were accepted at the last page."""
    uplink, han, queue = status["uplink"], status["han"], status["queue"]["readings"]
    state = uplink["state"] if uplink.get("next_attempt_s") is None else f"next in {duration(uplink['next_attempt_s'])}"
    age = f", oldest {duration(queue['oldest_s'])}" if queue["oldest_s"] else ""
    lines = [
        f"{status['hub']}  {status['version']}  up {duration(status['uptime_s'])}  "
        f"{format_bytes(status['process']['rss_bytes'])}  {time.strftime('%H:%M:%S', time.gmtime())} UTC",
        f"uplink {state} {uplink['host'] or '-'}  radio {status['radio']['state']}  meter {status['meter']['state']}  "
        f"limit {status['limit']['state']}",
        f"waiting {queue['pending']} packs, {queue.get('unsealed', 0)} readings{age}  adapters {han['clients']} here, "
        f"{han['asleep']} asleep, {han['lost']} lost",
    ]
    conditions = status["conditions"]
    lines += [f"{row['severity'].upper():7} {row['text']}" for row in conditions[:_CONDITIONS_MOST]]
    if len(conditions) > _CONDITIONS_MOST:
        lines.append(f"        and {len(conditions) - _CONDITIONS_MOST} more: meterhub status")
    lines += ["", f"{'client':23} {'state':12} {'seen':>9} {'messages':>9} {'new':>5} {'refused':>7} {'lqi/255':>7}"]
    rows = sorted(rows, key=lambda row: (row["last_seen_s"] is None, row["last_seen_s"] or 0.0))
    room = max(0, height - len(lines) - 2)
    for row in rows[:room]:
        accepted = row.get("accepted") or 0
        new = accepted - before[row["client"]] if row["client"] in before else 0
        seen = "-" if row["last_seen_s"] is None else duration(row["last_seen_s"])
        lqi = "-" if row.get("lqi") is None else row["lqi"]
        refused = sum(row["refused"].values())
        lines.append(f"{row['client']:23} {row['state']:12} {seen:>9} {accepted:>9} {new:>5} {refused:>7} {lqi:>7}")
    if len(rows) > room:
        lines.append(f"and {len(rows) - room} more: meterhub adapters")
    return lines
