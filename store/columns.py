"""A dense row of the log: what many rows became once nobody can retransmit what they hold. No I/O, no clock.

body = CRC-32 (4 bytes, big-endian) + zlib stream of CBOR `[series, times, values, resolution_s, dropped]`
series = `[number, ...]`, a sample each, in the order they were taken; times and values likewise, each relative to the
one before of the same series, the first time to the row's mono_ms and the first value to 0. resolution_s, dropped: see
store/downsampling.py; 0 and {} in a row from which nothing went, else `{series: samples dropped}`.

Columns of differences repeat themselves, so they deflate well: a reading every ten seconds costs 2-5 bytes instead of
some 35 in a row of its own. A row of one group (store/logbody.py) begins with 0x82 behind its CRC, a zlib stream with
0x78: that tells them apart.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import cbor2

from store.cbor import load_own
from store.errors import StoreCorrupt

_ZLIB_FIRST = 0x78


class Point(NamedTuple):
    """One sample of a row: the series' number, monotonic milliseconds of the row's boot, the mantissa."""

    series: int
    at_ms: int
    mantissa: int


class Thinned(NamedTuple):
    """What was taken out of a row: the coarsest grid it was put on, and how many samples of which series went."""

    resolution_s: int
    dropped: dict[int, int]


UNTHINNED = Thinned(0, {})


def is_dense(body: bytes) -> bool:
    """Whether a body is of this form."""
    return isinstance(body, bytes) and len(body) > 4 and body[4] == _ZLIB_FIRST


def encode_dense(mono_ms: int, points: Sequence[Point], thinned: Thinned = UNTHINNED) -> bytes:
    """Encode points, keeping their order."""
    last: dict[int, tuple[int, int]] = {}
    times, values = [], []
    for series, at_ms, mantissa in points:
        before_ms, before = last.get(series, (mono_ms, 0))
        times.append(at_ms - before_ms)
        values.append(mantissa - before)
        last[series] = (at_ms, mantissa)
    columns = [[point.series for point in points], times, values, thinned.resolution_s, thinned.dropped]
    data = zlib.compress(cbor2.dumps(columns))
    return zlib.crc32(data).to_bytes(4, "big") + data


def decode_dense(mono_ms: int, body: bytes) -> tuple[list[Point], Thinned]:
    """The points of a dense row, in order, and what went from it. Raises StoreCorrupt."""
    data = body[4:]
    if type(mono_ms) is not int or zlib.crc32(data).to_bytes(4, "big") != body[:4]:
        raise StoreCorrupt("a row of the log fails its checksum")
    try:
        columns = zlib.decompress(data)
    except zlib.error as error:
        raise StoreCorrupt(f"a dense row of the log does not inflate: {error}") from None
    numbers, times, values, resolution_s, dropped = load_own(columns, "a dense row of the log")
    last: dict[int, tuple[int, int]] = {}
    points = []
    for series, dt_ms, difference in zip(numbers, times, values, strict=True):
        before_ms, before = last.get(series, (mono_ms, 0))
        last[series] = here = (before_ms + dt_ms, before + difference)
        points.append(Point(series, *here))
    return points, Thinned(resolution_s, dropped)
