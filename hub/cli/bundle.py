"""`meterhub bundle`: everything that helps to find a fault, in one file; no readings, no keys.

Field access has no file transfer, so the bundle goes where the output goes: `ssh hub bundle > file`; and over a serial
console, which carries text alone, `bundle --text`, taken out of the terminal's recording by `bundle --decode`.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hub.app.doctor import examine
from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, ask_daemon, complain, config_of, print_json, say
from hub.cli.offline import ask_or_open
from hub.cli.redacted import blackened, redacted, secrets_of
from hub.services.admin.bundle import FORMAT, as_text, from_text, make_bundle, write_bundle
from hub.services.admin.client import NoDaemon, RequestRefused
from hub.wire.printable import why
from hub.wire.version import VERSION

_EVENTS = 1000
_JOURNAL_LINES = 2000
_JOURNAL_S = 20.0
_MAP_S = 120.0
_PACKAGES = ("paho-mqtt", "zigpy", "bellows", "serialx", "pyserial", "cbor2", "cryptography", "sqlite-utils")
# Of the meter's port: how it is, and nothing of what it says, nor whose it is.
_OF_METER = (
    "state", "path", "configured", "protocol", "line", "check", "telegrams", "bad", "doubtful", "bad_share", "last_s",
    "unreadable", "withheld",
)  # fmt: skip


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "bundle", bundle, "write a support bundle: how the hub is, and no consumption data")
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="- for standard output, also the default where that is no terminal (else: meterhub-HUB-TIME.tar.gz, here)",
    )  # fmt: skip
    parser.add_argument("--text", action="store_true", help="as lines of text with a checksum, for a serial console")
    parser.add_argument(
        "--decode", type=Path, metavar="RECORDING", help="at home: take the bundle out of a terminal's recording"
    )
    parser.add_argument("--no-map", action="store_true", help="without the radio's map, which takes a second a router")


def bundle(arguments: argparse.Namespace) -> int:
    if arguments.decode is not None:
        return _decode(arguments)
    name, data = _collect(arguments)
    if arguments.text:
        print(as_text(name, data), end="")
        complain(f"save what this terminal shows as LOG; at home: meterhub bundle --decode LOG, or {_BY_HAND}")
        return FINE
    to_pipe = arguments.out is None and not sys.stdout.isatty() and not arguments.json
    if to_pipe or str(arguments.out) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        complain(f"{name}: {len(data)} bytes; read it with: meterhub doctor --bundle FILE")
        return FINE
    return _write(arguments, arguments.out or Path(name), data)


# What does it where no `meterhub` is.
_BY_HAND = "sed -n '/^-----BEGIN/,/^-----END/{/^-----/!p}' LOG | tr -d '\\r' | base64 -d > FILE; sha256sum FILE"


def _write(arguments: argparse.Namespace, path: Path, data: bytes) -> int:
    try:
        write_bundle(path, data)
    except OSError as error:
        complain(f"{path}: {error.strerror or error}; give another place with --out")
        return PROBLEM
    if arguments.json:
        print_json({"file": str(path), "bytes": len(data)})
    else:
        say(f"{path}: {len(data)} bytes; read it with: meterhub doctor --bundle {path}")
    return FINE


def _decode(arguments: argparse.Namespace) -> int:
    try:
        text = arguments.decode.read_bytes().decode("ascii", "replace")
    except OSError as error:
        complain(f"{arguments.decode}: {error.strerror or error}")
        return PROBLEM
    name, data = from_text(text)
    return _write(arguments, arguments.out or Path(Path(name).name), data)


def _collect(arguments: argparse.Namespace) -> tuple[str, bytes]:
    """A bundle and what it is to be called."""
    config = config_of(arguments)
    parts: dict[str, Any] = {}
    absent = ""
    for what in ("status", "adapters", "limits", "history", "meter"):
        try:
            parts[what] = ask_daemon(arguments, what)
        except (NoDaemon, RequestRefused) as error:
            absent = str(error)
    if "meter" in parts:
        parts["meter"] = {key: parts["meter"][key] for key in _OF_METER if key in parts["meter"]}
    if not arguments.no_map and parts.get("status", {}).get("radio", {}).get("state") == "up":
        try:
            parts["radio.map"] = ask_daemon(arguments, "radio.map", timeout_s=_MAP_S)
        except (NoDaemon, RequestRefused) as error:
            complain(f"without the radio's map: {error}")
    for what, query in (("queue", lambda view: view.queue_status()), ("events", lambda view: view.events(_EVENTS))):
        try:
            parts[what] = ask_or_open(arguments, what, query, limit=_EVENTS)
        except (NoDaemon, RequestRefused) as error:
            complain(f"without {what}: {error}")
    parts["doctor"] = [finding._asdict() for finding in examine(config, parts.get("status"), absent)]
    parts["versions"] = _versions()
    hub = parts.get("status", {}).get("hub", "unknown")
    made_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    parts["manifest"] = {"format": FORMAT, "hub": hub, "version": VERSION, "made_at": made_at}
    configuration = config.source.read_text("utf-8")
    secrets = secrets_of(configuration)
    text = {
        "hub.toml": redacted(configuration),
        "journal.txt": _said_by(["journalctl", "--unit=meterhub", *_JOURNAL]),
        "kernel.txt": _said_by(["journalctl", "--dmesg", *_JOURNAL]),
    }
    return f"meterhub-{hub}-{made_at}.tar.gz", make_bundle(parts, text, lambda content: blackened(content, secrets))


_JOURNAL = (f"--lines={_JOURNAL_LINES}", "--no-pager", "--output=short-iso")


def _versions() -> dict[str, Any]:
    """What runs here, and on what."""
    packages: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    return {
        "meterhub": VERSION,
        "python": platform.python_version(),
        "kernel": " ".join((os.uname().sysname, os.uname().release, os.uname().machine)),
        "system": " ".join(filter(None, (system.get("PRETTY_NAME"), system.get("IMAGE_VERSION")))),
        "packages": packages,
    }


def _said_by(command: list[str]) -> str:
    """A log; the hub's tells what it did, and nothing of what anybody drew."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_JOURNAL_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no journal: {why(error)}\n"
