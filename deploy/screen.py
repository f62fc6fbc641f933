"""What a demonstration writes: 80 columns, sections, bars; colour and line drawing only where they can be shown."""

import os
import sys
import textwrap
import time
from typing import TextIO

COLUMNS = 80
_TEXT_AT = 20  # "  12.3 s  label     text"
_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


def shows_colour(stream: TextIO) -> bool:
    """A terminal, unless NO_COLOR is set to anything (no-color.org) or the terminal is a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def shows_unicode(stream: TextIO) -> bool:
    """Whether the locale says UTF-8. In the C locale Python writes UTF-8 all the same, and says so in `utf8_mode`."""
    return not sys.flags.utf8_mode and (stream.encoding or "").lower().replace("-", "") == "utf8"


class Screen:
    """Lines of at most 80 columns, each with the seconds since the beginning."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = shows_colour(self._stream)
        unicode = shows_unicode(self._stream)
        self._rule, self._full, self._edge, self._mark = "─█│┊" if unicode else "-#|:"
        self._begun = time.monotonic()

    def colour(self, text: str, *names: str) -> str:
        if not self._colour:
            return text
        return "".join(f"\033[{_CODES[name]}m" for name in names) + text + "\033[0m"

    def line(self, text: str = "") -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def section(self, title: str) -> None:
        self.line()
        self.line(self.colour(f"{self._rule * 2} {title} ".ljust(COLUMNS, self._rule), "bold"))

    def say(self, label: str, text: str, *colours: str) -> None:
        """One thing that happened; a long text goes on in the next line, below its beginning."""
        lines = textwrap.wrap(text, COLUMNS - _TEXT_AT, break_on_hyphens=False) or [""]
        self.line(f"{self._clock()}  {self.colour(f'{label:9}', *colours)} {lines[0]}")
        for more in lines[1:]:
            self.line(" " * _TEXT_AT + more)

    def bar(self, label: str, value: float, unit: str, full: float, *colours: str, limit: float | None = None) -> None:
        """`value` drawn against `full`, with a mark where `limit` is."""
        head = f"{self._clock()}  {self.colour(f'{label:9}', *colours)} {value:6.0f} {unit:1} {self._edge}"
        width = COLUMNS - _TEXT_AT - 11
        long = min(width, round(width * value / full)) if full > 0 else 0
        cells = [self._full] * long + [" "] * (width - long)
        if limit is not None and full > 0:
            cells[min(width - 1, round(width * limit / full))] = self._mark
        self.line(head + self.colour("".join(cells).rstrip(), *colours))

    def row(self, name: str, value: str, note: str = "", *colours: str) -> None:
        """One row of the closing table."""
        self.line(f"  {name:22}{self.colour(f'{value:>10}', *colours)}  {note}".rstrip())

    def _clock(self) -> str:
        return f"{time.monotonic() - self._begun:6.1f} s"
