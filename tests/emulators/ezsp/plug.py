# SPDX-License-Identifier: GPL-3.0-or-later
"""A ZCL smart plug that measures: On/Off, Metering, Electrical Measurement, with attribute reporting (ZCL rev. 8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from . import groups, zcl, zdo
from .device import COORDINATOR_NWK, ApsFrame, Device

HA_PROFILE: Final = 0x0104
SMART_PLUG: Final = 0x0051
ENDPOINT: Final = 1
BASIC, IDENTIFY, GROUPS, ON_OFF, METERING, ELECTRICAL = 0x0000, 0x0003, 0x0004, 0x0006, 0x0702, 0x0B04
INPUTS: Final = (BASIC, IDENTIFY, GROUPS, ON_OFF, METERING, ELECTRICAL)
OFF_COMMAND, ON_COMMAND, TOGGLE_COMMAND, OFF_WITH_EFFECT, ON_WITH_TIMED_OFF = 0x00, 0x01, 0x02, 0x40, 0x42

ON_OFF_ATTRIBUTE: Final = (ON_OFF, 0x0000)
ON_TIME: Final = (ON_OFF, 0x4001)
IDENTIFY_TIME: Final = (IDENTIFY, 0x0000)
VOLTAGE_V: Final = 230.0
SAMPLE_S: Final = 1.0  # how often a reportable change is looked for, and the step of the energy register
STEPS_LIMIT: Final = 3600
NEVER_REPORT: Final = 0xFFFF

Key = tuple[int, int]  # cluster, attribute
Reader = Callable[["Plug", float], zcl.Value]


@dataclass(frozen=True)
class Attribute:
    """One row of the table of attributes."""

    kind: int
    read: Reader
    writable: bool = False


@dataclass
class Reporting:
    """A reporting configuration (§2.5.7) and what was last said under it."""

    kind: int
    min_s: int
    max_s: int
    change: float
    said_at: float
    said: zcl.Value

    def due(self, value: zcl.Value, now: float) -> bool:
        since = now - self.said_at
        if self.max_s and since >= self.max_s:
            return True
        if since < self.min_s:
            return False
        if isinstance(value, str) or isinstance(self.said, str) or self.kind not in zcl.ANALOG:
            return value != self.said
        return value != self.said and abs(value - self.said) >= self.change


def _const(value: zcl.Value) -> Reader:
    return lambda _plug, _now: value


ATTRIBUTES: Final[dict[Key, Attribute]] = {
    (BASIC, 0x0000): Attribute(zcl.UINT8, _const(8)),
    (BASIC, 0x0001): Attribute(zcl.UINT8, _const(1)),
    (BASIC, 0x0004): Attribute(zcl.STRING, lambda plug, _now: plug.manufacturer),
    (BASIC, 0x0005): Attribute(zcl.STRING, lambda plug, _now: plug.model),
    (BASIC, 0x0007): Attribute(zcl.ENUM8, _const(0x01)),
    (BASIC, 0x4000): Attribute(zcl.STRING, _const("1.0")),
    IDENTIFY_TIME: Attribute(zcl.UINT16, lambda plug, now: max(0, round(plug.identify_until - now)), writable=True),
    ON_OFF_ATTRIBUTE: Attribute(zcl.BOOL, lambda plug, _now: int(plug.on)),
    ON_TIME: Attribute(zcl.UINT16, lambda plug, now: plug.on_time_left(now), writable=True),
    (ON_OFF, 0x4003): Attribute(zcl.ENUM8, _const(0xFF)),
    (METERING, 0x0000): Attribute(zcl.UINT48, lambda plug, now: int(plug.energy_wh(now))),
    (METERING, 0x0200): Attribute(zcl.BITMAP8, _const(0)),
    (METERING, 0x0300): Attribute(zcl.ENUM8, _const(0)),
    (METERING, 0x0301): Attribute(zcl.UINT24, _const(1)),
    (METERING, 0x0302): Attribute(zcl.UINT24, _const(1000)),
    (METERING, 0x0303): Attribute(zcl.BITMAP8, _const(0x33)),
    (METERING, 0x0306): Attribute(zcl.BITMAP8, _const(0)),
    (METERING, 0x0400): Attribute(zcl.INT24, lambda plug, now: round(plug.power_w(now))),
    (ELECTRICAL, 0x0000): Attribute(zcl.BITMAP32, _const(0x08)),
    (ELECTRICAL, 0x0505): Attribute(zcl.UINT16, _const(round(VOLTAGE_V))),
    (ELECTRICAL, 0x0508): Attribute(zcl.UINT16, lambda plug, now: round(plug.power_w(now) / VOLTAGE_V * 1000)),
    (ELECTRICAL, 0x050B): Attribute(zcl.INT16, lambda plug, now: round(plug.power_w(now))),
    (ELECTRICAL, 0x0600): Attribute(zcl.UINT16, _const(1)),
    (ELECTRICAL, 0x0601): Attribute(zcl.UINT16, _const(1)),
    (ELECTRICAL, 0x0602): Attribute(zcl.UINT16, _const(1)),
    (ELECTRICAL, 0x0603): Attribute(zcl.UINT16, _const(1000)),
    (ELECTRICAL, 0x0604): Attribute(zcl.UINT16, _const(1)),
    (ELECTRICAL, 0x0605): Attribute(zcl.UINT16, _const(1)),
}


class Plug(Device):
    """A plug. `load(now)` says what it would draw in watts while the relay is closed; `switched(on, now)` is told.

    Reports go to every binding of their cluster, as the specification wants: without a binding nothing is reported.
    """

    manufacturer: str
    model: str
    on: bool
    identify_until: float
    switched_at: float

    def __init__(
        self,
        ieee: bytes,
        load: Callable[[float], float],
        *,
        switched: Callable[[bool, float], None] | None = None,
        manufacturer: str = "meterhub",
        model: str = "plug-1",
        profile: int = HA_PROFILE,
        now: float = 0.0,
        **device: Any,
    ) -> None:
        endpoints = {ENDPOINT: zdo.Endpoint(profile, SMART_PLUG, INPUTS)}
        super().__init__(ieee, endpoints=endpoints, **device)
        self.manufacturer, self.model, self.profile = manufacturer, model, profile
        self.on = True
        self.identify_until = -math.inf
        self.switched_at = now  # when its relay was last worked
        self._load, self._switched = load, switched
        self._off_at: float | None = None
        self._wh, self._at = 0.0, now
        self._reporting: dict[Key, Reporting] = {}
        self._sample_at: float | None = None
        self.reports = 0

    # -- what it measures ------------------------------------------------------------------------------------------

    def power_w(self, now: float) -> float:
        """What goes through the relay."""
        return self._load(now) if self.on else 0.0

    def energy_wh(self, now: float) -> float:
        """The register: power summed up in steps of SAMPLE_S."""
        steps = min(max(1, math.ceil((now - self._at) / SAMPLE_S)), STEPS_LIMIT)
        step_s = (now - self._at) / steps
        if self.on and step_s > 0:
            self._wh += sum(self._load(self._at + step_s * (i + 1)) for i in range(steps)) * step_s / 3600
        self._at = max(now, self._at)
        return self._wh

    def on_time_left(self, now: float) -> int:
        """OnTime (§3.8.2.2.3), in tenths of a second."""
        return 0 if self._off_at is None else max(0, math.ceil((self._off_at - now) * 10))

    def switch(self, on: bool, now: float) -> None:
        """Work the relay, as the button on the plug or a command does."""
        self.energy_wh(now)
        if on != self.on:
            self.switched_at = now
        self.on, self._off_at = on, None
        if self._switched is not None:
            self._switched(on, now)
        self._report_due(now)

    def describe(self, now: float) -> dict[str, Any]:
        state = {"on": self.on, "power_w": round(self.power_w(now), 1), "energy_wh": round(self.energy_wh(now), 3)}
        configured = [[f"{cluster:04x}", f"{attribute:04x}"] for cluster, attribute in sorted(self._reporting)]
        mine = {
            "switched_at": self.switched_at,
            "reports": self.reports,
            "reporting": configured,
            "groups": self.groups.groups_of(ENDPOINT),
        }
        return super().describe(now) | state | mine

    # -- frames ------------------------------------------------------------------------------------------------------

    def on_joined(self, now: float) -> None:
        self._at = max(self._at, now)

    def keep(self, now: float) -> dict[str, Any]:
        rows = [[*key, r.kind, r.min_s, r.max_s, r.change] for key, r in self._reporting.items()]
        mine = self.groups.groups_of(ENDPOINT)
        return {"on": self.on, "energy_wh": self.energy_wh(now), "reporting": rows, "groups": mine}

    def recall(self, kept: dict[str, Any], now: float) -> None:
        self.on, self._wh, self._at = kept["on"], kept["energy_wh"], now
        self.groups.entries = {(group, ENDPOINT) for group in kept["groups"]}
        for cluster, attribute, kind, min_s, max_s, change in kept["reporting"]:
            self._configure_one((cluster, attribute), kind, min_s, max_s, change, now)
        self._arm(now)

    def on_left(self, now: float) -> None:
        self.groups.clear()
        self.forget_reporting()

    def forget_reporting(self) -> None:
        self._reporting.clear()
        self._sample_at = None

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        """A ZCL frame; what cannot be parsed is dropped."""
        try:
            header, body = zcl.parse(frame.payload)
            if frame.cluster not in INPUTS:
                self._default_response(frame, header, zcl.UNSUPPORTED_CLUSTER)
            elif header.for_cluster and frame.cluster == GROUPS and header.command <= groups.REMOVE_ALL:
                self._group_command(frame, header, body)
            elif header.for_cluster:
                self._default_response(frame, header, self._cluster_command(frame.cluster, header, body, now))
            else:
                self._general_command(frame, header, body, now)
        except zcl.Malformed:
            return

    def _respond(self, frame: ApsFrame, tsn: int, command: int, body: bytes) -> None:
        if frame.mode == "unicast":
            payload = zcl.general(tsn, command, body)
            self.transmit(frame.profile, frame.cluster, ENDPOINT, frame.src_ep, payload, dst=frame.src)

    def _default_response(self, frame: ApsFrame, header: zcl.Header, status: int) -> None:
        if (header.wants_default_response or status != zcl.SUCCESS) and header.command != zcl.DEFAULT_RSP:
            self._respond(frame, header.tsn, zcl.DEFAULT_RSP, bytes((header.command, status)))

    def _general_command(self, frame: ApsFrame, header: zcl.Header, body: bytes, now: float) -> None:
        handlers = {
            zcl.READ: (zcl.READ_RSP, self._read),
            zcl.WRITE: (zcl.WRITE_RSP, self._write),
            zcl.CONFIGURE: (zcl.CONFIGURE_RSP, self._configure),
            zcl.READ_CONFIG: (zcl.READ_CONFIG_RSP, self._read_configuration),
            zcl.DISCOVER: (zcl.DISCOVER_RSP, self._discover),
        }
        if header.command in handlers:
            response, handler = handlers[header.command]
            self._respond(frame, header.tsn, response, handler(frame.cluster, body, now))
        else:
            self._default_response(frame, header, zcl.UNSUP_COMMAND)

    def _read(self, cluster: int, body: bytes, now: float) -> bytes:
        out = b""
        for at in range(0, len(body) - 1, 2):
            row = ATTRIBUTES.get((cluster, zdo.u16(body, at)))
            if row is None:
                out += body[at : at + 2] + bytes((zcl.UNSUPPORTED_ATTRIBUTE,))
            else:
                value = zcl.encode(row.kind, row.read(self, now))
                out += body[at : at + 2] + bytes((zcl.SUCCESS, row.kind)) + value
        return out

    def _write(self, cluster: int, body: bytes, now: float) -> bytes:
        out, at = b"", 0
        while at + 3 <= len(body):
            name, kind = body[at : at + 2], body[at + 2]
            value, at = zcl.decode(kind, body, at + 3)
            key = (cluster, zdo.u16(name, 0))
            row = ATTRIBUTES.get(key)
            if row is None:
                out += bytes((zcl.UNSUPPORTED_ATTRIBUTE,)) + name
            elif not row.writable:
                out += bytes((zcl.READ_ONLY,)) + name
            elif key == IDENTIFY_TIME and isinstance(value, int):
                self.identify_until = now + value
            elif key == ON_TIME and isinstance(value, int):
                self._off_at = now + value / 10 if self.on and value else None
        return out or bytes((zcl.SUCCESS,))

    def _discover(self, cluster: int, body: bytes, _now: float) -> bytes:
        if len(body) < 3:
            raise zcl.Malformed("first attribute and a number")
        first, most = zdo.u16(body, 0), body[2]
        found = sorted((key[1], row.kind) for key, row in ATTRIBUTES.items() if key[0] == cluster and key[1] >= first)
        rows = b"".join(zdo.le16(attribute) + bytes((kind,)) for attribute, kind in found[:most])
        return bytes((len(found) <= most,)) + rows

    def _cluster_command(self, cluster: int, header: zcl.Header, body: bytes, now: float) -> int:
        """Do it, return the status."""
        if cluster == IDENTIFY and header.command == 0x00 and len(body) >= 2:
            self.identify_until = now + zdo.u16(body, 0)
            return zcl.SUCCESS
        if cluster != ON_OFF or header.command not in (0x00, 0x01, 0x02, 0x40, 0x42):
            return zcl.UNSUP_COMMAND
        if header.command == ON_WITH_TIMED_OFF:
            if len(body) < 5:
                return zcl.MALFORMED
            if not body[0] & 1 or self.on:  # accept only when on (§3.8.2.3.6.2)
                self.switch(True, now)
                self._off_at = now + zdo.u16(body, 1) / 10
            return zcl.SUCCESS
        wanted = {OFF_COMMAND: False, ON_COMMAND: True, TOGGLE_COMMAND: not self.on, OFF_WITH_EFFECT: False}
        self.switch(wanted[header.command], now)
        return zcl.SUCCESS

    def _group_command(self, frame: ApsFrame, header: zcl.Header, body: bytes) -> None:
        """Groups (§3.6.2.3): what is answered goes back under the command's own number."""
        answer = self.groups.command(ENDPOINT, header.command, body)
        self.dirty = True
        if answer is None:
            self._default_response(frame, header, zcl.SUCCESS)
        elif frame.mode == "unicast":
            control = zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER | zcl.FRAME_NO_DEFAULT_RSP
            payload = bytes((control, header.tsn, header.command)) + answer
            self.transmit(frame.profile, GROUPS, ENDPOINT, frame.src_ep, payload, dst=frame.src)

    # -- reporting ---------------------------------------------------------------------------------------------------

    def _configure(self, cluster: int, body: bytes, now: float) -> bytes:
        out, at = b"", 0
        while at + 8 <= len(body):
            if body[at]:
                raise zcl.Malformed("only the direction of our own reports is known")
            name, kind = body[at + 1 : at + 3], body[at + 3]
            min_s, max_s = zdo.u16(body, at + 4), zdo.u16(body, at + 6)
            at += 8
            change: zcl.Value = 0
            if kind in zcl.ANALOG:
                change, at = zcl.decode(kind, body, at)
            status = self._configure_one((cluster, zdo.u16(name, 0)), kind, min_s, max_s, change, now)
            if status != zcl.SUCCESS:
                out += bytes((status, 0)) + name
        self._arm(now)
        self.dirty = True
        return out or bytes((zcl.SUCCESS,))

    def _configure_one(self, key: Key, kind: int, min_s: int, max_s: int, change: zcl.Value, now: float) -> int:
        row = ATTRIBUTES.get(key)
        if row is None:
            return zcl.UNSUPPORTED_ATTRIBUTE
        if row.kind != kind or isinstance(change, str):
            return zcl.INVALID_DATA_TYPE
        if max_s == NEVER_REPORT:
            self._reporting.pop(key, None)
        else:
            self._reporting[key] = Reporting(kind, min_s, max_s, abs(change), now, row.read(self, now))
        return zcl.SUCCESS

    def _read_configuration(self, cluster: int, body: bytes, _now: float) -> bytes:
        out = b""
        for at in range(0, len(body) - 2, 3):
            found = self._reporting.get((cluster, zdo.u16(body, at + 1)))
            if found is None:
                out += bytes((zcl.NOT_FOUND,)) + body[at : at + 3]
                continue
            out += bytes((zcl.SUCCESS,)) + body[at : at + 3] + bytes((found.kind,))
            out += zdo.le16(found.min_s) + zdo.le16(found.max_s)
            if found.kind in zcl.ANALOG:
                out += zcl.encode(found.kind, found.change)
        return out

    def _report_due(self, now: float) -> None:
        for (cluster, attribute), reporting in self._reporting.items():
            row = ATTRIBUTES[cluster, attribute]
            value = row.read(self, now)
            if not reporting.due(value, now):
                continue
            reporting.said, reporting.said_at = value, now
            body = zdo.le16(attribute) + bytes((row.kind,)) + zcl.encode(row.kind, value)
            for _, bound, ieee, endpoint in self.bindings:
                if bound == cluster and ieee == self.tc_ieee:
                    self.reports += 1
                    payload = zcl.general(self.next_tsn(), zcl.REPORT, body)
                    self.transmit(self.profile, cluster, ENDPOINT, endpoint, payload, dst=COORDINATOR_NWK)

    def _arm(self, now: float) -> None:
        self._sample_at = now + SAMPLE_S if self._reporting else None

    def get_timer(self) -> float | None:
        return min((at for at in (self._sample_at, self._off_at) if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._off_at is not None and now >= self._off_at:
            self.switch(False, now)
        if self._sample_at is not None and now >= self._sample_at:
            self._report_due(now)
            self._arm(now)
