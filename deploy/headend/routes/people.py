"""Who may ask: tokens, and the audit log of what people did."""

import base64
from typing import Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel

from deploy.headend.access import TOKEN_S
from deploy.headend.routes.asking import (
    Admin,
    Db,
    Its,
    Most,
)

router = APIRouter()
_OAUTH: dict[str, Any] = {
    "description": "RFC 6749, 5.2",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}},
}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string"},
    },
}
_BODY = {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {400: _OAUTH, 401: _OAUTH}


class AccessToken(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = TOKEN_S


# Where a client of OpenADR looks for it.
@router.post("/openadr3/auth/token", response_model=AccessToken, tags=["OpenADR 3"], responses=_ANSWERS,
             openapi_extra=_BODY)  # fmt: skip
@router.post("/oauth/token", response_model=AccessToken, tags=["access"], responses=_ANSWERS, openapi_extra=_BODY)
async def token(its: Its, request: Request) -> Any:
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
    given = its.access.token_for(client_id, secret)
    if given is None:
        return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
    return JSONResponse(AccessToken(access_token=given).model_dump(), headers={"Cache-Control": "no-store"})


@router.get("/v1/audit", tags=["access"])
def audit(client: Admin, db: Db, most: Most = 1000) -> list[dict[str, Any]]:
    """Who did what, newest first: every order, every look at a household's consumption. Who is bound to groups sees
    what it did itself."""
    own, values = ("true", ()) if client.reach.is_all else ("client = ?", (client.client_id,))
    rows = db.execute(f"SELECT * FROM audit WHERE {own} ORDER BY id DESC LIMIT ?", (*values, most))
    return [dict(row) for row in rows]
