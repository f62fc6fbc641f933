"""`switch` and `set`: one appliance is held to something, in orders of five minutes at most (promise P4)."""

from collections.abc import Mapping
from typing import Any

from hub.core.control.appliance_orders import MAX_ORDERS, MAX_ORDERS_EACH, ApplianceOrder, set_text, switch_text
from hub.core.control.authority import Accepted
from hub.core.control.operations.base import CommandedOperation, Desk, Unable
from hub.core.control.operations.job import Job
from hub.core.control.records import ORDER, Journal
from hub.core.order import Order

_ZCL = "zb-"


class _OfAppliance(CommandedOperation):
    """An order to one appliance that is known, listens, and may be restricted if this restricts it. `superseded`: what
    it takes the place of."""

    superseded: list[ApplianceOrder]

    def check_appliance(self, restricts: bool) -> None:
        """Raises Unable where this appliance cannot, or may not, be told so."""
        client_id: str = self.args["client"]
        appliance = self.desk.household.appliances.get(client_id)
        if appliance is None:
            raise Unable("unknown-client", f"no appliance {client_id} has been heard of")
        if restricts and appliance.profile.is_protected:
            raise Unable("protected", f"{client_id} is protected: nobody may restrict it")
        if client_id.startswith(_ZCL):  # one that takes load control events is held by limits alone
            raise Unable("no-own-end", f"{client_id} cannot end a restriction by itself, so it is never given one")
        if not appliance.is_reachable:
            raise Unable("not-listening", f"{client_id} has not subscribed to its orders")
        if restricts and not appliance.profile.is_sheddable:
            raise Unable("not-sheddable", f"{client_id} has not said that it may be shed")

    def older(self, slot: str) -> list[ApplianceOrder]:
        """What this appliance is held to already about the same thing, by anybody."""
        client_id = self.args["client"]
        return [old for old in self.desk.orders.values() if (old.client_id, old.slot) == (client_id, slot)]

    def own(self, older: list[ApplianceOrder]) -> list[ApplianceOrder]:
        return [old for old in older if old.kid == self.kid]

    def journal_superseded(self, journal: Journal) -> None:
        for old in self.superseded:
            self.desk.journal_end(old, "superseded", self.now, journal)

    def drop_superseded(self, now: float) -> None:
        """The appliance is told what takes their place, so it is not released in between."""
        for old in self.superseded:
            self.desk.drop_order(old, now, release=False)


class _Held(_OfAppliance):
    """A restriction with an end."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        self.check_appliance(restricts=True)
        slot, text = self.what()
        command = self.command
        t = self.t()
        self._order = ApplianceOrder(
            command.cti, command.kid, verdict.digest, args["client"], slot, text, t, t + args["duration"]
        )
        self.superseded = self.own(self.older(slot))  # another's stands beside it: the newest is told
        left = [old for old in desk.orders.values() if old not in self.superseded]
        if len(left) >= MAX_ORDERS or sum(old.kid == self.kid for old in left) >= MAX_ORDERS_EACH:
            raise Unable("too-many", f"{MAX_ORDERS_EACH} orders of an operator, {MAX_ORDERS} in all, are under way")

    def what(self) -> tuple[str, str]:
        """`(slot, text)` of the order. Raises Unable."""
        raise NotImplementedError

    def journal(self) -> Journal:
        journal = Journal(kept={ORDER + self._order.cti.hex(): self._order.encode()})
        self.tell(journal, "accepted", {"end": round(self._order.ends_at, 3)})
        self.journal_superseded(journal)
        return journal

    def apply(self, now: float) -> None:
        self.drop_superseded(now)
        self.desk.orders[self._order.cti] = self._order
        self.desk.tell_order(self._order, now)
        self.desk.heard(self.kid, now)


class _Off(_Held):
    def what(self) -> tuple[str, str]:
        return "switch", switch_text(False)


class Set(_Held):
    """`set`: a quantity of an appliance is held to a value."""

    def what(self) -> tuple[str, str]:
        quantity = self.args["quantity"]
        if " " in quantity or not quantity.isprintable():
            raise Unable("bad-args", "quantity: a word")
        return f"set {quantity}", set_text(quantity, self.args["value"])


class _On(_OfAppliance):
    """Switching on restricts nobody: it ends what the operator had switched off, and is done."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        self.check_appliance(restricts=False)
        self.superseded = older = self.older("switch")
        if len(older) > len(self.own(older)) and "admin" not in verdict.operator.roles:
            raise Unable("held-by-another", f"another operator has switched {args['client']} off")

    def journal(self) -> Journal:
        journal = Journal()
        self.complete(journal)
        self.journal_superseded(journal)
        return journal

    def apply(self, now: float) -> None:
        self.drop_superseded(now)
        self.desk.give(self.args["client"], Order("switch", switch_text(True)))
        self.desk.heard(self.kid, now)


def Switch(desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> CommandedOperation:  # noqa: N802 - an operation
    """`switch`: on, off, or a plug that speaks ZCL, which is switched on by the radio and never off."""
    client_id = args["client"]
    if not args["on"]:
        return _Off(desk, verdict, args, now)
    if client_id.startswith(_ZCL) and client_id in desk.household.appliances:
        return Job(desk, verdict, args, now)
    return _On(desk, verdict, args, now)
