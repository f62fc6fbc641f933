"""How long a request may be."""

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1 << 20  # an event of OpenADR with its thousand intervals is a fifth of that


class BoundedBodies:
    """Ends a request whose body goes on and on: it is read, and kept whole, before anybody asks who sends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        count = 0

        async def some() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > MOST_BYTES:
                raise HTTPException(413, f"a request is {MOST_BYTES} bytes at most", {"Connection": "close"})
            return message

        await self._app(scope, some if scope["type"] == "http" else receive, send)
