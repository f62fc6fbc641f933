"""Thinning: which samples stay when old readings must make room (P3: thinned rather than dropped). No I/O, no clock.

Of each series (client, quantity) the first sample in each step of a grid stays, and the very last one. So a register
(energy) keeps its first and its last reading, and the consumption in between stays exact; whatever is kept is a value
that was really measured, never a mean.
"""

from collections.abc import Callable, Hashable, Sequence

from store.columns import Point, Thinned

# The grids in the order they are resorted to; the last is what half-hourly settlement needs.
RESOLUTIONS_S = (60, 900, 1800)


def thin(
    points: Sequence[Point], thinned: Thinned, resolution_s: int, offset_ms: int, series_of: Callable[[int], Hashable]
) -> tuple[list[Point], Thinned]:
    """What stays of `points`, in their order, and what is gone from them in all.

    `series_of` tells which numbers are one series (an adapter that prints 230 and 230.1 has two numbers).
    `offset_ms`: UTC - monotonic, so that the grid falls on full minutes and hours.
    """
    step_ms = resolution_s * 1000
    last: dict[Hashable, int] = {}
    for at, point in enumerate(points):
        series = series_of(point.series)
        if series not in last or point.at_ms >= points[last[series]].at_ms:
            last[series] = at
    keep = set(last.values())
    first: dict[tuple[Hashable, int], int] = {}
    for at, point in enumerate(points):
        cell = (series_of(point.series), (point.at_ms + offset_ms) // step_ms)
        if cell not in first or point.at_ms < points[first[cell]].at_ms:
            first[cell] = at
    keep.update(first.values())
    dropped = dict(thinned.dropped)
    for at, point in enumerate(points):
        if at not in keep:
            dropped[point.series] = dropped.get(point.series, 0) + 1
    return [points[at] for at in sorted(keep)], Thinned(resolution_s, dropped)
