"""Times as people type and read them: `10m`, `2026-01-31T12:00` of the local clock, `3 min ago`."""

import argparse
import re
import time
from datetime import datetime

from hub.cli.common import duration

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)\Z")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def span_s(text: str) -> float:
    """A length of time: `90s`, `10m`, `2h`, `3d`, `1w`. For argparse."""
    found = _AGO.match(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a length of time: 90s, 10m, 2h, 3d, 1w")
    return float(found[1]) * _SECONDS[found[2]]


def moment_ms(text: str) -> int:
    """A moment as epoch milliseconds: ISO 8601 (of the local clock where it names no zone), UTC epoch seconds, or a
    length of time before now. For argparse."""
    if _AGO.match(text):
        return int((time.time() - span_s(text)) * 1000)
    try:
        return int(float(text) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected 2026-01-31T12:00, epoch seconds, or 10m for ten minutes ago"
        ) from None


def ago(t_ms: float) -> str:
    """`3 min ago`; a moment to come: `in 3 min`."""
    seconds = time.time() - t_ms / 1000
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
