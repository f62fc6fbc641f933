"""Readings as a picture for a terminal: one chart a series, block characters, as wide as asked. No dependency.

    power of boiler, W                                        2026-01-31, UTC
      2100 ┤▁▄█▇▇▇▇▇▇█
           │██████████                     ▂▆▇▇▇▇▇▇▇▇▇▇
         0 ┤██████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████
           └06:00                                  12:00

Each column is the mean of the readings in its stretch of time; a stretch without one stays blank. Series of one unit
have one axis, so that they can be held against each other; what a client says that it is limited to is a line of `-`
across its power. Least, mean, most and last stand below. A register (energy) shows its reading, not its increase.
Thinned readings are drawn as they are, and counted below. A value of None is none from then on: a limit that ended.
`svg` and `png` draw the same for a report, `in_ascii` a line for a terminal that knows no more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import isnan, nan
from typing import Any, BinaryIO, NamedTuple

from hub.wire.uplink.reading import THINNED

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans(dict(zip(_BLOCKS + "┤│└", " _.-=+*%#+|+", strict=True)))
_HEIGHT = 8
_MOST_CHARTS = 12
_Points = list[tuple[int, float]]
_Key = tuple[str, str, str]  # client, quantity, unit


def plot(rows: Iterable[dict[str, Any]], columns: int = 80) -> list[str]:
    """Draw rows of `hub.services.admin.queries.reading_row`, in the order of their series' names."""
    rows = list(rows)
    thinned: dict[_Key, int] = defaultdict(int)
    for row in rows:
        thinned[row["client"], row["quantity"], row["unit"]] += bool(row["flags"] & THINNED)
    series = _series(rows)
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


def _series(rows: Iterable[dict[str, Any]]) -> dict[_Key, _Points]:
    """The rows by what they are; a series that never has a value is none."""
    series: dict[_Key, _Points] = defaultdict(list)
    for row in rows:
        value = nan if row["value"] is None else float(row["value"])
        series[row["client"], row["quantity"], row["unit"]].append((row["t_ms"], value))
    return {key: points for key, points in series.items() if _values(points)}


def _values(points: _Points) -> list[float]:
    return [value for _, value in points if not isnan(value)]


def in_ascii(line: str) -> str:
    """A line of `plot` in ASCII."""
    return line.translate(_ASCII)


def _remark(thinned: int, count: int) -> list[str]:
    return [f"{thinned} of {count} readings are what thinning left"] if thinned else []


def _limit_of(key: _Key) -> _Key:
    """The series that says what this one is held to (design 3.2: `readings/limit`), if any."""
    client, quantity, unit = key
    return (client, "limit", unit) if quantity == "power" else ("", "", "")


def _axes(series: dict[_Key, _Points]) -> dict[str, tuple[float, float]]:
    """What the axis of each unit spans."""
    values: dict[str, list[float]] = defaultdict(list)
    for key, points in series.items():
        # A register and a quantity of the same unit, or a unit that nobody knows, are no pair; those are rare.
        values[key[2]] += _values(points)
    return {unit: _range(found) for unit, found in values.items()}


def _figures(points: _Points, unit: str) -> str:
    values = _values(points)
    mean = sum(values) / len(values)
    named = (("min", min(values)), ("mean", mean), ("max", max(values)), ("last", values[-1]))
    return "  ".join(f"{name} {_label(value)}{' ' + unit if unit else ''}" for name, value in named)


def _chart(
    key: _Key,
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
    cells = (_steps if quantity == "limit" else _means)(points, width, span)
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
        if isnan(value):
            continue
        at = (t_ms - first_ms) * (width - 1) // span_ms
        sums[at] += value
        counts[at] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def _steps(points: _Points, width: int, span: tuple[int, int]) -> list[float | None]:
    """What held in each column: a limit holds until the next one, or until there is none."""
    first_ms, span_ms = span[0], max(1, span[1] - span[0])
    last = {(t_ms - first_ms) * (width - 1) // span_ms: value for t_ms, value in points}
    held: float | None = None
    steps = []
    for at in range(width):
        if at in last:
            held = None if isnan(last[at]) else last[at]
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


_COLOURS = ("#0066cc", "#cc4400", "#008800", "#990099", "#aa7700", "#008888", "#555555", "#cc0088")
_PICTURE_WIDTH, _PANEL_HEIGHT, _PANEL_MARGIN = 900, 240, 60
_INK, _AXIS = "#000000", "#888888"
_DASH = 6


class Stroke(NamedTuple):
    """A line through these points of a picture."""

    points: tuple[tuple[float, float], ...]
    colour: str
    dashed: bool = False


class Label(NamedTuple):
    """Words in a picture, on the line of writing that ends (`ends_here`) or begins at this point."""

    x: float
    y: float
    text: str
    colour: str = _INK
    ends_here: bool = False


class Picture(NamedTuple):
    """What a report shows: a panel a unit, all its series on one axis; a limit is dashed."""

    height: int
    parts: tuple[Stroke | Label, ...]


def picture(rows: Iterable[dict[str, Any]]) -> Picture:
    """The rows of `plot` as a picture."""
    series = _series(rows)
    units = sorted({unit for _, _, unit in series})
    axes = _axes(series)
    times = [t_ms for points in series.values() for t_ms, _ in points] or [0]
    span = min(times), max(times)
    parts: list[Stroke | Label] = []
    for number, unit in enumerate(units):
        of_unit = {key: sorted(points) for key, points in series.items() if key[2] == unit}
        parts += _panel(number * _PANEL_HEIGHT, unit, of_unit, axes[unit], span)
    return Picture(max(1, len(units)) * _PANEL_HEIGHT, tuple(parts))


def _panel(
    top: int, unit: str, series: dict[_Key, _Points], axis: tuple[float, float], span: tuple[int, int]
) -> Iterator[Stroke | Label]:
    low, high = axis
    left, right, bottom = _PANEL_MARGIN, _PICTURE_WIDTH - 10, top + _PANEL_HEIGHT - 40

    def place(t_ms: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * (t_ms - span[0]) / max(1, span[1] - span[0])
        return x, bottom - (bottom - top - 20) * (value - low) / (high - low)

    yield Stroke(((left, top + 20), (left, bottom), (right, bottom)), _AXIS)
    yield Label(left, top + 14, f"{_label(high)} {unit}")
    yield Label(left - 6, bottom, _label(low), ends_here=True)
    yield Label(left, bottom + 16, f"{_day(span[0])} {_clock(span[0], span[0])} UTC")
    yield Label(right, bottom + 16, _clock(span[1], span[0]), ends_here=True)
    for at, ((client, quantity, _), points) in enumerate(sorted(series.items())):
        colour, is_limit = _COLOURS[at % len(_COLOURS)], quantity == "limit"
        for piece in _pieces(points):
            line = [place(t_ms, value) for t_ms, value in piece]
            if is_limit:  # it holds until the next one
                line = [corner for a, b in zip(line, [*line[1:], line[-1]]) for corner in (a, (b[0], a[1]))]
            yield Stroke(tuple(line), colour, is_limit)
        yield Label(left + 200 * (at % 4), bottom + 32, f"{quantity} of {client}", colour)


def _pieces(points: _Points) -> list[_Points]:
    """The points that a line joins: one ends where there is no value, at that moment with the value of before."""
    pieces: list[_Points] = [[]]
    for t_ms, value in points:
        if not isnan(value):
            pieces[-1].append((t_ms, value))
        elif pieces[-1]:
            pieces[-1].append((t_ms, pieces[-1][-1][1]))
            pieces.append([])
    return [piece for piece in pieces if piece]


def svg(rows: Iterable[dict[str, Any]]) -> str:
    """The picture as SVG."""
    from html import escape

    drawn = picture(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_PICTURE_WIDTH} {drawn.height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for part in drawn.parts:
        if isinstance(part, Stroke):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in part.points)
            dash = f' stroke-dasharray="{_DASH} 4"' if part.dashed else ""
            if part.colour == _AXIS:
                lines.append(f'<path d="M{points}" fill="none" stroke="{_AXIS}"/>')
                continue
            lines.append(f'<polyline points="{points}" fill="none" stroke="{part.colour}" stroke-width="1.5"{dash}/>')
        else:
            anchor = ' text-anchor="end"' if part.ends_here else ""
            words = escape(part.text)
            lines.append(f'<text x="{part.x}" y="{part.y}" fill="{part.colour}"{anchor}>{words}</text>')
    return "\n".join([*lines, "</svg>", ""])


_SCALE = 2  # points of a PNG to one of SVG: it is printed


def png(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    """The picture as PNG. Raises ImportError where the extra `report` (Pillow) is not installed."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = picture(rows)
    image = Image.new("RGB", (_PICTURE_WIDTH * _SCALE, drawn.height * _SCALE), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12 * _SCALE)
    for part in drawn.parts:
        if isinstance(part, Stroke):
            points = [(x * _SCALE, y * _SCALE) for x, y in part.points]
            for line in _dashes(points) if part.dashed else [points]:
                pen.line(line, fill=part.colour, width=3)
        else:
            anchor = "rs" if part.ends_here else "ls"
            pen.text((part.x * _SCALE, part.y * _SCALE), part.text, fill=part.colour, font=font, anchor=anchor)
    image.save(file, "PNG")


def _dashes(points: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Every second stretch of a line, for who draws no dashes."""
    step = _DASH * _SCALE
    for (x0, y0), (x1, y1) in pairwise(points):
        length = max(abs(x1 - x0), abs(y1 - y0))
        for at in range(0, int(length), 2 * step):
            begin, end = at / length, min(1.0, (at + step) / length)
            yield [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in (begin, end)]
