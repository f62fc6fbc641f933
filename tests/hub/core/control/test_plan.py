"""The plan: who gives way, who never does, who is next, and what is told to whom."""

import pytest

from hub.core.control.classes import CLASSES, read_about
from hub.core.control.household import MOST_GONE
from hub.core.records import (
    EventRecorded,
    RetainedSet,
    Sample,
    SessionChanged,
    SessionRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from tests.hub.core.control.desk import BOILER, CAR, Desk

PROTECTED = sorted(name for name, traits in CLASSES.items() if traits.is_protected)


@pytest.mark.parametrize("name", PROTECTED)
def test_a_protected_class_is_never_restricted_whatever_its_adapter_says(name: str) -> None:
    desk = Desk()
    desk.add("thing", f'{{"class":"{name}","sheddable":true,"nominal_w":2000}}'.encode(), 2000)
    desk.send("limit", {"watts": 0, "duration": 600, "criticality": 9})
    desk.run(120)
    cti = desk.send("switch", {"client": "thing", "on": False, "duration": 60})
    assert desk.told("thing") == [] and desk.reason(cti) == "protected"


@pytest.mark.parametrize("about", [
    b"", b"{", b"[]", b"null", b'"water-heater"', b'{"class":7}', b'{"class":"water-heater","sheddable":false}',
    b'{"class":"unheard-of"}', b'{"class":"unheard-of","sheddable":"yes"}', b"\xff\xfe", b"[" * 5000,
])  # fmt: skip
def test_what_does_not_say_that_it_may_give_way_does_not(about: bytes) -> None:
    desk = Desk()
    desk.add("thing", about, 2000)
    desk.send("limit", {"watts": 100, "duration": 60})
    desk.run(10)
    assert desk.told("thing") == []


@pytest.mark.parametrize("about", [
    b'{"class":"water-heater","nominal_w":-5}', b'{"class":"water-heater","nominal_w":1e300}',
    b'{"class":"water-heater","priority":99}', b'{"class":"water-heater","min_off_s":"x"}',
])  # fmt: skip
def test_an_impossible_figure_counts_as_not_said(about: bytes) -> None:
    profile, traits = read_about(about), CLASSES["water-heater"]
    assert (profile.nominal_w, profile.priority, profile.min_off_s) == (traits.nominal_w, traits.priority, 0.0)


def test_the_less_important_gives_way_first() -> None:
    desk = Desk()
    desk.add("oven", b'{"class":"oven","nominal_w":1000}', 1000)
    desk.add("heater", b'{"class":"heater","nominal_w":1000}', 1000)
    desk.send("limit", {"watts": 1500, "duration": 60})
    assert desk.told("oven") == [] and desk.told("heater") == ["limit 0"]


def test_a_car_is_modulated_and_paused_only_below_its_minimum() -> None:
    desk = Desk()
    desk.add("car", CAR, 7200)
    desk.send("limit", {"watts": 3000, "duration": 600})
    assert desk.told("car") == ["limit 2940"]
    desk.send("limit", {"watts": 1000, "duration": 600})
    assert desk.told("car")[-1] == "limit 0", "6 A of one phase is the least that a car takes"


def test_a_charger_that_cannot_be_stopped_keeps_its_minimum_and_others_give_way_to_it() -> None:
    """One on the radio that is held by its level alone: a hub that dies must not have switched it off."""
    desk = Desk()
    desk.add("car", b'{"class":"ev-charger","nominal_w":22080,"minimum_w":4140,"never_off":true}', 11000)
    desk.add("boiler", BOILER, 2000)
    desk.send("limit", {"watts": 9000, "duration": 600})
    assert desk.told("car") == ["limit 6820"] and desk.told("boiler") == [], "the boiler comes before it"
    cti = desk.send("limit", {"watts": 5000, "duration": 600})
    assert desk.told("car")[-1] == "limit 4900" and desk.told("boiler") == ["limit 0"]
    desk.power("car", 4830)
    desk.power("boiler", 0)
    desk.run(40)
    assert "limit.ignored" not in [name for name, _ in desk.events] and desk.story(cti) == ["accepted", "applied"]
    cti = desk.send("limit", {"watts": 3000, "duration": 600})
    desk.run(60)
    assert desk.told("car")[-1] == "limit 4140" and desk.story(cti)[-1] == "partial", "less than it can be held to"


def test_what_rests_may_start_so_its_power_is_held_or_it_waits() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 0)
    desk.run(130)
    desk.add("second", BOILER, 2000)
    desk.send("limit", {"watts": 2100, "duration": 600})
    assert desk.told("second") == [] and desk.told("boiler") == ["limit 0"]


def test_nobody_is_always_the_one_who_waits() -> None:
    desk = Desk()
    for name in ("a", "b"):
        desk.add(name, BOILER, 2000)
    desk.send("limit", {"watts": 2500, "duration": 7 * 3600})
    on_s = {"a": 0, "b": 0}
    for _ in range(6 * 3600 // 10):
        desk.run(10, 10)
        for name in on_s:
            cap = desk.control.household.appliances[name].cap_w
            desk.power(name, 2000 if cap is None else cap)
            on_s[name] += 10 * (cap is None)
        assert sum(cap is None for cap in (desk.control.household.appliances[n].cap_w for n in on_s)) <= 1
    assert min(on_s.values()) > 0.35 * 6 * 3600


def test_a_compressor_rests_its_minimum_before_it_may_run_again() -> None:
    desk = Desk()
    desk.add("pump", b'{"class":"heat-pump","nominal_w":2000,"minimum_w":2000}', 2000)
    desk.send("limit", {"watts": 100, "duration": 3000})
    desk.run(1)
    desk.power("pump", 0)
    desk.run(60)
    desk.send("limit", {"watts": 9000, "duration": 3000})
    lifted = []
    for _ in range(400):
        desk.run(1)
        lifted += [at for at, client, text in desk.orders if client == "pump" and not text.startswith("limit 0")]
    assert lifted and lifted[0] >= 300


def test_the_meter_counts_what_no_appliance_tells() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.power("meter", 2500)
    cti = desk.send("limit", {"watts": 2400, "duration": 120})
    assert desk.told("boiler") == ["limit 0"], "somebody unseen draws 500 W"
    desk.run(1)
    desk.power("boiler", 0)
    desk.power("meter", 500)
    desk.run(2)
    assert desk.story(cti) == ["accepted", "applied"]


def test_the_deaf_is_noticed_planned_around_and_tried_again() -> None:
    desk = Desk()
    desk.add("deaf", b'{"class":"water-heater","nominal_w":1000,"priority":0}', 1000)
    desk.add("car", CAR, 2000)
    desk.send("limit", {"watts": 2000, "duration": 3000})
    before = desk.control.household.appliances["car"].cap_w
    for _ in range(60):
        desk.run(1)
        desk.power("deaf", 1000)
        cap = desk.control.household.appliances["car"].cap_w
        desk.power("car", 2000 if cap is None else min(cap, 2000))
    assert ("limit.ignored", {"client": "deaf", "power_w": 1000}) in desk.events
    assert before != 0 and desk.control.household.appliances["car"].cap_w == 0
    tries = len(desk.told("deaf"))
    desk.run(400)
    assert len(desk.told("deaf")) > tries


def test_an_adapter_that_comes_back_is_told_what_holds() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.send("limit", {"watts": 500, "duration": 600})
    desk.observe(SessionChanged("boiler", ("udp", "x", 1), "lost", True, 60, "", b"", 0, False))
    desk.run(20)
    assert desk.told("boiler") == ["limit 0"]
    desk.observe(SessionChanged("boiler", ("udp", "x", 1), "active", True, 60, "", b"", 0, False))
    desk.observe(SubscriptionAdded("boiler", "control/boiler", 1))
    desk.run(2)
    assert desk.told("boiler") == ["limit 0", "limit 0"]


def test_a_limit_that_nobody_wants_any_more_is_taken_back() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 0)
    desk.run(100)
    desk.power("boiler", 0, "limit")  # it obeys an order of the hub's last life
    assert desk.told("boiler") == ["release"]
    desk.observe(EventRecorded("adapter.limit_cleared", {"client": "boiler"}))
    desk.run(100)
    assert desk.told("boiler") == ["release"]


def test_switch_and_set_hold_are_replaced_and_end() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    first = desk.send("switch", {"client": "boiler", "on": False, "duration": 100})
    assert desk.orders[-1] == (0.0, "boiler", "off 100")
    desk.power("boiler", 0, "state")
    assert desk.story(first) == ["accepted", "applied"]
    second = desk.send("switch", {"client": "boiler", "on": False, "duration": 50})
    assert desk.story(first)[-1] == "superseded"
    warm = desk.send("set", {"client": "boiler", "quantity": "temperature", "value": 52.5, "duration": 30})
    assert desk.orders[-1][2] == "set temperature 52.5 30"
    desk.run(31)
    assert desk.story(warm)[-1] == "completed"
    on = desk.send("switch", {"client": "boiler", "on": True})
    assert desk.story(second)[-1] == "superseded" and desk.story(on) == ["accepted", "completed"]
    assert desk.told("boiler")[-1] == "on"


@pytest.mark.parametrize(("args", "reason"), [
    ({"client": "nobody", "on": False, "duration": 60}, "unknown-client"),
    ({"client": "boiler", "on": False}, "bad-args"),
    ({"client": "zb-0000000000000001", "on": False, "duration": 60}, "no-own-end"),
    ({"client": "mute", "on": False, "duration": 60}, "not-listening"),
    ({"client": "boiler", "on": False, "duration": 200_000}, "bad-args"),
])  # fmt: skip
def test_what_cannot_be_switched_says_why(args: dict[str, object], reason: str) -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.power("zb-0000000000000001", 40)
    desk.power("mute", 40)
    cti = desk.send("switch", args)
    assert (desk.story(cti), desk.reason(cti)) == (["refused"], reason)


@pytest.mark.parametrize(("op", "what"), [("switch", {"on": False}), ("set", {"quantity": "temperature", "value": 50})])
def test_a_load_control_device_is_held_by_limits_alone(op: str, what: dict[str, object]) -> None:
    """It listens, as an adapter does, but its events know neither `off` nor a quantity."""
    desk, relay = Desk(), "zb-0000000000000002"
    desk.add(relay, BOILER, 2000)
    cti = desk.send(op, {"client": relay, "duration": 60, **what})
    assert (desk.story(cti), desk.reason(cti)) == (["refused"], "no-own-end")
    desk.send("limit", {"watts": 500, "duration": 600})
    assert desk.told(relay)[-1] == "limit 0"
    desk.control.observe([], [EventRecorded("limit.opted_out", {"client": relay})], desk.now)
    desk.run(200)
    assert len([text for text in desk.told(relay) if text.startswith("limit")]) == 1, "its householder is obeyed"


def test_trust_never_locks_everybody_out() -> None:
    desk = Desk()
    cti = desk.send("trust", {"operators": desk.operator.toml.replace('"admin"', '"read"')})
    assert (desk.story(cti), desk.reason(cti)) == (["refused"], "locked-out")
    cti = desk.send("trust", {"operators": "[operator"})
    assert desk.reason(cti) == "bad-args"
    cti = desk.send("trust", {"operators": desk.operator.toml})
    assert desk.story(cti) == ["accepted", "completed"] and "operators" in desk.kept


def test_a_flood_of_forgeries_is_not_a_flood_of_receipts() -> None:
    desk, forger = Desk(), Desk()
    for _ in range(500):
        desk.take(forger.operator.command("limit", {"watts": 0, "duration": 60}))
    assert 0 < len(desk.receipts) <= 25
    assert desk.control.counters["unanswered"] > 400
    cti = desk.send("limit", {"watts": 100, "duration": 60})
    assert desk.story(cti)[0] == "accepted", "the genuine one is answered all the same"
    assert next(r for r in desk.receipts if r.re == cti).detail["unanswered"] == desk.control.counters["unanswered"]


def test_a_householder_who_takes_the_limit_off_is_left_alone_and_reported() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.add("car", CAR, 1500)
    cti = desk.send("limit", {"watts": 3000, "duration": 600})
    desk.run(20)
    assert "boiler" not in desk.control.household.report(desk.now)["restricted"]
    desk.send("limit", {"watts": 1900, "duration": 600})
    desk.run(1)
    desk.power("boiler", 0)
    desk.observe(EventRecorded("adapter.limit_cleared", {"client": "boiler"}))
    assert not [event for event, _ in desk.events], "a report from before the order says nothing"
    desk.run(20)
    desk.observe(EventRecorded("adapter.limit_cleared", {"client": "boiler"}))
    desk.power("boiler", 2000)
    assert ("limit.opted_out", {"client": "boiler"}) in desk.events
    told = len(desk.told("boiler"))
    desk.run(60)
    assert len(desk.told("boiler")) == told, "it is not told again"
    assert desk.control.household.report(desk.now)["opted_out"] == ["boiler"]
    desk.run(600)
    desk.send("limit", {"watts": 100, "duration": 60})
    assert desk.told("boiler")[-1] == "limit 0", "the next limit asks it anew"
    assert cti


def test_who_waited_last_time_is_served_first_after_a_restart_too() -> None:
    desk = Desk()
    for name in ("a", "b"):
        desk.add(name, BOILER, 2000)
    desk.send("limit", {"watts": 2500, "duration": 300})
    for _ in range(31):
        desk.run(10)
        desk.power("a", 2000)
        desk.power("b", 0)
    assert next(name for _, name, text in desk.orders if text.startswith("limit")) == "b"
    desk.restart(off_s=5)
    for name in ("a", "b"):
        desk.add(name, BOILER, 2000)
    before = len(desk.orders)
    desk.send("limit", {"watts": 2500, "duration": 300})
    assert [name for _, name, _ in desk.orders[before:]] == ["a"]


def test_those_who_rest_are_not_changed_over_and_over() -> None:
    desk = Desk()
    for name in ("a", "b"):
        desk.add(name, BOILER, 2000)
    desk.send("limit", {"watts": 2500, "duration": 3600})
    for _ in range(360):
        desk.run(10, 10)
        for name in ("a", "b"):
            desk.power(name, 0)
    lifted = [at for at, _, text in desk.orders if not text.startswith("limit 0")]
    assert len(lifted) <= 5, "at most once a turn"


def test_a_sleeper_is_judged_from_when_it_was_told() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.asleep.add("boiler")
    desk.send("limit", {"watts": 1000, "duration": 600})
    desk.run(60)
    desk.power("boiler", 2000)  # it wakes and reports before it can have done anything
    desk.wake("boiler")
    desk.power("boiler", 2000)
    desk.run(5)
    desk.power("boiler", 0)
    desk.run(30)
    assert [event for event, _ in desk.events if event == "limit.ignored"] == []
    assert desk.control.household.appliances["boiler"].obeys(desk.now) is True


def test_one_that_never_takes_its_order_is_not_counted_on() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.asleep.add("boiler")
    desk.send("limit", {"watts": 1000, "duration": 900})
    desk.run(200)
    assert [fields["client"] for event, fields in desk.events if event == "limit.ignored"] == ["boiler"]


def test_a_sleeper_that_has_not_heard_its_order_has_not_opted_out() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.asleep.add("boiler")
    desk.send("limit", {"watts": 1000, "duration": 600})
    desk.run(60)
    desk.observe(EventRecorded("adapter.limit_cleared", {"client": "boiler"}))
    assert not desk.control.household.report(desk.now)["opted_out"]


def test_who_gave_way_is_made_up_to_for_days_and_not_for_ever() -> None:
    """What an appliance was kept from counts half after half a day, whether it restarts in between or not."""
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    household = desk.control.household
    household.restore_fairness({"boiler": 1000.0})
    household.plan(desk.now)
    for hours, left_s in ((6, 707), (12, 500), (36, 125)):
        household.plan(hours * 3600.0)
        assert household.fairness()["boiler"] == left_s


def test_one_that_listens_by_two_filters_hears_by_the_other_when_one_goes() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.observe(SubscriptionAdded("boiler", "control/+", 1), SubscriptionRemoved("boiler", "control/+"))
    desk.send("limit", {"watts": 100, "duration": 600})
    assert desk.told("boiler") == ["limit 0"]
    desk.observe(SubscriptionRemoved("boiler", "control/boiler"))
    cti = desk.send("switch", {"client": "boiler", "on": False, "duration": 60})
    assert desk.reason(cti) == "not-listening"


def test_what_an_adapter_buffered_is_not_what_its_appliance_does_now() -> None:
    """The newest first, or a payload that comes late: of what was, the last that it did is what counts."""
    desk = Desk()
    desk.add("boiler", BOILER, 0)
    desk.run(600, 10)
    buffered = [Sample("boiler", "power", desk.now - ago_s, watts, 0) for ago_s, watts in ((0, 0), (170, 2000))]
    desk.control.observe(buffered, [], desk.now)
    assert desk.control.household.household_w(desk.now) == 0
    desk.control.observe([Sample("boiler", "power", desk.now - 3600, 2000, 0)], [], desk.now)
    assert desk.control.household.household_w(desk.now) == 0, "nor is nothing known of it"


def test_off_before_the_order_is_not_the_order_applied() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 0)
    desk.run(600, 10)
    off = desk.send("switch", {"client": "boiler", "on": False, "duration": 600})
    desk.run(60)
    buffered = [Sample("boiler", "state", desk.now - ago_s, is_on, 0) for ago_s, is_on in ((300, 0), (10, 1))]
    desk.control.observe(buffered, [], desk.now)
    desk.settle()
    assert desk.story(off) == ["accepted"], "it runs"
    desk.power("boiler", 0, "state")
    assert desk.story(off) == ["accepted", "applied"]


def test_names_that_come_and_go_leave_nothing() -> None:
    """The gateway lets an address bring a new name every ten seconds, for fifteen years."""
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    here = SessionChanged("boiler", ("udp", "10.0.0.1", 1), "active", True, 60, "", b"", 0, False)
    desk.observe(here, SessionRemoved("boiler"), here._replace(state="lost"))
    for number in range(3 * MOST_GONE):
        name = f"passer-by-{number}"
        desk.observe(here._replace(client_id=name))
        desk.power(name, 5)
        if number % 2:
            desk.observe(RetainedSet(f"about/{name}", BOILER, 1))
        desk.observe(SessionRemoved(name), RetainedSet(f"about/{name}", b"", 0))
    assert len(desk.control.household.appliances) <= MOST_GONE + 1
    desk.observe(here, SubscriptionAdded("boiler", "control/boiler", 1))
    desk.power("boiler", 2000)
    desk.send("limit", {"watts": 100, "duration": 600})
    assert desk.told("boiler") == ["limit 0"], "what it is was retained, and is known still"
