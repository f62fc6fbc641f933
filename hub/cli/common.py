"""What every verb shares: options, asking the daemon, printing, exit statuses (design 3.4)."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.app.config import Config, default_path, load_config
from hub.cli.colour import marked
from hub.services.admin.client import PATIENT_S, ask
from hub.wire.printable import one_line

FINE, PROBLEM, USAGE, NO_DAEMON = 0, 1, 2, 3

Verb = Callable[[argparse.Namespace], int]
Subparsers = Any  # argparse keeps the type of add_subparsers() private


def add_verb(subparsers: Subparsers, name: str, verb: Verb, summary: str, **options: Any) -> argparse.ArgumentParser:
    """Declare a verb with the options that all have."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=summary, **options)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default_path(),
        help="the hub's configuration (default: $METERHUB_CONFIG, else %(default)s)",
    )
    parser.set_defaults(verb=verb, bundle=None)
    return parser


def add_bundle_option(parser: argparse.ArgumentParser) -> None:
    """For verbs that answer from a support bundle as well as from a hub."""
    parser.add_argument("--bundle", metavar="FILE", type=Path, help="ask this support bundle instead of a hub")


def config_of(arguments: argparse.Namespace) -> Config:
    """The configuration that the arguments name. Raises ConfigError."""
    return load_config(arguments.config)


def ask_daemon(arguments: argparse.Namespace, what: str, *, timeout_s: float = 10.0, **request: Any) -> Any:
    """Ask the running hub; what takes its time is said so. Raises ConfigError, NoDaemon or RequestRefused."""
    return ask(config_of(arguments).run_dir / "admin.sock", what, timeout_s, _still_waiting, **request)


def _still_waiting(waited_s: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rthe hub is looking, for {waited_s:.0f} s now\x1b[K")
        sys.stderr.flush()
    elif waited_s < 2 * PATIENT_S:  # in a script or a log, once
        complain("the hub is looking: this takes its time")


def say(text: str = "", *, flush: bool = False, is_marked: bool = False) -> None:
    """Print one line; `is_marked`: it may begin with a word that says how bad it is (colour.py). Whoever named a device
    or sent an alarm may have written anything into it: what is not printable comes out escaped, so that no text of
    theirs moves the cursor, sets the clipboard or looks like a line of ours."""
    line = one_line(text)
    print(marked(line) if is_marked else line, flush=flush)


def speaks_unicode() -> bool:
    """Whether more than ASCII may be drawn: the locale says UTF-8. In the C locale Python takes UTF-8 for want of a
    better guess (PEP 540), and the terminal may know ASCII alone."""
    return not sys.flags.utf8_mode and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def print_json(value: Any) -> None:
    """JSON is ASCII here, and its strings escape all controls but DEL."""
    print(json.dumps(value, indent=2, sort_keys=False).replace("\x7f", "\\u007f"))


def print_json_line(value: Any) -> None:
    """The same in one line, at once, for what goes on."""
    print(json.dumps(value).replace("\x7f", "\\u007f"), flush=True)


def print_csv(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """RFC 4180; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(headers)
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])


def _cell(value: object) -> str:
    text = one_line(str(value))
    is_number = text.lstrip("-").replace(".", "", 1).isdigit()
    return "'" + text if text[:1] in ("=", "+", "-", "@") and not is_number else text


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], units: Sequence[str] | None = None) -> None:
    """Columns as wide as they need to be, no more. `units`: a line below the headers, for columns whose cells and
    headers do not say what is counted."""
    texts = [[one_line(str(cell)) if cell is not None else "-" for cell in row] for row in rows]
    head = [[*headers]] if units is None else [[*headers], [*units]]
    widths = [max(len(row[at]) for row in (*head, *texts)) for at in range(len(headers))]
    for line in (*head, *texts):
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def paged(lines: int) -> Iterator[None]:
    """What is printed within goes through a pager ($PAGER, else less) where it is longer than the terminal is high."""
    height = shutil.get_terminal_size().lines
    pager = os.environ.get("PAGER", "less")
    if lines < height or not (sys.stdout.isatty() and sys.stdin.isatty()) or not shutil.which(pager.split(" ")[0]):
        yield
        return
    import subprocess

    environment = {"LESS": "-FRSX", "LESSSECURE": "1", **os.environ}  # no shell, no other file out of a pager
    with subprocess.Popen(pager.split(" "), stdin=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError), redirect_stdout(process.stdin):
            yield


def format_time(t_ms: float) -> str:
    """UTC, to the second, sortable."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def duration(seconds: float) -> str:
    """As people say it, two units at most: `45 s`, `3 min 20 s`, `2 d 4 h`."""
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts[:2])


def complain(text: str) -> None:
    """One line for the operator, on standard error."""
    print(f"meterhub: {one_line(text)}", file=sys.stderr)
