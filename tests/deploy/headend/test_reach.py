"""Who may read whose: a client that is bound to groups sees and commands their hubs, at each door of the API. Another's
hub is for it as one that there is not."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from deploy.waiting import wait_for
from tests.deploy.headend.test_service import HUBS, Site, counts

OWN, OTHER = "SIM-0", "SIM-2"
TODAY = str(datetime.now(UTC).date())
LIMIT = {"watts": 300, "duration": 2}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """SIM-0 and SIM-1 are in "north", SIM-2 in "south", SIM-3 in none."""
    site = Site(tmp_path_factory.mktemp("reach"))
    try:
        with site.client("desk") as desk:
            wait_for("all hubs", lambda: desk.get("/v1/fleet").json()["online"] == HUBS)
            for hub, group in (("SIM-0", "north"), ("SIM-1", "north"), ("SIM-2", "south")):
                order = {"op": "config", "args": {"set": {"hub.groups": [group]}}, "target": {"hub": hub}}
                assert desk.post("/v1/orders", json=order).status_code == 201
            wait_for("groups", lambda: sum(len(hub["groups"]) for hub in desk.get("/v1/hubs").json()) == 3)
            span = {"from_s": 0, "to_s": 1 << 40}
            wait_for("readings", lambda: desk.get(f"/v1/hubs/{OTHER}/readings", params=span).json())
        yield site
    finally:
        site.stop()


@pytest.fixture
def north(site: Site) -> Iterator[httpx.Client]:
    with site.client("north") as north:
        yield north


@pytest.fixture
def desk(site: Site) -> Iterator[httpx.Client]:
    with site.client("desk") as desk:
        yield desk


def give(client: httpx.Client, target: dict[str, Any], op: str = "limit", args: Any = None) -> httpx.Response:
    return client.post("/v1/orders", json={"op": op, "args": args or LIMIT, "target": target})


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["hub"] for row in rows}


@pytest.mark.parametrize(
    "door",
    [
        "", "/events", "/receipts", "/book", "/readings?from_s=0&to_s=99999999999", f"/intervals?day={TODAY}",
        f"/day.svg?day={TODAY}",
        f"/day?day={TODAY}",
    ],
)  # fmt: skip
def test_a_single_hub(north: httpx.Client, door: str) -> None:
    assert north.get(f"/v1/hubs/{OWN}{door}").status_code == 200
    other, nobody = north.get(f"/v1/hubs/{OTHER}{door}"), north.get(f"/v1/hubs/nobody{door}")
    assert other.status_code == nobody.status_code == 404 and other.text == nobody.text


@pytest.mark.parametrize("accept", ["application/senml+json", "text/csv", "application/vnd.apache.parquet"])
def test_exports(north: httpx.Client, accept: str) -> None:
    span = {"from_s": 0, "to_s": 1 << 40}
    for hub, status in ((OWN, 200), (OTHER, 404), ("SIM-3", 404)):
        answer = north.get(f"/v1/hubs/{hub}/readings", params=span, headers={"Accept": accept})
        assert answer.status_code == status


def test_what_changes_a_hub(north: httpx.Client, desk: httpx.Client) -> None:
    assert north.delete(f"/v1/hubs/{OTHER}/usage").status_code == 404
    assert north.post(f"/v1/hubs/{OTHER}/revoke", json={}).status_code == 404
    assert north.post(f"/v1/hubs/{OTHER}/alarms/dismiss", json={"code": "x"}).status_code == 404
    assert desk.get(f"/v1/hubs/{OTHER}/readings?from_s=0&to_s=99999999999").json()
    assert {row["state"] for row in desk.get("/v1/certificates").json()} == {"in use"}


def test_lists(north: httpx.Client, desk: httpx.Client) -> None:
    assert names(north.get("/v1/hubs").json()) == {"SIM-0", "SIM-1"} < names(desk.get("/v1/hubs").json())
    assert north.get("/v1/hubs", params={"group": "south"}).json() == []
    assert names(north.get("/v1/certificates").json()) == {"SIM-0", "SIM-1"}
    assert sum(north.get("/v1/certificates/issuers").json().values()) == 2
    own, all_hubs = north.get("/v1/fleet").json(), desk.get("/v1/fleet").json()
    assert own["hubs"] == own["online"] == 2 and all_hubs["hubs"] == HUBS
    assert 0 < own["readings"] < all_hubs["readings"] and 0 < own["messages"] < all_hubs["messages"]
    assert own["service"] == {}
    assert (
        {row["client"] for row in north.get("/v1/audit").json()}
        <= {"north"}
        < {row["client"] for row in desk.get("/v1/audit").json()} | {"north"}
    )


def test_orders_go_to_its_own_hubs(site: Site, north: httpx.Client, desk: httpx.Client) -> None:
    assert give(north, {"hub": OTHER}).text == give(north, {"hub": "nobody"}).text.replace("nobody", OTHER)
    assert give(north, {"hub": OTHER}).status_code == give(north, {"group": "south"}).status_code == 400
    for target in ({"all": True}, {"where": {"state": "online"}}, {"group": "north"}):
        made = give(north, target)
        assert made.status_code == 201 and made.json()["hubs"] == 2
        order_id = made.json()["id"]
        wait_for("both", lambda order_id=order_id: counts(north, order_id) == {"completed": 2})
        assert names(desk.get(f"/v1/orders/{order_id}").json()["answers"]) == {"SIM-0", "SIM-1"}
    assert not [row for row in desk.get(f"/v1/hubs/{OTHER}/receipts").json() if row["status"] == "applied"]
    refused = give(north, {"hub": OWN}, "config", {"set": {"hub.groups": ["south"]}})
    assert refused.status_code == 400 and "bound to groups" in refused.text


def test_orders_of_others_are_not_there(site: Site, north: httpx.Client, desk: httpx.Client) -> None:
    foreign = give(desk, {"hub": OTHER}).json()["id"]
    assert foreign not in {row["id"] for row in north.get("/v1/orders").json()}
    for door in ("", "/spread", "/spread.svg", "/watts"):
        assert north.get(f"/v1/orders/{foreign}{door}").status_code == 404
    # One for all: of it, what its own hubs answered.
    shared = give(desk, {"all": True}).json()["id"]
    seen = north.get(f"/v1/orders/{shared}").json()
    assert names(seen["answers"]) == {"SIM-0", "SIM-1"} and seen["hubs"] == 2 and seen["target"] == {"group": "north"}
    assert seen["counts"] == {"waiting": 2}
    for verb in ("approve", "withdraw"):
        assert north.post(f"/v1/orders/{shared}/{verb}").status_code == 404
    with site.client("second") as second:
        assert second.post(f"/v1/orders/{shared}/approve").status_code == 200
    assert north.get(f"/v1/orders/{shared}/spread.svg").status_code == 200
    spread = north.get(f"/v1/orders/{shared}/spread").json()
    assert spread["hubs"] == spread["sums"]["hubs"] == 2 and len(spread["obeyed"]) <= 2
    assert spread["households"] == 0 and spread["watts"] == [], "fewer than five: no sum"
    assert OTHER not in json.dumps(north.get("/v1/orders").json())


def test_roll_outs(site: Site, north: httpx.Client, desk: httpx.Client) -> None:
    args = {"set": {"uplink.pack_interval_s": 300}}
    foreign = desk.post("/v1/rollouts", json={"op": "config", "args": args, "target": {"hub": OTHER}}).json()["id"]
    shared = desk.post("/v1/rollouts", json={"op": "config", "args": args, "target": {"all": True}}).json()["id"]
    own = north.post("/v1/rollouts", json={"op": "config", "args": args, "target": {"all": True}}).json()["id"]
    wait_for("its own", lambda: north.get(f"/v1/rollouts/{own}").json()["counts"] == {"completed": 2})
    assert {row["id"] for row in north.get("/v1/rollouts").json()} == {own, shared}
    assert north.get(f"/v1/rollouts/{foreign}").status_code == 404
    assert sum(north.get(f"/v1/rollouts/{shared}").json()["counts"].values()) == 2
    assert OTHER not in json.dumps(north.get("/v1/rollouts").json())
    for verb, body in (("pause", {}), ("resume", {}), ("stop", {}), ("retry", {}), ("back", {"args": args})):
        for rollout_id in (foreign, shared):
            assert north.post(f"/v1/rollouts/{rollout_id}/{verb}", json=body).status_code == 404
    # One for more hubs than are a person's to command waits for a second one, whatever the size of its waves.
    for client, status in ((north, 404), (desk, 403)):
        assert client.post(f"/v1/rollouts/{shared}/approve").status_code == status
    with site.client("second") as second:
        assert second.get(f"/v1/rollouts/{shared}").json()["state"] == "waiting"
        assert second.post(f"/v1/rollouts/{shared}/approve").json() == {"state": "running"}
        wait_for("all of them", lambda: second.get(f"/v1/rollouts/{shared}").json()["state"] == "done")
    back = desk.post(f"/v1/rollouts/{shared}/back", json={"args": args}).json()
    assert back["state"] == "waiting"
    assert desk.post(f"/v1/rollouts/{back['id']}/withdraw").json() == {"state": "withdrawn"}
    moved = {"args": {"set": {"hub.groups": ["south"]}}}
    assert north.post(f"/v1/rollouts/{own}/back", json=moved).status_code == 400


def test_alarms(site: Site, north: httpx.Client, desk: httpx.Client) -> None:
    t = time.time()
    sessions = {session.hub.hub: session for session in site.swarm.sessions}
    for hub in (OWN, OTHER):
        sessions[hub].say([sessions[hub].hub.tell("meter.lost", {"reason": "silent"}, t)])
    wait_for("both alarms", lambda: names(desk.get("/v1/alarms").json()) == {OWN, OTHER})
    assert names(north.get("/v1/alarms").json()) == {OWN}
    assert north.get("/v1/alarms", params={"hub": OTHER}).json() == []
    assert (
        north.get("/v1/fleet").json()["hubs_with_errors"]
        == 1
        == len(north.get("/v1/hubs", params={"alarm": "meter-lost"}).json())
    )
    assert north.post(f"/v1/hubs/{OWN}/alarms/dismiss", json={"code": "meter-lost"}).json() == {"alarms": 1}


def test_what_happens_now(site: Site, north: httpx.Client, desk: httpx.Client) -> None:
    told: list[str] = []
    asked = threading.Event()  # what came before may still end meanwhile

    def follow() -> None:
        with north.stream("GET", "/v1/live?seconds=20") as lines:
            for line in lines.iter_lines():
                told.append(line)
                if asked.is_set() and f'"{OWN}"' in line and '"completed"' in line:
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for("the stream to be open", lambda: ": connected" in told)
    other = give(desk, {"hub": OTHER}).json()["id"]
    wait_for("the other", lambda: counts(desk, other) == {"completed": 1})
    asked.set()
    give(desk, {"hub": OWN})
    thread.join()
    assert f'"{OWN}"' in "".join(told) and f'"{OTHER}"' not in "".join(told)


def test_openadr_is_for_who_is_bound_to_nothing(north: httpx.Client) -> None:
    for door in ("events", "reports", "vens", "programs", "subscriptions"):
        assert north.get(f"/openadr3/{door}").status_code == 403
    assert north.post("/openadr3/events", json={}).status_code == 403
