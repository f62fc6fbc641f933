"""A verb that goes on: painted anew every few seconds on a terminal, one page after another elsewhere. Ctrl-C ends it.

Plain ANSI sequences that any terminal since the VT100 knows; a serial line at 9600 baud carries one in two seconds.
"""

import sys
import time
from collections.abc import Callable, Sequence

from hub.cli.colour import marked

_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def paint(lines: Sequence[str], *, first: bool) -> None:
    """Put a page on the screen in place of the one before: only what is there is written over, so that nothing
    flickers. The lines are printable already."""
    lines = [marked(line) for line in lines]
    if not sys.stdout.isatty():
        print("\n".join([*([] if first else [""]), *lines]), flush=True)
        return
    page = "".join(line + _TO_END_OF_LINE + "\r\n" for line in lines)
    sys.stdout.write(("\x1b[2J" if first else "") + _HOME + page + _TO_END_OF_SCREEN)
    sys.stdout.flush()


def repeat(page: Callable[[], Sequence[str]], every_s: float, rounds: int | None = None) -> None:
    """Show `page()` again and again; `rounds` times where that is given."""
    done = 0
    while rounds is None or done < rounds:
        paint(page(), first=done == 0)
        done += 1
        if done != rounds:
            time.sleep(every_s)
