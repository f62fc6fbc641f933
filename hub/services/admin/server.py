"""The admin socket: the daemon's half. One JSON request a line, one JSON answer a line, over a Unix socket.

Who may open the socket may ask: its directory and mode decide (owner and groups, never others). What changes something,
or hands out keys, is for fewer (askers.py). Requests are small and answered from memory or by the store's writer;
nothing here can stop the daemon.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from grp import getgrnam
from pathlib import Path
from typing import Any

from hub.services.admin.askers import Asker, let_own_group_open, may_change
from hub.wire.printable import one_line

log = logging.getLogger(__name__)

# A handler gets the request's map and returns what can be written as JSON; ValueError is the asker's mistake.
Handler = Callable[[dict[str, Any]], Awaitable[Any]]

MAX_REQUEST_BYTES = 1024 * 1024  # the backup of a large network comes as one request
_IDLE_S = 60.0
_PROBE_S = 20.0


class AdminServer:
    """Serves `handlers` on `path`."""

    def __init__(
        self, path: Path, handlers: dict[str, Handler], changes: Collection[str] = (), group: str = ""
    ) -> None:
        """`group`: the socket's group, where the system has it and this process may give it away; its members, root and
        the hub's own account may also ask what is in `changes`."""
        self._path = path
        self._handlers = handlers
        self._changes = frozenset(changes)
        self._group = group
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket file left by a dead daemon is replaced. Raises OSError when the place cannot be used."""
        if not self._path.parent.exists():
            self._path.parent.mkdir(parents=True)
            self._path.parent.chmod(0o755)  # the socket's own mode decides who may ask
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_REQUEST_BYTES)
        if self._group:
            with suppress(LookupError, OSError):
                os.chown(self._path, -1, getgrnam(self._group).gr_gid)
        self._path.chmod(0o660)
        let_own_group_open(self._path)

    async def probe(self) -> None:
        """Ask as the command line would, through the socket's file. Raises OSError, TimeoutError or ValueError when
        nobody could be answered now."""
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_unix_connection(self._path)
            try:
                writer.write(b'{"ask":"queue"}\n')
                if "answer" not in json.loads(await reader.readline()):
                    raise ValueError("the store does not answer")
            finally:
                writer.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asker = Asker.of(writer.get_extra_info("socket"))
            while line := await asyncio.wait_for(reader.readline(), _IDLE_S):
                writer.write(json.dumps(await self._answer(line, asker)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:
            log.debug("admin: a connection ended: %r", error)  # ValueError: a line beyond the limit
        finally:
            writer.close()

    async def _answer(self, line: bytes, asker: Asker) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["ask"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"error": f"not a request: expected a JSON map whose ask is one of {', '.join(self._handlers)}"}
        if request["ask"] in self._changes and not may_change(asker, self._group):
            return {"error": f"{request['ask']} is for root and members of the group {self._group or 'root'}"}
        try:
            return {"answer": await handler(request)}
        except ValueError as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("admin: internal error")
            return {"error": f"internal error: {one_line(repr(error)[:200])}"}
