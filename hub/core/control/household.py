"""The household under a limit: what its appliances draw, what each is told, and whether the limit is kept.

Each order carries its own end: never later than the limit's, and never more than a few minutes away, so that a hub
which dies takes nobody's power for longer than that (promise P4). While the limit lasts orders are renewed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hub.core.control.appliances import UNTOLD, Appliance
from hub.core.control.classes import read_about
from hub.core.control.plan import RETURN_S, share_out
from hub.core.order import NEVER, Order

if TYPE_CHECKING:
    from hub.wire.admin import HouseholdFigures

METER = "meter"
LIMIT_SLOT = "limit"  # of orders (hub/core/order.py)
ORDER_S = 300.0  # how long an order lasts before it must have been renewed
_RENEW_S = ORDER_S / 2
METER_FRESH_S = 30.0
SETTLE_S = 30.0  # from a limit's beginning to the verdict that it cannot be met
DEAF_AGAIN_S = 300.0  # a deaf appliance is told again this often: it may have come to its senses
_LIFT_W = 999_999  # `limit` of one second with this: takes back a limit and leaves an `off` or a `set` alone
_UNWANTED_AGAIN_S = 60.0
# Appliances whose sessions are gone, and that may be back: of more, those that never said what they are go. Anybody in
# the home can bring new names, for as long as the hub runs.
MOST_GONE = 256


class Held(NamedTuple):
    """What the household is held to. `until`: when that ends, on the machine's clock; None: until further notice."""

    watts: float
    criticality: int
    since: float
    until: float | None


class Household:
    """The appliances and the plan. `lift_alone(client_id, now)`: whether something else is ordered of this appliance,
    whose limit is about to be lifted."""

    def __init__(
        self, lift_alone: Callable[[str, float], bool], record_event: Callable[..., None], random: Callable[[], float]
    ) -> None:
        self.appliances: dict[str, Appliance] = {}
        self.meter_w: float | None = None
        self.meter_at = NEVER
        self.held: Held | None = None
        self.base_w = 0.0
        self.is_feasible = True
        self._orders: list[tuple[str, Order]] = []
        self._lift_alone = lift_alone
        self._record_event = record_event
        self._random = random
        self._return_at = NEVER
        self._planned_at: float | None = None
        self._gone: dict[str, None] = {}

    # What is heard

    def appliance(self, client_id: str) -> Appliance:
        found = self.appliances.get(client_id)
        if found is None:
            found = self.appliances[client_id] = Appliance(client_id)
        return found

    def take_about(self, client_id: str, payload: bytes, now: float) -> None:
        """What an appliance says it is. One that may not be restricted any more is free at once (promise P4)."""
        appliance = self.appliance(client_id)
        appliance.profile = profile = read_about(payload)
        if profile.is_sheddable and not profile.is_protected:
            return
        if profile == UNTOLD and not appliance.is_present:
            self._has_gone(client_id)
        if appliance.cap_w is not None:
            appliance.set_cap(None, now)
        if appliance.told_w is not None and appliance.told_until > now:
            self._lift(appliance, now)

    def take_power(self, client_id: str, watts: float, now: float) -> None:
        if client_id == METER:
            self.meter_w, self.meter_at = watts, now
        else:
            self.appliance(client_id).take_power(watts, now)

    def take_limit(self, client_id: str, limit_w: float | None, now: float) -> None:
        """What an appliance says that it obeys. One that nobody wants is taken back: the hub was away meanwhile."""
        appliance = self.appliance(client_id)
        if appliance.take_limit(limit_w, now):
            appliance.set_cap(None, now)
            self._record_event("limit.opted_out", client=client_id)
        unwanted = limit_w is not None and appliance.cap_w is None and now > appliance.told_at + _UNWANTED_AGAIN_S
        if unwanted and appliance.is_reachable:
            self._lift(appliance, now)

    def opted_out(self, client_id: str, now: float) -> None:
        """Its householder took the hub's limit off at the appliance, and it said so itself (a load control device)."""
        appliance = self.appliance(client_id)
        appliance.has_opted_out = True
        appliance.told_w, appliance.told_until = None, NEVER
        appliance.set_cap(None, now)

    def subscribed(self, client_id: str, topic_filter: str) -> None:
        """It listens to its orders from now on, and may have forgotten the ones before."""
        self.appliance(client_id).listens_by |= {topic_filter}
        self.tell_anew(client_id)

    def unsubscribed(self, client_id: str, topic_filter: str) -> None:
        """It listens to them by this filter no longer; perhaps by another."""
        self.appliance(client_id).listens_by -= {topic_filter}

    def tell_anew(self, client_id: str) -> None:
        """What it was told does not hold any more: where it is still wanted, the next plan tells it."""
        appliance = self.appliance(client_id)
        appliance.told_w, appliance.told_until = None, NEVER

    def order_sent(self, client_id: str, order: Order, now: float) -> None:
        """What it was told is on the air: until then a sleeper knows nothing of it."""
        if order.slot == LIMIT_SLOT:
            self.appliance(client_id).sent_at = now

    def left(self, client_id: str) -> None:
        """It is lost or has left: it lets go by itself, and whatever it draws is nobody's to plan with."""
        appliance = self.appliances.get(client_id)
        if appliance is not None:
            appliance.is_present = False

    def came(self, client_id: str) -> None:
        self._gone.pop(client_id, None)
        self.appliance(client_id).is_present = True

    def removed(self, client_id: str) -> None:
        """Its session is no more. It may be back in a moment, with a clean one."""
        appliance = self.appliances.get(client_id)
        if appliance is not None:
            appliance.is_present, appliance.listens_by = False, frozenset()
            self._has_gone(client_id)

    def _has_gone(self, client_id: str) -> None:
        self._gone.pop(client_id, None)
        self._gone[client_id] = None
        if len(self._gone) > MOST_GONE:
            longest = next(iter(self._gone))
            del self._gone[longest]
            # What it said that it is holds for as long as the gateway retains that.
            if longest in self.appliances and self.appliances[longest].profile == UNTOLD:
                del self.appliances[longest]

    def fairness(self) -> dict[str, float]:
        """Who was kept waiting for how long, seconds: what the next limit, perhaps after a restart, goes on from."""
        return {a.client_id: round(a.deprived_s) for a in self.appliances.values() if a.deprived_s >= 1}

    def restore_fairness(self, deprived_s: dict[str, float]) -> None:
        for client_id, seconds in deprived_s.items():
            self.appliance(client_id).deprived_s = float(seconds)

    # What the household draws

    def household_w(self, now: float) -> float | None:
        """What the household draws now: the meter's word, else the sum of what appliances say; None: nobody knows."""
        meter_w = self.fresh_meter_w(now)
        if meter_w is not None:
            return meter_w
        known = [a.power_w for a in self.appliances.values() if a.has_power(now)]
        return sum(known) if known else None

    def fresh_meter_w(self, now: float) -> float | None:
        """What the meter says, import positive; None: there is none, or its last word is old."""
        return self.meter_w if self.meter_w is not None and now - self.meter_at <= METER_FRESH_S else None

    def _expected_w(self, now: float) -> float:
        return self.base_w + sum(
            a.expected_w(now) for a in self.appliances.values() if a.may_be_restricted() and not a.is_deaf
        )

    def is_kept(self, now: float) -> bool | None:
        """Whether the household keeps to what it is held to; None while orders are on their way."""
        if self.held is None:
            return None
        waiting = any(a.obeys(now) is None and a.told_w is not None for a in self._restricted())
        total = self.household_w(now)
        if self.is_feasible and total is not None and total <= self.held.watts and not waiting:
            return True
        if now < self.held.since + SETTLE_S:
            return None
        return self.is_feasible and self._expected_w(now) <= self.held.watts and not any(self._deaf())

    def _restricted(self) -> list[Appliance]:
        return [a for a in self.appliances.values() if a.cap_w is not None]

    def _deaf(self) -> list[str]:
        return [a.client_id for a in self.appliances.values() if a.is_deaf and a.is_present]

    def report(self, now: float) -> "HouseholdFigures":
        """What a receipt tells: watts of the household, of what cannot be restricted, and who was restricted."""
        total = self.household_w(now)
        return {
            "household_w": None if total is None else round(total),
            "base_w": round(self.base_w),
            "restricted": {a.client_id: round(a.cap_w or 0) for a in self._restricted()},
            "deaf": self._deaf(),
            "opted_out": [a.client_id for a in self.appliances.values() if a.has_opted_out],
        }

    # The plan

    def hold(self, held: Held | None, now: float) -> None:
        """Hold the household to something else, or to nothing, from now on."""
        if self.held is None:
            for appliance in self.appliances.values():
                appliance.turn_since = now  # whoever runs now keeps running for a turn, if there is enough
        self.held = held
        self._return_at = NEVER
        self.plan(now)

    def plan(self, now: float) -> None:
        """Share out anew, and tell whom it concerns."""
        self._age(now)
        if self.held is None:
            self._let_go(now)
            return
        self._judge(now)
        meter_w = self.fresh_meter_w(now)
        everybody = list(self.appliances.values())
        shares = share_out(self.held.watts, everybody, meter_w, self.held.criticality, now)
        self.base_w, self.is_feasible = shares.base_w, shares.is_met
        # First those who get less: what they give up is what the others get.
        changed = [(self.appliances[client_id], cap_w) for client_id, cap_w in shares.caps.items()]
        for appliance, cap_w in sorted(changed, key=lambda change: _gets_more(*change)):
            if _gets_more(appliance, cap_w) and not self._may_return(now):
                continue
            self._cap(appliance, cap_w, now)
        for appliance in self._restricted():
            self._renew(appliance, now)

    def _may_return(self, now: float) -> bool:
        if now < self._return_at:
            return False
        # Not on the beat: the homes of a street must not return in step.
        self._return_at = now + RETURN_S * (0.5 + self._random())
        return True

    def _age(self, now: float) -> None:
        """Count who is kept waiting for how long; old injustice is forgotten within a day or so."""
        step_s = 0.0 if self._planned_at is None else max(0.0, now - self._planned_at)
        self._planned_at = now
        for appliance in self.appliances.values():
            appliance.deprived_s *= 0.5 ** (step_s / 43_200)
            if appliance.cap_w is not None:
                share = 1.0 - min(1.0, appliance.cap_w / (appliance.nominal_w or 1.0))
                appliance.deprived_s += step_s * share

    def _judge(self, now: float) -> None:
        """Notice who does not do as it is told, and who does again."""
        for appliance in self.appliances.values():
            obeys = appliance.obeys(now)
            if obeys is False and not appliance.is_deaf:
                appliance.is_deaf, appliance.deaf_since = True, now
                self._record_event("limit.ignored", client=appliance.client_id, power_w=round(appliance.power_w))
            elif appliance.is_deaf and (obeys or now - appliance.deaf_since > DEAF_AGAIN_S):
                appliance.is_deaf = False
                appliance.told_w, appliance.told_until = None, NEVER

    def _cap(self, appliance: Appliance, cap_w: float | None, now: float) -> None:
        if cap_w == appliance.cap_w:
            return
        appliance.set_cap(cap_w, now)
        if cap_w is None:
            self._lift(appliance, now)

    def _renew(self, appliance: Appliance, now: float) -> None:
        """Tell an appliance its share, unless it was told the same and that holds for long enough."""
        assert self.held is not None and appliance.cap_w is not None
        if not appliance.may_be_restricted():
            return
        until = now + ORDER_S if self.held.until is None else min(now + ORDER_S, self.held.until)
        wanted_w = appliance.wanted_w(now)
        is_told = appliance.told_w == wanted_w and (
            appliance.told_until >= until or now < appliance.told_until - _RENEW_S
        )
        if is_told or until - now < 1:
            return
        if appliance.told_w != wanted_w or now >= appliance.told_until:
            appliance.told_at, appliance.sent_at = now, None
        appliance.told_w, appliance.told_until = wanted_w, until
        self._orders.append((appliance.client_id, Order(LIMIT_SLOT, f"limit {wanted_w:.0f}", until)))

    def _lift(self, appliance: Appliance, now: float) -> None:
        appliance.told_w, appliance.told_at, appliance.told_until = None, now, NEVER
        if not appliance.is_reachable:
            return
        order = lifting(now) if self._lift_alone(appliance.client_id, now) else Order("*", "release")
        self._orders.append((appliance.client_id, order))

    def _let_go(self, now: float) -> None:
        """Nothing holds the household: appliances get their power back, one after the other."""
        self.base_w, self.is_feasible = 0.0, True
        for appliance in sorted(self._restricted(), key=lambda a: (a.told_until > now, -a.deprived_s)):
            if appliance.told_until <= now:  # its order has ended by itself
                appliance.set_cap(None, now)
                appliance.told_w = None
            elif self._may_return(now):
                self._cap(appliance, None, now)
        for appliance in self.appliances.values():
            appliance.is_deaf = appliance.has_opted_out = False

    def take_orders(self) -> list[tuple[str, Order]]:
        """The orders to give now."""
        orders, self._orders = self._orders, []
        return orders

    def due_at(self, now: float) -> float | None:
        """When `plan` is worth calling again if nothing is heard."""
        if self.held is not None:
            return now + 1.0
        return now + 1.0 if self._restricted() else None


def lifting(now: float) -> Order:
    """Takes back a limit, and nothing else."""
    return Order(LIMIT_SLOT, f"limit {_LIFT_W}", now + 2.0)


def _gets_more(appliance: Appliance, cap_w: float | None) -> bool:
    if appliance.cap_w is None:
        return False
    return cap_w is None or cap_w > appliance.cap_w
