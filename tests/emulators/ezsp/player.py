# SPDX-License-Identifier: GPL-3.0-or-later
"""A ZCL device out of data: its endpoints, clusters and attributes as an interview shows them, and its habits.

    {"kind": "zcl", "ieee": "00158d0000000001", "name": "plug", "manufacturer": "M", "model": "T",
     "endpoints": {"1": {"profile": 260, "type": 81, "out": ["0x0019"],
                         "in": {"0x0000": {}, "0x0702": {"0x0000": ["25", 541], "0x0300": ["30", 0]}}}},
     "habits": {"report_s": 4}}

An attribute is [ZCL type in hex, value]; a list of values is gone through, one each time the device says it, and the
last one stays. Habits: report_s (as often as this it reports what it was told to, whatever it was told; 0: never;
absent: as it was told), configurable (false: it knows no Configure Reporting), unreportable (["0b04:050b"]),
mute_clusters (["0702"]: it never answers them), forgets (it takes a configuration and has none afterwards),
one_at_a_time (it fails when asked for more than one attribute), unasked (it reports to nobody's order, and wants a
Default Response),
checks_in_s (as often as this it checks in, Poll Control, from the first endpoint that has the cluster),
late (["0b04:050b"]: unsupported when read; only reports have it), dead_endpoints ([3]: listed, and without a
descriptor), deaf (so many Node Descriptor requests it lets pass), w_per_level (a charger: its power is its level times
that), firmware ([manufacturer, type, version]: it takes upgrades; describe: what it runs, and the SHA-256 of what it
loaded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from . import groups, zcl, zdo
from .device import COORDINATOR_NWK, ApsFrame, Device
from .loader import Loader

HOME_AUTOMATION: Final = 0x0104
SMART_PLUG: Final = 0x0051
BASIC, ON_OFF, LEVEL, IAS_ZONE, OTA, ELECTRICAL = 0x0000, 0x0006, 0x0008, 0x0500, 0x0019, 0x0B04
POLL_CONTROL: Final = 0x0020
ACTIVE_POWER: Final = 0x050B
MANUFACTURER, MODEL, CIE_ADDRESS, ZONE_STATE, ZONE_STATUS = 0x0004, 0x0005, 0x0010, 0x0000, 0x0002
SAMPLE_S: Final = 1.0
NEVER_REPORT: Final = 0xFFFF

Key = tuple[int, int, int]  # endpoint, cluster, attribute


@dataclass
class Attribute:
    """An attribute and what it will have said by and by."""

    kind: int
    values: list[zcl.Value]
    at: int = -1

    def say(self) -> zcl.Value:
        """The value, as the device gives it now."""
        self.at = min(self.at + 1, len(self.values) - 1)
        return self.values[self.at]

    @property
    def value(self) -> zcl.Value:
        """What it said last."""
        return self.values[max(0, self.at)]

    def set(self, value: zcl.Value) -> None:
        self.values, self.at = [value], -1


@dataclass
class Reporting:
    """What it was told, and when it said it last."""

    min_s: int
    max_s: int
    change: zcl.Value
    said: zcl.Value
    said_at: float


class Player(Device):
    """Plays such a device. `commands`: what it was told to do, [endpoint, cluster, command, bytes in hex]."""

    def __init__(self, entry: dict[str, Any], ieee: bytes, **device: Any) -> None:
        endpoints = {int(number): _endpoint(row) for number, row in entry["endpoints"].items()}
        super().__init__(ieee, endpoints=endpoints, **device)
        self.manufacturer, self.model = entry.get("manufacturer", ""), entry.get("model", "")
        self.attributes: dict[Key, Attribute] = {}
        for number, row in entry["endpoints"].items():
            for cluster, attributes in row.get("in", {}).items():
                for attribute, (kind, value) in attributes.items():
                    key = (int(number), int(cluster, 16), int(attribute, 16))
                    values = value if isinstance(value, list) else [value]
                    self.attributes[key] = Attribute(int(kind, 16), list(values))
        habits = entry.get("habits", {})
        self.report_s: float | None = habits.get("report_s")
        self.configurable: bool = habits.get("configurable", True)
        self.forgets: bool = habits.get("forgets", False)
        self.one_at_a_time: bool = habits.get("one_at_a_time", False)
        self.checks_in_s: float | None = habits.get("checks_in_s")
        self.check_ins = 0
        self.stayed_awake: list[bool] = []  # what it was answered
        self._check_in_at: float | None = None
        self.unasked: bool = habits.get("unasked", False)
        self.w_per_level: int = habits.get("w_per_level", 0)
        self.groups.room = habits.get("groups", groups.ROOM)
        self.deaf: int = habits.get("deaf", 0)
        self.dead = set(habits.get("dead_endpoints", []))
        self.mute = {int(cluster, 16) for cluster in habits.get("mute_clusters", [])}
        self.unreportable = {_pair(text) for text in habits.get("unreportable", [])}
        self.late = {_pair(text) for text in habits.get("late", [])}
        self.commands: list[list[Any]] = []
        self.enrolled: list[int] = []
        self.acknowledged = 0
        self.reports = 0
        self.reads = 0
        self.loader = Loader(self, *habits["firmware"]) if "firmware" in habits else None
        self._reporting: dict[Key, Reporting] = {}
        self._sample_at: float | None = None

    def describe(self, now: float) -> dict[str, Any]:
        configured = [f"{endpoint}:{cluster:04x}:{attribute:04x}" for endpoint, cluster, attribute in self._reporting]
        return super().describe(now) | {
            "reports": self.reports,
            "reads": self.reads,
            "reporting": configured,
            "commands": self.commands,
            "values": {f"{e}:{cluster:04x}:{a:04x}": row.value for (e, cluster, a), row in self.attributes.items()},
            "enrolled": self.enrolled,
            "acknowledged": self.acknowledged,
            "check_ins": [self.check_ins, self.stayed_awake],
            "firmware": None if self.loader is None else self.loader.describe(),
        }

    def set(self, endpoint: int, cluster: int, attribute: int, value: zcl.Value) -> None:
        """Something happened: an attribute has another value now."""
        self.attributes[endpoint, cluster, attribute].set(value)

    def raise_zone(self, status: int) -> None:
        """Zone Status Change Notification (§8.2.2.4.1), from the first zone."""
        number = next(number for number, place in self.endpoints.items() if IAS_ZONE in place.inputs)
        self.attributes[number, IAS_ZONE, ZONE_STATUS].set(status)
        body = zdo.le16(status) + b"\x00\x00" + zdo.le16(0)
        frame = bytes((zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER, self.next_tsn(), 0x00)) + body
        self.transmit(self.endpoints[number].profile, IAS_ZONE, number, 1, frame)

    def _check_in(self) -> None:
        """Check-in (§3.16.5.3.1), from the first endpoint that has Poll Control."""
        if not self.joined:
            return
        number = next(number for number, place in self.endpoints.items() if POLL_CONTROL in place.inputs)
        self.check_ins += 1
        frame = bytes((zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER, self.next_tsn(), 0x00))
        self.transmit(self.endpoints[number].profile, POLL_CONTROL, number, 1, frame)

    def request_enrolment(self) -> None:
        """Zone Enroll Request (§8.2.2.4.2), from the first zone."""
        number = next(number for number, place in self.endpoints.items() if IAS_ZONE in place.inputs)
        kind = self.attributes[number, IAS_ZONE, 0x0001].value
        assert isinstance(kind, int)
        frame = bytes((zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER, self.next_tsn(), 0x01)) + zdo.le16(kind) + b"\0\0"
        self.transmit(self.endpoints[number].profile, IAS_ZONE, number, 1, frame)

    # -- frames ------------------------------------------------------------------------------------------------------

    def receive_aps(self, frame: ApsFrame, now: float) -> None:
        if frame.profile == zdo.PROFILE and frame.cluster == zdo.NODE_DESC_REQ and self.deaf > 0:
            self.deaf -= 1
            return
        asked = frame.payload[3] if frame.cluster == zdo.SIMPLE_DESC_REQ and len(frame.payload) > 3 else None
        if frame.profile == zdo.PROFILE and asked in self.dead:
            body = frame.payload[:1] + bytes((zdo.INVALID_EP,)) + frame.payload[1:3] + b"\0"
            self.transmit(zdo.PROFILE, frame.cluster | zdo.RESPONSE, 0, 0, body, dst=frame.src)
            return
        super().receive_aps(frame, now)

    def on_joined(self, now: float) -> None:
        if self.loader is not None:
            self.loader.ask_at = now + 1.0
        if self.unasked:
            self._sample_at = now + (self.report_s or SAMPLE_S)
        if self.checks_in_s is not None:
            self._check_in_at = now + self.checks_in_s

    def on_left(self, now: float) -> None:
        self.groups.clear()
        self.forget_reporting()

    def forget_reporting(self) -> None:
        self._reporting.clear()
        self._sample_at = None

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        place = self.endpoints.get(frame.dst_ep)
        if place is None or frame.cluster in self.mute or place.profile not in (HOME_AUTOMATION, 0xC05E, 0x0109):
            return
        try:
            header, body = zcl.parse(frame.payload)
            if frame.cluster == OTA and self.loader is not None and header.for_cluster:
                self.loader.heard(header, body, now)
            elif header.command == zcl.DEFAULT_RSP and not header.for_cluster:
                self.acknowledged += 1
            elif frame.cluster == POLL_CONTROL and header.for_cluster and header.command == 0x00 and body:
                self.stayed_awake.append(bool(body[0]))
            elif frame.cluster not in place.inputs:
                self._default_response(frame, header, zcl.UNSUPPORTED_CLUSTER)
            elif header.for_cluster and frame.cluster == groups.CLUSTER and header.command <= groups.REMOVE_ALL:
                self._group_command(frame, header, body)
            elif header.for_cluster:
                self._default_response(frame, header, self._command(frame, header, body))
            else:
                self._general(frame, header, body, now)
        except zcl.Malformed:
            return

    def _group_command(self, frame: ApsFrame, header: zcl.Header, body: bytes) -> None:
        answer = self.groups.command(frame.dst_ep, header.command, body)
        if answer is None:
            self._default_response(frame, header, zcl.SUCCESS)
        elif frame.mode == "unicast":
            control = zcl.FRAME_CLUSTER | zcl.FRAME_FROM_SERVER | zcl.FRAME_NO_DEFAULT_RSP
            payload = bytes((control, header.tsn, header.command)) + answer
            self.transmit(frame.profile, groups.CLUSTER, frame.dst_ep, frame.src_ep, payload, dst=frame.src)

    def _respond(self, frame: ApsFrame, tsn: int, command: int, body: bytes) -> None:
        self.transmit(
            frame.profile, frame.cluster, frame.dst_ep, frame.src_ep, zcl.general(tsn, command, body), dst=frame.src
        )

    def _default_response(self, frame: ApsFrame, header: zcl.Header, status: int) -> None:
        if frame.mode == "unicast" and (header.wants_default_response or status != zcl.SUCCESS):
            self._respond(frame, header.tsn, zcl.DEFAULT_RSP, bytes((header.command, status)))

    def _general(self, frame: ApsFrame, header: zcl.Header, body: bytes, now: float) -> None:
        place = (frame.dst_ep, frame.cluster)
        if header.command == zcl.READ:
            self.reads += 1
            if self.one_at_a_time and len(body) > 2:
                self._default_response(frame, header, 0x01)
            else:
                self._respond(frame, header.tsn, zcl.READ_RSP, self._read(place, body))
        elif header.command == zcl.WRITE:
            self._respond(frame, header.tsn, zcl.WRITE_RSP, self._write(place, body))
        elif header.command == zcl.CONFIGURE and self.configurable:
            self._respond(frame, header.tsn, zcl.CONFIGURE_RSP, self._configure(place, body, now))
        elif header.command == zcl.READ_CONFIG and self.configurable:
            self._respond(frame, header.tsn, zcl.READ_CONFIG_RSP, self._read_configuration(place, body))
        else:
            self._default_response(frame, header, 0x82)  # UNSUP_GENERAL_COMMAND

    def _read(self, place: tuple[int, int], body: bytes) -> bytes:
        out = b""
        for at in range(0, len(body) - 1, 2):
            key = (*place, zdo.u16(body, at))
            if place[1] == BASIC and key[2] in (MANUFACTURER, MODEL):
                text = self.manufacturer if key[2] == MANUFACTURER else self.model
                out += body[at : at + 2] + bytes((zcl.SUCCESS, zcl.STRING)) + zcl.encode(zcl.STRING, text)
            elif key not in self.attributes or key[1:] in self.late:
                out += body[at : at + 2] + bytes((zcl.UNSUPPORTED_ATTRIBUTE,))
            else:
                row = self.attributes[key]
                out += body[at : at + 2] + bytes((zcl.SUCCESS, row.kind)) + zcl.encode(row.kind, row.say())
        return out

    def _write(self, place: tuple[int, int], body: bytes) -> bytes:
        out, at = b"", 0
        while at + 3 <= len(body):
            name, kind = body[at : at + 2], body[at + 2]
            value, at = zcl.decode(kind, body, at + 3)
            key = (*place, zdo.u16(name, 0))
            if place[1] == IAS_ZONE and key[2] == CIE_ADDRESS:
                continue
            if key not in self.attributes:
                out += bytes((zcl.UNSUPPORTED_ATTRIBUTE,)) + name
            else:
                self.attributes[key].set(value)
        return out or bytes((zcl.SUCCESS,))

    def _command(self, frame: ApsFrame, header: zcl.Header, body: bytes) -> int:
        """Do it, return the status."""
        number, cluster = frame.dst_ep, frame.cluster
        self.commands.append([number, cluster, header.command, body.hex()])
        if cluster == ON_OFF and header.command in (0x00, 0x01) and (number, ON_OFF, 0) in self.attributes:
            self.attributes[number, ON_OFF, 0].set(header.command)
            return zcl.SUCCESS
        if cluster == LEVEL and header.command in (0x00, 0x04) and body:
            self.attributes[number, LEVEL, 0].set(body[0])
            if self.w_per_level and (number, ELECTRICAL, ACTIVE_POWER) in self.attributes:
                self.attributes[number, ELECTRICAL, ACTIVE_POWER].set(body[0] * self.w_per_level)
            return zcl.SUCCESS
        if cluster == IAS_ZONE and header.command == 0x00 and len(body) >= 2:
            self.enrolled.append(body[1])
            return zcl.SUCCESS
        return zcl.UNSUP_COMMAND

    # -- reporting ---------------------------------------------------------------------------------------------------

    def _configure(self, place: tuple[int, int], body: bytes, now: float) -> bytes:
        out, at = b"", 0
        while at + 8 <= len(body):
            name, kind = body[at + 1 : at + 3], body[at + 3]
            key = (*place, zdo.u16(name, 0))
            min_s, max_s = zdo.u16(body, at + 4), zdo.u16(body, at + 6)
            at += 8
            change: zcl.Value = 0
            if kind in zcl.ANALOG:
                change, at = zcl.decode(kind, body, at)
            row = self.attributes.get(key)
            if row is None:
                status = zcl.UNSUPPORTED_ATTRIBUTE
            elif key[1:] in self.unreportable:
                status = zcl.UNREPORTABLE
            elif row.kind != kind:
                status = zcl.INVALID_DATA_TYPE
            else:
                status = zcl.SUCCESS
                if not self.forgets:
                    self._reporting[key] = Reporting(min_s, max_s, change, row.value, now)
            if status != zcl.SUCCESS:
                out += bytes((status, 0)) + name
        if self._sample_at is None and self._reporting:
            self._sample_at = now + (self.report_s or SAMPLE_S)
        return out or bytes((zcl.SUCCESS,))

    def _read_configuration(self, place: tuple[int, int], body: bytes) -> bytes:
        out = b""
        for at in range(0, len(body) - 2, 3):
            key = (*place, zdo.u16(body, at + 1))
            found = self._reporting.get(key)
            if found is None or isinstance(found.change, str):
                out += bytes((zcl.NOT_FOUND,)) + body[at : at + 3]
                continue
            kind = self.attributes[key].kind
            out += bytes((zcl.SUCCESS,)) + body[at : at + 3] + bytes((kind,))
            out += zdo.le16(found.min_s) + zdo.le16(found.max_s)
            if kind in zcl.ANALOG:
                out += zcl.encode(kind, found.change)
        return out

    def get_timer(self) -> float | None:
        if self.loader is None and self._check_in_at is None:
            return self._sample_at
        loader_at = None if self.loader is None or not self.joined else self.loader.ask_at
        return min((at for at in (self._sample_at, loader_at, self._check_in_at) if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self.loader is not None:
            self.loader.handle_timer(now)
        if self._check_in_at is not None and self.checks_in_s is not None and now >= self._check_in_at:
            self._check_in_at = now + self.checks_in_s
            self._check_in()
        if self._sample_at is None or now < self._sample_at:
            return
        self._sample_at = now + (self.report_s or SAMPLE_S)
        if self.report_s == 0:
            return
        for key in list(self.attributes if self.unasked else self._reporting):
            self._report(key, now)

    def _report(self, key: Key, now: float) -> None:
        row, told = self.attributes[key], self._reporting.get(key)
        if self.report_s is None and told is not None and not _is_due(row, told, now):
            return
        number, cluster, attribute = key
        body = zdo.le16(attribute) + bytes((row.kind,)) + zcl.encode(row.kind, row.say())
        if told is not None:
            told.said, told.said_at = row.value, now
        profile = self.endpoints[number].profile
        if self.unasked:
            self.reports += 1
            frame = bytes((zcl.FRAME_FROM_SERVER, self.next_tsn(), zcl.REPORT)) + body
            self.transmit(profile, cluster, number, 1, frame)
            return
        for bound_from, bound, ieee, endpoint in self.bindings:
            if (bound_from, bound) == (number, cluster) and ieee == self.tc_ieee:
                self.reports += 1
                frame = zcl.general(self.next_tsn(), zcl.REPORT, body)
                self.transmit(profile, cluster, number, endpoint, frame, dst=COORDINATOR_NWK)


def _is_due(row: Attribute, told: Reporting, now: float) -> bool:
    since = now - told.said_at
    upcoming = row.values[min(row.at + 1, len(row.values) - 1)]
    if told.max_s and told.max_s != NEVER_REPORT and since >= told.max_s:
        return True
    if since < told.min_s or isinstance(upcoming, str) or isinstance(told.said, str) or isinstance(told.change, str):
        return False
    if row.kind not in zcl.ANALOG:
        return upcoming != told.said
    return upcoming != told.said and abs(upcoming - told.said) >= told.change


def _endpoint(row: dict[str, Any]) -> zdo.Endpoint:
    inputs = tuple(int(cluster, 16) for cluster in row.get("in", {}))
    outputs = tuple(int(cluster, 16) for cluster in row.get("out", []))
    return zdo.Endpoint(row.get("profile", HOME_AUTOMATION), row.get("type", SMART_PLUG), inputs, outputs)


def _pair(text: str) -> tuple[int, int]:
    cluster, attribute = text.split(":")
    return int(cluster, 16), int(attribute, 16)
