"""The API (README.md has the table of roles): REST with OpenAPI, OAuth 2 client credentials, server-sent events, SenML.

It reads the database through connections of its own; whatever changes something is asked of the service's thread, in
one transaction with its line in the audit log. Its paths are in routes/, a subject a file.
"""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from deploy.headend.access import Access
from deploy.headend.bodies import BoundedBodies
from deploy.headend.config import HeadendConfig
from deploy.headend.console_pages import console_router
from deploy.headend.live import Live
from deploy.headend.routes import alarms, certificates, hubs, openadr, operation, orders, people, rollouts, usage
from deploy.headend.routes.asking import WORDS, Serving
from deploy.headend.service import Service
from hub.headend.database import FAILURES
from hub.wire.version import VERSION

_SUBJECTS = (people, hubs, alarms, usage, certificates, orders, rollouts, operation, openadr)


def make_api(config: HeadendConfig, service: Service, live: Live) -> FastAPI:
    """The application; `service` was started."""
    api = FastAPI(
        title="meterhub control point", version=VERSION, docs_url=None, redoc_url=None,
        description="Usage, orders and the book of a fleet of hubs.",
        responses={400: WORDS, 401: WORDS, 403: WORDS, 413: WORDS, 503: WORDS},
    )  # fmt: skip
    api.state.serving = Serving(config, service, live, Access(config.clients))
    for subject in _SUBJECTS:
        api.include_router(subject.router)
    api.include_router(console_router())
    api.add_middleware(BoundedBodies)

    for failure in FAILURES:

        @api.exception_handler(failure)
        async def away(_request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": f"the database does not answer: {error}"[:200]}, 503, {"Retry-After": "30"})

    @api.exception_handler(ValueError)
    async def refused(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)[:200]}, 400)

    return api
