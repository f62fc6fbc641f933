"""OpenADR 3: what an event comes to, and what is refused of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.headend.control_point import reader
from deploy.headend.openadr import BadEvent, WantedOrder, events_of, orders_of, reports_of
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


@pytest.fixture
def fleet(tmp_path: Path, place: Path | str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"])
    fleet.start()
    yield fleet
    fleet.close()


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
