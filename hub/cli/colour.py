"""Colour for the word that says how bad something is, on a terminal that has colours and a person who wants them.

NO_COLOR, not empty, means none (https://no-color.org); so does a VT100 or a VT220, which a serial console is.
"""

import os
import re
import sys

_COLOURS = {
    "ok": "32", "complete": "32", "WARNING": "33", "missing": "33", "ERROR": "1;31", "FAULT": "1;31", "MISSING": "1;31",
}  # fmt: skip
_WITHOUT = re.compile(r"|dumb|vt[12]\d\d.*", re.IGNORECASE)
_MARK = re.compile(r"(" + "|".join(_COLOURS) + r")(?= )")


def is_coloured() -> bool:
    """Whether standard output is shown in colours."""
    return (
        not os.environ.get("NO_COLOR")
        and sys.stdout.isatty()
        and _WITHOUT.fullmatch(os.environ.get("TERM", "")) is None
    )


def marked(line: str) -> str:
    """A printable line, its first word coloured where that is one of the marks."""
    if not is_coloured():
        return line
    found = _MARK.match(line)
    return line if found is None else f"\x1b[{_COLOURS[found[1]]}m{found[1]}\x1b[m{line[found.end() :]}"
