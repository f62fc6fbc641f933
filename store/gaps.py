"""Gap records (P3): what the store gave up for want of space, told as `store.gap` events when somebody listens again.

What went from readings stands in the thinned rows themselves (store/columns.py), so a record costs nothing while the
uplink is down and cannot be lost without its readings; it is sealed in the transaction that seals the first pack out of
such a row, and overtakes it. So there are at most as many as packs. Raw forwards leave two marks, told once.
"""

from collections.abc import Iterable
from typing import Any

from hub.wire.uplink.reading import Reading

_SERIES_AT_ONCE = 100  # an event of 5 KB

Series = tuple[str, str]


class Gaps:
    """Collects what went from the rows of one pack."""

    def __init__(self) -> None:
        # (client, quantity) -> [from_ms, to_ms, kept, dropped, resolution_s]
        self._series: dict[Series, list[int]] = {}

    def add(self, readings: Iterable[Reading], dropped: dict[Series, int], resolution_s: int) -> None:
        """Take one thinned row: what stayed in it, and how many samples of which series did not."""
        for reading in readings:
            series = (reading.client_id, reading.quantity)
            if dropped.get(series, 0):
                gap = self._series.setdefault(series, [reading.t_ms, reading.t_ms, 0, 0, 0])
                gap[0], gap[1] = min(gap[0], reading.t_ms), max(gap[1], reading.t_ms)
                gap[2] += 1
        for series, count in dropped.items():
            gap = self._series[series]
            gap[3] += count
            gap[4] = max(gap[4], resolution_s)

    def fields(self) -> list[dict[str, Any]]:
        """Fields of the events that tell it; none when nothing went."""
        rows = [[*series, *gap] for series, gap in self._series.items()]
        return [
            _readings_fields(rows[first : first + _SERIES_AT_ONCE]) for first in range(0, len(rows), _SERIES_AT_ONCE)
        ]


def _readings_fields(rows: list[list[Any]]) -> dict[str, Any]:
    return {
        "what": "readings",
        "from_ms": min(row[2] for row in rows),
        "to_ms": max(row[3] for row in rows),
        "kept": sum(row[4] for row in rows),
        "dropped": sum(row[5] for row in rows),
        "resolution_s": max(row[6] for row in rows),
        "series": rows,
    }
