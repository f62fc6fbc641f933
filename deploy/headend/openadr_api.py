"""The OpenADR 3 paths of the API: what a business client of a VTN asks (openadr3.yaml, 3.0.1)."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import JSONResponse

from deploy.headend.config import ApiClient
from deploy.headend.control_point import ControlPoint
from deploy.headend.openadr import LIMITS, PRICE, PROGRAM_ID, event_of, events_of, reports_of
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookReader

_PROBLEM: dict[str, Any] = {
    "description": "what is wrong (openadr3.yaml, `problem`)",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}
_UNITS = {**dict.fromkeys(LIMITS, "KW"), PRICE: "KWH"}
_PROGRAM = {
    "id": PROGRAM_ID,
    "objectType": "PROGRAM",
    "programName": PROGRAM_ID,
    "payloadDescriptors": [
        {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": units}
        for kind, units in _UNITS.items()
    ],
}
Asked = Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]


def make_router(ask: Callable[[Asked], Any], fleet: Any, control: Any, database: Any) -> APIRouter:
    """`ask` does something in the service's thread; `fleet`, `control`, `database`: dependencies of the API."""
    router = APIRouter(prefix="/openadr3", tags=["OpenADR 3"])
    Fleet = Annotated[ApiClient, Depends(fleet)]  # noqa: N806
    Control = Annotated[ApiClient, Depends(control)]  # noqa: N806
    Db = Annotated[BookReader, Depends(database)]  # noqa: N806
    Skip = Annotated[int, Query(ge=0, le=1 << 31)]  # noqa: N806
    Limit = Annotated[int, Query(ge=0, le=50)]  # noqa: N806

    @router.get("/programs")
    def programs(_: Fleet) -> list[dict[str, Any]]:
        """There is one."""
        return [_PROGRAM]

    @router.get("/programs/{program_id}", responses={404: _PROBLEM})
    def program(_: Fleet, program_id: str) -> Any:
        """That one."""
        return _PROGRAM if program_id == PROGRAM_ID else _problem(404, "no such program")

    @router.get("/events")
    def events(_: Fleet, db: Db, skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:
        """Events that were called and not ended."""
        return events_of(db, skip, limit)

    @router.get("/events/{event_id}", responses={404: _PROBLEM})
    def event(_: Fleet, db: Db, event_id: str) -> Any:
        """One of them."""
        return event_of(db, event_id) or _problem(404, "no such event")

    @router.post("/events", status_code=201)
    def call(client: Control, body: Annotated[dict[str, Any], Body()]) -> Any:
        """A grid event: its limits and prices become orders, all or none."""

        def do(point: ControlPoint) -> tuple[dict[str, Any], list[CommandToSend]]:
            t = int(time.time())
            stored, sends = point.openadr.call(body, client.client_id, t)
            point.note_deed(t * 1000, client.client_id, "openadr event", stored["id"])
            return stored, sends

        return ask(do)

    @router.delete("/events/{event_id}", responses={404: _PROBLEM})
    def end(client: Control, event_id: str) -> Any:
        """The event ends: its limits are cancelled."""

        def do(point: ControlPoint) -> tuple[dict[str, Any] | None, list[CommandToSend]]:
            t = int(time.time())
            try:
                ended, sends = point.openadr.cancel(event_id, client.client_id, t)
            except KeyError:
                return None, []
            point.note_deed(t * 1000, client.client_id, "openadr event ended", event_id)
            return ended, sends

        ended = ask(do)
        return _problem(404, "no such event") if ended is None else ended

    @router.get("/reports")
    def reports(
        _: Fleet, db: Db, event_id: Annotated[str, Query(alias="eventID")], skip: Skip = 0, limit: Limit = 50
    ) -> list[dict[str, Any]]:
        """What each hub made of an event."""
        return reports_of(db, event_id, skip, limit)

    return router


def _problem(status: int, title: str) -> JSONResponse:
    return JSONResponse({"title": title, "status": status}, status, media_type="application/problem+json")
