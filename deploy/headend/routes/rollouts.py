"""Roll-outs in waves."""

import time
from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from deploy.headend.config import ApiClient
from deploy.headend.control_point import ControlPoint
from deploy.headend.rollouts import rollouts_of
from deploy.headend.routes.asking import (
    WORDS,
    Approver,
    Control,
    Db,
    Fleet,
    Its,
    OrderId,
    utc_ms,
)
from deploy.headend.routes.targets import MAX_VALID_S, Target, keeps_groups, with_bytes
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookReader
from hub.wire.uplink.args import check_args

router = APIRouter()


class NewRollout(BaseModel):
    """An update or a configuration in waves."""

    model_config = ConfigDict(extra="forbid")
    op: Literal["update", "config"]
    args: dict[str, Any]
    target: Target
    wave_hubs: int = Field(10, ge=1, le=1_000_000, description="hubs in a wave")
    success_share: float = Field(0.9, gt=0, le=1, description="of a wave, that starts the next")
    error_share: float = Field(0.05, ge=0, lt=1, description="of all that were asked, beyond which it stops")
    valid_s: int = Field(
        3600, ge=10, le=MAX_VALID_S,
        description="how long a wave may be obeyed; who took it, and has not done it within as long again, is silent",
    )  # fmt: skip


class WayBack(BaseModel):
    """What hubs are brought back to: the settings of before (`{"set": ...}`), or the version of before."""

    model_config = ConfigDict(extra="forbid")
    args: dict[str, Any]


@router.post("/v1/rollouts", status_code=201, tags=["roll-outs"], responses={409: WORDS})
def begin_rollout(its: Its, client: Control, rollout: NewRollout) -> dict[str, str]:
    """Start one; it goes on by itself, wave by wave, until it is done or stopped. For many hubs it waits for a second
    person."""
    args, said = check_args(rollout.op, with_bytes(rollout.args)), rollout.target.one()
    keeps_groups(client, args)
    rule = rollout.model_dump(include={"wave_hubs", "success_share", "error_share", "valid_s"})

    def do(point: ControlPoint) -> tuple[dict[str, str], list[CommandToSend]]:
        t = int(time.time())
        target = point.registry.narrowed(said, client.reach)
        rollout_id = point.rollouts.begin(rollout.op, args, target, client.client_id, t, **rule)
        point.note_deed(utc_ms(), client.client_id, "rollout", f"{rollout_id} {rollout.op}")
        return {"id": rollout_id, "state": point.rollouts.state_of(rollout_id)}, []

    made: dict[str, str] = its.ask(do)
    return made


@router.post("/v1/rollouts/{order_id}/approve", tags=["roll-outs"], responses={404: WORDS, 409: WORDS})
def approve_rollout(its: Its, client: Approver, db: Db, order_id: OrderId) -> dict[str, str]:
    """The second person's word: it begins."""
    _changes_rollout(db, order_id, client)

    def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
        point.rollouts.approve(order_id, client.client_id)
        point.note_deed(utc_ms(), client.client_id, "rollout approve", order_id)
        return None, []

    its.ask(do)
    return {"state": "running"}


@router.post("/v1/rollouts/{order_id}/back", status_code=201, tags=["roll-outs"], responses={
    404: WORDS, 409: WORDS})  # fmt: skip
def bring_back(its: Its, client: Control, db: Db, order_id: OrderId, way: WayBack) -> dict[str, str]:
    """Stop it, and bring back the hubs that did it, by a roll-out of its own with these arguments. For many hubs that
    waits for a second person."""
    _changes_rollout(db, order_id, client)

    def do(point: ControlPoint) -> tuple[dict[str, str], list[CommandToSend]]:
        args = check_args(point.rollouts.op_of(order_id), with_bytes(way.args))
        keeps_groups(client, args)
        rollout_id = point.rollouts.back(order_id, args, client.client_id, int(time.time()))
        point.note_deed(utc_ms(), client.client_id, "rollout back", f"{order_id} by {rollout_id}")
        return {"id": rollout_id, "state": point.rollouts.state_of(rollout_id)}, []

    made: dict[str, str] = its.ask(do)
    return made


@router.post("/v1/rollouts/{order_id}/{action}", tags=["roll-outs"], responses={404: WORDS, 409: WORDS})
def change_rollout(
    its: Its,
    client: Control,
    db: Db,
    order_id: OrderId,
    action: Literal["pause", "resume", "retry", "stop", "withdraw"],
) -> dict[str, str]:
    """Pause it, stop it; or go on (`resume`; `retry` is another word for it), also after it stopped: who did not do
    it is asked again. `withdraw`: one that still waits goes nowhere."""
    _changes_rollout(db, order_id, client)

    def do(point: ControlPoint) -> tuple[str, list[CommandToSend]]:
        if action == "stop":
            point.rollouts.stop(order_id, client.client_id)
        elif action == "pause":
            point.rollouts.pause(order_id)
        elif action == "withdraw":
            point.rollouts.withdraw(order_id)
        else:
            point.rollouts.resume(order_id, int(time.time()))
        point.note_deed(utc_ms(), client.client_id, f"rollout {action}", order_id)
        return point.rollouts.state_of(order_id), []

    return {"state": its.ask(do)}


@router.get("/v1/rollouts", tags=["roll-outs"])
def rollouts(client: Fleet, db: Db) -> list[dict[str, Any]]:
    """Roll-outs, newest first, with how many hubs are where, wave by wave."""
    return rollouts_of(db, reach=client.reach)


@router.get("/v1/rollouts/{order_id}", tags=["roll-outs"], responses={404: WORDS})
def one_rollout(client: Fleet, db: Db, order_id: OrderId) -> dict[str, Any]:
    """One of them."""
    found = rollouts_of(db, order_id, client.reach)
    if not found:
        raise HTTPException(404, "no such roll-out")
    return found[0]


def _changes_rollout(db: BookReader, rollout_id: str, client: ApiClient) -> None:
    """The same of roll-outs."""
    if not client.reach.is_all and not client.reach.has_all_of_rollout(db, rollout_id):
        raise HTTPException(404, "no such roll-out")
