# SPDX-License-Identifier: GPL-3.0-or-later
"""A Smart Energy in-premises display: finds the energy service interface, asks it for price, time and message.

Written from the Smart Energy Profile (07-5356, annexes D.4 and D.5) and the ZCL (07-5123, 3.12); it shares nothing with
the hub.
"""

from __future__ import annotations

from typing import Any, Final

from . import zcl, zdo
from .device import COORDINATOR_NWK, ApsFrame, Device

SE_PROFILE: Final = 0x0109
IN_PREMISE_DISPLAY: Final = 0x0502
ENDPOINT: Final = 1
BASIC, TIME, PRICE, MESSAGING = 0x0000, 0x000A, 0x0700, 0x0703
UNTIL_CHANGED: Final = 0xFFFF
ASK_EVERY_S: Final = 1.0
YEAR_2000: Final = 946_684_800
NOT_FOUND: Final = 0x8B
APS_ENCRYPTION: Final = 0x0020  # EmberApsOption


class Display(Device):
    """What it shows: `price` as it arrived last, the `time` it was told, the steps to come."""

    def __init__(self, ieee: bytes, **device: Any) -> None:
        place = zdo.Endpoint(SE_PROFILE, IN_PREMISE_DISPLAY, (BASIC,), (TIME, PRICE, MESSAGING))
        super().__init__(ieee, endpoints={ENDPOINT: place}, **device)
        self._interface: int | None = None
        self._ask_at: float | None = None
        self._turn = 0
        self.price: dict[str, Any] | None = None
        self.time: int | None = None
        self.time_status: int | None = None
        self.scheduled: dict[int, int] = {}
        self.message: dict[str, Any] | None = None
        self.messages_unasked = 0
        self.unasked = 0
        self.not_found = 0
        self.unencrypted = 0
        self._asked: set[int] = set()

    def on_joined(self, now: float) -> None:
        self._ask_at = now + 0.2

    def on_left(self, now: float) -> None:
        self._ask_at = None

    def get_timer(self) -> float | None:
        return self._ask_at

    def handle_timer(self, now: float) -> None:
        if self._ask_at is None or now < self._ask_at:
            return
        self._ask_at = now + ASK_EVERY_S
        if self._interface is None:
            body = zdo.le16(COORDINATOR_NWK) + zdo.le16(SE_PROFILE) + bytes((1,)) + zdo.le16(PRICE) + b"\x00"
            self.transmit(zdo.PROFILE, zdo.MATCH_DESC_REQ, 0, 0, bytes((self.next_tsn(),)) + body)
            return
        self._turn = (self._turn + 1) % 4
        tsn = self.next_tsn()
        self._asked.add(tsn)
        questions = (
            (TIME, b"\x00" + bytes((tsn, 0x00)) + b"\x00\x00\x01\x00\x02\x00"),  # time, its status, the zone
            (PRICE, b"\x01" + bytes((tsn, 0x00, 0x01))),  # GetCurrentPrice, receiver on
            (PRICE, b"\x01" + bytes((tsn, 0x01)) + b"\x00" * 4 + b"\x00"),  # GetScheduledPrices: all from now
            (MESSAGING, b"\x01" + bytes((tsn, 0x00))),  # GetLastMessage
        )
        cluster, frame = questions[self._turn]
        self.transmit(SE_PROFILE, cluster, ENDPOINT, self._interface, frame)

    def receive_aps(self, frame: ApsFrame, now: float) -> None:
        if frame.profile == zdo.PROFILE and frame.cluster == zdo.MATCH_DESC_REQ | zdo.RESPONSE:
            self._matched(frame.payload)
        else:
            super().receive_aps(frame, now)

    def _matched(self, body: bytes) -> None:
        """tsn, status, address, number of endpoints, endpoints. The last answer counts, as in simple devices."""
        self._interface = body[5] if len(body) > 5 and body[1] == 0 and body[4] else None

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        try:
            header, body = zcl.parse(frame.payload)
        except zcl.Malformed:
            return
        if frame.cluster in (PRICE, TIME, MESSAGING):
            self.unencrypted += not frame.options & APS_ENCRYPTION
        if frame.cluster == PRICE and header.for_cluster and header.command == 0x00:
            self._priced(header.tsn, body)
        elif frame.cluster == MESSAGING and header.for_cluster and len(body) >= 5:
            self._messaged(header, body, now)
        elif frame.cluster == TIME and header.command == zcl.READ_RSP and not header.for_cluster:
            self._timed(body)
        elif header.command == zcl.DEFAULT_RSP and frame.cluster != MESSAGING and body[1:2] == bytes((NOT_FOUND,)):
            self.not_found += 1

    def _priced(self, tsn: int, body: bytes) -> None:
        """PublishPrice: provider, label, event, now, unit, currency, digits, tiers, start, minutes, price."""
        at = 5 + body[4]
        event, now = zdo.u32(body, at), zdo.u32(body, at + 4)
        currency, digits = zdo.u16(body, at + 9), body[at + 11] >> 4
        start, minutes, price = zdo.u32(body, at + 13), zdo.u16(body, at + 17), zdo.u32(body, at + 19)
        self.scheduled[start + YEAR_2000] = price
        if start <= now < start + minutes * 60:
            self.price = {"per_kwh": price / 10**digits, "currency": currency, "event": event, "minutes": minutes}
            self.unasked += tsn not in self._asked
        self._asked.discard(tsn)

    def _messaged(self, header: zcl.Header, body: bytes, now: float) -> None:
        """DisplayMessage: id, control, start, minutes, text. CancelMessage: id, control."""
        identifier = zdo.u32(body, 0)
        if header.command == 0x01:
            if self.message is not None and self.message["id"] == identifier:
                self.message = None
            return
        minutes, text = zdo.u16(body, 9), body[12 : 12 + body[11]].decode()
        until = None if minutes == UNTIL_CHANGED else minutes
        self.message = {"id": identifier, "text": text, "minutes": until}
        self.messages_unasked += header.tsn not in self._asked
        self._asked.discard(header.tsn)

    def _timed(self, body: bytes) -> None:
        """Read Attributes Response: time (UTCTime), time status (bitmap8), and one that is not supported."""
        if body[:4] == b"\x00\x00\x00\xe2" and body[8:12] == b"\x01\x00\x00\x18" and body[13:] == b"\x02\x00\x86":
            seconds = zdo.u32(body, 4)
            self.time = None if seconds == 0xFFFF_FFFF else seconds + YEAR_2000
            self.time_status = body[12]

    def describe(self, now: float) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "price": self.price,
            "time": self.time,
            "time_status": self.time_status,
            "unasked": self.unasked,
            "message": self.message,
            "messages_unasked": self.messages_unasked,
        }
        shown["scheduled"] = sorted(self.scheduled.items())
        return super().describe(now) | shown | {"not_found": self.not_found, "unencrypted": self.unencrypted}
