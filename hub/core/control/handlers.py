"""What each operation does, once it is authorised and its arguments are sound. A table: op -> handler.

A handler changes nothing. It returns a `Step`: what is to become durable, and what is to change once it is. What it
cannot do it says with `Unable`, which becomes the receipt's reason.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cbor2

from hub.core.control.appliance_orders import Hold, set_text, switch_text
from hub.core.control.authority import Accepted
from hub.core.control.limits import MAX_AHEAD_S, MAX_LIMITS, Limit
from hub.core.control.records import HOLD, JOB, LIMIT, Journal, Request, Step
from hub.core.order import Order
from hub.wire.keys.operators import BadOperators, may_replace, parse_operators

if TYPE_CHECKING:
    from hub.core.control.controller import Controller

_DEFAULT_CRITICALITY = 5
_MAX_HOLDS = 256
_ZCL = "zb-"
_MAX_JOBS = 16


class Unable(Exception):
    """The command is genuine and cannot be carried out. `reason` is a word for tables, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _utc(control: "Controller", now: float) -> float:
    t = control.utc(now)
    assert t is not None  # authority refuses everything while there is no clock
    return t


def _limit(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    t = _utc(control, now)
    command = verdict.command
    start = args.get("start", t)
    if start > t + MAX_AHEAD_S:
        raise Unable("bad-args", f"start: at most {MAX_AHEAD_S / 86400:.0f} days ahead")
    if start + args["duration"] <= t:
        raise Unable("expired", "the limit's time is over")
    # Start and end move together, so that a fleet neither drops nor returns at one moment.
    starts_at = start + control.random() * args.get("randomise", 0)
    limit = Limit(
        command.cti, command.kid, verdict.digest, float(args["watts"]),
        args.get("criticality", _DEFAULT_CRITICALITY), starts_at, starts_at + args["duration"],
    )  # fmt: skip
    superseded = control.limits.overlapped_by(limit)
    if len(control.limits) - len(superseded) >= MAX_LIMITS:
        raise Unable("too-many", f"{MAX_LIMITS} limits are waiting already")
    journal = Journal(kept={LIMIT + command.cti.hex(): limit.encode()})
    detail = {"start": round(limit.starts_at, 3), "end": round(limit.ends_at, 3)}
    journal.tell(control.receipt(command.cti, verdict.digest, "accepted", now, detail=detail))
    for old in superseded:
        control.foretell(LIMIT, old, "superseded", now, journal)

    def apply(later: float) -> None:
        for old in superseded:
            control.limits.drop(old.cti)
        control.limits.put(limit)
        _heard(control, later)

    return Step(journal, apply)


def _heard(control: "Controller", now: float) -> None:
    control.watch.heard(now)
    control.watch.step("heard", now)
    control.advance(now)
    control.plan(now)


def _cancel(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    cti = args.get("cti")
    limits = [limit for limit in control.limits if cti in (None, limit.cti)]
    holds = [hold for hold in control.holds.values() if cti == hold.cti]
    if cti is not None and not limits and not holds:
        raise Unable("unknown-cti", "no limit of that cti is waiting or active")
    journal = Journal()
    _complete(control, verdict, now, journal, {"cancelled": len(limits) + len(holds)})
    for limit in limits:
        control.foretell(LIMIT, limit, "cancelled", now, journal)
    for hold in holds:
        control.foretell(HOLD, hold, "cancelled", now, journal)

    def apply(later: float) -> None:
        for limit in limits:
            control.limits.drop(limit.cti)
        for hold in holds:
            control.drop_hold(hold, later, release=True)
        _heard(control, later)

    return Step(journal, apply)


def _complete(
    control: "Controller", verdict: Accepted, now: float, journal: Journal, detail: dict[str, Any] | None = None
) -> None:
    """What is done as soon as it is durable has two receipts at once."""
    for status in ("accepted", "completed"):
        said = detail if status == "completed" else None
        journal.tell(control.receipt(verdict.command.cti, verdict.digest, status, now, detail=said))


def _appliance_for(control: "Controller", client_id: str, restricts: bool) -> None:
    appliance = control.household.appliances.get(client_id)
    if appliance is None:
        raise Unable("unknown-client", f"no appliance {client_id} has been heard of")
    if restricts and appliance.profile.is_protected:
        raise Unable("protected", f"{client_id} is protected: nobody may restrict it")
    if not appliance.is_reachable:
        if client_id.startswith(_ZCL):
            raise Unable("no-own-end", f"{client_id} cannot end a restriction by itself, so it is never given one")
        raise Unable("not-listening", f"{client_id} has not subscribed to its orders")


def _switch(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    client_id, on = args["client"], args["on"]
    if on and client_id.startswith(_ZCL) and client_id in control.household.appliances:
        return _job(control, verdict, args, now)  # a plug that speaks ZCL: switching it on restricts nobody
    _appliance_for(control, client_id, restricts=not on)
    if not on:
        hold = _hold(verdict, client_id, "switch", switch_text(False), _utc(control, now) + args["duration"])
        return _hold_step(control, verdict, hold, now)
    journal = Journal()
    _complete(control, verdict, now, journal)
    superseded = _supersede(control, client_id, "switch", now, journal)

    def apply(later: float) -> None:
        for hold in superseded:
            control.drop_hold(hold, later, release=False)
        control.give(client_id, Order("switch", switch_text(True)))
        _heard(control, later)

    return Step(journal, apply)


def _set(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    quantity = args["quantity"]
    _appliance_for(control, args["client"], restricts=True)
    if " " in quantity or not quantity.isprintable():
        raise Unable("bad-args", "quantity: a word")
    text = set_text(quantity, args["value"])
    hold = _hold(verdict, args["client"], f"set {quantity}", text, _utc(control, now) + args["duration"])
    return _hold_step(control, verdict, hold, now)


def _hold(verdict: Accepted, client_id: str, slot: str, text: str, ends_at: float) -> Hold:
    command = verdict.command
    return Hold(command.cti, command.kid, verdict.digest, client_id, slot, text, ends_at)


def _hold_step(control: "Controller", verdict: Accepted, hold: Hold, now: float) -> Step:
    if len(control.holds) >= _MAX_HOLDS:
        raise Unable("too-many", f"{_MAX_HOLDS} orders to appliances are under way already")
    journal = Journal(kept={HOLD + hold.cti.hex(): hold.encode()})
    detail = {"end": round(hold.ends_at, 3)}
    journal.tell(control.receipt(hold.cti, hold.digest, "accepted", now, detail=detail))
    superseded = _supersede(control, hold.client_id, hold.slot, now, journal)

    def apply(later: float) -> None:
        for old in superseded:
            control.drop_hold(old, later, release=False)
        control.holds[hold.cti] = hold
        control.tell_hold(hold, later)
        _heard(control, later)

    return Step(journal, apply)


def _supersede(control: "Controller", client_id: str, slot: str, now: float, journal: Journal) -> list[Hold]:
    """What is held of this appliance so far gives way to something newer."""
    older = [hold for hold in control.holds.values() if (hold.client_id, hold.slot) == (client_id, slot)]
    for hold in older:
        control.foretell(HOLD, hold, "superseded", now, journal)
    return older


def _heartbeat(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    """No receipt, and nothing durable: a flash page a minute would be a high price for a sign of life. After a restart
    a heartbeat of before could be replayed until it expires; it would command nothing."""

    def apply(later: float) -> None:
        control.watch.heartbeat(later)
        _heard(control, later)

    return Step(Journal(), apply)


def _table(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    name = verdict.command.op
    table = {**args, "steps": sorted(args["steps"], key=lambda step: step[0])}
    journal = Journal(kept={name: cbor2.dumps(table)})
    _complete(control, verdict, now, journal)
    return Step(journal, lambda later: control.bulletin.set_table(name, table, control.utc(later)))


def _trust(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    try:
        operators = parse_operators(args["operators"])
    except BadOperators as error:
        raise Unable("bad-args", f"operators: {error}") from None
    refusal = may_replace(control.authority.operators, operators, _utc(control, now))
    if refusal:
        raise Unable("locked-out", refusal)
    journal = Journal(kept={"operators": control.operators_item(args["operators"])})
    _complete(control, verdict, now, journal, {"operators": sorted(operators)})

    def apply(later: float) -> None:
        control.authority.operators = operators

    return Step(journal, apply)


def _job(control: "Controller", verdict: Accepted, args: dict[str, Any], now: float) -> Step:
    """Work that takes I/O: durable as a job first, so that a crash neither loses nor doubles it unseen."""
    if len(control.jobs) >= _MAX_JOBS:
        raise Unable("too-many", f"{_MAX_JOBS} commands are under way already")
    command = verdict.command
    is_for_many = command.aud != control.hub_id
    request = Request(command.cti, command.kid, verdict.digest, command.op, args, is_for_many)
    kept = cbor2.dumps([command.kid, verdict.digest, command.op, args, is_for_many])
    journal = Journal(kept={JOB + command.cti.hex(): kept})
    journal.tell(control.receipt(command.cti, verdict.digest, "accepted", now))

    def apply(later: float) -> None:
        control.jobs[command.cti] = request

    return Step(journal, apply, request=request)


Handler = Callable[["Controller", Accepted, dict[str, Any], float], Step]

HANDLERS: dict[str, Handler] = {
    "limit": _limit,
    "limit.cancel": _cancel,
    "switch": _switch,
    "set": _set,
    "heartbeat": _heartbeat,
    "price": _table,
    "weather": _table,
    "read": _job,
    "resend": _job,
    "permit": _job,
    "diagnose": _job,
    "config": _job,
    "trust": _trust,
    "update": _job,
}
