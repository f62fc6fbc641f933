"""What happens now, for whoever follows: from the service's thread to the API's loop. Who is slow misses some."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hub.headend.inbox import Received

_MOST_WAITING = 1000
News = tuple[str, dict[str, Any]]


class Live:
    """`heard` may be called by any thread once `attach` gave it the loop; `follow` belongs to that loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._followers: set[asyncio.Queue[News]] = set()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def heard(self, received: Received) -> None:
        """One message that is durable."""
        loop = self._loop
        if loop is None or received.fault or not received.is_new or not self._followers:
            return
        fields = received.fields
        if received.kind == "state":
            news: News = ("state", {"hub": received.hub, "state": str(fields.get("state", ""))[:16]})
        elif received.kind == "events":
            news = ("event", {"hub": received.hub, "event": fields["event"], "t_ms": fields["t"]})
        elif received.kind == "receipts":
            cti = fields.get("re")
            news = ("receipt", {"hub": received.hub, "status": fields["status"], "reason": fields["reason"],
                                "cti": cti.hex() if isinstance(cti, bytes) else None})  # fmt: skip
        else:
            return
        loop.call_soon_threadsafe(self._tell, news)

    def _tell(self, news: News) -> None:
        for follower in self._followers:
            if follower.qsize() >= _MOST_WAITING:
                follower.get_nowait()
            follower.put_nowait(news)

    @contextmanager
    def follow(self) -> Iterator["asyncio.Queue[News]"]:
        """A queue of what comes from now on."""
        follower: asyncio.Queue[News] = asyncio.Queue()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
