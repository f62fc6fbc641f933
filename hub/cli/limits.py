"""`meterhub limits`: what the household is held to, who asked, and what each appliance is told."""

import argparse
from collections.abc import Iterator
from typing import Any

from hub.cli.common import (
    FINE,
    Subparsers,
    add_bundle_option,
    add_verb,
    ask_daemon,
    duration,
    format_time,
    print_json,
    print_table,
    say,
)
from hub.cli.drawing import add_drawing_options, draw, is_drawing
from hub.cli.offline import ask_or_read

_DAY_MS = 86_400_000
_ROWS_MOST = 100_000


def register(subparsers: Subparsers) -> None:
    summary = "what the household is held to, and what each appliance is told"
    parser = add_verb(subparsers, "limits", limits, summary)
    add_bundle_option(parser)
    add_drawing_options(parser, "what was drawn during the last day, and the limits that held and will")


def limits(arguments: argparse.Namespace) -> int:
    answer = ask_or_read(arguments, "limits")
    if is_drawing(arguments):
        return draw(arguments, list(_rows(arguments, answer)))
    if arguments.json:
        print_json(answer)
        return FINE
    watts, until = answer["watts"], answer["until"]
    held = "nothing" if watts is None else f"{watts:.0f} W" + (f" until {format_time(until * 1000)}" if until else "")
    household = answer["household"].get("household_w")
    say(f"{answer['state']}; held to {held}; the household draws {'?' if household is None else household} W")
    rows = [
        (
            limit["state"],
            f"{limit['watts']:.0f} W",
            limit["operator"],
            _span(limit["start"], limit["end"]),
            limit["told"],
        )
        for limit in answer["limits"]
    ] + [
        ("held", order["order"], order["operator"], f"{order['client']} until {format_time(order['end'] * 1000)}", "")
        for order in answer["orders"]
    ]
    if rows:
        say()
        print_table(("state", "what", "operator", "when", "told"), rows)
    if answer["appliances"]:
        say()
        print_table(
            ("appliance", "class", "power", "share", "waited", ""),
            [
                (
                    a["client"], a["class"], _watts(a.get("power_w")), _watts(a.get("share_w")),
                    "?" if "kept_waiting_s" not in a else duration(a["kept_waiting_s"]), _word(a),
                )
                for a in answer["appliances"]
            ],
        )  # fmt: skip
    return FINE


def _rows(arguments: argparse.Namespace, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows to draw: the household's power and what it was held to, a minute each, the limits to come; of each appliance
    its power and the limit that it obeyed. A bundle holds no consumption, so its drawing has the limits alone."""
    points = ask_or_read(arguments, "history")
    for point in points:
        for quantity, key in (("power", "household_w"), ("limit", "limit_w")):
            if quantity == "limit" or point.get(key) is not None:
                yield value_row("household", quantity, point["t_ms"], point.get(key))
    last_ms = points[-1]["t_ms"] if points else 0
    yield from coming(answer["limits"], last_ms)
    if arguments.bundle is None and points:
        for appliance in answer["appliances"]:
            for quantity in ("power", "limit"):
                request = {"client": appliance["client"], "quantity": quantity, "from_ms": last_ms - _DAY_MS}
                yield from ask_daemon(arguments, "readings", timeout_s=60.0, limit=_ROWS_MOST, **request)


def coming(limits: list[dict[str, Any]], after_ms: int) -> Iterator[dict[str, Any]]:
    """What the household will be held to from `after_ms` on: at each begin or end of a limit the lowest that holds."""
    mine = [(it["start"] * 1000, it["end"] * 1000, it["watts"]) for it in limits if it["direction"] == "import"]
    for t_ms in sorted({t_ms for start, end, _ in mine for t_ms in (start, end) if t_ms > after_ms}):
        held = [watts for start, end, watts in mine if start <= t_ms < end]
        yield value_row("household", "limit", round(t_ms), min(held, default=None))


def value_row(client: str, quantity: str, t_ms: int, watts: float | None) -> dict[str, Any]:
    """A value to draw."""
    return {"client": client, "quantity": quantity, "unit": "W", "t_ms": t_ms, "value": watts, "flags": 0}


def _span(start: float, end: float) -> str:
    return f"{format_time(start * 1000)} - {format_time(end * 1000)}"


def _watts(watts: int | None) -> str:
    return "-" if watts is None else f"{watts} W"


def _word(appliance: dict[str, Any]) -> str:
    if appliance["protected"]:
        return "protected"
    if appliance["deaf"]:
        return "does not do as it is told"
    if not appliance["restrictable"]:
        return "never restricted" if appliance["listens"] else "does not listen to orders"
    return {True: "obeys", False: "does not obey yet", None: ""}[appliance["obeys"]]
