"""ZCL frames that devices send by themselves, read without an opinion on what an attribute ought to be. No I/O.

zigpy converts what arrives into the type that the specification has for an attribute, and drops a whole report when one
value does not fit (a power as int32, a register as uint32). Here a record keeps the type the device used. Source: ZCL
revision 8 (07-5123): 2.4 frame format, 2.5.11 Report Attributes, 2.6.2 data types, 8.2.2.4 IAS Zone commands.
"""

import struct
from fractions import Fraction
from typing import NamedTuple

REPORT_ATTRIBUTES, DEFAULT_RESPONSE = 0x0A, 0x0B
IAS_ZONE = 0x0500
POLL_CONTROL, CHECK_IN = 0x0020, 0x00
STATUS_CHANGE, ENROLL_REQUEST, ENROLL_RESPONSE = 0x00, 0x01, 0x00

_FOR_CLUSTER, _MANUFACTURER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x04, 0x08, 0x10
_SUCCESS = 0x00

BOOL, UINT8, UINT64, INT8, INT64, ENUM8, ENUM16 = 0x10, 0x20, 0x27, 0x28, 0x2F, 0x30, 0x31
_FLOATS = {0x38: "<e", 0x39: "<f", 0x3A: "<d"}
# Bytes of each type of a fixed length.
_SIZES = (
    {0x00: 0, BOOL: 1, ENUM8: 1, ENUM16: 2, 0x38: 2, 0x39: 4, 0x3A: 8}
    | {base + n: n + 1 for base in (0x08, 0x18, UINT8, INT8) for n in range(8)}
    | {0xE0: 4, 0xE1: 4, 0xE2: 4, 0xE8: 2, 0xE9: 2, 0xEA: 4, 0xF0: 8, 0xF1: 16}
)
_SHORT_STRINGS, _LONG_STRINGS = (0x41, 0x42), (0x43, 0x44)

# What a reading can be made of.
Number = int | Fraction


class Header(NamedTuple):
    """Frame control, manufacturer's code or None, sequence number, command."""

    control: int
    manufacturer: int | None
    tsn: int
    command: int

    @property
    def is_report(self) -> bool:
        return not self.control & 0x03 and self.command == REPORT_ATTRIBUTES

    @property
    def is_for_cluster(self) -> bool:
        return self.control & 0x03 == _FOR_CLUSTER

    @property
    def is_from_server(self) -> bool:
        return bool(self.control & _FROM_SERVER)

    @property
    def wants_default_response(self) -> bool:
        return not self.control & _NO_DEFAULT_RESPONSE


class Record(NamedTuple):
    """An attribute as the device gave it: its id, the ZCL type on the wire, the value's bytes."""

    attribute: int
    kind: int
    raw: bytes

    @property
    def number(self) -> Number | None:
        """The value; None when the type has no number or the bytes are the type's mark for "invalid" (2.6.2)."""
        kind, raw = self.kind, self.raw
        if kind in _FLOATS:
            value: float = struct.unpack(_FLOATS[kind], raw)[0]
            return Fraction(value) if value - value == 0 else None  # neither NaN nor infinite
        if INT8 <= kind <= INT64:
            signed = int.from_bytes(raw, "little", signed=True)
            return None if signed == -(1 << 8 * len(raw) - 1) else signed
        unsigned = int.from_bytes(raw, "little")
        if kind == BOOL:
            return unsigned if unsigned <= 1 else None
        if UINT8 <= kind <= UINT64 or kind in (ENUM8, ENUM16):
            return None if unsigned == (1 << 8 * len(raw)) - 1 else unsigned
        if kind in _SIZES and (0x08 <= kind <= 0x0F or 0x18 <= kind <= 0x1F):
            return unsigned
        return None

    @property
    def text(self) -> str | None:
        """A character string (2.6.2.12); None for another type."""
        if self.kind != _SHORT_STRINGS[1] or len(self.raw) < 1:
            return None
        return self.raw[1:].decode("utf-8", "replace").strip("\0 ")


def bits_of(kind: int) -> int:
    """How wide a counter of this type is."""
    return 8 * _SIZES.get(kind, 0)


def is_reportable_by_change(kind: int) -> bool:
    """Whether Configure Reporting has a "reportable change" for this type (2.5.7.1.7): it is analogue."""
    return UINT8 <= kind <= INT64 or kind in _FLOATS


def parse(frame: bytes) -> tuple[Header, bytes] | None:
    """A frame's header and what follows; None for what is too short to have one."""
    if len(frame) < 3:
        return None
    if not frame[0] & _MANUFACTURER:
        return Header(frame[0], None, frame[1], frame[2]), frame[3:]
    if len(frame) < 5:
        return None
    return Header(frame[0], int.from_bytes(frame[1:3], "little"), frame[3], frame[4]), frame[5:]


def report(body: bytes) -> list[Record]:
    """The attributes of a Report Attributes command; what follows a type of unknown length is left out."""
    records, at = [], 0
    while at + 3 <= len(body):
        attribute, kind = int.from_bytes(body[at : at + 2], "little"), body[at + 2]
        at += 3
        if kind in _SHORT_STRINGS and at < len(body):
            size = 1 + (0 if body[at] == 0xFF else body[at])
        elif kind in _LONG_STRINGS and at + 1 < len(body):
            length = int.from_bytes(body[at : at + 2], "little")
            size = 2 + (0 if length == 0xFFFF else length)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            break
        if at + size > len(body):
            break
        records.append(Record(attribute, kind, body[at : at + size]))
        at += size
    return records


def default_response(header: Header) -> bytes:
    """ "I have it" (2.5.12): what the sender of a report without the disable bit waits for."""
    control = _NO_DEFAULT_RESPONSE | (header.control & _FROM_SERVER ^ _FROM_SERVER)
    prefix = b"" if header.manufacturer is None else header.manufacturer.to_bytes(2, "little")
    control |= _MANUFACTURER if prefix else 0
    return bytes((control,)) + prefix + bytes((header.tsn, DEFAULT_RESPONSE, header.command, _SUCCESS))


def is_client_command(frame: bytes) -> bool:
    """Whether a frame is a command of a cluster's own, a client's, and of no manufacturer's making (2.4.1.1)."""
    return len(frame) >= 3 and frame[0] & (_FROM_SERVER | _MANUFACTURER | _FOR_CLUSTER) == _FOR_CLUSTER


def status_response(tsn: int, command: int, status: int) -> bytes:
    """Default Response (2.5.12) of a cluster's server: what became of a client's command."""
    return bytes((_FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, DEFAULT_RESPONSE, command, status))


def enroll_response(tsn: int, zone_id: int) -> bytes:
    """Zone Enroll Response (8.2.2.3.1): success, and the number that the zone has from now on."""
    return bytes((_FOR_CLUSTER | _NO_DEFAULT_RESPONSE, tsn, ENROLL_RESPONSE, _SUCCESS, zone_id))


def is_check_in(cluster_id: int, frame: bytes) -> bool:
    """Whether a sleeping device says that it is awake for a moment (Poll Control, 3.16.5.3.1)."""
    control = _FOR_CLUSTER | _FROM_SERVER
    is_command = len(frame) >= 3 and frame[0] & (control | _MANUFACTURER) == control
    return cluster_id == POLL_CONTROL and is_command and frame[2] == CHECK_IN


def check_in_response(tsn: int, stay_awake: bool) -> bytes:
    """Check-in Response (3.16.5.4.2): to ask its parent more often for its own default time, or to sleep on."""
    timeout = b"\x00\x00"  # quarters of a second; 0: as long as the device has it by itself
    return bytes((_FOR_CLUSTER | _NO_DEFAULT_RESPONSE, tsn, CHECK_IN, stay_awake)) + timeout
