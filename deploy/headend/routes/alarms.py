"""Alarms of hubs, and a person who has seen to one."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from deploy.headend.alarms import alarms_of
from deploy.headend.control_point import ControlPoint
from deploy.headend.routes.asking import (
    WORDS,
    Control,
    Db,
    Fleet,
    HubName,
    Its,
    Most,
    known,
    utc_ms,
)
from hub.headend.bookkeeper import CommandToSend

router = APIRouter()


class Alarm(BaseModel):
    """What a hub says is wrong with it and is not over. `source`: "event", or "asked": one of its conditions, as it
    answered `diagnose` last. `subject`: what in the home it is about; `why`: what it means."""

    hub: str
    source: Literal["event", "asked"]
    code: str
    subject: str
    severity: Literal["error", "warning"]
    since_ms: int
    text: str
    why: str


class SeenTo(BaseModel):
    """An alarm that a person has seen to."""

    model_config = ConfigDict(extra="forbid")
    code: str = Field(max_length=64)
    subject: str = Field("", max_length=64)


@router.get("/v1/alarms", response_model=list[Alarm], tags=["fleet"])
def alarms(
    client: Fleet, db: Db, hub: str = "", code: str = "", severity: Literal["", "error", "warning"] = "",
    group: str = "", most: Most = 1000,
) -> Any:  # fmt: skip
    """What hubs say is wrong and is not over, errors first, then the newest."""
    where, values = [client.reach.clause()], [*client.reach.values]
    for clause, value in (
        ("hub = ?", hub), ("code = ?", code), ("severity = ?", severity),
        ("hub IN (SELECT hub FROM hub_group WHERE name = ?)", group),
    ):  # fmt: skip
        if value:
            where.append(clause)
            values.append(value)
    return alarms_of(db, where, values, most)


@router.post("/v1/hubs/{hub}/alarms/dismiss", tags=["fleet"], responses={404: WORDS})
def dismiss(its: Its, client: Control, db: Db, hub: HubName, alarm: SeenTo) -> dict[str, int]:
    """Somebody has seen to it: it goes, and begins anew when the hub says it again. How many went."""
    known(db, hub, client)

    def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
        gone = point.alarms.dismiss(hub, alarm.code, alarm.subject)
        if gone:
            point.note_deed(utc_ms(), client.client_id, "dismiss", f"{hub}: {alarm.code} {alarm.subject}")
        return gone, []

    return {"alarms": its.ask(do)}
