"""Writes the reference pages of docs/reference from the code's own tables; a test compares.

    python -m deploy.reference [FOLDER]

Configuration from hub/app/config.py, conditions from hub/core/health.py, events from hub/wire/uplink/event.py, commands
from hub/core/control, the command line from argparse. What a name means in words stands here, one sentence each; a name
without its sentence, or a sentence without its name, ends the run.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deploy.asyncapi import ARGUMENTS, readable
from hub.app.config import DEFAULT_PATH, KEYS, REQUIRED, Config, MeterConfig, RadioConfig
from hub.cli.main import VERBS, build_parser
from hub.core.control.args import ARGS
from hub.core.control.authority import REASONS
from hub.core.health import CONDITIONS
from hub.core.uplink.config import UplinkConfig
from hub.services.control.settings import CHANGEABLE
from hub.wire.uplink.command import ROLES
from hub.wire.uplink.event import EVENTS
from hub.wire.uplink.receipt import STATUSES

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
_WRITTEN = "<!-- Written by `python -m deploy.reference` (make docs); a test compares. -->\n\n"

# What a key means; what it must be comes from its rule.
KEY_MEANINGS = {
    "hub.data_dir": "database, radio state, keys written at run time",
    "hub.run_dir": "where the admin socket is: `admin.sock`",
    "hub.groups": "fleet groups whose commands this hub hears",
    "hub.admin_group": "the group that may change something over the admin socket; the hub's own group may ask",
    "hub.id": "only to be sure: anything but the CN of `uplink.cert_file` is an error",
    "radio.path": "the radio's port: a tty, a pty or `socket://HOST:PORT`; without the table there is no Zigbee",
    "radio.baudrate": "of the radio's serial line",
    "radio.tunnel": "which profile, cluster and endpoint carry MQTT-SN",
    "han.udp.listen": "where MQTT-SN over UDP is heard; without the table nowhere",
    "han.udp.networks": "where adapters may be; none named: anywhere",
    "han.udp.advertise": "where ADVERTISE is broadcast to",
    "han.udp.publishes_per_s": "of one adapter, in the long run; absent: no bound",
    "meter.path": "the meter's register port; without the table none is read",
    "meter.protocol": "what the meter speaks; `auto` finds out, rate and parity included",
    "meter.key_file": "the key, where the meter enciphers its telegrams",
    "meter.address": "IEC 62056-21: of a meter that answers to its own address alone",
    "uplink.host": "the broker; or `uplink.hosts`, not both",
    "uplink.hosts": "brokers, tried in turn; a hub begins at hash(hub id) mod n",
    "uplink.port": "where an address has none of its own",
    "uplink.ca_file": "who certifies the broker; read anew when it changes",
    "uplink.cert_file": "the hub's certificate; its CN is the hub's name",
    "uplink.key_file": "its key: a PEM file that nobody else may read, or a `pkcs11:` URI",
    "uplink.protocol": "MQTT's version",
    "uplink.keepalive_s": "MQTT keep-alive",
    "uplink.pack_interval_s": "how long readings may wait to be packed together",
    "uplink.booked_within_s": "acknowledged by the broker and not booked by then: sent again",
    "uplink.drain_kb_s": "how fast a backlog of readings may go; 0: no bound",
    "uplink.boot_spread_s": "how long after its machine's start a hub may wait with its first attempt",
    "uplink.retry_cap_s": "no pause between two attempts is longer",
    "uplink.deflate": "packs made smaller, for a control point that reads them",
    "uplink.crl_file": "revoked brokers",
    "uplink.username": "where a broker wants one beside the certificate",
    "uplink.password_file": "its password",
    "uplink.topic_prefix": "before every topic, for brokers that give a tenant a tree of its own",
    "uplink.est_url": "where the hub's certificate is renewed (EST, RFC 7030); absent: nowhere",
    "forward.out": "local topics that also go up unchanged",
    "store.max_mb": "how large the database may become",
    "store.retention_days": "how long readings stay here after delivery",
    "store.daily_write_mb": "flash written in a day before commits wait for company; 0: no bound",
    "update.slots_dir": "where slots are spoken for; not there: no updates",
    "update.kb_s": "how fast a bundle is fetched; 0: no bound",
    "update.spread_s": "a command for many hubs: within which time each begins to fetch",
    "update.max_mb": "the largest bundle",
    "update.well_s": "how long a slot has to be well in one go, to be found good",
    "update.uplink_s": "by when an uplink that worked before an update has to be back after it",
    "control.operators_file": "who may command what; not there: nobody",
    "control.recovery_key_file": "certificate or public key of the manufacturer, whose signature brings a new list of "
    "operators where nobody can command any more (`meterhub operators recover`); not there: nobody's does",
    "control.heartbeat_s": "how often control points that send heartbeats send them; two periods of silence count",
    "control.failsafe": "the household limit while the control point is silent",
    "control.failsafe_min_s": "how long that limit holds, at the longest of its own (EEBUS LPC)",
    "control.floor_w": "no limit of consumption is lower than this",
}

EVENT_MEANINGS = {
    "hub.started": "the hub is there; `reason`: `start`, or what ended the life before",
    "hub.stopped": "the hub was told to stop",
    "adapter.joined": "an adapter or appliance is there for the first time, or again after it had left",
    "adapter.left": "it said goodbye, or was forgotten",
    "adapter.lost": "it was not heard for longer than it had promised",
    "adapter.alarm": "text of an adapter, at once",
    "adapter.interview_failed": "a device that joined does not say what it is; the hub goes on asking",
    "adapter.withheld": "a value of an appliance is not sent, because its scale is not certain",
    "adapter.moved": "a ClientId is heard from another address",
    "adapter.many": "so many events of one kind came at once that they are told together",
    "adapter.limit_cleared": "an appliance said that it obeys no limit any more",
    "radio.up": "the Zigbee network is there",
    "radio.down": "the radio does not answer, or was unplugged",
    "radio.formed": "a new network was made",
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


# What is put to a rule to hear what it expects; the most particular answer counts.
_PROBES: tuple[Any, ...] = (object(), "", [], ["#/#"], "#")
_GENERAL = ("a non-empty string", "a list of non-empty strings")


def expected(rule: Callable[[Any], Any]) -> str:
    """What a rule of the configuration or of an argument expects, in its own words."""
    said: list[str] = []
    for probe in _PROBES:
        try:
            rule(probe)
        except ValueError as error:
            said.append(str(error))
    particular = [text for text in said if text not in _GENERAL]
    return (particular or said or ["anything"])[0]


def _defaults() -> dict[str, Any]:
    """`table.key` -> its default, for the keys that have one."""
    names = {"hub_id": "hub.id", "forward_out": "forward.out", "slots_dir": "update.slots_dir"}
    found: dict[str, Any] = {}
    for prefix, kind in (("radio", RadioConfig), ("meter", MeterConfig), ("uplink", UplinkConfig), ("", Config)):
        for field in dataclasses.fields(kind):
            if field.default is dataclasses.MISSING:
                continue
            if prefix:
                found[f"{prefix}.{field.name}"] = field.default
            elif field.name in names:
                found[names[field.name]] = field.default
            elif field.name.startswith("udp_"):
                found[f"han.udp.{field.name[4:]}"] = field.default
            elif field.name.startswith("update_"):
                found[f"update.{field.name[7:]}"] = field.default
            else:
                table = next((name for name in ("hub", "store", "control") if field.name in KEYS[name]), None)
                if table:
                    found[f"{table}.{field.name}"] = field.default
    found["uplink.port"] = 8883
    return found


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
    defaults = _defaults()
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
                    expected(rule),
                    "required" if key in REQUIRED.get(table, ()) else _plain(defaults.get(f"{table}.{key}")) or "none",
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
        ["code", "", "what is wrong", "what to do", "hides behind"],
        (
            (f"`{code}`", kind.severity, kind.title, kind.remedy, ", ".join(f"`{cause}`" for cause in kind.depends_on))
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
                        "required" if arg.required else "",
                        expected(arg.rule),
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
}


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
