"""A Metering mirror (Smart Energy): what a meter that sleeps says to it, what it answers, what its register is worth.

A gas meter on a battery wakes twice an hour. It asks the energy service interface for a mirror, reports its attributes
to that, and sleeps on; whoever wants to know them asks the mirror. Sources: Smart Energy Profile 1.2b (07-5356-19)
annex D.3: RequestMirror (D.3.3.3.1.2), RemoveMirror, ConfigureMirror (D.3.3.3.1.9), RequestMirrorResponse
(D.3.3.3.3.2), MirrorRemoved, MirrorReportAttributeResponse; units of measure (table D-26), device types (table D-27).
ZCL revision 8 for the rest. No I/O, no clock.
"""

from fractions import Fraction
from typing import NamedTuple

from hub.wire.zigbee import zcl

BASIC, METERING = 0x0000, 0x0702
METERING_DEVICE = 0x0501  # the device type of the SE profile that a mirror's endpoint has

REQUEST_MIRROR, REMOVE_MIRROR, CONFIGURE_MIRROR = 0x01, 0x02, 0x08  # of the meter, which is the server
_REQUEST_MIRROR_RESPONSE, _MIRROR_REMOVED, _REPORT_RESPONSE = 0x01, 0x02, 0x09
_NO_ENDPOINT = 0xFFFF
_FLAGS_OF_SCHEME = {0x01: 1, 0x02: 5}  # how many sets of notification flags there are (table D-52)

SUMMATION, SNAPSHOT_TIME = 0x0000, 0x0007
UNIT, MULTIPLIER, DIVISOR, DEVICE_TYPE = 0x0300, 0x0301, 0x0302, 0x0306
# What does not change with consumption: kept, so that a hub that starts need not wait for a meter to say it again.
FACTS = frozenset((UNIT, MULTIPLIER, DIVISOR, 0x0303, DEVICE_TYPE))

_FOR_CLUSTER, _MANUFACTURER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x04, 0x08, 0x10
_READ, _READ_RESPONSE = 0x00, 0x01
_SUCCESS, _UNSUPPORTED_ATTRIBUTE = 0x00, 0x86
_MOST_ASKED = 16  # attributes of one question: what an answer in one frame has room for

# PhysicalEnvironment (ZCL 3.2.2.2.15), whose lowest bit says that a mirror is to be had (SE 5.3.3); ZCLVersion;
# PowerSource.
_ZCL_VERSION, _POWER_SOURCE, _PHYSICAL_ENVIRONMENT = 0x0000, 0x0007, 0x0011
_MIRROR_CAPACITY = 0x01

_CUBIC_FOOT, _GALLON, _IMPERIAL_GALLON = Fraction("0.028316846592"), Fraction("0.003785411784"), Fraction("0.00454609")
# UnitOfMeasure: quantity, and the factor into its unit (m3, Wh, GJ). From 0x80 on the same, in decimal digits.
_UNITS = {
    0x00: ("energy", Fraction(1000)),
    0x01: ("volume", Fraction(1)),
    0x02: ("volume", _CUBIC_FOOT),
    0x03: ("volume", 100 * _CUBIC_FOOT),
    0x04: ("volume", _GALLON),
    0x05: ("volume", _IMPERIAL_GALLON),
    0x07: ("volume", Fraction(1, 1000)),
    0x0C: ("heat_gj", Fraction(1, 1000)),
}
_IN_DIGITS = 0x80
# MeteringDeviceType: the client that its readings have (design 3.2), and what it may count.
_CLIENTS = {1: "meter-gas", 2: "meter-water", 3: "meter-heat", 5: "meter-heat"}
_COUNTED = {
    "meter-gas": ("volume",),
    "meter-water": ("volume",),
    "meter-heat": ("volume", "energy", "heat_gj"),
}


class MeteredRegister(NamedTuple):
    """What a register is: whose, of what, and what a count of it is worth in the quantity's unit. `is_digits`: its
    hexadecimal digits are decimal ones."""

    client: str
    quantity: str
    factor: Fraction
    is_digits: bool


def is_of_meter(cluster_id: int, frame: bytes) -> bool:
    """Whether a frame is a command about mirrors, of a meter."""
    wanted = _FOR_CLUSTER | _FROM_SERVER
    if cluster_id != METERING or len(frame) < 3 or frame[0] & (wanted | _MANUFACTURER) != wanted:
        return False
    return frame[2] in (REQUEST_MIRROR, REMOVE_MIRROR, CONFIGURE_MIRROR)


def is_read(cluster_id: int, frame: bytes) -> bool:
    """Whether somebody asks for attributes of the mirror, or of the interface that gives it."""
    is_general = len(frame) >= 3 and not frame[0] & (_FOR_CLUSTER | _FROM_SERVER | _MANUFACTURER)
    return cluster_id in (BASIC, METERING) and is_general and frame[2] == _READ


def request_mirror_response(tsn: int, endpoint: int | None) -> bytes:
    """Where the meter has its mirror from now on; None: there is none left."""
    return _command(tsn, _REQUEST_MIRROR_RESPONSE, endpoint)


def mirror_removed(tsn: int, endpoint: int | None) -> bytes:
    """Where it had one; None: it had none."""
    return _command(tsn, _MIRROR_REMOVED, endpoint)


def _command(tsn: int, command: int, endpoint: int | None) -> bytes:
    number = _NO_ENDPOINT if endpoint is None else endpoint
    return bytes((_FOR_CLUSTER | _NO_DEFAULT_RESPONSE, tsn, command)) + number.to_bytes(2, "little")


class Notification(NamedTuple):
    """ConfigureMirror: whether each report is to be answered by what there is to tell, and by which scheme."""

    is_wanted: bool
    scheme: int


def notification_of(body: bytes) -> Notification | None:
    """issuer's event (4), reporting interval (3), notification reporting, scheme; None: it ends early."""
    return Notification(bool(body[7]), body[8]) if len(body) >= 9 else None


def report_response(tsn: int, scheme: int) -> bytes:
    """MirrorReportAttributeResponse: the scheme and its flags, of which none is set: there is nothing to fetch here."""
    head = bytes((_FOR_CLUSTER | _NO_DEFAULT_RESPONSE, tsn, _REPORT_RESPONSE, scheme))
    return head + bytes(4 * _FLAGS_OF_SCHEME.get(scheme, 0))


def read_response(frame: bytes, records: dict[int, zcl.Record]) -> bytes:
    """Read Attributes Response (ZCL 2.5.2): as the meter said them."""
    said = bytes((_FROM_SERVER | _NO_DEFAULT_RESPONSE, frame[1], _READ_RESPONSE))
    body = frame[3 : 3 + 2 * _MOST_ASKED]
    for at in range(0, len(body) - 1, 2):
        record = records.get(int.from_bytes(body[at : at + 2], "little"))
        if record is None:
            said += body[at : at + 2] + bytes((_UNSUPPORTED_ATTRIBUTE,))
        else:
            said += body[at : at + 2] + bytes((_SUCCESS, record.kind)) + record.raw
    return said


def interface_records(*, has_room: bool) -> dict[int, zcl.Record]:
    """The Basic cluster of the interface: what a meter reads before it asks for a mirror."""
    return {
        _ZCL_VERSION: zcl.Record(_ZCL_VERSION, zcl.UINT8, b"\x08"),
        _POWER_SOURCE: zcl.Record(_POWER_SOURCE, zcl.ENUM8, b"\x01"),  # the mains
        _PHYSICAL_ENVIRONMENT: zcl.Record(
            _PHYSICAL_ENVIRONMENT, zcl.ENUM8, bytes((_MIRROR_CAPACITY if has_room else 0,))
        ),
    }


def meaning_of(records: dict[int, zcl.Record]) -> tuple[MeteredRegister | None, str]:
    """What a meter's register is by what it said of itself; or None, and why that is not certain (promise P10)."""
    kind, unit = _integer(records, DEVICE_TYPE), _integer(records, UNIT)
    multiplier, divisor = _integer(records, MULTIPLIER), _integer(records, DIVISOR)
    if kind is None:
        return None, "it has not said what it meters"
    client = _CLIENTS.get(kind)
    if client is None:
        return None, f"it meters what has no name here (device type {kind})"
    if unit is None:
        return None, "its unit is not known"
    quantity, factor = _UNITS.get(unit & ~_IN_DIGITS, ("", Fraction(0)))
    if quantity not in _COUNTED[client]:
        return None, f"its unit (0x{unit:02X}) is none of what {client} counts"
    if multiplier is None or divisor is None:
        return None, "its multiplier or divisor is not known"
    if not multiplier or not divisor:
        return None, "its multiplier or divisor is zero"
    return MeteredRegister(client, quantity, factor * Fraction(multiplier, divisor), bool(unit & _IN_DIGITS)), ""


def _integer(records: dict[int, zcl.Record], attribute: int) -> int | None:
    record = records.get(attribute)
    number = None if record is None else record.number
    return number if isinstance(number, int) else None
