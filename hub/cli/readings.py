"""`meterhub readings`: the readings kept at this hub; also on a stopped hub's database."""

import argparse
import shutil
from datetime import datetime

from hub.cli.common import (
    FINE,
    Subparsers,
    add_bundle_option,
    add_verb,
    format_time,
    print_csv,
    print_json,
    print_table,
    say,
)
from hub.cli.offline import ask_or_open
from hub.cli.plot import plot
from hub.wire.uplink.reading import flags_in_words


def _time(text: str) -> int:
    """UTC epoch seconds, or ISO 8601 (UTC where it names no zone), as epoch milliseconds."""
    try:
        return int(float(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 2026-01-31T12:00 or epoch seconds") from None
    if moment.tzinfo is None:
        moment = (
            datetime.fromisoformat(text + "+00:00") if "T" in text else datetime.fromisoformat(text + "T00:00+00:00")
        )
    return int(moment.timestamp() * 1000)


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "readings", readings, "readings kept at this hub, in order of time")
    add_bundle_option(parser)
    parser.add_argument("--client", help="only this adapter's")
    parser.add_argument("--quantity", help="only this quantity (power, energy, ...)")
    parser.add_argument("--from", dest="from_ms", type=_time, metavar="TIME", help="from this time on")
    parser.add_argument("--to", dest="to_ms", type=_time, metavar="TIME", help="up to this time")
    parser.add_argument("--limit", type=int, help="at most so many, the newest (default: 1000; with --plot 100000)")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="(default: %(default)s)")
    parser.add_argument("--plot", action="store_true", help="draw each series in the terminal")


def readings(arguments: argparse.Namespace) -> int:
    from hub.services.admin.queries import reading_row

    query = {name: getattr(arguments, name) for name in ("client", "quantity", "from_ms", "to_ms", "limit")}
    query["newest_first"] = True
    if query["limit"] is None:
        query["limit"] = 100_000 if arguments.plot else 1000
    rows = ask_or_open(
        arguments, "readings", lambda view: [reading_row(reading) for reading in view.readings(**query)], **query
    )
    rows.reverse()
    if arguments.json or arguments.format == "json":
        print_json(rows)
    elif arguments.plot:
        for line in plot(rows, min(200, shutil.get_terminal_size((80, 24)).columns)):
            say(line)
    elif arguments.format == "csv":
        print_csv(("time", *_COLUMNS), ([format_time(row["t_ms"]), *(row[key] for key in _COLUMNS)] for row in rows))
    else:
        for row in rows:
            row["flags"] = flags_in_words(row["flags"])
        print_table(("time", *_COLUMNS), [[format_time(row["t_ms"]), *(row[key] for key in _COLUMNS)] for row in rows])
    return FINE


_COLUMNS = ("client", "quantity", "value", "unit", "flags")
