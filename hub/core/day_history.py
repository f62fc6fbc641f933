"""How a day went, a row a minute: what waited, what the household drew, what it was held to. A machine: rows in, rows
out; in memory alone, for `meterhub queue --plot` and `meterhub limits --plot`.

Packed, since a day of Python's numbers would be half a megabyte: 40 bytes a row.
"""

import struct
from collections.abc import Iterator
from math import isnan, nan
from typing import NamedTuple

_ROW = struct.Struct("<qiiiiifff")
_ROWS_MOST = 24 * 60
_EVERY_MS = 60_000
_MOST = 2**31 - 1


class HistoryPoint(NamedTuple):
    """t_ms: UTC epoch milliseconds. Messages that waited in each lane, readings that were not packed yet, the age of
    the oldest reading; watts of the household and of its limit, None where they are not known, or there is none."""

    t_ms: int
    readings: int
    events: int
    receipts: int
    answers: int
    unsealed: int
    oldest_s: float
    household_w: float | None
    limit_w: float | None


class DayHistory:
    """The last day's rows."""

    def __init__(self) -> None:
        self._rows = bytearray()

    def note(self, point: HistoryPoint) -> None:
        """Keep a row, once a minute at most. A clock that was set back begins anew: rows are in order of time."""
        if self._rows:
            last_ms = _ROW.unpack_from(self._rows, len(self._rows) - _ROW.size)[0]
            if last_ms <= point.t_ms < last_ms + _EVERY_MS:
                return
            if point.t_ms < last_ms:
                self._rows.clear()
        counts = (min(count, _MOST) for count in point[1:6])
        watts = (nan if value is None else value for value in point[7:])
        self._rows += _ROW.pack(point.t_ms, *counts, point.oldest_s, *watts)
        del self._rows[: -_ROWS_MOST * _ROW.size]

    def __iter__(self) -> Iterator[HistoryPoint]:
        for t_ms, *counts, oldest_s, household_w, limit_w in _ROW.iter_unpack(bytes(self._rows)):
            watts = [None if isnan(value) else round(value, 1) for value in (household_w, limit_w)]
            yield HistoryPoint._make((t_ms, *counts, round(oldest_s, 1), *watts))
