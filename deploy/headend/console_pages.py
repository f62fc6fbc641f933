"""The console's files, with the headers that let nothing else in."""

import logging
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, PlainTextResponse, Response

from deploy.headend.console_parts import CONSOLE, PARTS, PLACE, part, trouble

_LOG = logging.getLogger("headend")
_KINDS = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
# It needs nothing from elsewhere, and nothing may be put into it: no script but its files, no text that becomes HTML.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _own_files() -> dict[str, Path]:
    return {
        file.relative_to(CONSOLE).as_posix(): file
        for pattern in ("*.js", "*.css", "pages/*.js")
        for file in CONSOLE.glob(pattern)
    }


def console_router(place: Path = PLACE) -> APIRouter:
    """`place`: where `console_parts.fetch` has put what the console stands on."""
    router = APIRouter(include_in_schema=False)
    files = {**_own_files(), **{f"parts/{name}": part(name, place) for name in PARTS}}
    if told := trouble(place):
        _LOG.warning("no console: %s", told)

    @router.get("/")
    def page() -> Response:
        # Looked at anew: who has fetched it meanwhile needs no restart.
        if told := trouble(place):
            return PlainTextResponse(f"No console: {told}\n", 503, _HEADERS)
        return FileResponse(CONSOLE / "index.html", headers=_HEADERS)

    @router.get("/console/{name:path}")
    def file(name: str) -> FileResponse:
        found = files.get(name)
        if found is None or not found.is_file():
            raise HTTPException(404)
        return FileResponse(found, headers=_HEADERS, media_type=_KINDS[found.suffix])

    return router
