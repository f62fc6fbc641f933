"""`meterhub limits`: what the household is held to, who asked, and what each appliance is told."""

import argparse
from typing import Any

from hub.cli.common import FINE, Subparsers, add_bundle_option, add_verb, format_time, print_json, print_table, say
from hub.cli.offline import ask_or_read


def register(subparsers: Subparsers) -> None:
    summary = "what the household is held to, and what each appliance is told"
    add_bundle_option(add_verb(subparsers, "limits", limits, summary))


def limits(arguments: argparse.Namespace) -> int:
    answer = ask_or_read(arguments, "limits")
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
                    f"{a.get('kept_waiting_s', '?')} s", _word(a),
                )
                for a in answer["appliances"]
            ],
        )  # fmt: skip
    return FINE


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
