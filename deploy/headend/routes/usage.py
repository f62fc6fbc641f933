"""A household's consumption: each look at it stands in the audit log."""

import csv
import io
import json
from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from deploy.headend import charts, exports
from deploy.headend.control_point import ControlPoint
from deploy.headend.intervals import day_of
from deploy.headend.routes.asking import (
    WORDS,
    Admin,
    Day,
    Db,
    HubName,
    Its,
    Moment,
    Most,
    UsageClient,
    known,
    utc_ms,
)
from deploy.headend.usage import intervals_of, readings_of
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookReader
from hub.wire.uplink.reading import format_decimal, unit_of

router = APIRouter()
_MOST_READINGS = 100_000


class LoadLine(BaseModel):
    """`points`: UTC epoch seconds and watts, in order of time; of many the lowest and the highest of each stretch."""

    client: str
    points: list[tuple[float, float]]


class HouseholdLimit(BaseModel):
    """A limit of import that the household obeyed."""

    from_s: int
    to_s: int
    limit_w: int


class HouseholdDay(BaseModel):
    """`lines`: the meter's and the appliances' power, the largest first."""

    from_s: int
    to_s: int
    timezone: str
    lines: list[LoadLine]
    limits: list[HouseholdLimit]


@router.get("/v1/hubs/{hub}/readings", tags=["usage"], responses={404: WORDS, 200: {"content": {
    "application/senml+json": {}, "text/csv": {}, exports.PARQUET: {}}}, 406: WORDS})  # fmt: skip
def readings(
    its: Its, client: UsageClient, db: Db, request: Request, hub: HubName, from_s: Moment, to_s: Moment,
    appliance: str = "", quantity: str = "", most: Most = 10_000,
) -> Response:  # fmt: skip
    """Readings as they came, exact: SenML (RFC 8428), or where the client accepts that, CSV (`text/csv`) or Parquet
    (`application/vnd.apache.parquet`; the extra `parquet`)."""
    known(db, hub, client)
    its.note_reading(client, "readings", f"{hub} {from_s}-{to_s} {appliance} {quantity}")
    rows = readings_of(db, hub, appliance, quantity, from_s * 1000, to_s * 1000, most)
    if exports.PARQUET in request.headers.get("accept", ""):
        try:
            return Response(exports.parquet(hub, rows), media_type=exports.PARQUET)
        except exports.NotInstalled as error:
            raise HTTPException(406, str(error)) from None
    if "text/csv" in request.headers.get("accept", ""):
        text = io.StringIO()
        sheet = csv.writer(text)
        sheet.writerow(("time", "appliance", "quantity", "value", "unit", "flags"))
        for row in rows:
            when = datetime.fromtimestamp(row.t_ms / 1000, UTC).isoformat(timespec="milliseconds")
            value = format_decimal(row.mantissa, row.exponent)
            sheet.writerow((when, row.client, row.quantity, value, unit_of(row.quantity), row.flags))
        return PlainTextResponse(text.getvalue(), media_type="text/csv")
    records = [_senml(hub, row) for row in rows]
    return Response("[" + ",".join(records) + "]", media_type="application/senml+json")


@router.get("/v1/hubs/{hub}/intervals", tags=["usage"], responses={404: WORDS})
def intervals(
    its: Its, client: UsageClient, db: Db, hub: HubName, day: Day, quantity: str = "energy"
) -> list[dict[str, Any]]:
    """A market day's half-hours of a register of the meter, newest versions: 46, 48 or 50. `energy_wh` is null
    where it is not known."""
    known(db, hub, client)
    its.note_reading(client, "intervals", f"{hub} {day} {quantity}")
    from_s, to_s = day_of(date.fromisoformat(day), its.config.timezone)
    return [
        {"start_s": start_s, "version": version, "quality": quality, "made_ms": made_ms,
         "energy_wh": None if mwh is None else mwh / 1000}
        for start_s, version, mwh, quality, made_ms in intervals_of(db, hub, quantity, from_s, to_s)
    ]  # fmt: skip


@router.get("/v1/hubs/{hub}/day.svg", tags=["usage"], responses={404: WORDS, 200: {"content": {"image/svg+xml": {}}}})
def day_chart(its: Its, client: UsageClient, db: Db, hub: HubName, day: Day) -> Response:
    """The household's load on a market day, with the limits that were in force."""
    known(db, hub, client)
    its.note_reading(client, "day.svg", f"{hub} {day}")
    lines, limits, from_s, to_s = _drawn_of(its, db, hub, day)
    return Response(charts.day(lines, limits, from_s, to_s, its.config.timezone), media_type="image/svg+xml")


@router.get("/v1/hubs/{hub}/day", response_model=HouseholdDay, tags=["usage"], responses={404: WORDS})
def household_day(its: Its, client: UsageClient, db: Db, hub: HubName, day: Day) -> Any:
    """The household's load on a market day in figures, with the limits that were in force: what `day.svg` draws."""
    known(db, hub, client)
    its.note_reading(client, "day", f"{hub} {day}")
    lines, limits, from_s, to_s = _drawn_of(its, db, hub, day)
    held = [dict(zip(("from_s", "to_s", "limit_w"), limit, strict=True)) for limit in limits]
    return {"from_s": from_s, "to_s": to_s, "timezone": str(its.config.timezone),
            "lines": [line._asdict() for line in lines], "limits": held}  # fmt: skip


@router.delete("/v1/hubs/{hub}/usage", tags=["usage"], responses={404: WORDS})
def erase(its: Its, client: Admin, db: Db, hub: HubName) -> dict[str, int]:
    """A household's consumption goes, on its request: readings, half-hours, and the packs they came in."""
    known(db, hub, client)

    def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
        gone = point.usage.erase(hub)
        point.note_deed(utc_ms(), client.client_id, "erase", f"{hub}: {gone} readings")
        return gone, []

    return {"readings": its.ask(do)}


def _drawn_of(
    its: Its, db: BookReader, hub: str, day: str
) -> tuple[list[charts.PowerLine], list[tuple[int, int, int]], int, int]:
    """Lines, limits and the window."""
    from_s, to_s = day_of(date.fromisoformat(day), its.config.timezone)
    rows = readings_of(db, hub, "", "power", from_s * 1000, to_s * 1000, _MOST_READINGS)
    return charts.lines_of(rows), _limits_of(db, hub, from_s, to_s), from_s, to_s


def _limits_of(db: BookReader, hub: str, from_s: int, to_s: int) -> list[tuple[int, int, int]]:
    """`(from_s, to_s, limit_w)` of the import limits that this hub obeyed, from when it took them (one may wait for
    a second person, and a hub may be away); one that ended early ends where it did."""
    found = []
    for row in db.execute(
        "SELECT o.args, o.sent_ms, h.status, h.heard_ms, (SELECT min(r.iat) FROM receipt r WHERE r.cti = h.cti"
        " AND r.hub = h.hub AND r.status IN ('accepted', 'applied')) AS taken_s"
        " FROM order_hub h JOIN grid_order o ON o.id = h.order_id"
        " WHERE h.hub = ? AND o.op = 'limit'"
        " AND h.status NOT IN ('waiting', 'withdrawn', 'sent', 'silent', 'refused', 'failed')",
        (hub,),
    ):
        args = json.loads(row["args"])
        taken_s = row["taken_s"] or row["sent_ms"] // 1000
        start = int(args.get("start", taken_s))
        begin, end = max(start, taken_s), start + int(args["duration"])
        if row["status"] in ("cancelled", "superseded"):
            end = min(end, row["heard_ms"] // 1000)
        if args.get("direction", "import") == "import" and begin < to_s and end > max(begin, from_s):
            found.append((max(begin, from_s), min(end, to_s), int(args["watts"])))
    return sorted(found)


def _senml(hub: str, row: Any) -> str:
    """One SenML record; the value is written as it was measured, not through a float."""
    unit = unit_of(row.quantity)
    name = json.dumps(f"{hub}/{row.client}/{row.quantity}")
    words = [
        f'"n":{name}',
        f'"t":{row.t_ms // 1000}.{row.t_ms % 1000:03d}',
        f'"v":{format_decimal(row.mantissa, row.exponent)}',
    ]
    if unit:
        words.insert(1, f'"u":"{unit}"')
    return "{" + ",".join(words) + "}"
