# SPDX-License-Identifier: GPL-3.0-or-later
"""A meter on a battery, out of data: it asks the energy service interface for a mirror and reports to that.

    {"kind": "sleeping-meter", "ieee": "00158d0000000001", "name": "gas", "poll_s": 0.5,
     "endpoints": {"1": {"profile": 265, "type": 1281, "in": {"0x0000": {}, "0x0702": {"0x0000": ["25", [1, 2]]}}}},
     "habits": {"wakes_s": 1}}

Its attributes are a zcl device's (player.py). Habits: wakes_s (as often as this it reports), says_facts_once (what does
not change it reports at the first time alone), notified (it wants each report answered by what there is to tell),
unencrypted (it does not use the link key: a fault), endpoint (it believes in a mirror there, and asks for none).

Written from the Smart Energy Profile (07-5356, 5.3.3 and annex D.3); it shares nothing with the hub.
"""

from __future__ import annotations

from typing import Any, Final

from . import zcl, zdo
from .device import COORDINATOR_NWK, ApsFrame
from .player import Player

SE_PROFILE: Final = 0x0109
ENDPOINT: Final = 1
BASIC, METERING = 0x0000, 0x0702
PHYSICAL_ENVIRONMENT, MIRROR_CAPACITY = 0x0011, 0x01
SUMMATION, SNAPSHOT_TIME = 0x0000, 0x0007
REQUEST_MIRROR, REMOVE_MIRROR, CONFIGURE_MIRROR = 0x01, 0x02, 0x08
REQUEST_MIRROR_RESPONSE, MIRROR_REMOVED, REPORT_RESPONSE = 0x01, 0x02, 0x09
NONE_LEFT: Final = 0xFFFF
SCHEME: Final = 0x02
SETTLE_S: Final = 0.2


class SleepingMeter(Player):
    """`mirror`: its endpoint, None without one; `answers`: what each of its reports was answered."""

    def __init__(self, entry: dict[str, Any], ieee: bytes, **device: Any) -> None:
        habits = dict(entry.get("habits", {}))
        self.wakes_s: float = habits.get("wakes_s", 1.0)
        self._says_facts_once: bool = habits.get("says_facts_once", False)
        self._notified: bool = habits.get("notified", False)
        self._is_encrypted: bool = not habits.get("unencrypted", False)
        self.mirror: int | None = habits.get("endpoint")
        super().__init__(entry, ieee, **device)
        # What it counts goes on with each report, whoever asks in between.
        self._register = self.attributes[ENDPOINT, METERING, SUMMATION]
        self._counts, self._register.values = list(self._register.values), self._register.values[:1]
        self.answers: list[str] = []
        self.removed: list[int] = []
        self.refused = 0
        self.asked = 0  # general commands from whoever does not know that it sleeps
        self._interface: int | None = None
        self._has_room: bool | None = None
        self._facts_said = False
        self._wake_at: float | None = None

    def describe(self, now: float) -> dict[str, Any]:
        told = {"mirror": self.mirror, "answers": self.answers, "refused": self.refused, "removed": self.removed}
        return super().describe(now) | told | {"asked": self.asked}

    def on_joined(self, now: float) -> None:
        super().on_joined(now)
        self._wake_at = now + SETTLE_S

    def on_left(self, now: float) -> None:
        super().on_left(now)
        self._wake_at, self.mirror, self._interface, self._has_room = None, None, None, None

    def get_timer(self) -> float | None:
        return self._wake_at

    def handle_timer(self, now: float) -> None:
        if self._wake_at is None or now < self._wake_at:
            return
        if self.mirror is not None:
            self._wake_at = now + self.wakes_s
            self._push()
            return
        self._wake_at = now + SETTLE_S
        if self._interface is None:
            # Who is a client of Metering?
            body = zdo.le16(COORDINATOR_NWK) + zdo.le16(SE_PROFILE) + b"\x00\x01" + zdo.le16(METERING)
            self.transmit(zdo.PROFILE, zdo.MATCH_DESC_REQ, 0, 0, bytes((self.next_tsn(),)) + body)
        elif self._has_room is None:
            frame = bytes((0x00, self.next_tsn(), zcl.READ)) + zdo.le16(PHYSICAL_ENVIRONMENT)
            self.transmit(SE_PROFILE, BASIC, ENDPOINT, self._interface, frame)
        elif self._has_room:
            self._say(REQUEST_MIRROR, b"", self._interface)
        else:
            self.refused += 1
            self._has_room = None
            self._wake_at = now + self.wakes_s

    def give_up(self) -> None:
        """It wants its mirror no more."""
        assert self.mirror is not None
        self._say(REMOVE_MIRROR, b"", self.mirror)

    def _say(self, command: int, body: bytes, endpoint: int) -> None:
        head = bytes((zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER, self.next_tsn(), command))
        self.transmit(SE_PROFILE, METERING, ENDPOINT, endpoint, head + body, is_encrypted=self._is_encrypted)

    def _push(self) -> None:
        """Report Attributes: what does not change, and the register."""
        assert self.mirror is not None
        self._register.set(self._counts.pop(0) if len(self._counts) > 1 else self._counts[0])
        mine = {key[2]: row for key, row in self.attributes.items() if key[1] == METERING}
        changing = {SUMMATION, SNAPSHOT_TIME} & mine.keys()
        for wanted in (mine.keys() - changing, changing):
            if wanted is not changing and (self._facts_said and self._says_facts_once):
                continue
            body = b"".join(
                zdo.le16(attribute) + bytes((mine[attribute].kind,))
                + zcl.encode(mine[attribute].kind, mine[attribute].say())
                for attribute in sorted(wanted)
            )  # fmt: skip
            if body:
                frame = bytes((zcl.FRAME_FROM_SERVER, self.next_tsn(), zcl.REPORT)) + body
                self.transmit(SE_PROFILE, METERING, ENDPOINT, self.mirror, frame, is_encrypted=self._is_encrypted)
                self.reports += 1
        self._facts_said = True

    def receive_aps(self, frame: ApsFrame, now: float) -> None:
        if frame.profile == zdo.PROFILE and frame.cluster == zdo.MATCH_DESC_REQ | zdo.RESPONSE:
            body = frame.payload
            self._interface = body[5] if len(body) > 5 and body[1] == 0 and body[4] else None
        else:
            super().receive_aps(frame, now)

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        try:
            header, body = zcl.parse(frame.payload)
        except zcl.Malformed:
            return
        if frame.cluster == BASIC and header.command == zcl.READ_RSP and not header.for_cluster:
            is_capable = body[:3] == zdo.le16(PHYSICAL_ENVIRONMENT) + b"\x00" and bool(body[4] & MIRROR_CAPACITY)
            self._has_room = is_capable
        elif frame.cluster == METERING and header.for_cluster and not header.control & zcl.FRAME_FROM_SERVER:
            self._told(header.command, body)
        elif frame.cluster == METERING and not header.for_cluster and header.command == zcl.DEFAULT_RSP:
            self.answers += [body.hex()] if body[:1] == bytes((zcl.REPORT,)) else []
        else:
            self.asked += frame.cluster == METERING
            super().receive_data(frame, now)

    def _told(self, command: int, body: bytes) -> None:
        if command == REQUEST_MIRROR_RESPONSE:
            given = zdo.u16(body, 0)
            if given == NONE_LEFT:
                self.refused += 1
                return
            self.mirror = given
            if self._notified:
                wanted = (1).to_bytes(4, "little") + (1800).to_bytes(3, "little") + bytes((True, SCHEME))
                self._say(CONFIGURE_MIRROR, wanted, given)
        elif command == MIRROR_REMOVED:
            self.removed.append(zdo.u16(body, 0))
            self.mirror = None
            self._wake_at = None
        elif command == REPORT_RESPONSE:
            self.answers.append(body.hex())
