"""How the service is, and what happens now."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from deploy.headend.control_point import broken_chains, overview, reader
from deploy.headend.metrics import metrics
from deploy.headend.routes.asking import (
    WORDS,
    Db,
    Fleet,
    Its,
)

router = APIRouter()
_GROUPS_FOR_S = 5.0  # so long who follows may see a hub that has left its groups


@router.get("/v1/live", tags=["fleet"], responses={200: {"content": {"text/event-stream": {}}}})
async def stream(
    its: Its, client: Fleet, seconds: Annotated[float, Query(gt=0, le=86_400)] = 86_400
) -> StreamingResponse:
    """What hubs say, as it comes: server-sent events `state`, `receipt`, `event`. No consumption."""

    def hubs_now() -> frozenset[str]:
        with closing(reader(its.config.place)) as db:
            return client.reach.hubs(db)

    async def lines() -> AsyncIterator[str]:
        deadline = time.monotonic() + seconds
        within: frozenset[str] = frozenset()
        look_at = 0.0
        with its.live.follow() as news:
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


@router.get("/metrics", response_class=PlainTextResponse, tags=["operation"])
def prometheus(its: Its, db: Db) -> PlainTextResponse:
    """Figures of the service and the fleet for Prometheus; nothing of a household."""
    text = metrics(overview(db), its.service.counts, len(broken_chains(db)), db)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


@router.get("/healthz", tags=["operation"], responses={503: WORDS})
def health(its: Its) -> JSONResponse:
    """200 while the service takes messages."""
    is_alive = its.service.is_alive
    return JSONResponse({"state": "serving" if is_alive else "down"}, 200 if is_alive else 503)
