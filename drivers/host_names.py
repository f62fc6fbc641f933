"""Names of hosts, asked for in a thread: a resolver that never answers holds nobody up, and costs one thread a name."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from drivers.threads import in_thread


class HostNames:
    """Questions to the system's resolver. `ask(host, port)`: as socket.getaddrinfo, which blocks."""

    def __init__(self, ask: Callable[[str, int], Any] = socket.getaddrinfo) -> None:
        self._ask = ask
        self._asked: dict[str, asyncio.Future[Any]] = {}  # questions without an answer yet

    async def find(self, host: str, port: int, within_s: float) -> None:
        """Wait until the name is known, and so in the resolver's memory. Raises socket.gaierror where it is not, and
        TimeoutError when nobody said; the question stays open then: who asks again waits for the same answer."""
        question = self._asked.get(host)
        if question is None:
            question = self._asked[host] = in_thread(lambda: self._ask(host, port))
            question.add_done_callback(lambda answered: self._done(host, answered))
        done, _ = await asyncio.wait({question}, timeout=within_s)
        if not done:
            raise TimeoutError
        question.result()

    def _done(self, host: str, answered: "asyncio.Future[Any]") -> None:
        self._asked.pop(host, None)
        if not answered.cancelled():
            answered.exception()  # nobody may be waiting any more
