"""`meterhub bundle`: everything that helps to find a fault, in one file; no readings, no keys."""

import argparse
import subprocess
import time
from pathlib import Path
from typing import Any

from hub.app.doctor import examine
from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, ask_daemon, complain, config_of, print_json, say
from hub.cli.offline import ask_or_open
from hub.cli.redacted import blackened, redacted, secrets_of
from hub.services.admin.bundle import FORMAT, write_bundle
from hub.services.admin.client import NoDaemon, RequestRefused
from hub.wire.printable import why
from hub.wire.version import VERSION

_EVENTS = 1000
_JOURNAL_LINES = 2000
_JOURNAL_S = 20.0


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "bundle", bundle, "write a support bundle: how the hub is, and no consumption data")
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: meterhub-HUB-TIME.tar.gz, here)")


def bundle(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    parts: dict[str, Any] = {}
    absent = ""
    for name in ("status", "adapters", "limits"):
        try:
            parts[name] = ask_daemon(arguments, name)
        except (NoDaemon, RequestRefused) as error:
            absent = str(error)
    for name, query in (("queue", lambda view: view.queue_status()), ("events", lambda view: view.events(_EVENTS))):
        try:
            parts[name] = ask_or_open(arguments, name, query, limit=_EVENTS)
        except (NoDaemon, RequestRefused) as error:
            complain(f"without {name}: {error}")
    parts["doctor"] = [finding._asdict() for finding in examine(config, parts.get("status"), absent)]
    hub = parts.get("status", {}).get("hub", "unknown")
    made_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    parts["manifest"] = {"format": FORMAT, "hub": hub, "version": VERSION, "made_at": made_at}
    path = arguments.out or Path(f"meterhub-{hub}-{made_at}.tar.gz")
    configuration = config.source.read_text("utf-8")
    secrets = secrets_of(configuration)
    text = {"hub.toml": redacted(configuration), "journal.txt": _journal()}
    try:
        write_bundle(path, parts, text, lambda content: blackened(content, secrets))
    except OSError as error:
        complain(f"{path}: {error.strerror or error}; give another place with --out")
        return PROBLEM
    if arguments.json:
        print_json({"file": str(path), "parts": sorted(parts), "bytes": path.stat().st_size})
    else:
        say(f"{path}: {path.stat().st_size} bytes; read it with: meterhub doctor --bundle {path}")
    return FINE


def _journal() -> str:
    """What the hub has logged; it logs what it did, and nothing of what anybody drew."""
    command = ["journalctl", "--unit=meterhub", f"--lines={_JOURNAL_LINES}", "--no-pager", "--output=short-iso"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_JOURNAL_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no journal: {why(error)}\n"
