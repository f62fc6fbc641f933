"""What generates (classes `solar` and `battery`) under an export limit: EEBUS LPP, `limit` with direction `export`.

Generators report power below zero (import is positive). Each that may be told, and lets go by itself, gets its share of
what may be fed in beside what the household uses itself; orders last five minutes at most and are renewed (promise P4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hub.core.control.appliances import Appliance
from hub.core.order import Order

ORDER_S = 300.0
_RENEW_S = ORDER_S / 2
_SETTLE_S = 30.0
_STEP_W = 50.0
_TOLERANCE, _SLACK_W = 1.05, 15.0
SLOT = "limit"


@dataclass(slots=True)
class _Share:
    cap_w: float
    until: float


class Generation:
    """A machine. `until`: on the machine's clock."""

    def __init__(self) -> None:
        self._limit_w: float | None = None
        self._until: float | None = None
        self._since = 0.0
        self._shares: dict[str, _Share] = {}
        self._orders: list[tuple[str, Order]] = []

    @property
    def is_held(self) -> bool:
        return self._limit_w is not None

    def hold(self, limit_w: float | None, until: float | None, now: float) -> list[str]:
        """Hold what generates to so many watts fed in; None: to nothing. Who has to be told that its share is over."""
        if limit_w is not None and self._limit_w is None:
            self._since = now
        self._limit_w, self._until = limit_w, until
        free: list[str] = []
        if limit_w is None:
            free = [client_id for client_id in self._shares if self.holds(client_id, now)]
            self._shares.clear()
        return free

    def holds(self, client_id: str, now: float) -> bool:
        """Whether it was told a share that has not ended by itself."""
        share = self._shares.get(client_id)
        return share is not None and share.until > now

    def plan(self, appliances: Iterable[Appliance], meter_w: float | None, now: float) -> None:
        """Share out anew, and tell whom it concerns. `meter_w`: import positive; None: nobody knows."""
        if self._limit_w is None:
            return
        generators = [a for a in appliances if a.profile.is_generator and a.may_be_told()]
        made_w = sum(a.generated_w(now) for a in generators)
        used_w = 0.0 if meter_w is None else max(0.0, meter_w + made_w)  # by the household itself
        nominal_w = sum(a.nominal_w for a in generators)
        for appliance in generators:
            part = appliance.nominal_w / nominal_w if nominal_w else 1 / len(generators)
            self._tell(appliance, (self._limit_w + used_w) * part, now)

    def _tell(self, appliance: Appliance, cap_w: float, now: float) -> None:
        until = now + ORDER_S if self._until is None else min(now + ORDER_S, self._until)
        if until - now < 1:
            return
        told = self._shares.get(appliance.client_id)
        is_same = told is not None and told.cap_w <= cap_w < told.cap_w + _STEP_W
        cap_w = told.cap_w if told is not None and is_same else float(int(cap_w))
        if appliance.cap_w is not None:
            # A battery that a limit of what is drawn holds as well: the household tells it both, in one order.
            self._shares[appliance.client_id] = _Share(cap_w, until)
            appliance.ceiling_w, appliance.ceiling_until = cap_w, until
            return
        if told is not None and is_same and (told.until >= until or now < told.until - _RENEW_S):
            return
        self._shares[appliance.client_id] = _Share(cap_w, until)
        self._orders.append((appliance.client_id, Order(SLOT, f"limit {int(cap_w)}", until)))

    def forget(self, client_id: str) -> None:
        """It may have forgotten what it was told, or may not be told any more."""
        self._shares.pop(client_id, None)

    def is_met(self, meter_w: float | None, now: float) -> bool | None:
        """Whether no more is fed in than may be; None: not known yet."""
        if self._limit_w is None or meter_w is None:
            return None
        if -meter_w <= self._limit_w * _TOLERANCE + _SLACK_W:
            return True
        return False if now >= self._since + _SETTLE_S else None

    def report(self, meter_w: float | None) -> dict[str, Any]:
        """What a receipt tells."""
        return {
            "household_w": None if meter_w is None else round(meter_w),
            "restricted": {client_id: round(share.cap_w) for client_id, share in self._shares.items()},
        }

    def take_orders(self) -> list[tuple[str, Order]]:
        """The orders to give now."""
        orders, self._orders = self._orders, []
        return orders

    def due_at(self, now: float) -> float | None:
        return now + 1.0 if self._limit_w is not None else None
