"""Half-hours from a meter's register: a machine without I/O.

A register's points become consumption between points; what a half-hour used is what its ends differ by. What a meter
does to its register is met here: a transient zero, a jump that comes back, a roll-over, an exchange. Nothing is
smoothed: where the difference is not known the half-hour is "missing", and where one of its ends had to be computed
across a hole it is "substituted", until the truth comes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

STEP_S = 1800
# A register told at least this often says what a half-hour used; a longer hole makes a substitute value of its ends.
MAX_HOLE_S = 900
# A register that has stood still for so long is doubted from then on: it may be stuck (an empty house says so too).
STILL_S = 86_400

MEASURED, SUBSTITUTED, SUSPECT, MISSING = "measured", "substituted", "suspect", "missing"
_WORST = {MEASURED: 0, SUSPECT: 1, SUBSTITUTED: 2, MISSING: 3}


class RegisterPoint(NamedTuple):
    """What a register showed. `t_ms`: UTC epoch milliseconds; `energy_mwh`: milliwatt-hours, exact. `is_doubted`: the
    hub flagged the reading (clock not synchronised, implausible)."""

    t_ms: int
    energy_mwh: int
    is_doubted: bool = False


class MeterExchange(NamedTuple):
    """The meter was exchanged: what the old one's register showed last and the new one's first."""

    t_ms: int
    last_mwh: int
    first_mwh: int


class Interval(NamedTuple):
    """What was used from `start_s` (UTC epoch seconds) for STEP_S. `energy_mwh` is None where it is not known."""

    start_s: int
    energy_mwh: int | None
    quality: str


class _Piece(NamedTuple):
    """From one point to the next: what was used, or None."""

    from_ms: int
    to_ms: int
    used_mwh: int | None
    quality: str


def settle(
    points: Sequence[RegisterPoint], exchanges: Iterable[MeterExchange], from_s: int, to_s: int, max_power_w: int
) -> list[Interval]:
    """The half-hours that begin in [from_s, to_s), both multiples of STEP_S. `points` in order of time; they should
    reach beyond both ends. `max_power_w`: more than the supply's fuse lets through."""
    pieces = _pieces(_without_slips(points, max_power_w), sorted(exchanges), max_power_w)
    starts = [piece.from_ms for piece in pieces]
    still = _still(pieces)
    found = []
    for start_s in range(from_s, to_s, STEP_S):
        low, high = start_s * 1000, (start_s + STEP_S) * 1000
        first = bisect_right(starts, low) - 1
        last = bisect_left(starts, high)
        inside = pieces[max(first, 0) : last]
        if not inside or inside[0].from_ms > low or inside[-1].to_ms < high:
            found.append(Interval(start_s, None, MISSING))
            continue
        found.append(_interval(start_s, inside, low, high, still))
    return found


def _interval(start_s: int, inside: list[_Piece], low: int, high: int, still: list[tuple[int, int]]) -> Interval:
    used, quality = 0, MEASURED
    for piece in inside:
        if piece.used_mwh is None:
            return Interval(start_s, None, MISSING)
        quality = max(quality, piece.quality, key=_WORST.__getitem__)
        used += _part(piece, min(piece.to_ms, high)) - _part(piece, max(piece.from_ms, low))
    if quality == MEASURED and any(begin <= low and high <= end for begin, end in still):
        quality = SUSPECT
    return Interval(start_s, used, quality)


def _part(piece: _Piece, t_ms: int) -> int:
    """Of a piece, what was used up to `t_ms`, as evenly as integers allow; parts of a piece sum up to it."""
    assert piece.used_mwh is not None
    return piece.used_mwh * (t_ms - piece.from_ms) // (piece.to_ms - piece.from_ms)


def _without_slips(points: Sequence[RegisterPoint], max_power_w: int) -> list[RegisterPoint]:
    """Leave out single points that the ones on either side contradict: a zero, or a jump, that was gone with the next
    telegram."""
    kept: list[RegisterPoint] = []
    for index, point in enumerate(points):
        if kept and point.t_ms <= kept[-1].t_ms:
            continue
        after = points[index + 1] if index + 1 < len(points) else None
        if kept and after is not None and after.energy_mwh >= kept[-1].energy_mwh:
            falls = point.energy_mwh < kept[-1].energy_mwh
            jumps = point.energy_mwh > after.energy_mwh
            if (falls or jumps) and _is_possible(kept[-1], after, max_power_w):
                continue
        kept.append(point)
    return kept


def _is_possible(a: RegisterPoint, b: RegisterPoint, max_power_w: int) -> bool:
    """Could that much have been used between the two? W x ms = mWh x 3600."""
    return (b.energy_mwh - a.energy_mwh) * 3600 <= max_power_w * max(b.t_ms - a.t_ms, 60_000)


def _pieces(points: list[RegisterPoint], exchanges: list[MeterExchange], max_power_w: int) -> list[_Piece]:
    pieces: list[_Piece] = []
    for a, b in pairwise(points):
        swaps = [swap for swap in exchanges if a.t_ms < swap.t_ms <= b.t_ms]
        if swaps:
            used: int | None = swaps[0].last_mwh - a.energy_mwh + b.energy_mwh - swaps[-1].first_mwh
            for before, after in pairwise(swaps):
                used = None if used is None else used + after.last_mwh - before.first_mwh
        else:
            used = b.energy_mwh - a.energy_mwh
            if used < 0:
                used = _rolled_over(a, b, max_power_w)
        if used is not None and (used < 0 or used * 3600 > max_power_w * max(b.t_ms - a.t_ms, 60_000)):
            used = None
        if used is None:
            quality = MISSING
        elif b.t_ms - a.t_ms > MAX_HOLE_S * 1000:
            quality = SUBSTITUTED
        else:
            quality = SUSPECT if a.is_doubted or b.is_doubted else MEASURED
        pieces.append(_Piece(a.t_ms, b.t_ms, used, quality))
    return pieces


def _rolled_over(a: RegisterPoint, b: RegisterPoint, max_power_w: int) -> int | None:
    """A register of so many digits began again at 0: the only way in which less can be more (5 to 9 digits of kWh)."""
    for digits in range(5, 10):
        full = 10**digits * 1_000_000
        if a.energy_mwh < full:
            used = b.energy_mwh + full - a.energy_mwh
            return used if _is_possible(RegisterPoint(a.t_ms, 0), RegisterPoint(b.t_ms, used), max_power_w) else None
    return None


def _still(pieces: list[_Piece]) -> list[tuple[int, int]]:
    """Where the register had stood still for STILL_S, as (from, to) in milliseconds."""
    found: list[tuple[int, int]] = []
    begin: int | None = None
    for piece in [*pieces, None]:
        if piece is not None and piece.used_mwh == 0:
            begin = piece.from_ms if begin is None else begin
            end = piece.to_ms
            continue
        if begin is not None and end - begin > STILL_S * 1000:
            found.append((begin + STILL_S * 1000, end))
        begin = None
    return found


def day_of(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """A market's day as (from, to) in UTC epoch seconds: 23, 24 or 25 hours."""
    begin = datetime(day.year, day.month, day.day, tzinfo=zone)
    after = day + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=zone)
    return int(begin.astimezone(UTC).timestamp()), int(end.astimezone(UTC).timestamp())
