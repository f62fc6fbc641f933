"""What control learns from what the gateway takes up: the same records that go to the store."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hub.core.records import (
    Change,
    EventRecorded,
    RetainedSet,
    Sample,
    SessionChanged,
    SessionRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from hub.wire.mqttsn.topics import matches
from hub.wire.uplink.reading import decimal_to_float

if TYPE_CHECKING:
    from hub.core.control.controller import Controller

_ABOUT = "about/"
_GONE = ("lost", "disconnected")


def observe(control: "Controller", samples: Iterable[Sample], changes: Iterable[Change], now: float) -> bool:
    """Take note; True when the plan may look different now."""
    matters = False
    household = control.household
    for client_id, quantity, sampled_s, mantissa, exponent in samples:
        if quantity == "power":
            household.take_power(client_id, decimal_to_float(mantissa, exponent), sampled_s)
            matters = True
        elif quantity == "limit":
            household.take_limit(client_id, decimal_to_float(mantissa, exponent), now)
            matters = True
        elif quantity == "state":
            _take_state(control, client_id, bool(mantissa), sampled_s, now)
    for change in changes:
        matters |= _take_change(control, change, now)
    return matters


def _take_state(control: "Controller", client_id: str, is_on: bool, sampled_s: float, now: float) -> None:
    for hold in list(control.holds.values()):
        if hold.client_id == client_id and hold.slot == "switch" and not hold.is_applied and not is_on:
            control.hold_applied(hold, now)


def _take_change(control: "Controller", change: Change, now: float) -> bool:
    household = control.household
    if isinstance(change, SessionChanged):
        if change.state in _GONE:
            household.left(change.client_id)
        else:
            household.came(change.client_id)
    elif isinstance(change, RetainedSet):
        if not change.topic.startswith(_ABOUT):
            return False
        household.take_about(change.topic[len(_ABOUT) :], change.payload)
    elif isinstance(change, SubscriptionAdded):
        return _take_subscription(control, change, now)
    elif isinstance(change, SubscriptionRemoved | SessionRemoved):
        _take_silence(control, change)
    elif isinstance(change, EventRecorded) and change.event == "adapter.limit_cleared":
        household.take_limit(str(change.fields["client"]), None, now)
    else:
        return False
    return True


def _take_subscription(control: "Controller", change: SubscriptionAdded, now: float) -> bool:
    if matches(change.topic_filter, "time"):
        control.bulletin.say_time(control.utc(now))
    if not matches(change.topic_filter, f"control/{change.client_id}"):
        return False
    control.household.subscribed(change.client_id)
    for hold in control.holds.values():
        if hold.client_id == change.client_id:
            control.tell_hold(hold, now)
    return True


def _take_silence(control: "Controller", change: SubscriptionRemoved | SessionRemoved) -> None:
    appliance = control.household.appliances.get(change.client_id)
    if appliance is not None and (
        isinstance(change, SessionRemoved) or matches(change.topic_filter, f"control/{change.client_id}")
    ):
        appliance.is_reachable = False
