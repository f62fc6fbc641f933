"""`meterhub radio`: the Zigbee radio."""

import argparse
import html
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from hub.cli.common import (
    FINE,
    PROBLEM,
    USAGE,
    Subparsers,
    add_bundle_option,
    add_verb,
    ask_daemon,
    complain,
    print_json,
    print_table,
    say,
)
from hub.cli.offline import ask_or_read, from_bundle
from hub.cli.words import pairs

_NAMES_MOST = 8
_BACKUP_HELP = "- for standard output, also the default where that is no terminal (else: radio-PAN-TIME.json, here)"


def register(subparsers: Subparsers) -> None:
    radio = subparsers.add_parser("radio", help="the Zigbee radio", description="the Zigbee radio")
    actions = radio.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_bundle_option(add_verb(actions, "info", info, "the radio's state and network"))
    add_verb(actions, "scan", scan, "how loud each channel is; takes some seconds")
    parser = add_verb(actions, "map", draw, "who hears whom; takes about a second a router")
    add_bundle_option(parser)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it into this file")
    parser = add_verb(actions, "backup", backup, "write the network into a file: keys included, so guard it")
    parser.add_argument("--out", type=Path, metavar="FILE", help=_BACKUP_HELP)
    parser = add_verb(actions, "restore", restore, "put a backed up network into this radio, in place of its own")
    parser.add_argument("file", type=Path, metavar="FILE", help="a backup; `-`: from standard input")
    parser.add_argument("--yes", action="store_true", help="do it: the network that the radio has now is given up")
    parser = add_verb(actions, "channel", channel, "move the network to another channel, told to all its devices")
    parser.add_argument("to", metavar="CHANNEL", help="11 to 26, or auto: the quietest")
    parser.add_argument("--in", dest="in_s", type=int, default=0, metavar="SECONDS", help="so much later")
    parser = add_verb(actions, "rotate-key", rotate_key, "give the network another key; takes half a minute")
    parser.add_argument("--yes", action="store_true", help="do it: who sleeps through it may be away for a day")
    parser = add_verb(actions, "remove", remove, "take a device off the network for good")
    parser.add_argument("ieee", metavar="IEEE", help="its 16 hex digits, as `meterhub radio info` shows them")
    add_bundle_option(add_verb(actions, "firmware", firmware, "what appliances are offered, and what is refused"))
    parser = add_verb(actions, "permit", permit, "let a device join by its install code, or for a while any (--any)")
    parser.add_argument("--seconds", type=int, default=60, help="1 to 254 (default: %(default)s)")
    parser.add_argument("--ieee", help="only this device, by its 16 hex digits; with --install-code")
    parser.add_argument("--install-code", help="what its label says, in hex digits, CRC included")
    parser.add_argument("--any", action="store_true", help="any device, with the key that everybody knows")


def info(arguments: argparse.Namespace) -> int:
    radio = ask_or_read(arguments, "status")["radio"]
    if arguments.json:
        print_json(radio)
    else:
        for key, value in pairs(
            {key: value for key, value in radio.items() if key not in ("devices", "firmware", "group")}
        ).items():
            say(f"{key:16} {value}{_unit(key, value)}")
        if "group" in radio:
            say(f"{'group':16} {_group(radio['group'])}")
        rows = [[ieee, *device.values()] for ieee, device in radio.get("devices", {}).items()]
        if rows:
            columns = ["ieee", *next(iter(radio["devices"].values()))]
            print_table(columns, rows, units=[_COLUMN_UNITS.get(column, "") for column in columns])
    return FINE if radio["state"] in ("up", "off") else PROBLEM


# What a figure of the radio counts, where its name does not say it.
_UNITS = {
    **dict.fromkeys(("frames_in", "frames_out", "dropped", "failed", "too_long", "duplicates", "waiting", "malformed",
                     "refused"), "frames"),
    "resets": "times", "resets_last_hour": "times", "retries": "times", "address_conflicts": "times",
    "members": "devices",
    "delivered_share": "of 1", "queue_age_s": "s", "move_in_s": "s", "permit_s": "s",
}  # fmt: skip
_COLUMN_UNITS = {"lqi": "of 255", "rssi_dbm": "dBm", "delivered_share": "of 1", "depth": "hops"}


def _unit(key: str, value: object) -> str:
    return f" {_UNITS[key]}" if key in _UNITS and value != "-" else ""


def _group(group: dict[str, Any]) -> str:
    """The group by which plain appliances are switched at once, in a line."""
    members, unconfirmed = group["members"], group["unconfirmed"]
    names = ", ".join(members[:_NAMES_MOST]) + (
        f" and {len(members) - _NAMES_MOST} more" if len(members) > _NAMES_MOST else ""
    )
    waits = f"; {unconfirmed} asked to join or to leave, without an answer yet" if unconfirmed else ""
    return (
        f"{group['id']}, {len(members)} members{': ' if members else ''}{names}{waits}; sent to {group['frames']} times"
    )


def firmware(arguments: argparse.Namespace) -> int:
    figures = ask_or_read(arguments, "status")["radio"].get("firmware") or {
        "images": [],
        "refused": {},
        "loading": None,
    }
    if arguments.json:
        print_json(figures)
    else:
        rows = [
            [
                row["file"],
                f"0x{row['manufacturer']:04X}",
                f"0x{row['type']:04X}",
                f"0x{row['version']:08X}",
                row["bytes"],
            ]
            for row in figures["images"]
        ]
        if rows:
            print_table(["file", "manufacturer", "type", "version", "bytes"], rows)
        for name, why in figures["refused"].items():
            say(f"{name}: refused: {why}")
        if figures["loading"] is not None:
            say(f"{figures['loading']} loads: {figures['loaded_bytes']} bytes so far")
    return PROBLEM if figures["refused"] else FINE


def channel(arguments: argparse.Namespace) -> int:
    to = None if arguments.to == "auto" else arguments.to
    if to is not None and not (to.isdecimal() and 11 <= int(to) <= 26):
        complain("a channel is 11 to 26, or auto")
        return USAGE
    answer = ask_daemon(
        arguments, "radio.channel", timeout_s=_SCAN_S, to=None if to is None else int(to), in_s=arguments.in_s
    )
    if arguments.json:
        print_json(answer)
    else:
        say(f"the network moves to channel {answer['channel']} in {answer['in_s']} s")
    return FINE


def rotate_key(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        complain("who sleeps through it, or is switched off for a day, has to join anew; say --yes if you mean it")
        return USAGE
    answer = ask_daemon(arguments, "radio.rotate_key", timeout_s=_BACKUP_S)
    if arguments.json:
        print_json(answer)
    else:
        say(f"the network has another key, number {answer['sequence']}; backups of before are of no use")
    return FINE


def remove(arguments: argparse.Namespace) -> int:
    answer = ask_daemon(arguments, "radio.remove", timeout_s=_REMOVE_S, ieee=arguments.ieee.lower())
    if arguments.json:
        print_json(answer)
    else:
        how = "it was told to leave" if answer["told"] else "it did not answer, and is not let in again"
        print(f"{answer['ieee']} is off the network: {how}")
    return FINE


def permit(arguments: argparse.Namespace) -> int:
    named = {"ieee": arguments.ieee, "install_code": arguments.install_code}
    only = {name: text for name, text in named.items() if text}
    if bool(only) == arguments.any:
        complain("say which device (--ieee and --install-code), or --any: then whoever is near may join meanwhile")
        return USAGE
    answer = ask_daemon(arguments, "radio.permit", duration_s=arguments.seconds, **only)
    if arguments.json:
        print_json(answer)
    else:
        say(f"{arguments.ieee or 'devices'} may join for {answer['duration_s']} s")
    return FINE


_SCAN_S, _MAP_S, _BACKUP_S, _REMOVE_S = 60.0, 900.0, 120.0, 30.0
_BAR = 32


def scan(arguments: argparse.Namespace) -> int:
    rows = ask_daemon(arguments, "radio.scan", timeout_s=_SCAN_S)
    if arguments.json:
        print_json(rows)
        return FINE
    say("channel  energy")
    say("         of 255")
    for row in rows:
        bar = "#" * (row["energy"] * _BAR // 255)
        say(
            f"{row['channel']:<7}  {row['energy']:<6}  {bar:{_BAR}} "
            f"{'the network is here' if row['ours'] else ''}".rstrip()
        )
    return FINE


def draw(arguments: argparse.Namespace) -> int:
    is_here = arguments.bundle is None
    rows = ask_daemon(arguments, "radio.map", timeout_s=_MAP_S) if is_here else from_bundle(arguments, "radio.map")
    if arguments.svg is not None:
        try:
            arguments.svg.write_text(svg_of(rows), "utf-8")
        except OSError as error:
            complain(f"{arguments.svg}: {error.strerror or error}; give another place with --svg")
            return PROBLEM
        print(f"{arguments.svg}: {len(rows)} links")
    elif arguments.json:
        print_json(rows)
    elif rows:
        columns = list(rows[0])
        units = [_COLUMN_UNITS.get(column, "") for column in columns]
        print_table(columns, [list(row.values()) for row in rows], units=units)
    return FINE


_SIZE, _RING, _DOT = 800, 320, 10


def svg_of(rows: list[dict[str, Any]]) -> str:
    """The mesh as a picture: devices on a ring, in the order they were met; a line a link, the paler the weaker."""
    names = list(dict.fromkeys(name for row in rows for name in (row["of"], row["neighbour"])))
    middle = _SIZE / 2
    at = {
        name: (
            middle + _RING * math.cos(2 * math.pi * n / len(names)),
            middle + _RING * math.sin(2 * math.pi * n / len(names)),
        )
        for n, name in enumerate(names)
    }
    lines = [
        f'<line x1="{at[row["of"]][0]:.0f}" y1="{at[row["of"]][1]:.0f}" x2="{at[row["neighbour"]][0]:.0f}" '
        f'y2="{at[row["neighbour"]][1]:.0f}" stroke="#06c" stroke-opacity="{row["lqi"] / 255:.2f}">'
        f"<title>LQI {row['lqi']}</title></line>"
        for row in rows
    ]
    dots = [
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{_DOT}" fill="#036"/>'
        f'<text x="{x:.0f}" y="{y - 14:.0f}" font-size="12" text-anchor="middle">{html.escape(name)}</text>'
        for name, (x, y) in at.items()
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" font-family="sans-serif">'
    return "\n".join([head, *lines, *dots, "</svg>", ""])


def backup(arguments: argparse.Namespace) -> int:
    document = ask_daemon(arguments, "radio.backup", timeout_s=_BACKUP_S)
    made_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    if str(arguments.out) == "-" or (arguments.out is None and not sys.stdout.isatty() and not arguments.json):
        json.dump(document, sys.stdout, indent=1)
        complain(f"{len(document['devices'])} devices; it holds the network's keys")
        return FINE
    path: Path = arguments.out or Path(f"radio-{document['pan_id']}-{made_at}.json")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
    except OSError as error:
        complain(f"{path}: {error.strerror or error}; give another place with --out")
        return PROBLEM
    if arguments.json:
        print_json({"file": str(path), "devices": len(document["devices"])})
    else:
        say(f"{path}: {len(document['devices'])} devices; it holds the network's keys")
    return FINE


def restore(arguments: argparse.Namespace) -> int:
    try:
        from_pipe = str(arguments.file) == "-"
        document = json.loads(sys.stdin.read() if from_pipe else arguments.file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        complain(f"{arguments.file}: {error.strerror if isinstance(error, OSError) else 'not a backup of a network'}")
        return USAGE
    if not arguments.yes:
        complain("restoring gives up the network that the radio has now; say --yes if you mean it")
        return USAGE
    answer = ask_daemon(arguments, "radio.restore", timeout_s=_BACKUP_S, backup=document)
    if arguments.json:
        print_json(answer)
    else:
        say(f"restored: {answer['devices']} devices, channel {answer['channel']}; the radio starts anew")
    return FINE
