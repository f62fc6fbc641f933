"""Readings as a picture for a terminal: one chart a series, block characters, as wide as asked. No dependency.

    power of boiler, W                                        2026-01-31, UTC
      2100 ┤▁▄█▇▇▇▇▇▇█
           │██████████                     ▂▆▇▇▇▇▇▇▇▇▇▇
         0 ┤██████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████
           └06:00                                  12:00

Each column is the mean of the readings in its stretch of time; a stretch without one stays blank. A register (energy)
shows its reading, not its increase. Thinned readings are drawn as they are, and counted below.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.wire.uplink.reading import THINNED

_BLOCKS = " ▁▂▃▄▅▆▇█"
_HEIGHT = 8
_MOST_CHARTS = 12
_Points = list[tuple[int, float]]


def plot(rows: Iterable[dict[str, Any]], columns: int = 80) -> list[str]:
    """Draw rows of `hub.services.admin.queries.reading_row`, in the order of their series' names."""
    series: dict[tuple[str, str, str], _Points] = defaultdict(list)
    thinned: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        key = (row["client"], row["quantity"], row["unit"])
        series[key].append((row["t_ms"], float(row["value"])))
        thinned[key] += bool(row["flags"] & THINNED)
    if not series:
        return ["no readings"]
    lines: list[str] = []
    for key in sorted(series)[:_MOST_CHARTS]:
        lines += [*_chart(key, sorted(series[key]), columns), *_remark(thinned[key], len(series[key])), ""]
    if len(series) > _MOST_CHARTS:
        lines.append(f"and {len(series) - _MOST_CHARTS} more series: choose with --client and --quantity")
    return [line.rstrip() for line in lines]


def _remark(thinned: int, count: int) -> list[str]:
    return [f"{thinned} of {count} readings are what thinning left"] if thinned else []


def _chart(key: tuple[str, str, str], points: _Points, columns: int) -> list[str]:
    client, quantity, unit = key
    low, high = _range([value for _, value in points])
    labels = [_label(high), _label(low)]
    margin = max(map(len, labels)) + 2
    width = max(8, columns - margin - 1)
    cells = _means(points, width)
    eighths = [None if cell is None else round((cell - low) / (high - low) * (8 * _HEIGHT - 1)) + 1 for cell in cells]
    lines = [_sides(f"{quantity} of {client}{', ' if unit else ''}{unit}", _day(points[0][0]) + ", UTC", columns)]
    for level in reversed(range(_HEIGHT)):
        bars = "".join(" " if n is None else _BLOCKS[min(8, max(0, n - 8 * level))] for n in eighths)
        label = {_HEIGHT - 1: labels[0], 0: labels[1]}.get(level, "")
        lines.append(f"{label.rjust(margin - 1)} {'┤' if label else '│'}{bars}")
    first_ms, last_ms = points[0][0], points[-1][0]
    lines.append(" " * margin + "└" + _sides(_clock(first_ms, first_ms), _clock(last_ms, first_ms), width))
    return lines


def _range(values: Sequence[float]) -> tuple[float, float]:
    """What the chart spans: from nothing where that is not far off, and never an empty range."""
    low, high = min(values), max(values)
    if 0 < low < high / 2 or low == high > 0:
        low = 0.0
    return (low, high) if low < high else (low, low + 1)


def _means(points: _Points, width: int) -> list[float | None]:
    first_ms, span_ms = points[0][0], max(1, points[-1][0] - points[0][0])
    sums, counts = [0.0] * width, [0] * width
    for t_ms, value in points:
        at = (t_ms - first_ms) * (width - 1) // span_ms
        sums[at] += value
        counts[at] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def _label(value: float) -> str:
    return f"{value:.6g}"


def _sides(left: str, right: str, width: int) -> str:
    return left + right.rjust(max(len(right) + 1, width - len(left)))


def _day(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d")


def _clock(t_ms: int, beside_ms: int) -> str:
    """The time of day; with its date when that is another than the chart begins with."""
    moment = datetime.fromtimestamp(t_ms / 1000, UTC)
    return moment.strftime("%H:%M" if _day(t_ms) == _day(beside_ms) else "%Y-%m-%d %H:%M")
