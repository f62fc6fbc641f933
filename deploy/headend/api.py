"""The API (README.md has the table of roles): REST with OpenAPI, OAuth 2 client credentials, server-sent events, SenML.

It reads the database through connections of its own; whatever changes something is asked of the service's thread, in
one transaction with its line in the audit log.
"""

import asyncio
import base64
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import OAuth2
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel, ConfigDict, Field

from deploy.headend import charts, exports
from deploy.headend.access import TOKEN_S, Access
from deploy.headend.alarms import alarms_of
from deploy.headend.certificates import inventory_of, issuers_in_use, lists_as_pem
from deploy.headend.config import ApiClient, HeadendConfig
from deploy.headend.console_pages import console_router
from deploy.headend.control_point import ControlPoint, broken_chains, overview, reader
from deploy.headend.intervals import day_of
from deploy.headend.live import Live
from deploy.headend.metrics import metrics
from deploy.headend.openadr_api import make_router
from deploy.headend.orders import Refusal, Spread, spread_of, watts_of
from deploy.headend.reach import Reach
from deploy.headend.rollouts import rollouts_of
from deploy.headend.service import Service
from deploy.headend.usage import intervals_of, readings_of
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import FAILURES, BookReader
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.uplink.args import check_args
from hub.wire.uplink.command import ROLES
from hub.wire.uplink.reading import format_decimal, unit_of
from hub.wire.version import VERSION

_MOST_ROWS = 100_000
_MAX_VALID_S = 86_400
_ASK_S = 30.0
_GROUPS_FOR_S = 5.0  # so long who follows may see a hub that has left its groups
_LEAST_SUMMED = 5  # households in a sum that anybody may see
# What is unsafe to order through a form that people fill: the list of operators has its own procedure (two admins).
OPS = tuple(op for op in ROLES if op not in ("trust", "trust.confirm", "booked", "resend"))

_WORDS: dict[str, Any] = {
    "description": "what is wrong, in words",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}},
}
_OAUTH: dict[str, Any] = {
    "description": "RFC 6749, 5.2",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}},
}
HubName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="a hub: the CN of its certificate")]
OrderId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]
Moment = Annotated[int, Query(ge=0, le=1 << 40, description="UTC epoch seconds")]
Day = Annotated[str, Query(pattern=r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}$", description="a day of the market: 2027-03-28")]
Most = Annotated[int, Query(ge=1, le=_MOST_ROWS)]


class Target(BaseModel):
    """Whom an order is for: exactly one of these."""

    model_config = ConfigDict(extra="forbid")
    hub: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    group: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    all: Literal[True] | None = None
    where: dict[Literal["state", "version", "group"], str] | None = Field(None, min_length=1)

    def one(self) -> dict[str, Any]:
        said = self.model_dump(exclude_none=True)
        if len(said) != 1:
            raise ValueError("target: exactly one of hub, group, all, where")
        return said


class NewOrder(BaseModel):
    """An operation of the contract with its arguments (deploy/asyncapi.yaml); bytes as {"hex": "..."}."""

    model_config = ConfigDict(extra="forbid")
    op: str = Field(description="one of " + ", ".join(OPS))
    args: dict[str, Any] = {}
    target: Target
    valid_s: int = Field(300, ge=10, le=_MAX_VALID_S, description="how long it may be obeyed, and is said again")


class Revocation(BaseModel):
    """Why a hub's certificates are revoked (RFC 5280, 5.3.1)."""

    model_config = ConfigDict(extra="forbid")
    reason: Literal["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"] = (
        "unspecified"
    )


class NewRollout(BaseModel):
    """An update or a configuration in waves."""

    model_config = ConfigDict(extra="forbid")
    op: Literal["update", "config"]
    args: dict[str, Any]
    target: Target
    wave_hubs: int = Field(10, ge=1, le=1_000_000, description="hubs in a wave")
    success_share: float = Field(0.9, gt=0, le=1, description="of a wave, that starts the next")
    error_share: float = Field(0.05, ge=0, lt=1, description="of all that were asked, beyond which it stops")
    valid_s: int = Field(3600, ge=10, le=_MAX_VALID_S)


class WayBack(BaseModel):
    """What hubs are brought back to: the settings of before (`{"set": ...}`), or the version of before."""

    model_config = ConfigDict(extra="forbid")
    args: dict[str, Any]


class SeenTo(BaseModel):
    """An alarm that a person has seen to."""

    model_config = ConfigDict(extra="forbid")
    code: str = Field(max_length=64)
    subject: str = Field("", max_length=64)


class Made(BaseModel):
    """An order that was taken."""

    id: str
    state: Literal["sent", "waiting"]
    hubs: int


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
    watts: float


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


class AccessToken(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = TOKEN_S


def make_api(config: HeadendConfig, service: Service, live: Live) -> FastAPI:
    """The application; `service` was started."""
    api = FastAPI(
        title="meterhub control point", version=VERSION, docs_url=None, redoc_url=None,
        description="Usage, orders and the book of a fleet of hubs.",
        responses={400: _WORDS, 401: _WORDS, 403: _WORDS, 503: _WORDS},
    )  # fmt: skip
    access = Access(config.clients)
    scheme = OAuth2(flows={"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {}}}, auto_error=False)

    def client_of(authorization: Annotated[str | None, Depends(scheme)]) -> ApiClient:
        kind, token = get_authorization_scheme_param(authorization)
        client = access.client_of(token) if kind.lower() == "bearer" else None
        if client is None:
            raise HTTPException(401, "a bearer token is needed: POST /oauth/token", {"WWW-Authenticate": "Bearer"})
        return client

    def needs(role: str) -> Callable[[ApiClient], ApiClient]:
        def check(client: Annotated[ApiClient, Depends(client_of)]) -> ApiClient:
            if role not in client.roles:
                raise HTTPException(
                    403, f"the role {role} is needed; {client.client_id} has {', '.join(sorted(client.roles))}"
                )
            return client

        return check

    def unbound(role: str) -> Callable[[ApiClient], ApiClient]:
        def check(client: Annotated[ApiClient, Depends(needs(role))]) -> ApiClient:
            if not client.reach.is_all:
                raise HTTPException(403, f"{client.client_id} is bound to groups, and OpenADR here is for all")
            return client

        return check

    def database() -> Iterator[BookReader]:
        db = reader(config.place)
        try:
            yield db
        finally:
            db.close()

    Db = Annotated[BookReader, Depends(database)]  # noqa: N806
    Fleet = Annotated[ApiClient, Depends(needs("fleet"))]  # noqa: N806
    UsageClient = Annotated[ApiClient, Depends(needs("usage"))]  # noqa: N806
    Control = Annotated[ApiClient, Depends(needs("control"))]  # noqa: N806
    Approver = Annotated[ApiClient, Depends(needs("approve"))]  # noqa: N806
    Admin = Annotated[ApiClient, Depends(needs("admin"))]  # noqa: N806

    def ask(do: Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]) -> Any:
        try:
            return service.ask(do).result(_ASK_S)
        except Refusal as error:
            raise HTTPException(409, str(error)) from None
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        except TimeoutError:
            raise HTTPException(503, "the service is busy: ask again", {"Retry-After": "5"}) from None
        except HardwareError as error:
            raise HTTPException(503, f"the operator's key: {error}", {"Retry-After": "30"}) from None
        except FAILURES as error:
            raise HTTPException(503, f"not written: {error}", {"Retry-After": "30"}) from None

    def note_reading(client: ApiClient, action: str, detail: str) -> None:
        """Who looked at a household's consumption stands in the audit log."""

        def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            point.note_deed(_utc_ms(), client.client_id, action, detail)
            return None, []

        ask(do)

    api.include_router(make_router(ask, unbound("fleet"), unbound("control"), database))

    for failure in FAILURES:

        @api.exception_handler(failure)
        async def away(_request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": f"the database does not answer: {error}"[:200]}, 503, {"Retry-After": "30"})

    @api.exception_handler(ValueError)
    async def refused(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)[:200]}, 400)

    urlencoded = "application/x-www-form-urlencoded"
    form = {"type": "object", "required": ["grant_type"], "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {"type": "string"}, "client_secret": {"type": "string"}}}  # fmt: skip

    # Where a client of OpenADR looks for it.
    @api.post("/openadr3/auth/token", response_model=AccessToken, tags=["OpenADR 3"],
              responses={400: _OAUTH, 401: _OAUTH}, openapi_extra={
        "requestBody": {"required": True, "content": {urlencoded: {"schema": form}}}})  # fmt: skip
    @api.post("/oauth/token", response_model=AccessToken, tags=["access"],
              responses={400: _OAUTH, 401: _OAUTH}, openapi_extra={
        "requestBody": {"required": True, "content": {urlencoded: {"schema": form}}}})  # fmt: skip
    async def token(request: Request) -> Any:
        """A bearer token for an hour. The client names itself in the form or by HTTP Basic (RFC 6749, 2.3.1)."""
        body = (await request.body())[:4096]
        said = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        client_id, secret = said.get("client_id", ""), said.get("client_secret", "")
        kind, credentials = get_authorization_scheme_param(request.headers.get("Authorization"))
        if kind.lower() == "basic":
            try:
                client_id, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
            except ValueError:
                client_id = ""
        if said.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        given = access.token_for(client_id, secret)
        if given is None:
            return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
        return JSONResponse(AccessToken(access_token=given).model_dump(), headers={"Cache-Control": "no-store"})

    @api.get("/v1/fleet", tags=["fleet"])
    def fleet(client: Fleet, db: Db) -> dict[str, Any]:
        """The fleet in figures."""
        reach = client.reach
        return {**overview(db, reach), "chains_broken": len(broken_chains(db, reach=reach)),
                "service": dict(service.counts) if reach.is_all else {}}  # fmt: skip

    @api.get("/v1/hubs", response_model=list[Hub], tags=["fleet"])
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

    @api.get("/v1/hubs/{hub}", response_model=Hub, tags=["fleet"], responses={404: _WORDS})
    def one_hub(client: Fleet, db: Db, hub: HubName) -> Any:
        """One hub."""
        return _hub(db, _known(db, hub, client))

    @api.get("/v1/hubs/{hub}/events", tags=["fleet"], responses={404: _WORDS})
    def events(client: Fleet, db: Db, hub: HubName, most: Most = 200) -> list[dict[str, Any]]:
        """What happened, newest first."""
        _known(db, hub, client)
        rows = db.execute("SELECT * FROM event WHERE hub = ? ORDER BY t_ms DESC, n DESC LIMIT ?", (hub, most))
        return [{"t_ms": row["t_ms"], "event": row["event"], "fields": json.loads(row["fields"])} for row in rows]

    @api.get("/v1/alarms", response_model=list[Alarm], tags=["fleet"])
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

    @api.post("/v1/hubs/{hub}/alarms/dismiss", tags=["fleet"], responses={404: _WORDS})
    def dismiss(client: Control, db: Db, hub: HubName, alarm: SeenTo) -> dict[str, int]:
        """Somebody has seen to it: it goes, and begins anew when the hub says it again. How many went."""
        _known(db, hub, client)

        def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
            gone = point.alarms.dismiss(hub, alarm.code, alarm.subject)
            if gone:
                point.note_deed(_utc_ms(), client.client_id, "dismiss", f"{hub}: {alarm.code} {alarm.subject}")
            return gone, []

        return {"alarms": ask(do)}

    @api.get("/v1/hubs/{hub}/receipts", tags=["fleet"], responses={404: _WORDS})
    def receipts(client: Fleet, db: Db, hub: HubName, most: Most = 200) -> list[dict[str, Any]]:
        """The chain of receipts, newest first; `fits`: false where it does not follow from the one before."""
        _known(db, hub, client)
        broken = {(epoch, i) for _, epoch, i in broken_chains(db, hub)}
        rows = db.execute("SELECT * FROM receipt WHERE hub = ? ORDER BY epoch DESC, i DESC LIMIT ?", (hub, most))
        return [
            {"epoch": row["epoch"], "i": row["i"], "iat": row["iat"], "cti": row["cti"].hex() if row["cti"] else None,
             "status": row["status"], "reason": row["reason"], "fits": (row["epoch"], row["i"]) not in broken}
            for row in rows
        ]  # fmt: skip

    @api.get("/v1/hubs/{hub}/book", tags=["fleet"], responses={404: _WORDS})
    def book(client: Fleet, db: Db, hub: HubName) -> list[dict[str, Any]]:
        """What is in the book of this hub: ranges of numbers by epoch and lane; `is_lost`: given up."""
        _known(db, hub, client)
        rows = db.execute(
            "SELECT epoch, lane, first, last, is_given_up FROM range WHERE hub = ? ORDER BY 1, 2, 3", (hub,)
        )
        return [
            {"epoch": row[0], "lane": row[1], "first": row[2], "last": row[3], "is_lost": bool(row[4])} for row in rows
        ]

    @api.get("/v1/hubs/{hub}/readings", tags=["usage"], responses={404: _WORDS, 200: {"content": {
        "application/senml+json": {}, "text/csv": {}, exports.PARQUET: {}}}, 406: _WORDS})  # fmt: skip
    def readings(
        client: UsageClient, db: Db, request: Request, hub: HubName, from_s: Moment, to_s: Moment,
        appliance: str = "", quantity: str = "", most: Most = 10_000,
    ) -> Response:  # fmt: skip
        """Readings as they came, exact: SenML (RFC 8428), or where the client accepts that, CSV (`text/csv`) or Parquet
        (`application/vnd.apache.parquet`; the extra `parquet`)."""
        _known(db, hub, client)
        note_reading(client, "readings", f"{hub} {from_s}-{to_s} {appliance} {quantity}")
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

    @api.get("/v1/hubs/{hub}/intervals", tags=["usage"], responses={404: _WORDS})
    def intervals(
        client: UsageClient, db: Db, hub: HubName, day: Day, quantity: str = "energy"
    ) -> list[dict[str, Any]]:
        """A market day's half-hours of a register of the meter, newest versions: 46, 48 or 50. `energy_wh` is null
        where it is not known."""
        _known(db, hub, client)
        note_reading(client, "intervals", f"{hub} {day} {quantity}")
        from_s, to_s = day_of(date.fromisoformat(day), config.timezone)
        return [
            {"start_s": start_s, "version": version, "quality": quality, "made_ms": made_ms,
             "energy_wh": None if mwh is None else mwh / 1000}
            for start_s, version, mwh, quality, made_ms in intervals_of(db, hub, quantity, from_s, to_s)
        ]  # fmt: skip

    def drawn_of(
        db: BookReader, hub: str, day: str
    ) -> tuple[list[charts.PowerLine], list[tuple[int, int, int]], int, int]:
        """Lines, limits and the window."""
        from_s, to_s = day_of(date.fromisoformat(day), config.timezone)
        rows = readings_of(db, hub, "", "power", from_s * 1000, to_s * 1000, _MOST_ROWS)
        return charts.lines_of(rows), _limits_of(db, hub, from_s, to_s), from_s, to_s

    @api.get("/v1/hubs/{hub}/day.svg", tags=["usage"], responses={404: _WORDS, 200: {"content": {"image/svg+xml": {}}}})
    def day_chart(client: UsageClient, db: Db, hub: HubName, day: Day) -> Response:
        """The household's load on a market day, with the limits that were in force."""
        _known(db, hub, client)
        note_reading(client, "day.svg", f"{hub} {day}")
        lines, limits, from_s, to_s = drawn_of(db, hub, day)
        return Response(charts.day(lines, limits, from_s, to_s, config.timezone), media_type="image/svg+xml")

    @api.get("/v1/hubs/{hub}/day", response_model=HouseholdDay, tags=["usage"], responses={404: _WORDS})
    def household_day(client: UsageClient, db: Db, hub: HubName, day: Day) -> Any:
        """The same in figures: what is drawn of the household's load on a market day, and the limits that were in
        force."""
        _known(db, hub, client)
        note_reading(client, "day", f"{hub} {day}")
        lines, limits, from_s, to_s = drawn_of(db, hub, day)
        held = [dict(zip(("from_s", "to_s", "limit_w"), limit, strict=True)) for limit in limits]
        return {"from_s": from_s, "to_s": to_s, "timezone": str(config.timezone),
                "lines": [line._asdict() for line in lines], "limits": held}  # fmt: skip

    @api.delete("/v1/hubs/{hub}/usage", tags=["usage"], responses={404: _WORDS})
    def erase(client: Admin, db: Db, hub: HubName) -> dict[str, int]:
        """A household's consumption goes, on its request: readings, half-hours, and the packs they came in."""
        _known(db, hub, client)

        def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
            gone = point.usage.erase(hub)
            point.note_deed(_utc_ms(), client.client_id, "erase", f"{hub}: {gone} readings")
            return gone, []

        return {"readings": ask(do)}

    @api.get("/v1/certificates", tags=["certificates"])
    def certificates(
        client: Fleet, db: Db, hub: str = "", issuer: str = "", ends_before_s: Moment = 1 << 40, most: Most = 1000
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Hubs' certificates, the one that ends first at the top."""
        return inventory_of(db, hub, issuer, ends_before_s, int(time.time()), most, client.reach)

    @api.get("/v1/certificates/issuers", tags=["certificates"])
    def issuers(client: Fleet, db: Db) -> dict[str, int]:
        """How many hubs sign with a certificate of which authority (its key identifier)."""
        return issuers_in_use(db, client.reach)

    @api.post("/v1/hubs/{hub}/revoke", tags=["certificates"], responses={404: _WORDS})
    def revoke(client: Admin, db: Db, hub: HubName, revocation: Revocation) -> dict[str, int]:
        """All certificates of a hub, for good: brokers refuse it from the next list on, what it signs is believed no
        more, it cannot renew. A session that is open stays so until the hub or the broker ends it."""
        _known(db, hub, client)

        def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
            count = point.registry.revoke(hub, revocation.reason, int(time.time()))
            point.note_deed(_utc_ms(), client.client_id, "revoke", f"{hub}: {count} certificates, {revocation.reason}")
            return count, []

        return {"certificates": ask(do)}

    @api.get("/crl.pem", tags=["certificates"], responses={200: {"content": {"application/x-pem-file": {}}}})
    def revocation_lists(db: Db) -> Response:
        """The revocation list of each authority (RFC 5280), for brokers; no secret."""
        return Response(lists_as_pem(db), media_type="application/x-pem-file")

    @api.post("/v1/orders", response_model=Made, status_code=201, tags=["orders"], responses={409: _WORDS})
    def give(client: Control, order: NewOrder) -> Any:
        """Ask something of hubs. It is stored before it goes, and said again to each that is silent until it expires.
        For many hubs it waits for a second person."""
        if order.op not in OPS:
            raise ValueError(f"op: one of {', '.join(OPS)}")
        args = check_args(order.op, _with_bytes(order.args))
        said = order.target.one()
        _keeps_groups(client, args)

        def do(point: ControlPoint) -> tuple[dict[str, Any], list[CommandToSend]]:
            t = int(time.time())
            target = point.registry.narrowed(said, client.reach)
            order_id, sends = point.orders.give(order.op, args, target, order.valid_s, client.client_id, t)
            hubs = point.orders.hubs_of(order_id)
            point.note_deed(_utc_ms(), client.client_id, "order", f"{order_id} {order.op} to {hubs} hubs")
            return {"id": order_id, "state": "sent" if sends else "waiting", "hubs": hubs}, sends

        return ask(do)

    @api.post("/v1/orders/{order_id}/approve", tags=["orders"], responses={404: _WORDS, 409: _WORDS})
    def approve(client: Approver, db: Db, order_id: OrderId) -> dict[str, str]:
        """The second person's word: the order goes."""
        _commands(db, order_id, client)

        def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            sends = point.orders.approve(order_id, client.client_id, int(time.time()))
            point.note_deed(_utc_ms(), client.client_id, "approve", order_id)
            return None, sends

        ask(do)
        return {"state": "sent"}

    @api.post("/v1/orders/{order_id}/withdraw", tags=["orders"], responses={404: _WORDS, 409: _WORDS})
    def withdraw(client: Control, db: Db, order_id: OrderId) -> dict[str, str]:
        """An order that still waits goes nowhere."""
        _commands(db, order_id, client)

        def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            point.orders.withdraw(order_id)
            point.note_deed(_utc_ms(), client.client_id, "withdraw", order_id)
            return None, []

        ask(do)
        return {"state": "withdrawn"}

    @api.get("/v1/orders", tags=["orders"])
    def orders(client: Fleet, db: Db, most: Most = 100) -> list[dict[str, Any]]:
        """Orders, newest first, with how many hubs are where."""
        reach = client.reach
        rows = db.execute(
            f"SELECT * FROM grid_order WHERE {_with_hubs(reach)} ORDER BY made_ms DESC LIMIT ?", (*reach.values, most)
        )
        return [_order(db, row, reach) for row in rows.fetchall()]

    @api.get("/v1/orders/{order_id}", tags=["orders"], responses={404: _WORDS})
    def one_order(client: Fleet, db: Db, order_id: OrderId, most: Most = 1000) -> dict[str, Any]:
        """One order and every hub's answer, the ones that said no first."""
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
            "answers": [{**dict(answer), "detail": json.loads(answer["detail"])} for answer in answers],
        }

    @api.get("/v1/orders/{order_id}/spread.svg", tags=["orders"], responses={
        404: _WORDS, 409: _WORDS, 200: {"content": {"image/svg+xml": {}}}})  # fmt: skip
    def spread_chart(
        client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 120
    ) -> Response:
        """How the order reached its hubs, second by second, and what they drew together."""
        try:
            # Of a handful of households a sum tells too much for who may see the fleet only.
            spread = _spread(db, order_id, seconds, client)
        except Refusal as error:
            raise HTTPException(409, str(error)) from None
        return Response(
            charts.spread(spread, _hubs_in(db, order_id, client.reach), seconds), media_type="image/svg+xml"
        )

    @api.get("/v1/orders/{order_id}/spread", response_model=SpreadInFigures, tags=["orders"], responses={
        404: _WORDS, 409: _WORDS})  # fmt: skip
    def spread_in_figures(
        client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 120
    ) -> Any:
        """The same in figures, with what `watts` says."""
        try:
            its = _spread(db, order_id, seconds, client)
        except Refusal as error:
            raise HTTPException(409, str(error)) from None
        hubs = _hubs_in(db, order_id, client.reach)
        asked = None if its.asked is None else dict(zip(("from_s", "to_s", "watts"), its.asked, strict=True))
        return {"seconds": seconds, "hubs": hubs, "households": its.households, "obeyed": charts.thinned(its.obeyed),
                "watts": charts.with_peaks(its.watts), "asked": asked, "sums": watts_of(its, hubs)}  # fmt: skip

    @api.get("/v1/orders/{order_id}/watts", response_model=Watts, tags=["orders"], responses={
        404: _WORDS, 409: _WORDS})  # fmt: skip
    def watts(client: Fleet, db: Db, order_id: OrderId, seconds: Annotated[int, Query(ge=5, le=86_400)] = 3600) -> Any:
        """Watts asked against watts reached, as far as the book knows them; no sum where fewer than five households'
        meters were heard."""
        try:
            return watts_of(_spread(db, order_id, seconds, client), _hubs_in(db, order_id, client.reach))
        except Refusal as error:
            raise HTTPException(409, str(error)) from None

    @api.post("/v1/rollouts", status_code=201, tags=["roll-outs"], responses={409: _WORDS})
    def begin_rollout(client: Control, rollout: NewRollout) -> dict[str, str]:
        """Start one; it goes on by itself, wave by wave, until it is done or stopped."""
        args, said = check_args(rollout.op, _with_bytes(rollout.args)), rollout.target.one()
        _keeps_groups(client, args)
        rule = rollout.model_dump(include={"wave_hubs", "success_share", "error_share", "valid_s"})

        def do(point: ControlPoint) -> tuple[str, list[CommandToSend]]:
            t = int(time.time())
            target = point.registry.narrowed(said, client.reach)
            rollout_id = point.rollouts.begin(rollout.op, args, target, client.client_id, t, **rule)
            point.note_deed(_utc_ms(), client.client_id, "rollout", f"{rollout_id} {rollout.op}")
            return rollout_id, []

        return {"id": ask(do)}

    @api.post("/v1/rollouts/{order_id}/back", status_code=201, tags=["roll-outs"], responses={
        404: _WORDS, 409: _WORDS})  # fmt: skip
    def bring_back(client: Control, db: Db, order_id: OrderId, way: WayBack) -> dict[str, str]:
        """Stop it, and bring back the hubs that did it, by a roll-out of its own with these arguments."""
        _changes_rollout(db, order_id, client)

        def do(point: ControlPoint) -> tuple[str, list[CommandToSend]]:
            args = check_args(point.rollouts.op_of(order_id), _with_bytes(way.args))
            _keeps_groups(client, args)
            rollout_id = point.rollouts.back(order_id, args, client.client_id, int(time.time()))
            point.note_deed(_utc_ms(), client.client_id, "rollout back", f"{order_id} by {rollout_id}")
            return rollout_id, []

        return {"id": ask(do)}

    @api.post("/v1/rollouts/{order_id}/{action}", tags=["roll-outs"], responses={404: _WORDS, 409: _WORDS})
    def change_rollout(
        client: Control, db: Db, order_id: OrderId, action: Literal["pause", "resume", "retry", "stop"]
    ) -> dict[str, str]:
        """Pause it, stop it; or go on (`resume`; `retry` is another word for it), also after it stopped: who did not do
        it is asked again."""
        _changes_rollout(db, order_id, client)

        def do(point: ControlPoint) -> tuple[str, list[CommandToSend]]:
            if action == "stop":
                point.rollouts.stop(order_id, client.client_id)
            elif action == "pause":
                point.rollouts.pause(order_id)
            else:
                point.rollouts.resume(order_id)
            point.note_deed(_utc_ms(), client.client_id, f"rollout {action}", order_id)
            return {"pause": "paused", "stop": "stopped"}.get(action, "running"), []

        return {"state": ask(do)}

    @api.get("/v1/rollouts", tags=["roll-outs"])
    def rollouts(client: Fleet, db: Db) -> list[dict[str, Any]]:
        """Roll-outs, newest first, with how many hubs are where, wave by wave."""
        return rollouts_of(db, reach=client.reach)

    @api.get("/v1/rollouts/{order_id}", tags=["roll-outs"], responses={404: _WORDS})
    def one_rollout(client: Fleet, db: Db, order_id: OrderId) -> dict[str, Any]:
        """One of them."""
        found = rollouts_of(db, order_id, client.reach)
        if not found:
            raise HTTPException(404, "no such roll-out")
        return found[0]

    @api.get("/v1/audit", tags=["access"])
    def audit(client: Admin, db: Db, most: Most = 1000) -> list[dict[str, Any]]:
        """Who did what, newest first: every order, every look at a household's consumption. Who is bound to groups sees
        what it did itself."""
        own, values = ("true", ()) if client.reach.is_all else ("client = ?", (client.client_id,))
        rows = db.execute(f"SELECT * FROM audit WHERE {own} ORDER BY id DESC LIMIT ?", (*values, most))
        return [dict(row) for row in rows]

    @api.get("/v1/live", tags=["fleet"], responses={200: {"content": {"text/event-stream": {}}}})
    async def stream(client: Fleet, seconds: Annotated[float, Query(gt=0, le=86_400)] = 86_400) -> StreamingResponse:
        """What hubs say, as it comes: server-sent events `state`, `receipt`, `event`. No consumption."""

        def hubs_now() -> frozenset[str]:
            with closing(reader(config.place)) as db:
                return client.reach.hubs(db)

        async def lines() -> AsyncIterator[str]:
            deadline = time.monotonic() + seconds
            within: frozenset[str] = frozenset()
            look_at = 0.0
            with live.follow() as news:
                yield ": connected\n\n"
                while (left := deadline - time.monotonic()) > 0:
                    try:
                        name, data = await asyncio.wait_for(news.get(), min(left, 15.0))
                    except TimeoutError:
                        yield ": nothing new\n\n"
                        continue
                    if not client.reach.is_all:
                        if time.monotonic() >= look_at:
                            within, look_at = await asyncio.to_thread(hubs_now), time.monotonic() + _GROUPS_FOR_S
                        if data["hub"] not in within:
                            continue
                    yield f"event: {name}\ndata: {json.dumps(data)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @api.get("/metrics", response_class=PlainTextResponse, tags=["operation"])
    def prometheus(db: Db) -> PlainTextResponse:
        """Figures of the service and the fleet for Prometheus; nothing of a household."""
        text = metrics(overview(db), service.counts, len(broken_chains(db)), db)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @api.get("/healthz", tags=["operation"], responses={503: _WORDS})
    def health() -> JSONResponse:
        """200 while the service takes messages."""
        is_alive = service.is_alive
        return JSONResponse({"state": "serving" if is_alive else "down"}, 200 if is_alive else 503)

    api.include_router(console_router())
    return api


def _utc_ms() -> int:
    return int(time.time() * 1000)


def _known(db: BookReader, hub: str, client: ApiClient) -> Any:
    """Its row, where the client may know of it."""
    sql = f"SELECT * FROM hub WHERE hub = ? AND {client.reach.clause()}"
    row: Any | None = db.execute(sql, (hub, *client.reach.values)).fetchone()
    if row is None:
        raise HTTPException(404, "no such hub")
    return row


def _hub(db: BookReader, row: Any) -> dict[str, Any]:
    groups = db.execute("SELECT name FROM hub_group WHERE hub = ? ORDER BY name", (row["hub"],))
    alarms = dict(
        db.execute("SELECT severity, count(*) FROM alarm WHERE hub = ? GROUP BY severity", (row["hub"],)).fetchall()
    )
    return {**dict(row), "groups": [found[0] for found in groups], "errors": alarms.get("error", 0),
            "warnings": alarms.get("warning", 0)}  # fmt: skip


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


def _changes_rollout(db: BookReader, rollout_id: str, client: ApiClient) -> None:
    """The same of roll-outs."""
    if not client.reach.is_all and not client.reach.has_all_of_rollout(db, rollout_id):
        raise HTTPException(404, "no such roll-out")


def _keeps_groups(client: ApiClient, args: dict[str, Any]) -> None:
    """Who is bound to groups does not say who is in them. Raises ValueError."""
    if not client.reach.is_all and "hub.groups" in args.get("set", {}):
        raise ValueError(f"hub.groups: {client.client_id} is bound to groups, and does not change who is in them")


def _hubs_in(db: BookReader, order_id: str, reach: Reach) -> int:
    sql = f"SELECT count(*) FROM order_hub WHERE order_id = ? AND {reach.clause()}"
    return int(db.execute(sql, (order_id, *reach.values)).fetchone()[0])


def _limits_of(db: BookReader, hub: str, from_s: int, to_s: int) -> list[tuple[int, int, int]]:
    """`(from_s, to_s, limit_w)` of the import limits that this hub obeyed; one that ended early ends where it did."""
    found = []
    for row in db.execute(
        "SELECT o.args, o.made_ms, h.status, h.heard_ms FROM order_hub h JOIN grid_order o ON o.id = h.order_id"
        " WHERE h.hub = ? AND o.op = 'limit'"
        " AND h.status NOT IN ('waiting', 'withdrawn', 'sent', 'silent', 'refused', 'failed')",
        (hub,),
    ):
        args = json.loads(row["args"])
        begin = int(args.get("start", row["made_ms"] // 1000))
        end = begin + int(args["duration"])
        if row["status"] in ("cancelled", "superseded"):
            end = min(end, row["heard_ms"] // 1000)
        if args.get("direction", "import") == "import" and begin < to_s and end > max(begin, from_s):
            found.append((max(begin, from_s), min(end, to_s), int(args["watts"])))
    return sorted(found)


def _with_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"hex"} and isinstance(value["hex"], str):
            return bytes.fromhex(value["hex"])
        return {key: _with_bytes(item) for key, item in value.items()}
    return [_with_bytes(item) for item in value] if isinstance(value, list) else value


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
