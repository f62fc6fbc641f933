"""Writes the reference pages of docs/reference from the code's own tables; a test compares.

    python -m deploy.reference [FOLDER]

Configuration from hub/app/config.py, conditions from hub/core/health.py, events from hub/wire/uplink/event.py, commands
from hub/core/control, the command line from argparse. What a name means in words stands here, one sentence each; a name
without its sentence, or a sentence without its name, ends the run.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deploy import admin_schema
from deploy.asyncapi import ARGUMENTS, readable
from hub.app.config import DEFAULT_PATH, KEYS
from hub.app.key_words import KEY_MEANINGS, defaults
from hub.cli.main import VERBS, build_parser
from hub.core.control.authority import REASONS
from hub.core.health import CONDITIONS
from hub.services.control.settings import CHANGEABLE
from hub.wire.uplink.args import ARGS
from hub.wire.uplink.command import ROLES
from hub.wire.uplink.event import EVENTS
from hub.wire.uplink.receipt import STATUSES

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
_WRITTEN = "<!-- Written by `python -m deploy.reference` (make docs); a test compares. -->\n\n"

# What a key means; what it must be comes from its rule.

EVENT_MEANINGS = {
    "hub.started": "the hub is there; `reason`: `start`, or what ended the life before",
    "hub.stopped": "the hub was told to stop",
    "adapter.joined": "an adapter or appliance is there for the first time, or again after it had left",
    "adapter.left": "it said goodbye, or was forgotten",
    "adapter.lost": "it was not heard for longer than it had promised",
    "adapter.alarm": "text of an adapter, at once",
    "adapter.interview_failed": "a device that joined does not say what it is; the hub goes on asking",
    "adapter.withheld": "a value is not sent: its scale is not certain, or its appliance has no such quantity",
    "adapter.updated": "an appliance on the radio has loaded the firmware that an operator signed",
    "adapter.update_failed": "an appliance on the radio did not take its firmware, and says why (a ZCL status)",
    "adapter.moved": "a ClientId is heard from another address",
    "adapter.many": "so many events of one kind came at once that they are told together",
    "adapter.limit_cleared": "an appliance said that it obeys no limit any more",
    "radio.up": "the Zigbee network is there",
    "radio.down": "the radio does not answer, or was unplugged",
    "radio.formed": "a new network was made",
    "radio.key_rotated": "the network of the home has another key",
    "radio.channel_planned": "the network will move to another channel: somebody asked, or ours was loud for days",
    "radio.pan_id_changed": "another network had the same PAN id: the radio took another, and its devices with it",
    "radio.channel_moved": "the network moved to another channel; battery devices may take a while to find it",
    "radio.restored": "the home's network was put into a radio that had lost it",
    "radio.other_network": "the radio came with another network: the home's is put back",
    "radio.unstable": "the radio goes again and again within an hour: not told one by one any more",
    "uplink.up": "the session to the broker is there",
    "certificate.expires_soon": "once a day from 60 days before the end",
    "certificate.renewed": "a new certificate is in use",
    "certificate.rolled_back": "the broker did not accept the new certificate: the old one is in use again",
    "store.set_aside": "the folder held another hub's data, which was set aside",
    "store.salvaged": "the database was damaged; what could be read is in the new one, in a new epoch",
    "store.gap": "what was given up for want of space",
    "store.wear": "the day's budget of flash is nearly used up, or no longer",
    "clock.stepped": "the clock leapt",
    "meter.up": "the meter is read",
    "meter.lost": "the meter is not read any more",
    "meter.replaced": "another meter's number was seen",
    "meter.power_failed": "the meter counted a power failure",
    "meter.voltage_sag": "the meter counted a voltage sag",
    "meter.voltage_swell": "the meter counted a voltage swell",
    "meter.peaks": "the month's peaks, as Belgium's meters keep them",
    "limit.ignored": "an appliance draws more than it was told",
    "limit.opted_out": "the householder overrode a limit at the appliance",
    "control.lost": "an operator's heartbeats stopped: what it had commanded ended",
    "operators.changed": "`trust` put a new list in force, on trial",
    "operators.returned": "nobody confirmed the new list: the one before is in force",
    "operators.recovered": "a field engineer put a list in force, signed by the manufacturer",
    "update.progress": "a step of an update began",
    "update.good": "the new slot was found good",
    "update.failed": "the update ended without one",
    "update.rolled_back": "the board came back with the slot of before",
    "slot.fell_back": "another slot, or an older image, runs than before, and no update has asked for it",
    "flash.aged": "the flash's own registers moved by a step: how much of its life, and of its reserve, is used",
    "store.in_memory": "the data partition could not be used: the home is served from memory until the next start",
}

OPERATION_MEANINGS = {
    "limit": "hold the household to so many watts for a while; `export` holds what generates",
    "limit.cancel": "end one's own limits, switches and sets, or the one with this `cti`",
    "switch": "an appliance off for a while, or on",
    "set": "a quantity of an appliance at a value for a while",
    "heartbeat": "this operator is alive; once it has sent one, its silence of two periods ends what it commanded",
    "price": "a table of prices, for displays and appliances",
    "weather": "a table of forecasts",
    "read": "readings of the past, answered on the lane `answers`",
    "resend": "messages of a lane again, byte for byte",
    "booked": "everything up to here is in the control point's book; no receipt",
    "permit": "let Zigbee devices join for a while, or one device with its install code",
    "diagnose": "status, network or support bundle, answered on the lane `answers`",
    "config": "change settings (list below); rolled back if the uplink does not return",
    "trust": "another list of operators, on trial for seven days",
    "trust.confirm": "an admin of the new list ends the trial",
    "update": "fetch, install and try a signed bundle",
}


class Incomplete(ValueError):
    """A table of this file and the code's do not name the same things."""


def _must_match(what: str, meant: Iterable[str], known: Iterable[str]) -> None:
    missing, extra = sorted(set(known) - set(meant)), sorted(set(meant) - set(known))
    if missing or extra:
        raise Incomplete(f"deploy/reference.py: {what}: no sentence for {missing}; nothing is called {extra}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(headers: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, float):
        return f"`{value:g}`" if value < 1e6 else f"`{value:.0f}`"
    return f'`"{value}"`' if isinstance(value, (str, Path)) else f"`{value}`"


def configuration() -> str:
    """Every key of hub.toml."""
    keys = [f"{table}.{key}" for table, rules in KEYS.items() for key in rules]
    _must_match("configuration", KEY_MEANINGS, keys)
    known = defaults()
    text = "# Configuration\n\n" + _WRITTEN
    text += (
        f"One TOML file: `--config FILE`, else `$METERHUB_CONFIG`, else `{DEFAULT_PATH}`. An unknown key, a wrong\n"
        "type, an unreadable file is exit status 2 and one line. `meterhub check-config hub.toml` does only that.\n"
        "[What the command `config` may set](commands.md#what-config-may-set) is changed while the hub runs.\n"
    )
    for table, rules in KEYS.items():
        if not rules:
            continue
        text += f"\n## [{table}]\n\n"
        text += _table(
            ["key", "must be", "default", "meaning"],
            (
                (
                    f"`{key}`",
                    rule.expected,
                    "required" if rule.is_required else _plain(known.get(f"{table}.{key}")) or "none",
                    KEY_MEANINGS[f"{table}.{key}"],
                )
                for key, rule in rules.items()
            ),
        )
    return text + (
        "\n## [han.predefined]\n\nMore predefined topic ids, each a hexadecimal number from 0x0100 on and its topic; "
        '`{me}` stands for the sender\'s ClientId:\n`"0x0100" = "plant/{me}/flow"`.\n'
    )


def conditions() -> str:
    """Every condition."""
    text = "# Conditions\n\n" + _WRITTEN
    text += (
        "What can be wrong, as `meterhub status` and `meterhub doctor` say it. An error: something does not work.\n"
        "A warning: it will not, or not well. A condition hides while one that causes it holds.\n\n"
    )
    return text + _table(
        ["code", "", "what is wrong", "why it matters", "what to do", "hides behind"],
        (
            (
                f"`{code}`",
                kind.severity,
                kind.title,
                kind.why,
                kind.remedy,
                ", ".join(f"`{cause}`" for cause in kind.depends_on),
            )
            for code, kind in CONDITIONS.items()
        ),
    )


def events() -> str:
    """Every event."""
    _must_match("events", EVENT_MEANINGS, EVENTS)
    text = "# Events\n\n" + _WRITTEN
    text += (
        "What happened, one signed message each on `meters/{hub}/events`:\n"
        '`{"t": ms, "event": name, ...fields}`. A field that does not apply is absent;\n'
        "`clock` is there, as `unsynchronised`, while the clock is not trustworthy.\n\n"
    )
    return text + _table(
        ["event", "when", "fields"],
        (
            (f"`{name}`", EVENT_MEANINGS[name], ", ".join(f"`{field}`" for field in fields))
            for name, fields in EVENTS.items()
        ),
    )


def commands() -> str:
    """Every operation that a control point may command."""
    _must_match("operations", OPERATION_MEANINGS, ARGS)
    text = "# Commands\n\n" + _WRITTEN
    text += (
        "A command is a CWT claims map in a COSE_Sign1 envelope on `meters/{hub}/commands`,\n"
        "`meters/group/{g}/commands` or `meters/all/commands`; [integrator.md](../integrator.md) says how one is made\n"
        "and judged. An argument that is not listed is refused.\n\n"
    )
    text += _table(
        ["operation", "role", "what it does"],
        ((f"[`{op}`](#{op.replace('.', '')})", f"`{ROLES[op]}`", OPERATION_MEANINGS[op]) for op in ARGS),
    )
    for op, args in ARGS.items():
        text += f"\n## {op}\n\n"
        if args:
            text += _table(
                ["argument", "", "must be", "example"],
                (
                    (
                        f"`{name}`",
                        "required" if arg.is_required else "",
                        arg.expected,
                        f"`{json.dumps(readable(ARGUMENTS[op][name]))}`" if name in ARGUMENTS[op] else "",
                    )
                    for name, arg in args.items()
                ),
            )
        else:
            text += "No arguments.\n"
    text += "\n## What `config` may set\n\n" + ", ".join(f"`{name}`" for name in CHANGEABLE) + ".\n"
    text += "\n## Receipts\n\nStatus: " + ", ".join(f"`{status}`" for status in STATUSES) + ".\n\n"
    return text + "Reasons of a refusal by authority: " + ", ".join(f"`{reason}`" for reason in REASONS) + ".\n"


def _verbs(parser: argparse.ArgumentParser, words: str) -> Iterable[tuple[str, argparse.ArgumentParser]]:
    """Each verb with its words, those of verbs below it after it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield f"{words} {name}", below
                yield from _verbs(below, f"{words} {name}")


def _option(action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        shown = action.metavar or (
            "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
        )
        name += f" {shown if isinstance(shown, str) else ' '.join(shown)}"
    told = (action.help or "") % {**vars(action), "prog": "meterhub"}
    if action.choices and not action.option_strings:
        told += f" ({', '.join(map(str, action.choices))})"
    return f"`{name}`", told + (" (required)" if getattr(action, "required", False) and action.option_strings else "")


def command_line() -> str:
    """Every verb and its options."""
    os.environ.pop("METERHUB_CONFIG", None)  # a default that is shown is not this machine's
    text = "# Command line\n\n" + _WRITTEN
    text += "Exit status: 0 fine, 1 a problem found, 2 wrong usage, 3 no daemon. Every verb has `--help`.\n"
    for words, parser in _verbs(build_parser(list(VERBS)), "meterhub"):
        text += f"\n## {words}\n\n{(parser.description or '').strip().rstrip('.')}.\n"
        rows = [
            _option(action)
            for action in parser._actions
            if not isinstance(action, (argparse._SubParsersAction, argparse._HelpAction))
        ]
        if rows:
            text += "\n" + _table(["", ""], rows)
    return text


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "conditions.md": conditions,
    "events.md": events,
    "commands.md": commands,
    "command-line.md": command_line,
    "admin-socket.json": admin_schema.text,
}


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
