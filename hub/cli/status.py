"""`meterhub status`: how the hub is, on one screen."""

import argparse
from collections.abc import Iterator
from typing import Any

from hub.cli.common import (
    FINE,
    PROBLEM,
    Subparsers,
    add_bundle_option,
    add_verb,
    duration,
    format_bytes,
    format_time,
    print_json,
    say,
)
from hub.cli.live import repeat
from hub.cli.moments import ago
from hub.cli.offline import ask_or_read
from hub.wire.printable import one_line


def register(subparsers: Subparsers) -> None:
    summary = "how the hub is; exit status 1 when something does not work"
    parser = add_verb(subparsers, "status", status, summary)
    add_bundle_option(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=2.0,
        metavar="S",
        help="again every S seconds (default: 2), until Ctrl-C",
    )


def status(arguments: argparse.Namespace) -> int:
    if arguments.watch is not None:
        repeat(lambda: [one_line(line) for line in page(ask_or_read(arguments, "status"))], max(0.2, arguments.watch))
    answer = ask_or_read(arguments, "status")
    if arguments.json:
        print_json(answer)
    else:
        for line in page(answer):
            say(line, is_marked=True)
    return PROBLEM if any(c["severity"] == "error" for c in answer["conditions"]) else FINE


def page(answer: dict[str, Any]) -> Iterator[str]:
    """How a hub is, line by line."""
    uplink, store, radio, han = answer["uplink"], answer["store"], answer["radio"], answer["han"]
    yield (f"hub      {answer['hub']}  version {answer['version']}  epoch {answer['epoch']}  boot {answer['boot']}")
    if answer.get("board"):
        board = answer["board"]
        where = "" if board["data"] == "partition" else f"  data in {board['data']}"
        yield (f"image    {board['image']}  slot {board['slot']}{where}")
    yield (f"process  up {duration(answer['uptime_s'])}, {format_bytes(answer['process']['rss_bytes'])} resident")
    since = f" since {format_time(uplink['since'] * 1000)} ({ago(uplink['since'] * 1000)})" if uplink["since"] else ""
    rtt = f", {uplink['rtt_ms']} ms" if uplink["rtt_ms"] is not None else ""
    yield (f"uplink   {uplink['state']}{since}  {uplink['host'] or '-'} MQTT {uplink['protocol'] or '-'}{rtt}")
    if uplink.get("next_attempt_s") is not None:
        yield (
            f"         the next attempt in {duration(uplink['next_attempt_s'])}; last: {uplink['last_error'] or '-'}"
        )
    lanes = ", ".join(f"{lane} {figures['pending']}" for lane, figures in answer["queue"].items())
    unsealed = answer["queue"]["readings"].get("unsealed", 0)
    yield (f"queue    messages pending: {lanes}; readings not yet packed: {unsealed}")
    yield (
        f"store    {format_bytes(store['bytes'])} of {format_bytes(store['max_bytes'])}, {store['readings']} readings "
        f"taken, {format_bytes(store['written_bytes'])} written since start"
    )
    channel, pan_id = (radio[name] if radio[name] is not None else "-" for name in ("channel", "pan_id"))
    yield (f"radio    {radio['state']}  channel {channel}  pan {pan_id}  {radio['resets']} resets")
    if answer["meter"]["state"] != "off":
        meter = answer["meter"]
        yield (f"meter    {meter['state']}  {meter['protocol'] or '-'}  {meter['ident'] or '-'}")
    yield (f"home     {han['clients']} adapters present, {han['asleep']} asleep, {han['lost']} lost")
    update = answer.get("update", {})  # a bundle of an earlier version has none
    if update.get("state"):
        percent = f", {update['percent']} % fetched" if update["percent"] is not None else ""
        yield (
            f"update   {update['version']}: {update['state']}{percent}  {update['reason']} {update['text']}".rstrip()
        )
    for condition in answer["conditions"]:
        yield (f"{condition['severity'].upper():8} {condition['text']}")
        if condition.get("why"):
            yield (f"         {condition['why']}")
        yield (f"         what to do: {condition['remedy']}")
