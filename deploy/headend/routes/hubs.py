"""The fleet, and each hub of it: what it is, what happened to it, what the book has of it."""

import json
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from deploy.headend.control_point import broken_chains, overview
from deploy.headend.routes.asking import (
    WORDS,
    Db,
    Fleet,
    HubName,
    Its,
    Most,
    known,
)
from hub.headend.database import BookReader
from hub.wire.uplink.event import CONSUMPTION

router = APIRouter()


class Hub(BaseModel):
    """A hub as the registry knows it."""

    hub: str
    state: str
    version: str
    epoch: int
    boot: int
    kid: str
    not_after_s: int
    seen_ms: int
    faults: int
    fault: str
    source: str
    groups: list[str]
    errors: int = Field(description="alarms that hold, of severity error")
    warnings: int


@router.get("/v1/fleet", tags=["fleet"])
def fleet(its: Its, client: Fleet, db: Db) -> dict[str, Any]:
    """The fleet in figures."""
    reach = client.reach
    return {**overview(db, reach), "chains_broken": len(broken_chains(db, reach=reach)),
            "service": dict(its.service.counts) if reach.is_all else {}}  # fmt: skip


@router.get("/v1/hubs", response_model=list[Hub], tags=["fleet"])
def hubs(
    client: Fleet, db: Db, state: str = "", version: str = "", group: str = "", name: str = "", after: str = "",
    alarm: str = "", most: Most = 1000,
) -> Any:  # fmt: skip
    """Hubs by name; `name`: a part of it; `alarm`: a code, or `any`; `after`: go on behind this one."""
    where: list[str] = ["hub > ?", client.reach.clause()]
    values: list[Any] = [after, *client.reach.values]
    for clause, value in (
        ("state = ?", state), ("version = ?", version), ("replace(hub, ?, '') <> hub", name),
        ("hub IN (SELECT hub FROM hub_group WHERE name = ?)", group),
        ("hub IN (SELECT hub FROM alarm WHERE ? IN ('any', code))", alarm),
    ):  # fmt: skip
        if value:
            where.append(clause)
            values.append(value)
    sql = "SELECT * FROM hub WHERE " + " AND ".join(where) + " ORDER BY hub LIMIT ?"
    return [_hub(db, row) for row in db.execute(sql, (*values, most))]


@router.get("/v1/hubs/{hub}", response_model=Hub, tags=["fleet"], responses={404: WORDS})
def one_hub(client: Fleet, db: Db, hub: HubName) -> Any:
    """One hub."""
    return _hub(db, known(db, hub, client))


@router.get("/v1/hubs/{hub}/events", tags=["fleet"], responses={404: WORDS})
def events(client: Fleet, db: Db, hub: HubName, most: Most = 200) -> list[dict[str, Any]]:
    """What happened, newest first. What it tells of consumption (registers of a meter that was exchanged, peaks) is not
    here: see readings."""
    known(db, hub, client)
    rows = db.execute("SELECT * FROM event WHERE hub = ? ORDER BY t_ms DESC, n DESC LIMIT ?", (hub, most))
    return [
        {"t_ms": row["t_ms"], "event": row["event"],
         "fields": {name: value for name, value in json.loads(row["fields"]).items() if name not in CONSUMPTION}}
        for row in rows
    ]  # fmt: skip


@router.get("/v1/hubs/{hub}/receipts", tags=["fleet"], responses={404: WORDS})
def receipts(client: Fleet, db: Db, hub: HubName, most: Most = 200) -> list[dict[str, Any]]:
    """The chain of receipts, newest first; `fits`: false where it does not follow from the one before."""
    known(db, hub, client)
    broken = {(epoch, i) for _, epoch, i in broken_chains(db, hub)}
    rows = db.execute("SELECT * FROM receipt WHERE hub = ? ORDER BY epoch DESC, i DESC LIMIT ?", (hub, most))
    return [
        {"epoch": row["epoch"], "i": row["i"], "iat": row["iat"], "cti": row["cti"].hex() if row["cti"] else None,
         "status": row["status"], "reason": row["reason"], "fits": (row["epoch"], row["i"]) not in broken}
        for row in rows
    ]  # fmt: skip


@router.get("/v1/hubs/{hub}/book", tags=["fleet"], responses={404: WORDS})
def book(client: Fleet, db: Db, hub: HubName) -> list[dict[str, Any]]:
    """What is in the book of this hub: ranges of numbers by epoch and lane; `is_lost`: given up."""
    known(db, hub, client)
    rows = db.execute("SELECT epoch, lane, first, last, is_given_up FROM range WHERE hub = ? ORDER BY 1, 2, 3", (hub,))
    return [{"epoch": row[0], "lane": row[1], "first": row[2], "last": row[3], "is_lost": bool(row[4])} for row in rows]


def _hub(db: BookReader, row: Any) -> dict[str, Any]:
    groups = db.execute("SELECT name FROM hub_group WHERE hub = ? ORDER BY name", (row["hub"],))
    alarms = dict(
        db.execute("SELECT severity, count(*) FROM alarm WHERE hub = ? GROUP BY severity", (row["hub"],)).fetchall()
    )
    return {**dict(row), "groups": [found[0] for found in groups], "errors": alarms.get("error", 0),
            "warnings": alarms.get("warning", 0)}  # fmt: skip
