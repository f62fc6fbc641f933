"""The last frames on either side of the hub, kept only while somebody looks (`meterhub trace`).

Nothing is written anywhere: the frames lie in memory, bounded, for as long as an engineer asks for them, and a few
seconds longer. While nobody does, each side pays one comparison a wake-up.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from drivers.clock import monotonic, utc_ms
from drivers.link import Datagrams
from drivers.radio import ApsFrame, FrameTap
from hub.core.gateway.session import Session
from hub.services.home.bridge import Bridge

if TYPE_CHECKING:
    from hub.wire.admin import FrameRow, TraceAnswer

_ROWS = 2000
# A pack is larger than a frame of the home; cut off, it could not be decoded.
_BYTES_A_FRAME = 64 * 1024
_BYTES_KEPT = 1024 * 1024
_ROWS_AN_ANSWER = 500
_BYTES_AN_ANSWER = 256 * 1024
LOOKED_S = 5.0

MQTT_SN, MQTT, ZIGBEE = "mqtt-sn", "mqtt", "zigbee"


class Frame(NamedTuple):
    """One frame. `side`: "han" or "uplink"; `way`: "in" or "out", as the hub sees it; `kind`: what `data` is: a
    message of MQTT-SN, the payload of an MQTT message, or that of a Zigbee APS frame whose header is `aps`; `where`:
    address or topic."""

    number: int
    t_ms: int
    side: str
    way: str
    kind: str
    where: str
    size_bytes: int
    data: bytes  # its beginning
    aps: dict[str, int] | None = None

    def row(self, client: str) -> "FrameRow":
        return cast("FrameRow", {**self._asdict(), "client": client, "data": self.data.hex()})


class Tapped(Protocol):
    """A radio whose frames can be looked at."""

    tap: FrameTap | None


class Tracer:
    """Taps the bridge, the radio and the uplink while it is looked at. Everything runs on the event loop."""

    def __init__(self, bridge: Bridge) -> None:
        self.radio: Tapped | None = None  # once there is one
        self._bridge = bridge
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._number = 0
        self._until = float("-inf")

    def look(self, after: int) -> "TraceAnswer":
        """The frames after number `after`, oldest first; `missed`: how many of them are gone; `next`: what to ask for
        then; `topics`: the topic ids that the frames' clients registered, by client. -1: from now on."""
        if self._bridge.tap is None:
            self._bridge.tap = self._han
            asyncio.get_running_loop().call_later(LOOKED_S, self._stop_unless_looked_at)
        if self.radio is not None:
            self.radio.tap = self._zigbee
        self._until = monotonic() + LOOKED_S
        if after < 0:
            return {"frames": [], "missed": 0, "next": self._number, "topics": {}}
        fresh = [frame for frame in self._frames if frame.number > after]
        first = fresh[0].number if fresh else self._number + 1
        found: list[Frame] = []
        size = 0
        for frame in fresh[:_ROWS_AN_ANSWER]:
            size += len(frame.data)
            if found and size > _BYTES_AN_ANSWER:
                break
            found.append(frame)
        sessions = {_text(session.peer): session for session in self._bridge.gateway.sessions()}
        return {
            "frames": [frame.row(_client_of(frame, sessions)) for frame in found],
            "missed": max(0, first - after - 1),
            "next": found[-1].number if found else self._number,
            "topics": _topics_of({frame.where for frame in found}, sessions),
        }

    def _stop_unless_looked_at(self) -> None:
        left_s = self._until - monotonic()
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self._stop_unless_looked_at)
            return
        self._bridge.tap = None
        if self.radio is not None:
            self.radio.tap = None
        self._frames.clear()
        self._bytes = 0

    def _han(self, way: str, datagrams: Datagrams) -> None:
        for peer, data in datagrams:
            self._keep("han", way, MQTT_SN, _text(peer), data)

    def _zigbee(self, way: str, frame: ApsFrame) -> None:
        aps = {name: value for name, value in frame._asdict().items() if name not in ("ieee", "data")}
        self._keep("han", way, ZIGBEE, f"zigbee:{frame.ieee or '*'}", frame.data, aps)

    def uplink(self, way: str, topic: str, payload: bytes) -> None:
        """A message to or from the broker."""
        if self._bridge.tap is not None:
            self._keep("uplink", way, MQTT, topic, payload)

    def _keep(self, side: str, way: str, kind: str, where: str, data: bytes, aps: dict[str, int] | None = None) -> None:
        self._number += 1
        kept = data[:_BYTES_A_FRAME]
        self._frames.append(Frame(self._number, utc_ms(), side, way, kind, where, len(data), kept, aps))
        self._bytes += len(kept)
        while len(self._frames) > _ROWS or self._bytes > _BYTES_KEPT:
            self._bytes -= len(self._frames.popleft().data)


def _client_of(frame: Frame, sessions: dict[str, Session]) -> str:
    """The ClientId of a frame's peer; "" where it has none."""
    session = sessions.get(frame.where)
    if session is not None:
        return session.client_id
    ieee = frame.where.partition(":")[2]
    return f"zb-{ieee}" if frame.kind == ZIGBEE and ieee != "*" else ""


def _topics_of(places: set[str], sessions: dict[str, Session]) -> dict[str, dict[str, str]]:
    return {
        session.client_id: {str(topic_id): topic for topic, topic_id in session.ids_by_topic.items()}
        for where, session in sessions.items()
        if where in places and session.ids_by_topic
    }


def _text(peer: tuple[Any, ...]) -> str:
    return ":".join(part.hex() if isinstance(part, bytes) else str(part) for part in peer)
