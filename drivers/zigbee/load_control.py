"""Demand Response and Load Control: events for appliances that know when to let go by themselves. A codec; no I/O.

Source: Smart Energy Profile 1.2b (07-5356-19) annex D.2. The hub is the energy service interface, the server of the
cluster; a load control device is its client, and holds itself to an event until that ends, whether the hub lives or
not.
Times are UTC epoch seconds here; on the air they count from 2000, and 0 means now.
"""

from typing import NamedTuple

from hub.wire.zigbee import zcl

CLUSTER = 0x0701

_FOR_CLUSTER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x08, 0x10
_LOAD_CONTROL_EVENT, _CANCEL_EVENT = 0x00, 0x01
_REPORT_EVENT_STATUS, _GET_SCHEDULED_EVENTS = 0x00, 0x01
_SUCCESS, _UNSUP_COMMAND, _NOT_FOUND = 0x00, 0x81, 0x8B

# What a load control device says it switches (attribute DeviceClassValue of the client, D.2.3.2.4; bits: table D-2), as
# the classes of `about/{me}`. A device of several classes, or of one that is not here, has not said what it is.
DEVICE_CLASS = 0x0003
CLASSES = {1: "air-conditioner", 2: "heater", 4: "water-heater", 8: "pool-pump", 1024: "ev-charger"}
_READ, _READ_RESPONSE, _BITMAP16 = 0x00, 0x01, 0x19

EVERY_CLASS = 0x0FFF  # D.2.2.3.1.1.1.1: all twelve classes of appliances
_ANY_GROUP, _NOW = 0x00, 0
# Criticality 1 is voluntary ("green", table D-3): a householder may opt out, as the contract wants.
_VOLUNTARY = 0x01
_NO_OFFSET, _NO_SETPOINT, _NO_ADJUSTMENT, _NO_DUTY_CYCLE = 0xFF, 0x8000, 0x80, 0xFF
_AT_ONCE = 0x00
_LONGEST_MIN = 1440

# EventStatus (table D-8).
RECEIVED, STARTED, COMPLETED, OPT_OUT, OPT_IN, CANCELLED, SUPERSEDED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
REJECTED = frozenset((0x08, 0x09, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE))


class Event(NamedTuple):
    """An event under way. `duty_cycle`: the share of the time that the appliance may draw power, in percent; None: it
    is asked to lower its load by `lower` percent of its average."""

    event_id: int
    ends_at: float
    duty_cycle: int | None
    lower: int | None


class EventReport(NamedTuple):
    """What an appliance says of an event."""

    event_id: int
    status: int


def event_of(event_id: int, ends_at: float, share: float) -> Event:
    """Hold a load to a share (0 to 1) of what it draws, until `ends_at`."""
    percent = max(0, min(100, round(share * 100)))
    return Event(event_id, ends_at, percent, None)


def load_control_event(event: Event, t: float, tsn: int) -> bytes:
    """LoadControlEvent (D.2.2.3.1.1) that begins now; what is left of its time, in whole minutes, at least one."""
    minutes = max(1, min(_LONGEST_MIN, -int(-(event.ends_at - t) // 60)))
    return (
        bytes((_FOR_CLUSTER | _FROM_SERVER, tsn, _LOAD_CONTROL_EVENT))
        + event.event_id.to_bytes(4, "little")
        + EVERY_CLASS.to_bytes(2, "little")
        + bytes((_ANY_GROUP,))
        + _NOW.to_bytes(4, "little")
        + minutes.to_bytes(2, "little")
        + bytes((_VOLUNTARY, _NO_OFFSET, _NO_OFFSET))
        + _NO_SETPOINT.to_bytes(2, "little") * 2
        + bytes((_NO_ADJUSTMENT if event.lower is None else (-event.lower) & 0xFF,))
        + bytes((_NO_DUTY_CYCLE if event.duty_cycle is None else event.duty_cycle, _AT_ONCE))
    )


def cancel_event(event_id: int, tsn: int) -> bytes:
    """CancelLoadControlEvent (D.2.2.3.2.1): now, without a random delay."""
    return (
        bytes((_FOR_CLUSTER | _FROM_SERVER, tsn, _CANCEL_EVENT))
        + event_id.to_bytes(4, "little")
        + EVERY_CLASS.to_bytes(2, "little")
        + bytes((_ANY_GROUP, 0x00))
        + _NOW.to_bytes(4, "little")
    )


def read_device_class(tsn: int) -> bytes:
    """Read Attributes (ZCL 2.5.1), put to the client of the cluster."""
    return bytes((_FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, _READ)) + DEVICE_CLASS.to_bytes(2, "little")


def is_device_class(frame: bytes) -> bool:
    """Whether a load control device's frame answers `read_device_class`."""
    return len(frame) >= 3 + 3 and frame[0] & 0x0D == 0 and frame[2] == _READ_RESPONSE


def device_class_of(frame: bytes) -> str:
    """The class of appliance in such an answer; "" where it says none that is known."""
    attribute, status = int.from_bytes(frame[3:5], "little"), frame[5]
    if attribute != DEVICE_CLASS or status != _SUCCESS or len(frame) < 9 or frame[6] != _BITMAP16:
        return ""
    return CLASSES.get(int.from_bytes(frame[7:9], "little"), "")


def is_of_client(cluster_id: int, frame: bytes) -> bool:
    """Whether a frame is what a load control device says to the hub."""
    return cluster_id == CLUSTER and (zcl.is_client_command(frame) or is_device_class(frame))


def report_of(frame: bytes) -> EventReport | None:
    """Report Event Status (D.2.3.3.1), or None for another command."""
    if frame[2] != _REPORT_EVENT_STATUS or len(frame) < 3 + 9:
        return None
    return EventReport(int.from_bytes(frame[3:7], "little"), frame[7])


def answers(frame: bytes, event: Event | None, t: float) -> list[bytes]:
    """What a command of a load control device is answered: the event that holds for it, or a Default Response."""
    tsn, command = frame[1], frame[2]
    if command == _GET_SCHEDULED_EVENTS:
        if event is not None and event.ends_at > t:
            return [load_control_event(event, t, tsn)]
        return [zcl.status_response(tsn, command, _NOT_FOUND)]
    if frame[0] & _NO_DEFAULT_RESPONSE:
        return []
    return [zcl.status_response(tsn, command, _SUCCESS if command == _REPORT_EVENT_STATUS else _UNSUP_COMMAND)]
