"""Readings as a picture for a terminal: one chart a series, block characters, as wide as asked. No dependency.

    power of boiler, W                                        2026-01-31, UTC
      2100 ┤▁▄█▇▇▇▇▇▇█
           │██████████                     ▂▆▇▇▇▇▇▇▇▇▇▇
         0 ┤██████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████
           └06:00                                  12:00

Each column is the mean of the readings in its stretch of time; a stretch without one stays blank. Series of one unit
have one axis, so that they can be held against each other; what a client says that it is limited to is a line of `-`
across its power. Least, mean, most and last stand below. A register (energy) shows its reading, not its increase.
Thinned readings are drawn as they are, and counted below. `svg` draws the same for a report, `in_ascii` a line for a
terminal that knows no more.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.wire.uplink.reading import THINNED

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans(dict(zip(_BLOCKS + "┤│└", " _.-=+*%#+|+", strict=True)))
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
    shown = sorted(series)[:_MOST_CHARTS]
    axes = _axes({key: series[key] for key in shown})
    times = [t_ms for key in shown for t_ms, _ in series[key]]
    for key in shown:
        points, limits = sorted(series[key]), sorted(series.get(_limit_of(key), ()))
        chart = _chart(key, points, columns, axes[key[2]], (min(times), max(times)), limits)
        lines += [*chart, _figures(points, key[2]), *_remark(thinned[key], len(points)), ""]
    if len(series) > _MOST_CHARTS:
        lines.append(f"and {len(series) - _MOST_CHARTS} more series: choose with --client and --quantity")
    return [line.rstrip() for line in lines]


def in_ascii(line: str) -> str:
    """A line of `plot` in ASCII."""
    return line.translate(_ASCII)


def _remark(thinned: int, count: int) -> list[str]:
    return [f"{thinned} of {count} readings are what thinning left"] if thinned else []


def _limit_of(key: tuple[str, str, str]) -> tuple[str, str, str]:
    """The series that says what this one is held to (design 3.2: `readings/limit`), if any."""
    client, quantity, unit = key
    return (client, "limit", unit) if quantity == "power" else ("", "", "")


def _axes(series: dict[tuple[str, str, str], _Points]) -> dict[str, tuple[float, float]]:
    """What the axis of each unit spans."""
    values: dict[str, list[float]] = defaultdict(list)
    for key, points in series.items():
        # A register and a quantity of the same unit, or a unit that nobody knows, are no pair; those are rare.
        values[key[2]] += [value for _, value in points]
    return {unit: _range(found) for unit, found in values.items()}


def _figures(points: _Points, unit: str) -> str:
    values = [value for _, value in points]
    mean = sum(values) / len(values)
    named = (("min", min(values)), ("mean", mean), ("max", max(values)), ("last", values[-1]))
    return "  ".join(f"{name} {_label(value)}{' ' + unit if unit else ''}" for name, value in named)


def _chart(
    key: tuple[str, str, str],
    points: _Points,
    columns: int,
    axis: tuple[float, float],
    span: tuple[int, int],
    limits: _Points,
) -> list[str]:
    client, quantity, unit = key
    low, high = axis
    labels = [_label(high), _label(low)]
    margin = max(map(len, labels)) + 2
    width = max(8, columns - margin - 1)
    cells = _means(points, width, span)
    eighths = [None if cell is None else round((cell - low) / (high - low) * (8 * _HEIGHT - 1)) + 1 for cell in cells]
    held = [
        None if cell is None else round((cell - low) / (high - low) * (_HEIGHT - 1))
        for cell in _steps(limits, width, span)
    ]
    lines = [_sides(f"{quantity} of {client}{', ' if unit else ''}{unit}", _day(span[0]) + ", UTC", columns)]
    for level in reversed(range(_HEIGHT)):
        bars = "".join(
            "-" if held[at] == level else (" " if n is None else _BLOCKS[min(8, max(0, n - 8 * level))])
            for at, n in enumerate(eighths)
        )
        label = {_HEIGHT - 1: labels[0], 0: labels[1]}.get(level, "")
        lines.append(f"{label.rjust(margin - 1)} {'┤' if label else '│'}{bars}")
    first_ms, last_ms = span
    lines.append(" " * margin + "└" + _sides(_clock(first_ms, first_ms), _clock(last_ms, first_ms), width))
    return lines


def _range(values: Sequence[float]) -> tuple[float, float]:
    """What the chart spans: from nothing where that is not far off, and never an empty range."""
    low, high = min(values), max(values)
    if 0 < low < high / 2 or low == high > 0:
        low = 0.0
    return (low, high) if low < high else (low, low + 1)


def _means(points: _Points, width: int, span: tuple[int, int]) -> list[float | None]:
    first_ms, span_ms = span[0], max(1, span[1] - span[0])
    sums, counts = [0.0] * width, [0] * width
    for t_ms, value in points:
        at = (t_ms - first_ms) * (width - 1) // span_ms
        sums[at] += value
        counts[at] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def _steps(points: _Points, width: int, span: tuple[int, int]) -> list[float | None]:
    """What held in each column: a limit holds until the next one."""
    means = _means(points, width, span) if points else [None] * width
    held: float | None = None
    steps = []
    for value in means:
        held = value if value is not None else held
        steps.append(held)
    return steps


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


_COLOURS = ("#06c", "#c40", "#080", "#909", "#a70", "#088", "#555", "#c08")
_SVG_WIDTH, _SVG_HEIGHT, _SVG_MARGIN = 900, 240, 60


def svg(rows: Iterable[dict[str, Any]]) -> str:
    """The same rows as a picture for a report: a panel a unit, all its series on one axis; a limit is dashed."""
    series: dict[tuple[str, str, str], _Points] = defaultdict(list)
    for row in rows:
        series[row["client"], row["quantity"], row["unit"]].append((row["t_ms"], float(row["value"])))
    units = sorted({unit for _, _, unit in series})
    axes, parts = _axes(series), []
    times = [t_ms for points in series.values() for t_ms, _ in points] or [0]
    span = min(times), max(times)
    for number, unit in enumerate(units):
        parts += _panel(
            number * _SVG_HEIGHT, unit, {k: sorted(p) for k, p in series.items() if k[2] == unit}, axes[unit], span
        )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SVG_WIDTH} {max(1, len(units)) * _SVG_HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _panel(
    top: int, unit: str, series: dict[tuple[str, str, str], _Points], axis: tuple[float, float], span: tuple[int, int]
) -> list[str]:
    from html import escape

    low, high = axis
    left, right, bottom = _SVG_MARGIN, _SVG_WIDTH - 10, top + _SVG_HEIGHT - 40

    def place(t_ms: int, value: float) -> str:
        x = left + (right - left) * (t_ms - span[0]) / max(1, span[1] - span[0])
        y = bottom - (bottom - top - 20) * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<path d="M{left},{top + 20}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<text x="{left - 6}" y="{top + 24}" text-anchor="end">{_label(high)} {escape(unit)}</text>',
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">{_label(low)}</text>',
        f'<text x="{left}" y="{bottom + 16}">{_day(span[0])} {_clock(span[0], span[0])} UTC</text>',
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{_clock(span[1], span[0])}</text>',
    ]
    for at, (key, points) in enumerate(sorted(series.items())):
        colour, client, quantity = _COLOURS[at % len(_COLOURS)], key[0], key[1]
        dash = ' stroke-dasharray="6 4"' if quantity == "limit" else ""
        line = " ".join(place(t_ms, value) for t_ms, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        x = left + 200 * (at % 4)
        parts.append(f'<text x="{x}" y="{bottom + 32}" fill="{colour}">{escape(f"{quantity} of {client}")}</text>')
    return parts
