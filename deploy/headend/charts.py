"""What charts show: an order as it spreads, a household's day. In figures, and as SVG (pygal)."""

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree.ElementTree import tostring
from zoneinfo import ZoneInfo

import pygal
from pygal.style import Style

from deploy.headend.orders import Spread
from deploy.headend.usage import Row
from hub.wire.uplink.reading import decimal_to_float

# pygal puts a finder of Python 2's kind before everybody's imports; who asks each for `find_spec` fails at it.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

_POINTS = 480
_STEPS = 5
_MOST_LINES = 7
_STYLE = Style(
    background="transparent", plot_background="transparent", font_family="inherit", label_font_size=13,
    major_label_font_size=13, legend_font_size=14, value_font_size=13, no_data_font_size=18,
    colors=("#1f6f8b", "#c4501b", "#5b7f2b", "#7b4fa3", "#8a6d1d", "#3b4f5c", "#b0457b", "#2b8a72"),
)  # fmt: skip
_COMMON: dict[str, Any] = {
    "width": 960, "height": 320, "style": _STYLE, "js": [], "show_dots": False, "legend_at_bottom": True,
    "disable_xml_declaration": True, "explicit_size": False, "include_x_axis": True,
}  # fmt: skip


class PowerLine(NamedTuple):
    """`points`: seconds (UTC epoch) and watts, in order of time."""

    client: str
    points: list[tuple[float, float]]


def lines_of(rows: Iterable[Row]) -> list[PowerLine]:
    """A line each for the meter and the appliances; the largest first, so that the smaller are drawn upon it. So many
    points that a line is a line, and none of its peaks is lost. `rows`: of power, in order of time."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault(row.client, []).append((row.t_ms / 1000, decimal_to_float(row.mantissa, row.exponent)))
    by_size = sorted(lines.items(), key=lambda line: -max(value for _, value in line[1]))
    return [PowerLine(client, with_peaks(points)) for client, points in by_size[:_MOST_LINES]]


def day(
    lines: Sequence[PowerLine], limits: Sequence[tuple[int, int, int]], from_s: int, to_s: int, zone: ZoneInfo
) -> bytes:
    """A day's power in watts, and the household's limits that were in force."""
    if not lines:
        return _nothing("no readings on this day")
    chart = pygal.XY(
        **_COMMON, xrange=(from_s, to_s), x_value_formatter=lambda t: f"{datetime.fromtimestamp(t, zone):%H:%M}",
        value_formatter=lambda w: f"{w:,.0f} W", x_labels=list(range(from_s, to_s + 1, 4 * 3600)),

    )  # fmt: skip
    for line in lines:
        chart.add(line.client, line.points)
    if limits:
        corners: list[tuple[int, int | None]] = []
        for begin, end, limit_w in limits:
            corners += [(begin, limit_w), (end, limit_w), (end, None)]
        chart.add("limit", corners, stroke_style={"width": 3})
    return _drawn(chart)


def spread(its: Spread, hubs: int, seconds: int) -> bytes:
    """How an order reached its hubs: how many had obeyed, what their households drew, and what they were asked to draw
    at most, by seconds after it went."""
    if not its.obeyed and not its.watts:
        return _nothing("no hub has answered yet")
    most_w = max([value for _, value in its.watts] + ([its.asked[2]] if its.asked else []), default=1.0)
    # Both axes have round steps, and as many of them.
    step = _round_up(hubs / _STEPS)
    count = max(1, math.ceil(hubs / step))
    chart = pygal.XY(
        **_COMMON, x_value_formatter=lambda t: f"{t:g} s", value_formatter=lambda n: f"{n:,.0f}",
        x_title="seconds after it was sent", range=(0, count * step), y_labels=[at * step for at in range(count + 1)],
        secondary_range=(0, count * _round_up(most_w / count)),
    )  # fmt: skip
    steps: list[tuple[float, int]] = [(0.0, 0)]
    for after_s, count in its.obeyed:
        steps += [(after_s, steps[-1][1]), (after_s, count)]
    if its.obeyed:
        steps.append((max(steps[-1][0], float(seconds)), steps[-1][1]))
        chart.add(f"hubs that obey (of {hubs})", thinned(steps), stroke_style={"width": 2})
    if its.watts:
        chart.add(f"watts of {its.households} households", with_peaks(its.watts), secondary=True,
                  formatter=_in_watts, stroke_style={"width": 2})  # fmt: skip
    if its.asked:
        from_s, to_s, asked_w = its.asked
        ends = [(from_s, asked_w), (max(from_s, min(to_s, float(seconds))), asked_w)]
        chart.add("watts asked for, at most", ends, secondary=True, formatter=_in_watts, stroke_style={"width": 3})
    return _drawn(chart)


def _in_watts(watts: Any) -> str:
    return f"{watts[1] if isinstance(watts, tuple) else watts:,.0f} W"


def _round_up(step: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    digits = 10 ** max(0, math.floor(math.log10(max(step, 1.0))))
    return next(int(digits * nice) for nice in (1, 2, 5, 10) if digits * nice >= step)


def with_peaks(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of each stretch the lowest and the highest, in their order; the last is always there."""
    if len(points) <= _POINTS:
        return points
    stretch = -(-2 * len(points) // _POINTS)
    kept: list[tuple[float, float]] = []
    for at in range(0, len(points), stretch):
        part = points[at : at + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def thinned(points: list[Any]) -> list[Any]:
    """Of a line without peaks so many that it is a line; the last is always there."""
    every = max(1, len(points) // _POINTS)
    return points if every == 1 else [*points[::every], points[-1]]


def _drawn(chart: Any) -> bytes:
    # What pygal writes for its own script is not wanted: the drawing stands in a page that lets none run.
    tree = chart.render_tree()
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag == "script":
                parent.remove(child)
    return tostring(tree)


def _nothing(text: str) -> bytes:
    # pygal cannot lay out an axis without a point.
    place = 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 80"'
    return f'<svg {place}><text x="480" y="44" text-anchor="middle" font-size="18">{text}</text></svg>'.encode()
