# SPDX-License-Identifier: GPL-3.0-or-later
"""A Smart Energy load control device: a relay that holds itself to an event and lets go when that ends.

`device_class`: its DeviceClassValue, a bit a class (table D-2; 4: a water heater); None: it has no such attribute.

Written from the Smart Energy Profile (07-5356, annex D.2); it shares nothing with the hub.
"""

from __future__ import annotations

from typing import Any, Final

from . import zcl, zdo
from .device import COORDINATOR_NWK, ApsFrame, Device

SE_PROFILE: Final = 0x0109
LOAD_CONTROL_DEVICE: Final = 0x0503
BASIC, DRLC = 0x0000, 0x0701
ENDPOINT, INTERFACE = 1, 0x0A
EVENT, CANCEL, CANCEL_ALL = 0x00, 0x01, 0x02
RECEIVED, STARTED, COMPLETED, OPT_OUT, CANCELLED, SUPERSEDED = 0x01, 0x02, 0x03, 0x04, 0x06, 0x07
S_PER_MINUTE: Final = 60.0


class Relay(Device):
    """`duty_cycle`: the share of the time its load may run, in percent; None while nothing holds it."""

    def __init__(
        self,
        ieee: bytes,
        *,
        minute_s: float = S_PER_MINUTE,
        opts_out: bool = False,
        device_class: int | None = None,
        **device: Any,
    ) -> None:
        place = zdo.Endpoint(SE_PROFILE, LOAD_CONTROL_DEVICE, (BASIC,), (DRLC,))
        super().__init__(ieee, endpoints={ENDPOINT: place}, **device)
        self.minute_s, self.opts_out, self.device_class = minute_s, opts_out, device_class
        self.duty_cycle: int | None = None
        self.event_id: int | None = None
        self.history: list[int] = []
        self._ends_at: float | None = None

    def describe(self, now: float) -> dict[str, Any]:
        return super().describe(now) | {"duty_cycle": self.duty_cycle, "event": self.event_id, "history": self.history}

    def get_timer(self) -> float | None:
        return self._ends_at

    def handle_timer(self, now: float) -> None:
        if self._ends_at is not None and now >= self._ends_at:
            self._end(COMPLETED)

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        try:
            header, body = zcl.parse(frame.payload)
        except zcl.Malformed:
            return
        if frame.cluster == DRLC and not header.for_cluster and header.command == zcl.READ:
            self._read(header.tsn, body)
            return
        if frame.cluster != DRLC or not header.for_cluster or not header.control & zcl.FRAME_FROM_SERVER:
            return
        if header.command == EVENT and len(body) >= 23:
            self._take(body, now)
        elif header.command == CANCEL and len(body) >= 12 and zdo.u32(body, 0) == self.event_id:
            self._end(CANCELLED)

    def _read(self, tsn: int, body: bytes) -> None:
        """Read Attributes: DeviceClassValue (D.2.3.2.4) is all that it has."""
        said = b""
        for at in range(0, len(body) - 1, 2):
            attribute, value = body[at : at + 2], self.device_class
            if attribute == zdo.le16(0x0003) and value is not None:
                said += attribute + bytes((zcl.SUCCESS, zcl.BITMAP16)) + zdo.le16(value)
            else:
                said += attribute + bytes((zcl.UNSUPPORTED_ATTRIBUTE,))
        frame = bytes((zcl.FRAME_NO_DEFAULT_RSP, tsn, zcl.READ_RSP)) + said
        self.transmit(SE_PROFILE, DRLC, ENDPOINT, INTERFACE, frame, dst=COORDINATOR_NWK, is_encrypted=True)

    def _take(self, body: bytes, now: float) -> None:
        """Event, classes, group, start, minutes, criticality, offsets, setpoints, adjustment, duty cycle, control."""
        if self.event_id is not None:
            self._say(SUPERSEDED)
        self.event_id = zdo.u32(body, 0)
        self._say(RECEIVED)
        if self.opts_out:
            self._say(OPT_OUT)
            return
        self.duty_cycle = body[21]
        self._ends_at = now + zdo.u16(body, 11) * self.minute_s
        self._say(STARTED)

    def _end(self, status: int) -> None:
        self._say(status)
        self.duty_cycle = self.event_id = self._ends_at = None

    def _say(self, status: int) -> None:
        """Report Event Status (D.2.3.3.1): event, status, time, criticality, what was applied, no signature."""
        assert self.event_id is not None
        self.history.append(status)
        body = self.event_id.to_bytes(4, "little") + bytes((status,)) + bytes(4) + b"\x01"
        body += zdo.le16(0x8000) * 2 + b"\x80" + bytes((self.duty_cycle or 0xFF, 0)) + b"\x00" + b"\xff" * 42
        frame = bytes((zcl.FRAME_CLUSTER, self.next_tsn(), 0x00)) + body
        self.transmit(SE_PROFILE, DRLC, ENDPOINT, INTERFACE, frame, dst=COORDINATOR_NWK, is_encrypted=True)
