"""`limit.cancel`: an operator takes back what it commanded; what another commanded only with the role admin."""

from collections.abc import Mapping
from typing import Any

from hub.core.control.authority import Accepted
from hub.core.control.operations.base import CommandedOperation, Desk, Unable
from hub.core.control.records import Journal


class Cancel(CommandedOperation):
    """`{"cti": ...}`: that one; `{}`: everything of this operator's, limits, switches and sets."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        cti = args.get("cti")

        def is_meant(item_cti: bytes, kid: str) -> bool:
            return kid == self.kid if cti is None else item_cti == cti

        self._limits = [limit for limit in desk.limits if is_meant(limit.cti, limit.kid)]
        self._orders = [order for order in desk.orders.values() if is_meant(order.cti, order.kid)]
        if cti is not None and not self._limits and not self._orders:
            raise Unable("unknown-cti", "nothing of that cti is waiting or active")
        others = {limit.kid for limit in self._limits} | {order.kid for order in self._orders}
        others.discard(self.kid)
        if others and "admin" not in verdict.operator.roles:
            raise Unable("wrong-role", "another operator commanded it: only with the role admin is that cancelled")

    def journal(self) -> Journal:
        journal = Journal()
        self.complete(journal, {"cancelled": len(self._limits) + len(self._orders)})
        for limit in self._limits:
            self.desk.journal_end(limit, "cancelled", self.now, journal)
        for order in self._orders:
            self.desk.journal_end(order, "cancelled", self.now, journal)
        return journal

    def apply(self, now: float) -> None:
        for limit in self._limits:
            self.desk.limits.drop(limit.cti)
        for order in self._orders:
            self.desk.drop_order(order, now, release=True)
        self.desk.heard(self.kid, now, decision=True)
