"""Drawings of a verb: in the terminal (`--plot`), or into a file for a report (`--svg`, `--png`)."""

import argparse
import io
import os
import shutil
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, PROBLEM, complain, say, speaks_unicode
from hub.cli.plot import in_ascii, plot, png, svg


def add_drawing_options(parser: argparse.ArgumentParser, what: str) -> None:
    """`what`: what is drawn, for the help."""
    parser.add_argument("--plot", action="store_true", help=f"draw {what} in the terminal")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it into this file, for a report")
    parser.add_argument("--png", type=Path, metavar="FILE", help="the same as PNG; wants the extra `report`")


def is_drawing(arguments: argparse.Namespace) -> bool:
    """Whether a drawing is asked for."""
    return bool(arguments.plot or arguments.svg or arguments.png)


def draw(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    """Draw rows as of `hub.services.admin.queries.reading_row`; the exit status."""
    status = FINE
    for option, file in (("--svg", arguments.svg), ("--png", arguments.png)):
        if file is not None:
            status = max(status, _write(option, file, rows))
    if arguments.plot:
        for line in plot(rows, min(200, shutil.get_terminal_size((80, 24)).columns)):
            say(line if speaks_unicode() else in_ascii(line))
    return status


def _write(option: str, file: Path, rows: list[dict[str, Any]]) -> int:
    drawn = io.BytesIO()
    if option == "--svg":
        drawn.write(svg(rows).encode("utf-8"))
    else:
        try:
            png(rows, drawn)
        except ImportError:
            complain("--png wants Pillow, which is not here: pip install 'meterhub[report]'; or take --svg")
            return PROBLEM
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(drawn.getvalue())
    except OSError as error:
        complain(f"{file}: {error.strerror or error}; give another place with {option}")
        return PROBLEM
    say(f"{file}: {len(rows)} values")
    return FINE
