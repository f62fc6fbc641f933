"""Charts of the console, as SVG (pygal)."""

from collections.abc import Sequence
from datetime import datetime
from xml.etree.ElementTree import tostring
from zoneinfo import ZoneInfo

import pygal
from pygal.style import Style

from deploy.headend.usage import Row
from hub.wire.uplink.reading import decimal_to_float

_POINTS = 480
_STYLE = Style(
    background="transparent", plot_background="transparent", font_family="inherit", label_font_size=13,
    major_label_font_size=13, legend_font_size=14, value_font_size=13, no_data_font_size=18,
    colors=("#1f6f8b", "#c4501b"),
)  # fmt: skip


def day(rows: Sequence[Row], limits: Sequence[tuple[int, int, int]], from_s: int, to_s: int, zone: ZoneInfo) -> bytes:
    """A day's load in watts, and the limits that were in force. `rows`: of one quantity, in order of time."""
    chart = pygal.XY(
        width=960, height=320, style=_STYLE, js=[], show_dots=False, range=None, xrange=(from_s, to_s),
        legend_at_bottom=True, x_value_formatter=lambda t: f"{datetime.fromtimestamp(t, zone):%H:%M}",
        value_formatter=lambda w: f"{w:,.0f} W", x_labels=list(range(from_s, to_s + 1, 4 * 3600)),
        disable_xml_declaration=True, explicit_size=False, no_data_text="no readings on this day",
    )  # fmt: skip
    chart.add("load", [_point(row) for row in rows[:: max(1, len(rows) // _POINTS)]])
    if limits:
        corners: list[tuple[int, int | None]] = []
        for begin, end, limit_w in limits:
            corners += [(begin, limit_w), (end, limit_w), (end, None)]
        chart.add("limit", corners, stroke_style={"width": 3})
    # What pygal writes for its own script is not wanted: the drawing stands in a page that lets none run.
    tree = chart.render_tree()
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag == "script":
                parent.remove(child)
    return tostring(tree)


def _point(row: Row) -> tuple[float, float]:
    return row.t_ms / 1000, decimal_to_float(row.mantissa, row.exponent)
