"""The OpenADR 3 paths of the API: what a business client of a VTN asks (openadr3.yaml, 3.0.1)."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import JSONResponse

from deploy.headend.config import ApiClient
from deploy.headend.control_point import ControlPoint
from deploy.headend.openadr import LIMITS, PRICE, OpenAdrEvents, event_of, events_of, report_of, reports_of
from deploy.headend.openadr_objects import (
    PROGRAM_ID,
    RESOURCE,
    SUBSCRIPTION,
    VEN,
    object_of,
    objects_of,
    ven_of,
    vens_of,
)
from deploy.headend.routes.asking import Db, Its, unbound
from hub.headend.bookkeeper import CommandToSend

_PROBLEM: dict[str, Any] = {
    "description": "what is wrong (openadr3.yaml, `problem`)",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}
_UNITS = {**dict.fromkeys(LIMITS, "KW"), PRICE: "KWH"}
_PROGRAM = {
    "id": PROGRAM_ID,
    "objectType": "PROGRAM",
    "programName": PROGRAM_ID,
    "createdDateTime": "2026-01-01T00:00:00Z",  # it is as old as the program
    "modificationDateTime": "2026-01-01T00:00:00Z",
    "payloadDescriptors": [
        {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": units}
        for kind, units in _UNITS.items()
    ],
}
Reader = Annotated[ApiClient, Depends(unbound("fleet"))]
Caller = Annotated[ApiClient, Depends(unbound("control"))]
Skip = Annotated[int, Query(ge=0, le=1 << 31)]
Limit = Annotated[int, Query(ge=0, le=50)]
TargetType = Annotated[str, Query(alias="targetType", max_length=128)]
TargetValues = Annotated[list[str] | None, Query(alias="targetValues", max_length=100)]
ProgramFilter = Annotated[str, Query(alias="programID")]
Said = Annotated[dict[str, Any], Body()]

router = APIRouter(prefix="/openadr3", tags=["OpenADR 3"])


@router.get("/programs")
def programs(_: Reader) -> list[dict[str, Any]]:
    """There is one."""
    return [_PROGRAM]


@router.get("/programs/{program_id}", responses={404: _PROBLEM})
def program(_: Reader, program_id: str) -> Any:
    """That one."""
    return _PROGRAM if program_id == PROGRAM_ID else _problem(404, "no such program")


@router.get("/events", responses={400: _PROBLEM})
def events(
    _: Reader, db: Db, skip: Skip = 0, limit: Limit = 50, target_type: TargetType = "", targets: TargetValues = None,
    program_id: ProgramFilter = PROGRAM_ID,
) -> list[dict[str, Any]]:  # fmt: skip
    """Events that were called and not ended."""
    if program_id != PROGRAM_ID:
        return []
    return events_of(db, skip, limit, (target_type, targets or []) if target_type else None)


@router.get("/events/{event_id}", responses={404: _PROBLEM})
def event(_: Reader, db: Db, event_id: str) -> Any:
    """One of them."""
    return event_of(db, event_id) or _problem(404, "no such event")


@router.post("/events", status_code=201)
def call(its: Its, client: Caller, body: Annotated[dict[str, Any], Body()]) -> Any:
    """A grid event: its limits and prices become orders, all or none."""

    def do(point: ControlPoint) -> tuple[dict[str, Any], list[CommandToSend]]:
        t = int(time.time())
        stored, sends = point.openadr.call(body, client.client_id, t)
        point.note_deed(t * 1000, client.client_id, "openadr event", stored["id"])
        return stored, sends

    return its.ask(do)


@router.delete("/events/{event_id}", responses={404: _PROBLEM})
def end(its: Its, client: Caller, event_id: str) -> Any:
    """The event ends: its limits are cancelled."""

    def do(point: ControlPoint) -> tuple[dict[str, Any] | None, list[CommandToSend]]:
        t = int(time.time())
        try:
            ended, sends = point.openadr.cancel(event_id, client.client_id, t)
        except KeyError:
            return None, []
        point.note_deed(t * 1000, client.client_id, "openadr event ended", event_id)
        return ended, sends

    ended = its.ask(do)
    return _problem(404, "no such event") if ended is None else ended


@router.get("/reports")
def reports(
    _: Reader, db: Db, event_id: Annotated[str, Query(alias="eventID")] = "",
    client_name: Annotated[str, Query(alias="clientName")] = "", program_id: ProgramFilter = PROGRAM_ID,
    skip: Skip = 0, limit: Limit = 50,
) -> list[dict[str, Any]]:  # fmt: skip
    """What each hub made of an event, or of all that are not ended."""
    return reports_of(db, event_id, client_name, skip, limit) if program_id == PROGRAM_ID else []


@router.get("/reports/{report_id}", responses={404: _PROBLEM})
def report(_: Reader, db: Db, report_id: str) -> Any:
    """One of them."""
    return report_of(db, report_id) or _problem(404, "no such report")


def _act(its: Its, client: ApiClient, deed: str, do: Callable[[OpenAdrEvents, int], dict[str, Any]]) -> Any:
    """Something about an object, with its line in the audit log."""

    def asked(point: ControlPoint) -> tuple[dict[str, Any] | None, list[CommandToSend]]:
        t = int(time.time())
        try:
            found = do(point.openadr, t)
        except KeyError:
            return None, []
        point.note_deed(t * 1000, client.client_id, f"openadr {deed}", found["id"])
        return found, []

    found = its.ask(asked)
    return _problem(404, "no such object") if found is None else found


@router.get("/vens")
def vens(
    _: Reader, db: Db, skip: Skip = 0, limit: Limit = 50, name: Annotated[str, Query(alias="venName")] = "",
    target_type: TargetType = "", targets: TargetValues = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Those that clients made, then every hub."""
    if target_type not in ("", "GROUP", "VEN_NAME"):
        return []
    if target_type == "VEN_NAME":
        return [ven for one in targets or [] for ven in vens_of(db, one, [], 0, 1)][skip : skip + limit]
    return vens_of(db, name, targets or [] if target_type else [], skip, limit)


@router.post("/vens", status_code=201)
def make_ven(its: Its, client: Caller, body: Said) -> Any:
    """A name for hubs: its resources."""
    return _act(its, client, "VEN", lambda openadr, t: openadr.make(VEN, body, client.client_id, t))


@router.get("/vens/{ven_id}", responses={404: _PROBLEM})
def ven(_: Reader, db: Db, ven_id: str) -> Any:
    """One of them."""
    return ven_of(db, ven_id) or _problem(404, "no such VEN")


@router.put("/vens/{ven_id}", responses={404: _PROBLEM})
def change_ven(its: Its, client: Caller, ven_id: str, body: Said) -> Any:
    """In place of what it was. A hub is what it is."""
    return _act(its, client, "VEN changed", lambda openadr, t: openadr.change(VEN, ven_id, body, client.client_id, t))


@router.delete("/vens/{ven_id}", responses={404: _PROBLEM})
def delete_ven(its: Its, client: Caller, ven_id: str) -> Any:
    """It goes with its resources; the hubs stay."""
    return _act(its, client, "VEN deleted", lambda openadr, t: openadr.delete(VEN, ven_id, client.client_id, t))


@router.get("/vens/{ven_id}/resources", responses={404: _PROBLEM})
def resources(
    _: Reader, db: Db, ven_id: str, skip: Skip = 0, limit: Limit = 50,
    name: Annotated[str, Query(alias="resourceName")] = "",
) -> Any:  # fmt: skip
    """A VEN's; a hub has none, it is one."""
    if ven_of(db, ven_id) is None:
        return _problem(404, "no such VEN")
    return objects_of(db, RESOURCE, parent=ven_id, name=name, skip=skip, limit=limit)


@router.post("/vens/{ven_id}/resources", status_code=201, responses={404: _PROBLEM})
def make_resource(its: Its, client: Caller, ven_id: str, body: Said) -> Any:
    """A hub, by its name, becomes one of this VEN's."""
    return _act(its, client, "resource", lambda openadr, t: openadr.make(RESOURCE, body, client.client_id, t, ven_id))


@router.get("/vens/{ven_id}/resources/{resource_id}", responses={404: _PROBLEM})
def resource(_: Reader, db: Db, ven_id: str, resource_id: str) -> Any:
    """One of them."""
    found = object_of(db, RESOURCE, resource_id)
    return found if found is not None and found["venID"] == ven_id else _problem(404, "no such resource")


@router.put("/vens/{ven_id}/resources/{resource_id}", responses={404: _PROBLEM})
def change_resource(its: Its, client: Caller, ven_id: str, resource_id: str, body: Said) -> Any:
    """In place of what it was."""
    body = {**body, "venID": ven_id}
    return _act(
        its, client, "resource changed",
        lambda openadr, t: openadr.change(RESOURCE, resource_id, body, client.client_id, t),
    )  # fmt: skip


@router.delete("/vens/{ven_id}/resources/{resource_id}", responses={404: _PROBLEM})
def delete_resource(its: Its, client: Caller, db: Db, ven_id: str, resource_id: str) -> Any:
    """The hub is not this VEN's any more."""
    found = object_of(db, RESOURCE, resource_id)
    if found is None or found["venID"] != ven_id:
        return _problem(404, "no such resource")
    return _act(
        its, client, "resource deleted",
        lambda openadr, t: openadr.delete(RESOURCE, resource_id, client.client_id, t),
    )  # fmt: skip


@router.get("/subscriptions")
def subscriptions(
    client: Reader, db: Db, skip: Skip = 0, limit: Limit = 50,
    name: Annotated[str, Query(alias="clientName")] = "", program_id: ProgramFilter = PROGRAM_ID,
) -> list[dict[str, Any]]:  # fmt: skip
    """One's own."""
    if program_id != PROGRAM_ID:
        return []
    return objects_of(db, SUBSCRIPTION, owner=client.client_id, name=name, skip=skip, limit=limit)


@router.post("/subscriptions", status_code=201)
def subscribe(its: Its, client: Reader, body: Said) -> Any:
    """To be told of objects by a webhook, at a host that `openadr.callback_hosts` of headend.toml names."""
    return _act(its, client, "subscription", lambda openadr, t: openadr.make(SUBSCRIPTION, body, client.client_id, t))


@router.get("/subscriptions/{subscription_id}", responses={404: _PROBLEM})
def subscription(client: Reader, db: Db, subscription_id: str) -> Any:
    """One's own."""
    return object_of(db, SUBSCRIPTION, subscription_id, client.client_id) or _problem(404, "no such subscription")


@router.put("/subscriptions/{subscription_id}", responses={404: _PROBLEM})
def change_subscription(its: Its, client: Reader, subscription_id: str, body: Said) -> Any:
    """In place of what it was."""
    return _act(
        its, client, "subscription changed",
        lambda openadr, t: openadr.change(SUBSCRIPTION, subscription_id, body, client.client_id, t),
    )  # fmt: skip


@router.delete("/subscriptions/{subscription_id}", responses={404: _PROBLEM})
def unsubscribe(its: Its, client: Reader, subscription_id: str) -> Any:
    """Nothing more is told; what waits to be told neither."""
    return _act(
        its, client, "subscription ended",
        lambda openadr, t: openadr.delete(SUBSCRIPTION, subscription_id, client.client_id, t),
    )  # fmt: skip


def _problem(status: int, title: str) -> JSONResponse:
    return JSONResponse({"title": title, "status": status}, status, media_type="application/problem+json")
