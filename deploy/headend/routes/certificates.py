"""Hubs' certificates, and their end."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from deploy.headend.certificates import inventory_of, issuers_in_use, lists_as_pem
from deploy.headend.control_point import ControlPoint
from deploy.headend.routes.asking import (
    WORDS,
    Admin,
    Db,
    Fleet,
    HubName,
    Its,
    Moment,
    Most,
    known,
    utc_ms,
)
from hub.headend.bookkeeper import CommandToSend

router = APIRouter()


class Revocation(BaseModel):
    """Why a hub's certificates are revoked (RFC 5280, 5.3.1)."""

    model_config = ConfigDict(extra="forbid")
    reason: Literal["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"] = (
        "unspecified"
    )


@router.get("/v1/certificates", tags=["certificates"])
def certificates(
    client: Fleet, db: Db, hub: str = "", issuer: str = "", ends_before_s: Moment = 1 << 40, most: Most = 1000
) -> list[dict[str, Any]]:  # fmt: skip
    """Hubs' certificates, the one that ends first at the top."""
    return inventory_of(db, hub, issuer, ends_before_s, int(time.time()), most, client.reach)


@router.get("/v1/certificates/issuers", tags=["certificates"])
def issuers(client: Fleet, db: Db) -> dict[str, int]:
    """How many hubs sign with a certificate of which authority (its key identifier)."""
    return issuers_in_use(db, client.reach)


@router.post("/v1/hubs/{hub}/revoke", tags=["certificates"], responses={404: WORDS})
def revoke(its: Its, client: Admin, db: Db, hub: HubName, revocation: Revocation) -> dict[str, int]:
    """All certificates of a hub, for good: brokers refuse it from the next list on, what it signs is believed no
    more, it cannot renew. A session that is open stays so until the hub or the broker ends it."""
    known(db, hub, client)

    def do(point: ControlPoint) -> tuple[int, list[CommandToSend]]:
        count = point.registry.revoke(hub, revocation.reason, int(time.time()))
        point.note_deed(utc_ms(), client.client_id, "revoke", f"{hub}: {count} certificates, {revocation.reason}")
        return count, []

    return {"certificates": its.ask(do)}


@router.get("/crl.pem", tags=["certificates"], responses={200: {"content": {"application/x-pem-file": {}}}})
def revocation_lists(db: Db) -> Response:
    """The revocation list of each authority (RFC 5280), for brokers; no secret."""
    return Response(lists_as_pem(db), media_type="application/x-pem-file")
