"""What the uplink tells of itself: the retained state topic, and the figures for `meterhub status`."""

import json
from typing import TYPE_CHECKING

from drivers.board import BoardFacts
from hub.core.health import CONDITIONS
from hub.services.uplink.failure import UplinkFailure

if TYPE_CHECKING:
    from hub.wire.admin import TlsFigures, UplinkFigures


def state_payload(
    word: str, epoch: int, boot: int, version: str, kid: bytes, t_ms: int, board: BoardFacts | None = None
) -> bytes:
    """The retained message on `meters/{hub}/state` (design 3.3); `word` is "online" or "offline", `kid` the id of the
    key that signs now (hexadecimal in the message). A board with two slots also says which image runs in which, and
    `"data": "memory"` where its data partition could not be used."""
    said = {"state": word, "epoch": epoch, "boot": boot, "version": version, "kid": kid.hex(), "t": t_ms}
    if board is not None:
        said |= {"image": board.image, "slot": board.slot}
        if board.data != "partition":
            said["data"] = board.data
    return json.dumps(said, separators=(",", ":")).encode()


def place_of_state(payload: bytes) -> tuple[int, int] | None:
    """Epoch and boot in a retained state; None where it tells none."""
    try:
        said = json.loads(payload)
        epoch, boot = said["epoch"], said["boot"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (epoch, boot) if type(epoch) is int and type(boot) is int else None


def condition_of(kind: str) -> str:
    """The health condition that a failure shows as; a protocol that is not spoken is a refusal to the engineer."""
    return kind if kind in CONDITIONS else "uplink-refused"


class UplinkStatus:
    """The `uplink` part of the status."""

    def __init__(self) -> None:
        self.state = "stopped"
        self.host = ""
        self.protocol = ""
        self.since_ms: int | None = None
        self.last_error = ""
        self.attempts = 0
        self.sessions = 0
        self.messages = 0
        self.payload_bytes = 0
        self.sent_again = 0  # acknowledged by the broker, not booked in time
        self.unbooked_since: float | None = None
        self.strays = 0  # messages that were no commands: retained, or on another topic
        self.tls: TlsFigures = {}

    def _move(self, word: str, t_ms: int) -> None:
        if word != self.state:
            self.state, self.since_ms = word, t_ms

    def connecting(self, host: str, protocol: str, t_ms: int) -> None:
        self.host, self.protocol = host, protocol
        self.attempts += 1
        self._move("connecting", t_ms)

    def up(self, t_ms: int, tls: "TlsFigures") -> None:
        self.sessions += 1
        self.tls = tls
        self._move("up", t_ms)

    def down(self, failure: UplinkFailure, t_ms: int) -> None:
        self.last_error = str(failure)
        self._move("waiting", t_ms)

    def stopped(self, t_ms: int) -> None:
        self._move("stopped", t_ms)

    def as_dict(self, rtt_ms: float | None) -> "UplinkFigures":
        """For `status --json` (design 3.4); `since` in UTC epoch seconds, `tls` empty before the first session."""
        return {
            "state": self.state,
            "host": self.host,
            "protocol": self.protocol,
            "since": None if self.since_ms is None else self.since_ms / 1000,
            "rtt_ms": None if rtt_ms is None else round(rtt_ms, 1),
            "last_error": self.last_error,
            "attempts": self.attempts,
            "sessions": self.sessions,
            "messages": self.messages,
            "payload_bytes": self.payload_bytes,
            "sent_again": self.sent_again,
            "strays": self.strays,
            "tls": self.tls,
        }
