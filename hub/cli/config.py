"""`meterhub config`: a hub.toml to begin with, and what is in force."""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from hub.app.config import KEYS
from hub.cli.common import (
    FINE,
    PROBLEM,
    Subparsers,
    add_verb,
    ask_daemon,
    complain,
    config_of,
    print_json,
    print_table,
    say,
)
from hub.services.admin.client import NoDaemon, RequestRefused

_REQUIRED = {
    "radio.path": "/dev/ttyS1",
    "han.udp.listen": "127.0.0.1:10000",
    "meter.path": "/dev/ttyS2",
    "uplink.host": "mqtt.utility.example",
    "uplink.ca_file": "/etc/meterhub/ca.pem",
    "uplink.cert_file": "/etc/meterhub/hub.pem",
    "uplink.key_file": "/etc/meterhub/hub.key",
}
_NEEDED = ("uplink.host", "uplink.ca_file", "uplink.cert_file", "uplink.key_file")


def register(subparsers: Subparsers) -> None:
    summary = "a hub.toml to begin with, and what is in force"
    parser = subparsers.add_parser("config", help=summary, description=summary)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = add_verb(actions, "init", init, "write a hub.toml in which every key is explained")
    action.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a new file (default: standard output)")
    add_verb(actions, "show", show, "every setting that is in force, and where it is from")


def init(arguments: argparse.Namespace) -> int:
    text = written()
    if arguments.file is None:
        print(text, end="")
        return FINE
    try:
        with open(os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        complain(f"{arguments.file}: {error.strerror or error}; give a new file")
        return PROBLEM
    say(f"{arguments.file}: fill in the uplink's host and files, then: meterhub check-config {arguments.file}")
    return FINE


def written() -> str:
    """A hub.toml: what a hub needs is set to an example, all else is there as a comment with its default."""
    from hub.app.key_words import KEY_MEANINGS, defaults

    known = defaults()
    lines = ["# meterhub's configuration. What begins with # and a key is the default, or an example."]
    for table, rules in KEYS.items():
        if not rules:
            continue
        is_needed = any(f"{table}.{key}" in _NEEDED for key in rules)
        lines += ["", f"[{table}]" if is_needed else f"# [{table}]"]
        for key in rules:
            name = f"{table}.{key}"
            lines.append(f"# {KEY_MEANINGS[name]}".replace("`", ""))
            value = _REQUIRED.get(name, known.get(name))
            if name in _NEEDED:
                lines.append(f"{key} = {_toml(value)}")
            elif value not in (None, ""):
                lines.append(f"# {key} = {_toml(value)}")
            else:
                lines.append(f"# {key} = ...")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def show(arguments: argparse.Namespace) -> int:
    from hub.app.key_words import defaults

    config = config_of(arguments)  # it has to be a good one
    document = tomllib.loads(config.source.read_text("utf-8"))
    try:
        changed: dict[str, Any] = ask_daemon(arguments, "config")["changed"]
    except (NoDaemon, RequestRefused) as absent:
        changed = {}
        print(f"meterhub: without what commands have set: {absent}", file=sys.stderr)
    rows = []
    for table, rules in KEYS.items():
        section: Any = document
        for part in table.split("."):
            section = section.get(part, {}) if isinstance(section, dict) else {}
        for key in rules:
            name = f"{table}.{key}"
            if name in changed:
                rows.append({"key": name, "value": changed[name], "from": "a command"})
            elif key in section:
                rows.append({"key": name, "value": section[key], "from": "the file"})
            elif (value := defaults().get(name)) is not None:
                rows.append({"key": name, "value": value, "from": "default"})
    shown = [{**row, "value": _shown(row["value"])} for row in rows]
    if arguments.json:
        print_json(shown)
    else:
        print_table(("key", "value", "from"), [(row["key"], _toml(row["value"]), row["from"]) for row in shown])
    return FINE


def _shown(value: Any) -> Any:
    """A value without a secret in it: the query of a PKCS#11 URI may hold a PIN, a URL a password."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    if isinstance(value, str) and ("pin-value=" in value or "@" in value):
        return value.partition("?")[0] if "?" in value else value.rpartition("@")[2]
    return value
