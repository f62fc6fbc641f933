"""What every path of the API has in common: who asks, whom it may see, a reader of the book, and the service's thread,
which does whatever changes something, in one transaction with its line in the audit log."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.security import OAuth2
from fastapi.security.utils import get_authorization_scheme_param

from deploy.headend.access import Access
from deploy.headend.config import ApiClient, HeadendConfig
from deploy.headend.control_point import ControlPoint, reader
from deploy.headend.live import Live
from deploy.headend.orders import Refusal
from deploy.headend.service import Service
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import FAILURES, BookReader
from hub.wire.keys.pkcs11 import HardwareError

_MOST_ROWS = 100_000

WORDS: dict[str, Any] = {
    "description": "what is wrong, in words",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}},
}
HubName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="a hub: the CN of its certificate")]
OrderId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]
Moment = Annotated[int, Query(ge=0, le=1 << 40, description="UTC epoch seconds")]
Day = Annotated[str, Query(pattern=r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}$", description="a day of the market: 2027-03-28")]
Most = Annotated[int, Query(ge=1, le=_MOST_ROWS)]


@dataclass(frozen=True, slots=True)
class Serving:
    """What stands behind the API; each application has one (`app.state.serving`)."""

    config: HeadendConfig
    service: Service
    live: Live
    access: Access

    def ask(self, do: Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]) -> Any:
        """Have the service's thread do it. Raises HTTPException: what it refused, or that it could not."""
        try:
            return self.service.ask(do)
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

    def note_reading(self, client: ApiClient, action: str, detail: str) -> None:
        """Who looked at a household's consumption stands in the audit log."""

        def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            point.note_deed(utc_ms(), client.client_id, action, detail)
            return None, []

        self.ask(do)


def _serving_of(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Its = Annotated[Serving, Depends(_serving_of)]
_SCHEME = OAuth2(flows={"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {}}}, auto_error=False)


def _client_of(its: Its, authorization: Annotated[str | None, Depends(_SCHEME)]) -> ApiClient:
    kind, token = get_authorization_scheme_param(authorization)
    client = its.access.client_of(token) if kind.lower() == "bearer" else None
    if client is None:
        raise HTTPException(401, "a bearer token is needed: POST /oauth/token", {"WWW-Authenticate": "Bearer"})
    return client


def needs(role: str) -> Callable[[ApiClient], ApiClient]:
    """A dependency: whoever asks, who has that role."""

    def check(client: Annotated[ApiClient, Depends(_client_of)]) -> ApiClient:
        if role not in client.roles:
            raise HTTPException(
                403, f"the role {role} is needed; {client.client_id} has {', '.join(sorted(client.roles))}"
            )
        return client

    return check


def unbound(role: str) -> Callable[[ApiClient], ApiClient]:
    """A dependency: that, and bound to no groups."""

    def check(client: Annotated[ApiClient, Depends(needs(role))]) -> ApiClient:
        if not client.reach.is_all:
            raise HTTPException(403, f"{client.client_id} is bound to groups, and OpenADR here is for all")
        return client

    return check


def database(its: Its) -> Iterator[BookReader]:
    """A dependency: a connection of its own."""
    db = reader(its.config.place)
    try:
        yield db
    finally:
        db.close()


Db = Annotated[BookReader, Depends(database)]
Fleet = Annotated[ApiClient, Depends(needs("fleet"))]
UsageClient = Annotated[ApiClient, Depends(needs("usage"))]
Control = Annotated[ApiClient, Depends(needs("control"))]
Approver = Annotated[ApiClient, Depends(needs("approve"))]
Admin = Annotated[ApiClient, Depends(needs("admin"))]


def utc_ms() -> int:
    return int(time.time() * 1000)


def known(db: BookReader, hub: str, client: ApiClient) -> Any:
    """Its row, where the client may know of it. Raises HTTPException (404) where not."""
    sql = f"SELECT * FROM hub WHERE hub = ? AND {client.reach.clause()}"
    row: Any | None = db.execute(sql, (hub, *client.reach.values)).fetchone()
    if row is None:
        raise HTTPException(404, "no such hub")
    return row
