"""Records `make run` as a picture that moves: runs the demonstration on a terminal of its own and draws what it wrote.

    python -m deploy.recording docs/run.svg

Nothing is drawn by hand: every line and its moment come from that run. The picture plays faster than life (SPEED).
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

COLUMNS, ROWS = 80, 32
SPEED = 3.0
REST_S = 8.0  # how long the last screen stands before it begins again
_CELL_W, _LINE_H, _MARGIN = 8.0, 17, 14
_COLOURS = {"31": "#f47067", "32": "#57ab5a", "33": "#daaa3f", "34": "#539bf5"}
_SGR = re.compile(r"\x1b\[([0-9;]*)m")


class Line(NamedTuple):
    """A line as it was written: when, in seconds from the beginning, and its text with colour codes."""

    at_s: float
    text: str


def run_on_terminal(command: list[str]) -> tuple[int, list[tuple[float, str]]]:
    """Run a command on a terminal of 80 columns: its exit status and what it wrote, piece by piece with its second."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", LANG="C.UTF-8")
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    begun = time.monotonic()
    pieces = []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the last one who had it open has gone
            break
        if not data:
            break
        pieces.append((time.monotonic() - begun, data.decode("utf-8", "replace")))
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), pieces


def lines_of(pieces: Iterable[tuple[float, str]]) -> list[Line]:
    """Pieces of output as lines, each with the moment at which it was complete."""
    found: list[Line] = []
    rest = ""
    for at_s, text in pieces:
        *whole, rest = (rest + text).replace("\r\n", "\n").split("\n")
        found += [Line(at_s, line) for line in whole]
    return found


def _spans(text: str) -> Iterator[tuple[int, str, str]]:
    """Column, style and text of each stretch of one style."""
    column, style, end = 0, "", 0
    for mark in [*_SGR.finditer(text), None]:
        part = text[end : mark.start() if mark else None]
        if part:
            yield column, style, part
            column += len(part)
        if mark is None:
            return
        end = mark.end()
        for code in mark[1].split(";"):
            if code in ("", "0"):
                style = ""
            elif code == "1":
                style += ' font-weight="bold"'
            elif code in _COLOURS:
                style += f' fill="{_COLOURS[code]}"'


def _draw(row: int, line: Line) -> str:
    y = _MARGIN + row * _LINE_H + 12
    spans = []
    for column, style, part in _spans(line.text):
        indent = len(part) - len(part.lstrip(" "))
        if part.strip(" "):
            x = _MARGIN + (column + indent) * _CELL_W
            long = len(part.strip(" ")) * _CELL_W
            text = escape(part.strip(" "))
            spans.append(
                f'<tspan x="{x:g}" textLength="{long:g}" lengthAdjust="spacingAndGlyphs"{style}>{text}</tspan>'
            )
    return f'<text y="{y}">{"".join(spans)}</text>' if spans else ""


def _keyframes(name: str, steps: list[tuple[float, int]], total_s: float) -> str:
    """Each (second, pixels): from then on the thing is moved down by so many pixels."""
    told: list[str] = []
    last: int | None = None
    for at_s, pixels in steps:
        if pixels != last:
            told.append(f"{100 * at_s / total_s:.2f}%{{transform:translateY({pixels}px)}}")
        last = pixels
    return f"@keyframes {name}{{{''.join(told)}100%{{transform:translateY({last}px)}}}}"


def draw(lines: list[Line], title: str) -> str:
    """An SVG of a terminal: the lines come at their moments and scroll; who wants no motion sees the last screen."""
    height = ROWS * _LINE_H + 2 * _MARGIN
    width = COLUMNS * _CELL_W + 2 * _MARGIN
    total_s = (lines[-1].at_s if lines else 0.0) / SPEED + REST_S
    scroll, cover = [(0.0, 0)], [(0.0, 0)]
    for count, line in enumerate(lines, 1):
        at_s = line.at_s / SPEED
        cover.append((at_s, min(count, ROWS) * _LINE_H))
        scroll.append((at_s, -max(0, count - ROWS) * _LINE_H))
    body = "\n".join(filter(None, (_draw(row, line) for row, line in enumerate(lines))))
    size = f'viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" xml:space="preserve">
<title>{escape(title)}</title>
<style>
text{{font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#cdd9e5;white-space:pre}}
.lines{{transform:translateY({scroll[-1][1]}px);animation:lines {total_s:.1f}s step-end infinite}}
.cover{{transform:translateY({cover[-1][1]}px);animation:cover {total_s:.1f}s step-end infinite}}
{_keyframes("lines", scroll, total_s)}
{_keyframes("cover", cover, total_s)}
@media (prefers-reduced-motion:reduce){{.lines,.cover{{animation:none}}}}
</style>
<clipPath id="screen"><rect x="0" y="{_MARGIN - 4}" width="{width:g}" height="{ROWS * _LINE_H + 8}"/></clipPath>
<rect width="{width:g}" height="{height}" rx="8" fill="#1c2128"/>
<g clip-path="url(#screen)"><g class="lines">
{body}
</g><rect class="cover" x="0" y="{_MARGIN}" width="{width:g}" height="{ROWS * _LINE_H + 8}" fill="#1c2128"/></g>
</svg>
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.recording", description=__doc__)
    parser.add_argument("out", type=Path, help="the SVG to write")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the demonstration runs (default: 60)")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "deploy.demo", "--seconds", f"{arguments.seconds:g}"]
    status, pieces = run_on_terminal(command)
    if status:
        print(f"the demonstration ended with status {status}: nothing is drawn", file=sys.stderr)
        return status
    arguments.out.write_text(draw(lines_of(pieces), f"make run, recorded; it plays {SPEED:g} times as fast"), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
