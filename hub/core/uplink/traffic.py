"""What the uplink costs: bytes by day and month, on the socket and, headers included, on the line.

Sans-IO: given a connection's figures (what the kernel tells) and UTC. What it knows survives a restart as a small
document.
"""

import json
from typing import TYPE_CHECKING, NamedTuple

from hub.wire.version import WRITTEN_MS

if TYPE_CHECKING:
    from hub.wire.admin import BytesCarried, TrafficFigures

# What each segment adds on the line: IPv4, and TCP with its timestamps. IPv6 has 20 more.
HEADER_BYTES = 52
_MONTH_S = 365.25 / 12 * 86400
# A projection from less than this says more about the connect than about the month.
_LEAST_S = 600.0


class LineBytes(NamedTuple):
    """What a TCP connection carried so far, TLS included.

    `sent` counts retransmissions, as a mobile network does; `acked` is what has arrived; segments are packets of IP.
    """

    sent: int
    acked: int
    received: int
    segments_out: int
    segments_in: int


class Traffic:
    """Counts one connection at a time. `document`: what `as_document` said before the restart; damaged is empty."""

    def __init__(self, document: bytes = b"") -> None:
        self.month = self.day = ""
        self._in_month = [0, 0, 0]  # sent, received, segments
        self._in_day = [0, 0, 0]
        self._since_ms = 0
        self._seen = LineBytes(0, 0, 0, 0, 0)
        try:
            known = json.loads(document or b"{}")
            self.month, self.day = str(known["month"]), str(known["day"])
            self._in_month = [int(number) for number in known["in_month"]][:3]
            self._in_day = [int(number) for number in known["in_day"]][:3]
            self._since_ms = int(known["since_ms"])
        except (ValueError, KeyError, TypeError):
            pass

    def as_document(self) -> bytes:
        """What is to be kept over a restart."""
        return json.dumps(
            {"month": self.month, "day": self.day, "in_month": self._in_month, "in_day": self._in_day,
             "since_ms": self._since_ms}
        ).encode()  # fmt: skip

    def carried(self, line_bytes: LineBytes, date: str, t_ms: int) -> None:
        """The connection carried this much so far. `date`: YYYY-MM-DD in UTC."""
        known, self._seen = self._seen, line_bytes
        grown = [
            line_bytes.sent - known.sent,
            line_bytes.received - known.received,
            line_bytes.segments_out + line_bytes.segments_in - known.segments_out - known.segments_in,
        ]
        if t_ms >= WRITTEN_MS:
            self._turn_pages(date, t_ms)
        for totals in (self._in_month, self._in_day):
            totals[:] = [total + max(0, more) for total, more in zip(totals, grown)]

    def _turn_pages(self, date: str, t_ms: int) -> None:
        if date != self.day:
            self.day, self._in_day = date, [0, 0, 0]
        if date[:7] != self.month:
            # Counting goes on from the first of a month where it was running then; else it begins here.
            self.month, self._in_month, self._since_ms = date[:7], [0, 0, 0], t_ms

    def ended(self) -> None:
        """The connection is over; the next one counts from zero."""
        self._seen = LineBytes(0, 0, 0, 0, 0)

    def as_dict(self, t_ms: int) -> "TrafficFigures":
        """For `meterhub uplink`: bytes, and megabytes (10^6) a month at this pace, null while it is too early."""
        elapsed_s = (t_ms - self._since_ms) / 1000
        projected = None
        if self._since_ms and elapsed_s >= _LEAST_S:
            projected = round(_on_line(self._in_month) / elapsed_s * _MONTH_S / 1e6, 2)
        return {
            "today": _row(self._in_day),
            "month": _row(self._in_month),
            "since": self._since_ms / 1000 if self._since_ms else None,
            "projected_mb_per_month": projected,
        }


def _on_line(totals: list[int]) -> int:
    return totals[0] + totals[1] + totals[2] * HEADER_BYTES


def _row(totals: list[int]) -> "BytesCarried":
    return {"bytes_up": totals[0], "bytes_down": totals[1], "bytes_on_line": _on_line(totals)}
