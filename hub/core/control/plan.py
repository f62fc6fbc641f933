"""The plan: which appliance may draw how much, so that the household keeps to its limit. A function of what is known.

Every appliance that can be restricted gets its share of what the others leave: full power, a part where it can
modulate, or nothing for now. An appliance that rests could start at any moment, so its power is held for it or it is
told to wait; what is granted never adds up to more than the limit. Who comes first: importance, then who is running and
has not had its turn yet, then who has been kept waiting longest, so that nobody is always the one who waits.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hub.core.control.appliances import Appliance

TURN_S = 900.0  # how long a grant is kept before somebody of the same importance may have it
RETURN_S = 10.0  # between two appliances that get their power back: each shows first what it draws
_MARGIN_SHARE, _MARGIN_W = 0.02, 20.0
_GRACE_S = 60.0
_STEP_W = 50.0  # a share that changes by less is left as it is
EMERGENCY = 7  # from this criticality on minimum on times do not count


class Shares(NamedTuple):
    """`caps`: client_id -> watts, None = unrestricted. `base_w`: what cannot be restricted. `is_met`: it fits."""

    caps: dict[str, float | None]
    base_w: float
    is_met: bool


def share_out(
    limit_w: float, appliances: Sequence[Appliance], household_w: float | None, criticality: int, now: float
) -> Shares:
    """Share out a limit. `household_w`: what the meter says, or None; then appliances' own readings are summed up."""
    loads = [a for a in appliances if a.may_be_restricted() and not a.is_deaf]
    base_w = _base_w(appliances, loads, household_w, now)
    # What cannot be taken from anybody is not there to be shared out.
    kept_w = {load.client_id: _kept_w(load, now) for load in loads}
    left_w = limit_w - base_w - sum(kept_w.values()) - max(_MARGIN_W, limit_w * _MARGIN_SHARE)
    caps: dict[str, float | None] = {}
    for load in sorted(loads, key=lambda load: _rank(load, criticality, now)):
        left_w += kept_w[load.client_id]
        caps[load.client_id] = cap_w = _cap_w(load, left_w, now)
        if cap_w == 0 and load.profile.is_never_off:
            caps[load.client_id] = load.profile.floor_w
            left_w -= kept_w[load.client_id]  # one that rests may start all the same: nothing is held for it
        else:
            left_w -= load.nominal_w if cap_w is None else cap_w
    return Shares(caps, base_w, base_w + sum(kept_w.values()) <= limit_w)


def _kept_w(load: Appliance, now: float) -> float:
    """What it draws whatever it is told: it is running, and cannot be stopped."""
    return load.profile.floor_w if load.profile.is_never_off and load.wants_power(now) else 0.0


def _base_w(appliances: Sequence[Appliance], loads: list[Appliance], household_w: float | None, now: float) -> float:
    if household_w is not None:
        return max(0.0, household_w - sum(load.expected_w(now) for load in loads))
    held = set(map(id, loads))
    return sum(a.expected_w(now) for a in appliances if id(a) not in held and a.has_power(now))


def _rank(load: Appliance, criticality: int, now: float) -> tuple[int, int, int, int, float, str]:
    """The smaller, the earlier it is served."""
    profile = load.profile
    runs = load.cap_w is None or load.cap_w > 0
    # Whoever was just given power has a moment to show that it wants it.
    wants = load.wants_power(now) or (runs and now - load.free_since < _GRACE_S)
    young = runs and wants and now - load.free_since < profile.min_on_s and criticality < EMERGENCY
    # A turn ends for somebody who waits; among those who rest nothing is gained by changing over.
    has_turn = runs and (now - load.turn_since < TURN_S or not wants)
    return (
        0 if young else 1,
        -profile.priority,
        0 if wants else 1,
        0 if has_turn else 1,
        -load.deprived_s,
        load.client_id,
    )


def _cap_w(load: Appliance, left_w: float, now: float) -> float | None:
    profile = load.profile
    if load.cap_w == 0 and now - load.cap_since < profile.min_off_s:
        return 0.0
    if load.nominal_w <= left_w:
        return None
    floor_w = profile.floor_w
    if floor_w >= load.nominal_w or left_w < floor_w:
        return 0.0
    return _steady(load.cap_w, left_w)


def _steady(before_w: float | None, cap_w: float) -> float:
    """A share in whole watts, and the one before where it still fits and is near: orders cost air time."""
    if before_w is not None and 0 < before_w <= cap_w < before_w + _STEP_W:
        return before_w
    return float(int(cap_w))
