"""The last frames on either side of the hub, kept only while somebody looks (`meterhub trace`).

Nothing is written anywhere: the frames lie in memory, bounded, for as long as an engineer asks for them, and a few
seconds longer. While nobody does, the home's loop pays one comparison a wake-up.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from drivers.clock import monotonic, utc_ms
from drivers.link import Datagrams
from hub.services.home.bridge import Bridge

_ROWS = 2000
_BYTES_A_FRAME = 4096
_ROWS_AN_ANSWER = 500
LOOKED_S = 5.0


class Frame(NamedTuple):
    """One frame. `side`: "han" or "uplink"; `way`: "in" or "out", as the hub sees it; `where`: address or topic."""

    number: int
    t_ms: int
    side: str
    way: str
    where: str
    size: int
    data: bytes  # its beginning


class Tracer:
    """Taps the bridge and the uplink while it is looked at. Everything runs on the event loop."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._frames: deque[Frame] = deque(maxlen=_ROWS)
        self._number = 0
        self._until = float("-inf")

    def look(self, after: int) -> dict[str, Any]:
        """The frames after number `after`, oldest first; `missed`: how many of them are gone; `next`: what to ask for
        then. -1: from now on."""
        if self._bridge.tap is None:
            self._bridge.tap = self._han
            asyncio.get_running_loop().call_later(LOOKED_S, self._stop_unless_looked_at)
        self._until = monotonic() + LOOKED_S
        if after < 0:
            return {"frames": [], "missed": 0, "next": self._number}
        found = [frame for frame in self._frames if frame.number > after]
        first = found[0].number if found else self._number + 1
        found = found[:_ROWS_AN_ANSWER]
        clients = {session.peer: session.client_id for session in self._bridge.gateway.sessions()}
        names = {_text(peer): client_id for peer, client_id in clients.items()}
        return {
            "frames": [
                {**frame._asdict(), "client": names.get(frame.where, ""), "data": frame.data.hex()} for frame in found
            ],
            "missed": max(0, first - after - 1),
            "next": found[-1].number if found else self._number,
        }

    def _stop_unless_looked_at(self) -> None:
        left_s = self._until - monotonic()
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self._stop_unless_looked_at)
            return
        self._bridge.tap = None
        self._frames.clear()

    def _han(self, way: str, datagrams: Datagrams) -> None:
        self._keep("han", way, ((_text(peer), data) for peer, data in datagrams))

    def uplink(self, way: str, topic: str, payload: bytes) -> None:
        """A message to or from the broker."""
        if self._bridge.tap is not None:
            self._keep("uplink", way, [(topic, payload)])

    def _keep(self, side: str, way: str, frames: Iterable[tuple[str, bytes]]) -> None:
        now_ms = utc_ms()
        for where, data in frames:
            self._number += 1
            self._frames.append(Frame(self._number, now_ms, side, way, where, len(data), data[:_BYTES_A_FRAME]))


def _text(peer: tuple[Any, ...]) -> str:
    return ":".join(part.hex() if isinstance(part, bytes) else str(part) for part in peer)
