"""`meterhub status`: how the hub is, on one screen."""

import argparse
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
from hub.cli.offline import ask_or_read


def register(subparsers: Subparsers) -> None:
    summary = "how the hub is; exit status 1 when something does not work"
    add_bundle_option(add_verb(subparsers, "status", status, summary))


def status(arguments: argparse.Namespace) -> int:
    answer = ask_or_read(arguments, "status")
    if arguments.json:
        print_json(answer)
    else:
        _print(answer)
    return PROBLEM if any(c["severity"] == "error" for c in answer["conditions"]) else FINE


def _print(answer: dict[str, Any]) -> None:
    uplink, store, radio, han = answer["uplink"], answer["store"], answer["radio"], answer["han"]
    say(f"hub      {answer['hub']}  version {answer['version']}  epoch {answer['epoch']}  boot {answer['boot']}")
    say(f"process  up {answer['uptime_s']:.0f} s, {format_bytes(answer['process']['rss_bytes'])} resident")
    since = f" since {format_time(uplink['since'] * 1000)}" if uplink["since"] else ""
    rtt = f", {uplink['rtt_ms']} ms" if uplink["rtt_ms"] is not None else ""
    say(f"uplink   {uplink['state']}{since}  {uplink['host'] or '-'} MQTT {uplink['protocol'] or '-'}{rtt}")
    if uplink.get("next_attempt_s") is not None:
        say(f"         the next attempt in {duration(uplink['next_attempt_s'])}; last: {uplink['last_error'] or '-'}")
    lanes = ", ".join(f"{lane} {figures['pending']}" for lane, figures in answer["queue"].items())
    say(f"queue    pending: {lanes}; readings not yet packed: {answer['queue']['readings'].get('unsealed', 0)}")
    say(
        f"store    {format_bytes(store['bytes'])} of {format_bytes(store['max_bytes'])}, {store['readings']} readings "
        f"taken, {format_bytes(store['written_bytes'])} written since start"
    )
    channel, pan_id = (radio[name] if radio[name] is not None else "-" for name in ("channel", "pan_id"))
    say(f"radio    {radio['state']}  channel {channel}  pan {pan_id}  resets {radio['resets']}")
    if answer["meter"]["state"] != "off":
        meter = answer["meter"]
        say(f"meter    {meter['state']}  {meter['protocol'] or '-'}  {meter['ident'] or '-'}")
    say(f"home     {han['clients']} adapters present, {han['asleep']} asleep, {han['lost']} lost")
    update = answer.get("update", {})  # a bundle of an earlier version has none
    if update.get("state"):
        percent = f", {update['percent']} % fetched" if update["percent"] is not None else ""
        say(f"update   {update['version']}: {update['state']}{percent}  {update['reason']} {update['text']}".rstrip())
    for condition in answer["conditions"]:
        say(f"{condition['severity'].upper():8} {condition['text']}")
        if condition.get("why"):
            say(f"         {condition['why']}")
        say(f"         what to do: {condition['remedy']}")
