"""Orders to hubs: given, approved, withdrawn, and as they spread."""

import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from deploy.headend import charts
from deploy.headend.config import ApiClient
from deploy.headend.control_point import ControlPoint
from deploy.headend.orders import Refusal, Spread, spread_of, watts_of
from deploy.headend.reach import Reach
from deploy.headend.routes.asking import (
    WORDS,
    Approver,
    Control,
    Db,
    Fleet,
    Its,
    Most,
    OrderId,
    utc_ms,
)
from deploy.headend.routes.targets import MAX_VALID_S, Target, keeps_groups, with_bytes
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookReader
from hub.wire.uplink.args import check_args
from hub.wire.uplink.command import ROLES
from hub.wire.uplink.receipt import CONSUMPTION

router = APIRouter()
_LEAST_SUMMED = 5  # households in a sum that anybody may see
# What is unsafe to order through a form that people fill: the list of operators has its own procedure (two admins).
OPS = tuple(op for op in ROLES if op not in ("trust", "trust.confirm", "booked", "resend"))


class NewOrder(BaseModel):
    """An operation of the contract with its arguments (deploy/asyncapi.yaml); bytes as {"hex": "..."}."""

    model_config = ConfigDict(extra="forbid")
    op: str = Field(description="one of " + ", ".join(OPS))
    args: dict[str, Any] = {}
    target: Target
    valid_s: int = Field(300, ge=10, le=MAX_VALID_S, description="how long it may be obeyed, and is said again")


class Made(BaseModel):
    """An order that was taken."""

    id: str
    state: Literal["sent", "waiting"]
    hubs: int


class Watts(BaseModel):
    """Watts asked against watts reached, of the `households` whose meters were heard: 0 and nulls where that are too
    few for a sum. `asked_w`: what they may draw together, null where it is no limit of import; `now_w`: at the last
    reading while it held; `above_w`: of that, what each of them drew more than its limit, together."""

    hubs: int
    households: int
    asked_w: float | None
    before_w: float | None
    now_w: float | None
    above_w: float | None


class LoadAsked(BaseModel):
    """What the households of an order may draw together, by seconds after it was sent."""

    from_s: float
    to_s: float
    asked_w: float


class SpreadInFigures(BaseModel):
    """How an order reached its hubs, by seconds after it was sent. `obeyed`: how many had said that they obey; `watts`:
    what the `households` whose meters were heard drew together, none where those are too few for a sum."""

    seconds: int
    hubs: int
    households: int
    obeyed: list[tuple[float, int]]
    watts: list[tuple[float, float]]
    asked: LoadAsked | None
    sums: Watts


@router.post("/v1/orders", response_model=Made, status_code=201, tags=["orders"], responses={409: WORDS})
def give(its: Its, client: Control, order: NewOrder) -> Any:
    """Ask something of hubs. It is stored before it goes, and said again to each that is silent until it expires.
    For many hubs it waits for a second person."""
    if order.op not in OPS:
        raise ValueError(f"op: one of {', '.join(OPS)}")
    args = check_args(order.op, with_bytes(order.args))
    said = order.target.one()
    keeps_groups(client, args)

    def do(point: ControlPoint) -> tuple[dict[str, Any], list[CommandToSend]]:
        t = int(time.time())
        target = point.registry.narrowed(said, client.reach)
        order_id, sends = point.orders.give(order.op, args, target, order.valid_s, client.client_id, t)
        hubs = point.orders.hubs_of(order_id)
        point.note_deed(utc_ms(), client.client_id, "order", f"{order_id} {order.op} to {hubs} hubs")
        return {"id": order_id, "state": "sent" if sends else "waiting", "hubs": hubs}, sends

    return its.ask(do)


@router.post("/v1/orders/{order_id}/approve", tags=["orders"], responses={404: WORDS, 409: WORDS})
def approve(its: Its, client: Approver, db: Db, order_id: OrderId) -> dict[str, str]:
    """The second person's word: the order goes."""
    _commands(db, order_id, client)

    def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
        sends = point.orders.approve(order_id, client.client_id, int(time.time()))
        point.note_deed(utc_ms(), client.client_id, "approve", order_id)
        return None, sends

    its.ask(do)
    return {"state": "sent"}


@router.post("/v1/orders/{order_id}/withdraw", tags=["orders"], responses={404: WORDS, 409: WORDS})
def withdraw(its: Its, client: Control, db: Db, order_id: OrderId) -> dict[str, str]:
    """An order that still waits goes nowhere."""
    _commands(db, order_id, client)

    def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
        point.orders.withdraw(order_id)
        point.note_deed(utc_ms(), client.client_id, "withdraw", order_id)
        return None, []

    its.ask(do)
    return {"state": "withdrawn"}


@router.get("/v1/orders", tags=["orders"])
def orders(client: Fleet, db: Db, most: Most = 100) -> list[dict[str, Any]]:
    """Orders, newest first, with how many hubs are where."""
    reach = client.reach
    rows = db.execute(
        f"SELECT * FROM grid_order WHERE {_with_hubs(reach)} ORDER BY made_ms DESC LIMIT ?", (*reach.values, most)
    )
    return [_order(db, row, reach) for row in rows.fetchall()]


@router.get("/v1/orders/{order_id}", tags=["orders"], responses={404: WORDS})
def one_order(client: Fleet, db: Db, order_id: OrderId, most: Most = 1000) -> dict[str, Any]:
    """One order and every hub's answer, the ones that said no first; not what the household draws."""
    reach, row = client.reach, _seen_order(db, order_id, client)
    if row is None:
        raise HTTPException(404, "no such order")
    answers = db.execute(
        "SELECT hub, status, reason, detail, tries, heard_ms FROM order_hub WHERE order_id = ?"
        f" AND {reach.clause()}"
        " ORDER BY status IN ('refused', 'failed', 'silent', 'partial') DESC, hub LIMIT ?",
        (order_id, *reach.values, most),
    )
    return {
        **_order(db, row, reach),
        "answers": [{**dict(answer), "detail": _without_consumption(answer["detail"])} for answer in answers],
    }


def _without_consumption(detail: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(detail).items() if name not in CONSUMPTION}


@router.get("/v1/orders/{order_id}/spread.svg", tags=["orders"], responses={
    404: WORDS, 409: WORDS, 200: {"content": {"image/svg+xml": {}}}})  # fmt: skip
def spread_chart(
    client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 120
) -> Response:
    """How the order reached its hubs, second by second, and what they drew together."""
    try:
        # Of a handful of households a sum tells too much for who may see the fleet only.
        spread = _spread(db, order_id, seconds, client)
    except Refusal as error:
        raise HTTPException(409, str(error)) from None
    return Response(charts.spread(spread, _hubs_in(db, order_id, client.reach), seconds), media_type="image/svg+xml")


@router.get("/v1/orders/{order_id}/spread", response_model=SpreadInFigures, tags=["orders"], responses={
    404: WORDS, 409: WORDS})  # fmt: skip
def spread_in_figures(
    client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 120
) -> Any:
    """How the order reached its hubs, second by second, in figures: what `spread.svg` draws, and what `watts` says."""
    try:
        spread = _spread(db, order_id, seconds, client)
    except Refusal as error:
        raise HTTPException(409, str(error)) from None
    hubs = _hubs_in(db, order_id, client.reach)
    asked = None if spread.asked is None else dict(zip(("from_s", "to_s", "asked_w"), spread.asked, strict=True))
    return {"seconds": seconds, "hubs": hubs, "households": spread.households, "obeyed": charts.thinned(spread.obeyed),
            "watts": charts.with_peaks(spread.watts), "asked": asked, "sums": watts_of(spread, hubs)}  # fmt: skip


@router.get("/v1/orders/{order_id}/watts", response_model=Watts, tags=["orders"], responses={
    404: WORDS, 409: WORDS})  # fmt: skip
def watts(client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 3600) -> Any:
    """Watts asked against watts reached, as far as the book knows them; no sum where fewer than five households'
    meters were heard."""
    try:
        return watts_of(_spread(db, order_id, seconds, client), _hubs_in(db, order_id, client.reach))
    except Refusal as error:
        raise HTTPException(409, str(error)) from None


def _order(db: BookReader, row: Any, reach: Reach) -> dict[str, Any]:
    counts = dict(
        db.execute(
            f"SELECT status, count(*) FROM order_hub WHERE order_id = ? AND {reach.clause()} GROUP BY status",
            (row["id"], *reach.values),
        ).fetchall()
    )
    args, target = json.loads(row["args"]), json.loads(row["target"])
    said = {**dict(row), "args": args, "target": target, "counts": counts}
    if not reach.is_all:
        said["hubs"] = sum(counts.values())
        if not reach.has_all_of(db, row["id"]):
            said["target"] = {"group": ", ".join(reach.values)}  # whom else it is for is not told
    return said


def _with_hubs(reach: Reach) -> str:
    """A condition on grid_order: it is for somebody within reach."""
    if reach.is_all:
        return "true"
    return f"EXISTS (SELECT 1 FROM order_hub x WHERE x.order_id = grid_order.id AND {reach.clause('x.hub')})"


def _seen_order(db: BookReader, order_id: str, client: ApiClient) -> Any:
    sql = f"SELECT * FROM grid_order WHERE id = ? AND {_with_hubs(client.reach)}"
    return db.execute(sql, (order_id, *client.reach.values)).fetchone()


def _spread(db: BookReader, order_id: str, seconds: int, client: ApiClient) -> Spread:
    """Raises Refusal where it was not sent."""
    if _seen_order(db, order_id, client) is None:
        raise HTTPException(404, "no such order")
    return spread_of(db, order_id, seconds, _LEAST_SUMMED, client.reach)


def _commands(db: BookReader, order_id: str, client: ApiClient) -> None:
    """Who is bound to groups decides of orders to their hubs alone."""
    if not client.reach.is_all and not client.reach.has_all_of(db, order_id):
        raise HTTPException(404, "no such order")


def _hubs_in(db: BookReader, order_id: str, reach: Reach) -> int:
    sql = f"SELECT count(*) FROM order_hub WHERE order_id = ? AND {reach.clause()}"
    return int(db.execute(sql, (order_id, *reach.values)).fetchone()[0])
