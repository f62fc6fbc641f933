"""`meterhub readings`: the readings kept at this hub; also on a stopped hub's database."""

import argparse
from datetime import datetime
from typing import Any

from hub.cli.common import (
    FINE,
    Subparsers,
    add_bundle_option,
    add_verb,
    format_time,
    print_csv,
    print_json,
    print_table,
)
from hub.cli.drawing import add_drawing_options, draw, is_drawing
from hub.cli.moments import moment_ms
from hub.cli.offline import ask_or_open
from hub.wire.uplink.reading import flags_in_words


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "readings", readings, "readings kept at this hub, in order of time")
    add_bundle_option(parser)
    parser.add_argument("--client", help="only this adapter's")
    parser.add_argument("--quantity", help="only this quantity (power, energy, ...)")
    parser.add_argument(
        "--from",
        dest="from_ms",
        type=moment_ms,
        metavar="TIME",
        help="from this time on: 2026-01-31T12:00 of the local clock, epoch seconds, 2h ago as 2h",
    )
    parser.add_argument(
        "--since", dest="from_ms", type=moment_ms, metavar="TIME", help="as --from; 10m: ten minutes ago"
    )
    parser.add_argument("--to", dest="to_ms", type=moment_ms, metavar="TIME", help="up to this time")
    parser.add_argument("--limit", type=int, help="at most so many, the newest (default: 1000; with --plot 100000)")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="(default: %(default)s)")
    add_drawing_options(parser, "each series")
    parser.add_argument("--by-day", action="store_true", help="what each register counted on each day, in kWh")


def readings(arguments: argparse.Namespace) -> int:
    from hub.services.admin.queries import reading_row

    query = {name: getattr(arguments, name) for name in ("client", "quantity", "from_ms", "to_ms", "limit")}
    query["newest_first"] = True
    if query["limit"] is None:
        query["limit"] = 100_000 if is_drawing(arguments) or arguments.by_day else 1000
    rows = ask_or_open(
        arguments, "readings", lambda view: [reading_row(reading) for reading in view.readings(**query)], **query
    )
    rows.reverse()
    if is_drawing(arguments):
        return draw(arguments, rows)
    if arguments.by_day:
        return _print_days(arguments, totals_by_day(rows))
    if arguments.json or arguments.format == "json":
        print_json(rows)
    elif arguments.format == "csv":
        print_csv(("time", *_COLUMNS), ([format_time(row["t_ms"]), *(row[key] for key in _COLUMNS)] for row in rows))
    else:
        for row in rows:
            row["flags"] = flags_in_words(row["flags"])
        print_table(("time", *_COLUMNS), [[format_time(row["t_ms"]), *(row[key] for key in _COLUMNS)] for row in rows])
    return FINE


_COLUMNS = ("client", "quantity", "value", "unit", "flags")


def totals_by_day(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each energy register (Wh) counted on each day of the local clock, in kWh; `rows`: readings in order of time.

    A day counts from the last reading before it; a register that falls was exchanged or began anew: that step is no
    energy, and the day says so.
    """
    last: dict[tuple[str, str], float] = {}
    days: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        if row["unit"] != "Wh":
            continue
        register, value = (row["client"], row["quantity"]), float(row["value"])
        day = datetime.fromtimestamp(row["t_ms"] / 1000).strftime("%Y-%m-%d")
        total = days.setdefault(
            (day, *register), {"day": day, "client": row["client"], "quantity": row["quantity"], "kwh": 0.0, "fell": 0}
        )
        step = value - last.get(register, value)
        total["kwh"] += max(0.0, step) / 1000
        total["fell"] += step < 0
        last[register] = value
    return [{**total, "kwh": round(total["kwh"], 3)} for _, total in sorted(days.items())]


def _print_days(arguments: argparse.Namespace, totals: list[dict[str, Any]]) -> int:
    if arguments.json:
        print_json(totals)
        return FINE
    rows = [
        (total["day"], total["client"], total["quantity"], f"{total['kwh']:.3f} kWh", "fell" if total["fell"] else "")
        for total in totals
    ]
    print_table(("day", "client", "register", "counted", ""), rows)
    return FINE
