"""What a Smart Energy display asks the hub for: the price and the time. A codec and its answers; no I/O, no clock.

Sources: Smart Energy Profile 1.2b (07-5356-19) annex D.4, Price cluster; ZCL revision 8 (07-5123) sections 2.4 and 2.5,
frames and general commands, and 3.12, Time cluster. Times here are UTC epoch seconds; on the air they count from 2000.
"""

from decimal import Decimal
from typing import NamedTuple

from hub.wire.zigbee import zcl

PROFILE = 0x0109
ENDPOINT = 0x0A
# Each for the mirror of one meter that sleeps (mirrors.py): gas, water, heat.
MIRROR_ENDPOINTS = (0x0B, 0x0C, 0x0D)
ENERGY_SERVICE_INTERFACE = 0x0500  # the device type of the SE profile that prices come from
TIME, PRICE = 0x000A, 0x0700

# Frame control (ZCL 2.4.1.1).
_CLUSTER_COMMAND, _MANUFACTURER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x04, 0x08, 0x10
_READ, _READ_RESPONSE = 0x00, 0x01
_GET_CURRENT_PRICE, _GET_SCHEDULED_PRICES, _PRICE_ACKNOWLEDGEMENT, _PUBLISH_PRICE = 0x00, 0x01, 0x02, 0x00
_SUCCESS, _MALFORMED, _UNSUP_COMMAND, _UNSUPPORTED_ATTRIBUTE, _NOT_FOUND = 0x00, 0x80, 0x81, 0x86, 0x8B
_UTC_TIME, _BITMAP8 = 0xE2, 0x18
_MASTER = 0x01  # of TimeStatus: this clock follows nobody on the network

EPOCH_2000 = 946_684_800
_KWH = 0x00
_MAX_PRICE, _MAX_TRAILING_DIGITS = 0xFFFF_FFFE, 9
_MAX_ANSWERS = 8  # of one question: airtime for a day or two of tariff
_LONGEST_MIN = 0xFFFE

# ISO 4217, those that meters are billed in; XXX where another comes.
CURRENCIES = {
    "AUD": 36, "CAD": 124, "CHF": 756, "CZK": 203, "DKK": 208, "EUR": 978, "GBP": 826, "HUF": 348, "INR": 356,
    "JPY": 392, "NOK": 578, "NZD": 554, "PLN": 985, "RON": 946, "SEK": 752, "USD": 840, "ZAR": 710,
}  # fmt: skip
_NO_CURRENCY = 999


class PriceStep(NamedTuple):
    """One price: from when (UTC epoch seconds), for how many seconds, per kWh."""

    start: float
    duration_s: float
    price: float


class PriceTable(NamedTuple):
    """What applies and what comes; `event_id` grows with each newer table, so that displays know which counts."""

    currency: str
    steps: tuple[PriceStep, ...]
    event_id: int


NO_PRICES = PriceTable("", (), 0)


def is_question(cluster_id: int, frame: bytes) -> bool:
    """Whether a ZCL frame asks what is answered here: attributes of Time or Price, or anything of the Price cluster."""
    if cluster_id not in (TIME, PRICE) or len(frame) < 3 or frame[0] & (_FROM_SERVER | _MANUFACTURER):
        return False
    if frame[0] & _CLUSTER_COMMAND:
        return cluster_id == PRICE
    return frame[2] == _READ


def answers(cluster_id: int, frame: bytes, table: PriceTable, t: float | None) -> list[bytes]:
    """The ZCL frames that answer a question. `t`: UTC epoch seconds, None while there is no trustworthy clock."""
    control, tsn, command = frame[:3]
    body = frame[3:]
    if not control & _CLUSTER_COMMAND:
        return [_attributes(cluster_id, tsn, body, t)]
    if command == _GET_CURRENT_PRICE:
        said, status = _published(table, t, tsn, most=1, from_t=t), _NOT_FOUND
        said = [frame for frame in said if t is not None and _applies(table, t)]
    elif command == _GET_SCHEDULED_PRICES:
        if len(body) < 5:
            return [zcl.status_response(tsn, command, _MALFORMED)]
        start = int.from_bytes(body[:4], "little")
        from_t = t if not start else start + EPOCH_2000
        said, status = _published(table, t, tsn, most=body[4] or _MAX_ANSWERS, from_t=from_t), _NOT_FOUND
    else:
        said, status = [], _SUCCESS if command == _PRICE_ACKNOWLEDGEMENT else _UNSUP_COMMAND
    if said:
        return said
    if status == _SUCCESS and control & _NO_DEFAULT_RESPONSE:
        return []
    return [zcl.status_response(tsn, command, status)]


def announcement(table: PriceTable, t: float | None, tsn: int) -> bytes | None:
    """The price that applies now, unasked; None when there is none."""
    if t is None or not _applies(table, t):
        return None
    return _published(table, t, tsn, most=1, from_t=t)[0]


def _applies(table: PriceTable, t: float) -> bool:
    return any(step.start <= t < step.start + step.duration_s for step in table.steps)


def _published(table: PriceTable, t: float | None, tsn: int, *, most: int, from_t: float | None) -> list[bytes]:
    if t is None or from_t is None:
        return []
    steps = sorted(step for step in table.steps if step.start + step.duration_s > from_t)
    return [_publish_price(table, step, t, tsn) for step in steps[: min(most, _MAX_ANSWERS)]]


def _publish_price(table: PriceTable, step: PriceStep, t: float, tsn: int) -> bytes:
    """PublishPrice (D.4.2.4.1): the mandatory fields; all that follows them is optional and left out."""
    price, digits = _fixed_point(step.price)
    minutes = max(1, min(_LONGEST_MIN, round(step.duration_s / 60)))
    return (
        bytes((_CLUSTER_COMMAND | _FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, _PUBLISH_PRICE))
        + (0).to_bytes(4, "little")  # provider
        + b"\x00"  # no rate label
        + (table.event_id & 0xFFFF_FFFF).to_bytes(4, "little")
        + _time(t)
        + bytes((_KWH,))
        + CURRENCIES.get(table.currency, _NO_CURRENCY).to_bytes(2, "little")
        + bytes((digits << 4, 0))  # no tiers
        + _time(step.start)
        + minutes.to_bytes(2, "little")
        + price.to_bytes(4, "little")
    )


def _fixed_point(price: float) -> tuple[int, int]:
    """A price as an integer and its digits behind the point. Displays know no negative price: it is shown as none."""
    exact = Decimal(str(max(0.0, price)))
    digits = min(_MAX_TRAILING_DIGITS, max(0, -int(exact.normalize().as_tuple().exponent)))
    while digits and exact.scaleb(digits) > _MAX_PRICE:
        digits -= 1
    return min(_MAX_PRICE, int(exact.scaleb(digits).to_integral_value())), digits


def _time(t: float) -> bytes:
    return min(max(0, int(t) - EPOCH_2000), 0xFFFF_FFFE).to_bytes(4, "little")


def _attributes(cluster_id: int, tsn: int, body: bytes, t: float | None) -> bytes:
    """Read Attributes Response (ZCL 2.5.2)."""
    values = {}
    if cluster_id == TIME and t is not None:
        values = {0x0000: bytes((_UTC_TIME,)) + _time(t), 0x0001: bytes((_BITMAP8, _MASTER))}
    elif cluster_id == TIME:
        values = {0x0000: bytes((_UTC_TIME,)) + b"\xff" * 4, 0x0001: bytes((_BITMAP8, 0))}
    said = bytes((_FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, _READ_RESPONSE))
    for at in range(0, min(len(body), 40) - 1, 2):
        value = values.get(int.from_bytes(body[at : at + 2], "little"))
        said += body[at : at + 2] + (bytes((_UNSUPPORTED_ATTRIBUTE,)) if value is None else bytes((_SUCCESS,)) + value)
    return said
