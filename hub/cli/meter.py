"""`meterhub meter`: what is at the meter's port, and everything that it says."""

import argparse
from typing import Any

from hub.cli.common import (
    FINE,
    PROBLEM,
    USAGE,
    Subparsers,
    add_bundle_option,
    add_verb,
    complain,
    print_json,
    print_table,
)
from hub.cli.offline import ask_or_read
from hub.wire.uplink.reading import unit_of


def register(subparsers: Subparsers) -> None:
    summary = "what is at the meter's port, and what it says; exit status 1 when not read"
    add_bundle_option(add_verb(subparsers, "meter", meter, summary))


def meter(arguments: argparse.Namespace) -> int:
    answer = ask_or_read(arguments, "meter")
    if arguments.json:
        print_json(answer)
    elif answer["state"] == "off":
        complain("no port of the meter is configured (meter.path in hub.toml)")
        return USAGE
    else:
        _print(answer)
    return FINE if answer["state"] == "up" else PROBLEM


def _print(answer: dict[str, Any]) -> None:
    last = "never" if answer["last_s"] is None else f"{answer['last_s']:.0f} s ago"
    share = "too few to tell" if answer["bad_share"] is None else f"{answer['bad_share']:.1%} of the last"
    fault = f", the last because {answer['last_fault']}" if answer.get("last_fault") else ""
    for name, text in (
        ("state", answer["state"] + (f": {answer['unreadable']}" if answer["unreadable"] else "")),
        ("meter", answer.get("ident") or "-"),
        ("number", answer.get("number") or "-"),
        ("protocol", answer["protocol"] + (" (found)" if answer["configured"] == "auto" else "")),
        ("port", f"{answer['path']}  {answer['line']}"),
        ("checked by", _CHECKS.get(answer["check"], "-")),
        ("telegrams", f"{answer['telegrams']}, the last one {last}"),
        ("bad", f"{answer['bad']} damaged, {answer['doubtful']} in doubt; {share}{fault}"),
    ):
        print(f"{name:10} {text}")
    for quantity, why in answer.get("withheld", {}).items():
        print(f"{'withheld':10} {quantity}: {why}")
    rows = [("meter", name, text, unit_of(name)) for name, text in answer.get("quantities", {}).items()]
    rows += [
        (row["client"], row["quantity"], row["text"], unit_of(row["quantity"])) for row in answer.get("others", ())
    ]
    if rows:
        print()
        print_table(("client", "quantity", "value", "unit"), rows)
    if answer.get("registers"):
        print()
        registers = answer["registers"].items()
        print_table(("register", "value", "unit"), [(code, row["value"], row["unit"]) for code, row in registers])
    if answer.get("raw"):
        print("\nlast telegram:")
        print("".join(character if character.isprintable() or character == "\n" else "" for character in answer["raw"]))


_CHECKS = {
    "crc": "a checksum of the telegram",
    "parity": "each byte's parity, and what was said before",
    "none": "nothing but what was said before",
}
