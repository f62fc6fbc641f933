"""What control knows of each appliance: what it is, what it draws, what it was told, and whether it did so."""

from typing import TYPE_CHECKING

from hub.core.control.classes import Profile
from hub.core.order import NEVER

if TYPE_CHECKING:
    from hub.wire.admin import ApplianceRow

# How long a power reading speaks for its appliance. Slow adapters report once a minute.
FRESH_S = 180.0
# An appliance has this long to do as it was told, from the order's transmission to a reading that shows it.
REACTION_S = 15.0
_ENDS_EARLY_S = 5.0  # an adapter's clock, and seconds rounded down
_TOLERANCE = 1.05  # of an ordered power, plus _SLACK_W: meters and thermostats are not exact
_SLACK_W = 15.0
_IDLE_SHARE = 0.05  # of its nominal power: below it an appliance rests
_WANTS_FOR_S = 120.0
_ASK_AGAIN_S = 900.0

UNTOLD = Profile()  # of one that has not said what it is


class Appliance:
    """One appliance. Times are the machine's `now`; powers in watts."""

    __slots__ = (
        "_drew_at",
        "_made_at",
        "_made_w",
        "_wanted",
        "cap_since",
        "cap_w",
        "ceiling_until",
        "ceiling_w",
        "client_id",
        "deaf_since",
        "deprived_s",
        "free_since",
        "has_opted_out",
        "is_deaf",
        "is_present",
        "listens_by",
        "peak_w",
        "power_at",
        "power_w",
        "profile",
        "reported_at",
        "reported_limit_w",
        "sent_at",
        "told_at",
        "told_until",
        "told_w",
        "turn_since",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.profile = UNTOLD
        self.is_present = True
        self.listens_by: frozenset[str] = frozenset()  # the topic filters by which it has subscribed to its orders
        self.power_w = 0.0
        self.power_at: float | None = None
        self.peak_w = 0.0
        self.reported_limit_w: float | None = None  # what it says that it obeys
        self.reported_at: float | None = None
        # What the plan wants of it: None = nothing.
        self.cap_w: float | None = None
        self.cap_since = NEVER
        self.free_since = NEVER
        self.turn_since = NEVER  # since when it has had its share under this limit
        self._wanted = False  # when it was told to draw nothing
        # Its share of an export limit, where it is held by the plan too: an order of either is in the same slot.
        self.ceiling_w, self.ceiling_until = 0.0, NEVER
        # What it was told last.
        self.told_w: float | None = None
        self.told_at = NEVER
        self.sent_at: float | None = None  # when that went on the air: a sleeper is told when it wakes
        self.told_until = NEVER
        self.is_deaf = False  # told, and did not
        self.has_opted_out = False  # its householder took the limit off at the appliance
        self.deaf_since = NEVER
        self.deprived_s = 0.0
        self._drew_at = NEVER
        self._made_w, self._made_at = 0.0, NEVER

    @property
    def is_reachable(self) -> bool:
        """Whether it has subscribed to its orders."""
        return bool(self.listens_by)

    @property
    def nominal_w(self) -> float:
        """The most that it draws, as far as is known."""
        return max(self.profile.nominal_w, self.peak_w)

    def take_power(self, watts: float, now: float) -> None:
        """What it drew at `now`. An adapter that buffered tells it in any order: only the newest is what it does."""
        self.peak_w = max(self.peak_w * 0.999, watts)
        if max(0.0, watts) > _IDLE_SHARE * self.nominal_w:
            self._drew_at = max(self._drew_at, now)
        if self.power_at is not None and now < self.power_at:
            return
        if self.profile.is_generator:
            self._made_w, self._made_at = max(0.0, -watts), now
        self.power_w, self.power_at = max(0.0, watts), now

    def take_limit(self, limit_w: float | None, now: float) -> bool:
        """What it says that it obeys. True when its householder has just taken the hub's limit off, at the appliance:
        neither its order's end nor a report on its way from before the order explains that it is free."""
        if self.reported_at is not None and now < self.reported_at:
            return False  # it buffered: what it said since counts
        self.reported_limit_w, self.reported_at = limit_w, now
        is_told = (
            self.told_w is not None
            and self.sent_at is not None
            and self.sent_at + REACTION_S < now < self.told_until - _ENDS_EARLY_S
        )
        if limit_w is not None or not is_told or self.has_opted_out:
            return False
        self.has_opted_out = True
        self.told_w, self.told_until = None, NEVER
        return True

    def has_power(self, now: float) -> bool:
        """Whether its last power reading still speaks for it."""
        return self.power_at is not None and now - self.power_at <= FRESH_S

    def generated_w(self, now: float) -> float:
        """What it feeds in now, as far as is known."""
        return self._made_w if now - self._made_at <= FRESH_S else 0.0

    def may_be_told(self) -> bool:
        """P4: never what is protected; and only what hears its orders, and when they end."""
        profile = self.profile
        is_there = self.is_present and self.is_reachable and not self.has_opted_out
        return profile.is_sheddable and not profile.is_protected and is_there

    def may_be_restricted(self) -> bool:
        """The same, of what draws power."""
        return self.profile.is_load and self.may_be_told()

    def wants_power(self, now: float) -> bool:
        """Whether it drew power lately. One that is kept from it cannot show: it still wants what it wanted, and after
        a while it is asked anew by being given a turn."""
        if self.cap_w == 0:
            return self._wanted or now - self.cap_since > _ASK_AGAIN_S
        return now - self._drew_at <= _WANTS_FOR_S

    def set_cap(self, cap_w: float | None, now: float) -> None:
        """What the plan wants of it from now on."""
        if cap_w == 0:
            self._wanted, self.cap_since = self.wants_power(now), now
        elif self.cap_w == 0:
            self.free_since = self.turn_since = now
        self.cap_w = cap_w

    def wanted_w(self, now: float) -> float:
        """What it is to be told while the plan wants something of it: what keeps it within every limit."""
        assert self.cap_w is not None
        return min(self.cap_w, self.ceiling_w) if now < self.ceiling_until else self.cap_w

    def expected_w(self, now: float) -> float:
        """What it draws now as far as is known, believing for a moment that it does as it was told."""
        drawn = self.power_w if self.has_power(now) else (0.0 if self.cap_w is not None else self.profile.nominal_w)
        if self.told_w is not None and now < self.told_until and not self.is_deaf:
            return min(drawn, self.told_w)
        return drawn

    def row(self, now: float) -> "ApplianceRow":
        """For `meterhub limits`."""
        profile = self.profile
        return {
            "client": self.client_id,
            "class": profile.class_name,
            "power_w": round(self.power_w) if self.has_power(now) else None,
            "nominal_w": round(self.nominal_w),
            "priority": profile.priority,
            "restrictable": self.may_be_restricted(),
            "protected": profile.is_protected,
            "listens": self.is_reachable,
            "share_w": None if self.cap_w is None else round(self.cap_w),
            "obeys": self.obeys(now),
            "deaf": self.is_deaf,
            "opted_out": self.has_opted_out,
            "kept_waiting_s": round(self.deprived_s),
        }

    def obeys(self, now: float) -> bool | None:
        """Whether it did as it was told; None while nothing is known yet, or nothing was told."""
        if self.told_w is None or now >= self.told_until:
            return None
        sent_at = self.sent_at
        if (
            sent_at is None
        ):  # it sleeps, or its link is down; one that never takes its order has not done as it was told
            return None if now < self.told_at + FRESH_S else False
        if self.power_at is not None and self.power_at > sent_at:
            if self.power_w <= self.told_w * _TOLERANCE + _SLACK_W:
                return True
            return False if self.power_at > sent_at + REACTION_S else None
        if self.reported_limit_w is not None and (self.reported_at or 0.0) > sent_at:
            return True if self.reported_limit_w <= self.told_w * _TOLERANCE + _SLACK_W else None
        return None if now < sent_at + FRESH_S else False
