"""Alarms on a virtual clock: what hubs say is wrong, and that it is over, in whatever order it comes."""

from typing import Any

import pytest

from deploy.headend.alarms import RULES, alarms_of
from deploy.headend.control_point import overview, reader
from deploy.headend.metrics import metrics
from hub.wire.uplink.event import EVENTS
from tests.deploy.headend.home import Fleet

HUB = "SIM-1"


def tell(fleet: Fleet, event: str, hub: str = HUB, **fields: Any) -> None:
    fleet.t += 1
    fleet.hear([fleet.hubs[hub].tell(event, fields, fleet.t)])


def shown(fleet: Fleet, hub: str = HUB) -> list[tuple[str, str]]:
    db = reader(fleet.place)
    try:
        return [(row["code"], row["subject"]) for row in alarms_of(db, ["hub = ?"], [hub])]
    finally:
        db.close()


def test_the_rules_name_events_and_fields_that_there_are() -> None:
    for rule in RULES:
        assert {rule.event, *rule.ends} <= set(EVENTS), rule
        assert {*rule.subject, *filter(None, [rule.holds])} <= set(EVENTS[rule.event]), rule
        assert rule.why.endswith("."), rule
    assert len({rule.code for rule in RULES}) == len(RULES) == len({rule.event for rule in RULES})


def test_an_alarm_begins_and_ends_with_what_its_hub_says(fleet: Fleet) -> None:
    tell(fleet, "radio.down", reason="no answer")
    tell(fleet, "meter.lost", reason="silent")
    tell(fleet, "meter.lost", hub="SIM-2", reason="silent")
    assert shown(fleet) == [("meter-lost", ""), ("radio-down", "")]
    tell(fleet, "radio.up", channel=15, pan_id=1, ieee="00")
    assert shown(fleet) == [("meter-lost", "")] == shown(fleet, "SIM-2")
    db = reader(fleet.place)
    figures = overview(db)
    assert (figures["hubs_with_errors"], figures["hubs_with_warnings"]) == (2, 0)
    assert 'meterhub_alarms{severity="error",code="meter-lost"} 2' in metrics(figures, {"missing": 0}, 0, db)
    db.close()


def test_each_appliance_has_its_own(fleet: Fleet) -> None:
    tell(fleet, "adapter.lost", client="boiler")
    tell(fleet, "adapter.lost", client="boiler2")
    tell(fleet, "adapter.withheld", client="boiler", quantity="energy", reason="no divisor")
    tell(fleet, "adapter.withheld", client="boiler2", quantity="energy", reason="no divisor")
    tell(fleet, "adapter.joined", client="boiler", link="udp")
    assert sorted(shown(fleet)) == [
        ("adapter-lost", "boiler2"), ("value-withheld", "boiler energy"), ("value-withheld", "boiler2 energy")
    ]  # fmt: skip
    tell(fleet, "adapter.left", client="boiler", reason="asked")
    assert sorted(shown(fleet)) == [("adapter-lost", "boiler2"), ("value-withheld", "boiler2 energy")]


def test_many_at_once_are_each_one(fleet: Fleet) -> None:
    tell(fleet, "adapter.many", what="adapter.lost", count=40, clients=["a", "b"])
    assert sorted(shown(fleet)) == [("adapter-lost", "a"), ("adapter-lost", "b")]
    tell(fleet, "adapter.many", what="adapter.joined", count=40, clients=["a", "b"])
    assert shown(fleet) == []


def test_an_event_that_says_both(fleet: Fleet) -> None:
    tell(fleet, "store.wear", stretched=True, window_s=60)
    assert shown(fleet) == [("store-wear", "")]
    tell(fleet, "store.wear", stretched=False, window_s=1)
    assert shown(fleet) == []


@pytest.mark.parametrize("together", [True, False])
def test_what_comes_late_does_not_begin_what_is_over(fleet: Fleet, together: bool) -> None:
    hub = fleet.hubs[HUB]
    begins = hub.tell("adapter.lost", {"client": "boiler"}, fleet.t)
    others = hub.tell("adapter.lost", {"client": "heater"}, fleet.t)
    ends = hub.tell("adapter.joined", {"client": "boiler", "link": "udp"}, fleet.t + 1)
    if together:
        fleet.hear([ends, others, begins])
    else:
        for message in (ends, others, begins):
            fleet.hear([message])
    assert shown(fleet) == [("adapter-lost", "heater")]


def test_an_end_that_comes_late_does_not_end_what_began_again(fleet: Fleet) -> None:
    hub = fleet.hubs[HUB]
    first = hub.tell("meter.lost", {"reason": "silent"}, fleet.t)
    ends = hub.tell("meter.up", {"ident": "x"}, fleet.t + 10)
    again = hub.tell("meter.lost", {"reason": "missing"}, fleet.t + 20)
    fleet.hear([first])
    fleet.hear([again])
    fleet.hear([ends])
    db = reader(fleet.place)
    [row] = alarms_of(db)
    assert (row["code"], row["text"]) == ("meter-lost", "reason missing")
    db.close()


def test_a_person_has_seen_to_it_and_it_may_begin_again(fleet: Fleet) -> None:
    tell(fleet, "adapter.alarm", client="boiler", text="too hot")
    fleet.point.book.begin()
    assert fleet.point.alarms.dismiss(HUB, "adapter-alarm", "kettle") == 0
    assert fleet.point.alarms.dismiss(HUB, "adapter-alarm", "boiler") == 1
    fleet.point.commit()
    assert shown(fleet) == []
    tell(fleet, "adapter.alarm", client="boiler", text="too hot")
    assert shown(fleet) == [("adapter-alarm", "boiler")]


def test_what_a_hub_says_is_bounded_and_harmless(fleet: Fleet) -> None:
    text = "<script>alert(1)</script>\x00\n" + "x" * 1000
    tell(fleet, "adapter.alarm", client="boil\x00er", text=text)
    for number in range(300):
        tell(fleet, "adapter.lost", client=f"a{number}")
    tell(fleet, "adapter.lost", client=["nested"])
    db = reader(fleet.place)
    rows = alarms_of(db)
    db.close()
    assert len(rows) == 200 and all(len(row["text"]) <= 200 and len(row["subject"]) <= 64 for row in rows)
    assert "\x00" not in rows[0]["text"] and "<script>" in rows[0]["text"], "it is text, and stays it"
    assert not [received.fault for received in fleet.received if received.fault]


def test_a_hub_that_is_asked_says_all_that_holds(fleet: Fleet) -> None:
    hub = fleet.hubs[HUB]
    hub.conditions = [
        {"code": "clock-untrusted", "severity": "warning", "text": "the clock is not synchronised", "remedy": "x"},
        {"code": "home-flooded", "severity": "warning", "text": "a device sends too much", "remedy": "x"},
    ]
    tell(fleet, "meter.lost", reason="silent")
    fleet.give("diagnose", {"what": "status"}, {"hub": HUB})
    assert shown(fleet) == [("meter-lost", ""), ("clock-untrusted", ""), ("home-flooded", "")]
    hub.conditions = hub.conditions[:1]
    fleet.give("diagnose", {"what": "status"}, {"hub": HUB})
    assert shown(fleet) == [("meter-lost", ""), ("clock-untrusted", "")]
    hub.conditions = [{"code": "x"}, "y", {"code": ["z"], "severity": "error", "text": "t"}]  # type: ignore[list-item]
    fleet.give("diagnose", {"what": "status"}, {"hub": HUB})
    assert shown(fleet) == [("meter-lost", "")]
    assert not [received.fault for received in fleet.received if received.fault]
    assert fleet.point.missing == 0
