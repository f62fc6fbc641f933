"""OpenADR 3: what an event comes to, and what is refused of it."""

import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.headend.control_point import reader
from deploy.headend.openadr import (
    BadEvent,
    OpenAdrEvents,
    WantedOrder,
    events_of,
    orders_of,
    report_of,
    reports_of,
)
from deploy.headend.openadr_notices import MOST_TRIES, MOST_WAITING, DueNotice
from deploy.headend.openadr_objects import BadObject, objects_of, ven_of, vens_of
from tests.deploy.headend.home import START, Fleet

NOW = 1_800_000_000
LIMIT = {"type": "IMPORT_CAPACITY_LIMIT", "values": [1.5]}


def event(**fields: Any) -> dict[str, Any]:
    period = {"start": "2027-01-15T08:00:00Z", "duration": "PT1H"}
    return {"programID": "meterhub", "intervalPeriod": period, "intervals": [{"id": 0, "payloads": [LIMIT]}]} | fields


def test_a_capacity_limit_for_all() -> None:
    (order,) = orders_of(event(), NOW)
    args = {"watts": 1500, "duration": 3600, "start": NOW, "direction": "import"}
    assert order == WantedOrder("limit", args, {"all": True}, 3600)


def test_groups_and_hubs_units_and_a_random_start() -> None:
    found = orders_of(
        event(
            intervalPeriod={"start": "2027-01-15T09:00:00+01:00", "duration": "PT30M", "randomizeStart": "PT5M"},
            payloadDescriptors=[
                {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "EXPORT_CAPACITY_LIMIT", "units": "W"}
            ],
            targets=[{"type": "GROUP", "values": ["north", "south"]}, {"type": "VEN_NAME", "values": ["SIM-1"]}],
            intervals=[{"id": 0, "payloads": [{"type": "EXPORT_CAPACITY_LIMIT", "values": [600]}]}],
        ),
        NOW,
    )
    assert [order.target for order in found] == [{"group": "north"}, {"group": "south"}, {"hub": "SIM-1"}]
    assert found[0].args == {"watts": 600, "duration": 1800, "start": NOW, "direction": "export", "randomise": 300}


def test_intervals_follow_each_other_unless_they_say_when() -> None:
    rows = [{"id": n, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [n]}]} for n in range(3)]
    rows[2]["intervalPeriod"] = {"start": "2027-01-15T12:00:00Z", "duration": "PT10M"}
    found = orders_of(event(intervals=rows), NOW)
    spans = [(order.args["start"] - NOW, order.args["duration"]) for order in found]
    assert spans == [(0, 3600), (3600, 3600), (4 * 3600, 600)]


def test_prices_are_one_order() -> None:
    rows = [{"id": n, "payloads": [{"type": "PRICE", "values": [0.1 + n]}]} for n in range(3)]
    descriptors = [{"payloadType": "PRICE", "units": "KWH", "currency": "GBP"}]
    (order,) = orders_of(event(intervals=rows, payloadDescriptors=descriptors), NOW)
    assert order.op == "price" and order.args["currency"] == "GBP"
    assert order.args["steps"] == [[NOW, 3600, 0.1], [NOW + 3600, 3600, 1.1], [NOW + 7200, 3600, 2.1]]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"programID": "other"}, "there is one program"),
        ({"intervals": []}, "intervals"),
        ({"intervals": [{"id": 0, "payloads": []}]}, "payloads"),
        ({"intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [1]}]}]}, "SIMPLE: not one of"),
        ({"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": ["x"]}]}]}, "a number"),
        ({"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [-1]}]}]}, "watts"),
        ({"intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [1]}]}]}, "currency"),
        ({"intervalPeriod": {"start": "2027-01-15T08:00:00Z"}}, "has an end"),
        ({"intervalPeriod": {"start": "tomorrow", "duration": "PT1H"}}, "start"),
        ({"intervalPeriod": {"duration": "P1Y"}}, "duration"),
        ({"intervalPeriod": {"duration": "P99999999999D"}}, "longer than anything"),
        ({"intervalPeriod": {"duration": "P30D"}}, "duration"),
        ({"targets": [{"type": "LOCATION", "values": ["x"]}]}, "targets"),
        ({"targets": [{"type": "GROUP", "values": []}]}, "targets"),
        ({"targets": [{"type": "GROUP", "values": [{}]}]}, "targets"),
        ({"payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "AMPS"}]}, "units"),
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadEvent, match=said):
        orders_of(event(**fields), NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500)
@given(st.sampled_from(["intervals", "intervalPeriod", "targets", "payloadDescriptors", "programID"]), _JSON)
def test_any_json_is_an_event_or_refused_in_words(field: str, value: Any) -> None:
    with contextlib.suppress(BadEvent):
        orders_of(event(**{field: value}), NOW)


def call(fleet: Fleet, said: dict[str, Any]) -> dict[str, Any]:
    fleet.point.book.begin()
    stored, sends = fleet.point.openadr.call(said, "desk", int(fleet.t))
    fleet.carry(sends)
    return stored


def test_an_event_is_called_reported_and_ended(fleet: Fleet) -> None:
    fleet.point.book.begin()
    stored, sends = fleet.point.openadr.call(event(intervalPeriod={"duration": "PT1H"}), "desk", START)
    fleet.carry(sends)
    db = reader(fleet.place)
    assert events_of(db) == [stored] and stored["objectType"] == "EVENT"
    reports = reports_of(db, stored["id"])
    assert [report["clientName"] for report in reports] == ["SIM-1", "SIM-2"]
    assert {report["resources"][0]["intervals"][0]["payloads"][0]["values"][0] for report in reports} == {"applied"}
    assert all(hub.power_w(fleet.t) <= 1500 for hub in fleet.hubs.values())
    fleet.point.book.begin()
    _, sends = fleet.point.openadr.cancel(stored["id"], "desk", START + 5)
    fleet.carry(sends)
    assert events_of(db) == []
    rows = db.execute("SELECT status FROM receipt ORDER BY hub, i").fetchall()
    assert [row[0] for row in rows] == ["accepted", "applied", "cancelled", "completed"] * 2
    with pytest.raises(KeyError):
        fleet.point.openadr.cancel(stored["id"], "desk", START)


def act(fleet: Fleet, do: Callable[[OpenAdrEvents], Any]) -> Any:
    fleet.point.book.begin()
    try:
        return do(fleet.point.openadr)
    finally:
        fleet.point.commit()


def subscribe(fleet: Fleet, objects: list[str], operations: list[str], token: str | None = "secret") -> dict[str, Any]:
    row = {"objects": objects, "operations": operations, "callbackUrl": "https://desk:8443/told", "bearerToken": token}
    body = {"clientName": "desk", "programID": "meterhub", "objectOperations": [row]}
    found: dict[str, Any] = act(fleet, lambda openadr: openadr.make("SUBSCRIPTION", body, "desk", START))
    return found


# Webhooks may go to one host; more than two hubs need a second person.
OPEN = pytest.mark.fleet(
    names=["SIM-1", "SIM-2", "SIM-3"], callback_hosts=frozenset({"desk:8443"}), second_person_above=2
)


@OPEN
def test_every_hub_is_a_ven_and_a_made_one_is_a_name_for_some(fleet: Fleet) -> None:
    db = reader(fleet.place)
    act(fleet, lambda openadr: fleet.point.registry.set_groups("SIM-2", ["north"]))
    made = act(fleet, lambda openadr: openadr.make("VEN", {"venName": "street"}, "desk", START))
    for name in ("SIM-1", "SIM-3"):
        body = {"resourceName": name, "venID": made["id"], "attributes": None}
        act(fleet, lambda openadr, b=body: openadr.make("RESOURCE", b, "desk", START, made["id"]))
    assert [ven["venName"] for ven in vens_of(db, "", [], 0, 50)] == ["street", "SIM-1", "SIM-2", "SIM-3"]
    assert [ven["venName"] for n in range(4) for ven in vens_of(db, "", [], n, 1)] == [
        "street", "SIM-1", "SIM-2", "SIM-3",
    ]  # fmt: skip
    assert [ven["venName"] for ven in vens_of(db, "", ["north"], 0, 50)] == ["SIM-2"]
    assert [row["resourceName"] for row in objects_of(db, "RESOURCE", parent=made["id"])] == ["SIM-1", "SIM-3"]
    stored, sends = act(
        fleet, lambda openadr: openadr.call(event(targets=[{"type": "VEN_NAME", "values": ["street"]}]), "desk", START)
    )
    assert [send.hub for send in sends] == ["SIM-1", "SIM-3"]
    assert [report["clientName"] for report in reports_of(db, stored["id"])] == ["SIM-1", "SIM-3"]
    assert reports_of(db, hub="SIM-3") == [report_of(db, reports_of(db, hub="SIM-3")[0]["id"])]
    assert events_of(db, targets=("VEN_NAME", ["street"])) == [stored] and not events_of(db, targets=("GROUP", ["x"]))
    act(fleet, lambda openadr: openadr.delete("VEN", made["id"], "desk", START))
    assert not objects_of(db, "RESOURCE") and ven_of(db, made["id"]) is None and ven_of(db, "SIM-1") is not None


@OPEN
def test_hubs_named_one_by_one_are_as_many_as_they_are(fleet: Fleet) -> None:
    """A second person is needed above two, whether three are one group or three names."""
    targets = [{"type": "VEN_NAME", "values": ["SIM-1", "SIM-2"]}, {"type": "RESOURCE_NAME", "values": ["SIM-3"]}]
    stored, sends = act(fleet, lambda openadr: openadr.call(event(targets=targets), "desk", START))
    assert not sends, "it waits"
    db = reader(fleet.place)
    assert {row["reportName"] for row in reports_of(db, stored["id"])} == {"waiting"}


@OPEN
@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("VEN", {}, "venName"),
        ("VEN", {"venName": "SIM-1"}, "is a hub"),
        ("VEN", {"venName": "street"}, "there is one of the name"),
        ("VEN", {"venName": "x", "targets": [{"type": "GROUP"}]}, "a type and values"),
        ("VEN", {"venName": "x", "attributes": {}, "targets": "y"}, "targets: a list"),
        ("VEN", {"venName": "x" * 129}, "128"),
        ("VEN", {"venName": "x", "more": "y" * 20_000}, "at most"),
        ("VEN", {"venName": "x", "resources": [{}]}, "one by one"),
        ("RESOURCE", {"resourceName": "stranger"}, "no hub of that name"),
        ("RESOURCE", {"resourceName": "SIM-1", "venID": "other"}, "venID"),
        ("SUBSCRIPTION", {"clientName": "a", "programID": "b"}, "programID"),
        ("SUBSCRIPTION", {"clientName": "a", "programID": "meterhub"}, "objectOperations"),
        *(
            (
                "SUBSCRIPTION",
                {"clientName": "a", "programID": "meterhub", "objectOperations": [
                    {"objects": ["EVENT"], "operations": ["POST"], "callbackUrl": "https://desk:8443/"} | row]},
                said,
            )
            for row, said in [
                ({"objects": ["WEATHER"]}, "objects"),
                ({"operations": []}, "operations"),
                ({"callbackUrl": "http://desk:8443/"}, "https"),
                ({"callbackUrl": "https://desk:8443@other/"}, "https, with no name"),
                ({"callbackUrl": "https://169.254.169.254/latest"}, "callback_hosts"),
                ({"callbackUrl": "https://desk:8444/"}, "callback_hosts"),
                ({"callbackUrl": "https://desk:x/"}, "a URL"),
                ({"callbackUrl": 5}, "a URL"),
                ({"bearerToken": "a\r\nHost: b"}, "bearerToken"),
            ]
        ),
    ],
)  # fmt: skip
def test_an_object_that_is_not_right_is_refused_in_words(
    fleet: Fleet, kind: str, body: dict[str, Any], said: str
) -> None:
    made = act(fleet, lambda openadr: openadr.make("VEN", {"venName": "street"}, "desk", START))
    with pytest.raises(BadObject, match=said):
        act(fleet, lambda openadr: openadr.make(kind, body, "desk", START, made["id"]))


@OPEN
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["VEN", "RESOURCE", "SUBSCRIPTION"]),
    st.dictionaries(st.sampled_from(
        ["venName", "resourceName", "clientName", "programID", "objectOperations", "targets", "attributes"]
    ), _JSON, max_size=4),
)  # fmt: skip
def test_any_json_is_an_object_or_refused_in_words(fleet: Fleet, kind: str, body: dict[str, Any]) -> None:
    with contextlib.suppress(BadObject, KeyError):
        act(fleet, lambda openadr: openadr.make(kind, {**body, "programID": "meterhub"}, "desk", START))


def told(fleet: Fleet, t: int) -> list[tuple[str, str]]:
    due: list[DueNotice] = act(fleet, lambda openadr: openadr.notices.due(t))
    bodies = [json.loads(notice.body) for notice in due]
    return [(body["objectType"], body["operation"]) for body in bodies]


@OPEN
def test_subscribers_are_told_of_what_they_asked_for(fleet: Fleet) -> None:
    subscription = subscribe(fleet, ["EVENT", "REPORT", "SUBSCRIPTION"], ["POST", "DELETE"])
    called = {"type": "VEN_NAME", "values": ["SIM-1"]}
    stored, sends = act(fleet, lambda openadr: openadr.call(event(targets=[called]), "desk", START))
    fleet.carry(sends)
    act(fleet, lambda openadr: openadr.make("VEN", {"venName": "street"}, "desk", START))
    assert told(fleet, START) == [
        ("SUBSCRIPTION", "POST"), ("EVENT", "POST"), ("REPORT", "POST"), ("REPORT", "POST"),
    ]  # fmt: skip
    due = act(fleet, lambda openadr: openadr.notices.due(START))
    assert {(notice.url, notice.token) for notice in due} == {("https://desk:8443/told", "secret")}
    assert not [notice for notice in due if "secret" in notice.body], "nobody is told the secret of another"
    assert json.loads(due[1].body)["object"] == stored
    report = json.loads(due[3].body)["object"]
    assert (report["clientName"], report["reportName"]) == ("SIM-1", "applied")
    act(fleet, lambda openadr: openadr.delete("SUBSCRIPTION", subscription["id"], "desk", START))
    assert told(fleet, START) == [], "who has ended it is told nothing more"


@OPEN
def test_a_notice_is_tried_again_at_growing_intervals_and_not_for_ever(fleet: Fleet) -> None:
    subscribe(fleet, ["VEN"], ["POST"])
    act(fleet, lambda openadr: openadr.make("VEN", {"venName": "street"}, "desk", START))
    tries, is_last, t = [], False, START
    while not is_last:
        due = act(fleet, lambda openadr, at=t: openadr.notices.due(at))
        if due:
            tries.append(t - START)
            is_last = act(fleet, lambda openadr, n=due[0].number, at=t: openadr.notices.tried(n, at, is_sent=False))
        t += 1
    waits = [after - before for before, after in itertools.pairwise(tries)]
    assert waits == sorted(waits) and waits[0] == 5 and waits[-1] == 900 and len(tries) == MOST_TRIES
    assert told(fleet, t + 10_000) == []


@OPEN
def test_what_waits_for_a_subscriber_that_is_away_has_a_bound(fleet: Fleet) -> None:
    subscribe(fleet, ["VEN"], ["PUT"])
    made = act(fleet, lambda openadr: openadr.make("VEN", {"venName": "street"}, "desk", START))

    def change(openadr: OpenAdrEvents) -> None:
        for n in range(MOST_WAITING + 50):
            openadr.change("VEN", made["id"], {"venName": f"street {n}"}, "desk", START)

    act(fleet, change)
    count = fleet.point.book.db.execute("SELECT count(*) FROM openadr_notice").fetchone()[0]
    assert count == MOST_WAITING
    first = act(fleet, lambda openadr: openadr.notices.due(START))[0]
    assert json.loads(first.body)["object"]["venName"] == "street 50", "the oldest go first"


def test_the_end_of_an_event_reaches_a_hub_that_was_away(fleet: Fleet) -> None:
    """A broker keeps for it what it was told: the limit, for as long as it is good, and its end no shorter."""
    kept: list[Any] = []
    fleet.drops = lambda message: message.topic == "meters/SIM-1/commands" and not kept.append(message)
    period = {"duration": "PT12H"}
    targets = [{"type": "VEN_NAME", "values": ["SIM-1"]}]
    stored = call(fleet, event(intervalPeriod=period, targets=targets))
    fleet.run(5)
    fleet.carry(fleet.point.openadr.cancel(stored["id"], "desk", int(fleet.t))[1])
    fleet.run(3 * 3600, 60.0)
    fleet.drops = lambda _message: False
    for message in kept:
        fleet.hear(fleet.hubs["SIM-1"].take(message.topic, message.message, fleet.t))
    statuses = fleet.point.book.db.execute(
        "SELECT o.op, h.status FROM order_hub h JOIN grid_order o ON o.id = h.order_id ORDER BY 1"
    ).fetchall()
    assert statuses == [("limit", "cancelled"), ("limit.cancel", "completed")]


def test_a_price_is_said_no_more_once_its_event_has_ended(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic.endswith("/commands")
    payload = {"type": "PRICE", "values": [0.2]}
    stored = call(
        fleet,
        event(
            intervalPeriod={"duration": "PT1H"}, intervals=[{"id": 0, "payloads": [payload]}],
            payloadDescriptors=[{"payloadType": "PRICE", "currency": "GBP"}],
        ),
    )  # fmt: skip
    assert fleet.point.openadr.cancel(stored["id"], "desk", int(fleet.t))[1] == []
    fleet.drops = lambda _message: False
    fleet.run(60)
    assert fleet.point.book.db.execute("SELECT DISTINCT status FROM order_hub").fetchall() == [("withdrawn",)]


@pytest.mark.fleet(names=["SIM-1", "SIM-2", "SIM-3"], second_person_above=2)
def test_an_event_for_several_groups_is_for_as_many_hubs_as_they_have_together(fleet: Fleet) -> None:
    for name in ("SIM-1", "SIM-2", "SIM-3"):
        fleet.give("config", {"set": {"hub.groups": [f"of-{name}", "everywhere"]}}, {"hub": name})
    groups = [f"of-{name}" for name in fleet.hubs]
    call(fleet, event(targets=[{"type": "GROUP", "values": groups[:2]}, {"type": "GROUP", "values": groups[:1]}]))
    states = "SELECT DISTINCT state FROM grid_order WHERE op = 'limit'"
    assert fleet.point.book.db.execute(states).fetchall() == [("sent",)]
    call(fleet, event(targets=[{"type": "GROUP", "values": groups[:2]}, {"type": "VEN_NAME", "values": ["SIM-3"]}]))
    counts = "SELECT state, count(*) FROM grid_order WHERE op = 'limit' GROUP BY state ORDER BY state"
    assert fleet.point.book.db.execute(counts).fetchall() == [("sent", 3), ("waiting", 3)]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"deep": "\ud800"}])
def test_what_cannot_be_told_again_is_refused_and_nothing_is_ordered(fleet: Fleet, value: Any) -> None:
    """It would be the end of every list that it is in, for everybody."""
    fleet.point.book.begin()
    with pytest.raises(BadEvent, match="none"):
        fleet.point.openadr.call(event(priority=value), "desk", START)
    with pytest.raises(BadObject, match="none"):
        body = {"venName": "x", "attributes": [{"type": "x", "values": [value]}]}
        fleet.point.openadr.make("VEN", body, "desk", START)
    assert fleet.point.book.db.execute("SELECT count(*) FROM grid_order").fetchone()[0] == 0
