"""`meterhub uplink`: the one session to the utility, what it costs, and what a month of it will cost."""

import argparse
from typing import Any

from hub.cli.common import (
    FINE,
    PROBLEM,
    Subparsers,
    add_bundle_option,
    add_verb,
    format_bytes,
    format_time,
    print_json,
    say,
)
from hub.cli.offline import ask_or_read


def register(subparsers: Subparsers) -> None:
    summary = "the session to the utility and its cost; exit status 1 while there is none"
    add_bundle_option(add_verb(subparsers, "uplink", uplink, summary))


def uplink(arguments: argparse.Namespace) -> int:
    answer = ask_or_read(arguments, "status")["uplink"]
    if arguments.json:
        print_json(answer)
    else:
        _print(answer)
    return FINE if answer["state"] == "up" else PROBLEM


def _print(answer: dict[str, Any]) -> None:
    since = f" since {format_time(answer['since'] * 1000)}" if answer["since"] else ""
    say(f"state     {answer['state']}{since}")
    say(f"broker    {answer['host'] or '-'}  MQTT {answer['protocol'] or '-'}")
    if tls := answer["tls"]:
        say(f"tls       {tls['version']} {tls['cipher']}{', resumed' if tls['resumed'] else ', full handshake'}")
    say(f"sessions  {answer['sessions']} in {answer['attempts']} attempts since the hub started")
    if answer["rtt_ms"] is not None:
        say(f"answers   in {answer['rtt_ms']} ms")
    say(f"sent      {answer['messages']} messages, {format_bytes(answer['payload_bytes'])} before TLS")
    if answer.get("strays"):
        say(f"strays    {answer['strays']} messages on other topics, or retained: dropped")
    traffic = answer["traffic"]
    for name in ("today", "month"):
        row = traffic[name]
        say(
            f"{name:9} {format_bytes(row['bytes_up'])} up, {format_bytes(row['bytes_down'])} down in TLS; "
            f"{format_bytes(row['bytes_on_line'])} on the line"
        )
    projected = traffic["projected_mb_per_month"]
    say("a month   " + ("too early to say" if projected is None else f"about {projected} MB at this pace"))
    if answer["last_error"]:
        say(f"last      {answer['last_error']}")
