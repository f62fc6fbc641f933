"""OpenADR 3.0.1 for whoever calls grid events: an event becomes orders, receipts become reports.

The service plays the VTN towards a business client (OpenADR 3.0.1, openadr3.yaml: `event`, `interval`, `valuesMap`,
`report`, `problem`). What is understood: payloads IMPORT_CAPACITY_LIMIT, EXPORT_CAPACITY_LIMIT (kW, or W where the
payload's descriptor says so) and PRICE (per kWh); targets GROUP and VEN_NAME, or none for all hubs. The rest is refused
in words: an event that is only half understood must not be believed to be carried out.
"""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from deploy.headend.orders import GridOrders
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookDatabase, BookReader
from hub.wire.uplink.args import BadArgs, check_args

PROGRAM_ID = "meterhub"
LIMITS = {"IMPORT_CAPACITY_LIMIT": "import", "EXPORT_CAPACITY_LIMIT": "export"}
PRICE = "PRICE"
_WATTS = {"KW": 1000, "W": 1}
# openadr3.yaml, `duration`; years and months are no lengths of time.
_DURATION = re.compile(r"P(?=\d|T\d)(?:(\d+)([DW]))?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")
_MOST_INTERVALS, _MOST_TARGETS = 1000, 100
_LEAST_VALID_S, _MOST_VALID_S = 300, 86_400


class BadEvent(ValueError):
    """The event is not understood as a whole; the text says which part of it."""


class WantedOrder(NamedTuple):
    """An order that an event comes to."""

    op: str
    args: dict[str, Any]
    target: dict[str, Any]
    valid_s: int


class _Span(NamedTuple):
    start_s: int
    duration_s: int
    randomise_s: int
    payloads: dict[str, Any]


def orders_of(event: dict[str, Any], now_s: int) -> list[WantedOrder]:
    """What an event asks for. `now_s`: UTC epoch seconds. Raises BadEvent."""
    if event.get("programID") != PROGRAM_ID:
        raise BadEvent(f"programID: there is one program, {PROGRAM_ID}")
    spans = _spans(event, now_s)
    rows = event.get("payloadDescriptors") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadEvent("payloadDescriptors: a list of objects")
    descriptors = {str(row.get("payloadType")): row for row in rows}
    wanted: list[tuple[str, dict[str, Any], int]] = []
    steps: list[list[Any]] = []
    for span in spans:
        for kind, value in span.payloads.items():
            if kind in LIMITS:
                wanted.append(
                    ("limit", _limit(kind, value, descriptors.get(kind, {}), span), span.start_s + span.duration_s)
                )
            elif kind == PRICE:
                steps.append([span.start_s, span.duration_s, _number(value, PRICE)])
            else:
                raise BadEvent(f"payload {kind[:40]}: not one of {', '.join((*LIMITS, PRICE))}")
    if steps:
        currency = descriptors.get(PRICE, {}).get("currency")
        if not isinstance(currency, str):
            raise BadEvent("PRICE: its payloadDescriptor names no currency")
        wanted.append(("price", {"currency": currency, "steps": steps}, steps[-1][0] + steps[-1][1]))
    found = []
    for op, args, ends_s in wanted:
        try:
            checked = check_args(op, args)
        except BadArgs as error:
            raise BadEvent(str(error)) from None
        valid_s = min(max(ends_s - now_s, _LEAST_VALID_S), _MOST_VALID_S)
        found += [WantedOrder(op, checked, target, valid_s) for target in _targets(event.get("targets"))]
    return found


def _spans(event: dict[str, Any], now_s: int) -> list[_Span]:
    intervals = event.get("intervals")
    if not isinstance(intervals, list) or not 0 < len(intervals) <= _MOST_INTERVALS:
        raise BadEvent(f"intervals: 1 to {_MOST_INTERVALS} of them")
    default = event.get("intervalPeriod") or {}
    found: list[_Span] = []
    for interval in intervals:
        if not isinstance(interval, dict):
            raise BadEvent("intervals: each is an object")
        period = interval.get("intervalPeriod") or default
        if not isinstance(period, dict):
            raise BadEvent("intervalPeriod: an object is expected")
        is_own = bool(interval.get("intervalPeriod"))
        follows = found[-1].start_s + found[-1].duration_s if found and not is_own else None
        start_s = follows if follows is not None else _moment(period.get("start"), now_s)
        duration_s = _seconds(period.get("duration", "PT0S"), "duration")
        if not duration_s:
            raise BadEvent("duration: every restriction and every price has an end")
        randomise_s = _seconds(period.get("randomizeStart") or "PT0S", "randomizeStart")
        found.append(_Span(start_s, duration_s, randomise_s, _payloads(interval.get("payloads"))))
    return found


def _payloads(rows: Any) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        raise BadEvent("payloads: a list that is not empty")
    found = {}
    for row in rows:
        values = row.get("values") if isinstance(row, dict) else None
        if not isinstance(values, list) or len(values) != 1 or not isinstance(row.get("type"), str):
            raise BadEvent("payloads: each has a type and one value")
        found[row["type"]] = values[0]
    return found


def _limit(kind: str, value: Any, descriptor: dict[str, Any], span: _Span) -> dict[str, Any]:
    unit = str(descriptor.get("units") or "KW")
    if unit not in _WATTS:
        raise BadEvent(f"{kind}: units are KW or W")
    args: dict[str, Any] = {"watts": int(_number(value, kind) * _WATTS[unit]), "duration": span.duration_s,
                            "start": span.start_s, "direction": LIMITS[kind]}  # fmt: skip
    if span.randomise_s:
        args["randomise"] = span.randomise_s
    return args


def _number(value: Any, kind: str) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise BadEvent(f"{kind}: a number is expected")
    return float(value)


def _targets(rows: Any) -> list[dict[str, Any]]:
    if not rows:
        return [{"all": True}]
    found = []
    for row in rows if isinstance(rows, list) else [None]:
        kind = row.get("type") if isinstance(row, dict) else None
        values = row.get("values") if isinstance(row, dict) else None
        if kind not in ("GROUP", "VEN_NAME") or not isinstance(values, list):
            raise BadEvent("targets: GROUP (a group of hubs) or VEN_NAME (a hub), with values")
        found += [{"group" if kind == "GROUP" else "hub": str(value)} for value in values]
    if not 0 < len(found) <= _MOST_TARGETS:
        raise BadEvent(f"targets: 1 to {_MOST_TARGETS} values")
    return found


def _moment(text: Any, now_s: int) -> int:
    if text is None:
        return now_s
    try:
        when = datetime.fromisoformat(str(text))
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise BadEvent("start: a date and time like 2027-06-15T09:30:00Z") from None


def _seconds(text: Any, name: str) -> int:
    found = _DURATION.match(text) if isinstance(text, str) and len(text) <= 40 else None
    if found is None:
        raise BadEvent(f"{name}: a duration like PT1H")
    count, unit, hours, minutes, seconds = found.groups()
    try:
        span = timedelta(
            days=int(count or 0) * (7 if unit == "W" else 1), hours=int(hours or 0), minutes=int(minutes or 0),
            seconds=float(seconds or 0),
        )  # fmt: skip
    except OverflowError:
        raise BadEvent(f"{name}: longer than anything lasts") from None
    return int(span.total_seconds())


class OpenAdrEvents:
    """Table `openadr_event`. The caller opens and ends transactions and publishes what is returned."""

    def __init__(self, db: BookDatabase, orders: GridOrders) -> None:
        self._db = db
        self._orders = orders

    def call(self, event: dict[str, Any], client: str, t: int) -> tuple[dict[str, Any], list[CommandToSend]]:
        """All of its orders, or none. Raises BadEvent, ValueError where it names nobody."""
        order_ids, sends = [], []
        for op, args, target, valid_s in orders_of(event, t):
            order_id, its_sends = self._orders.give(op, args, target, valid_s, client, t)
            order_ids.append(order_id)
            sends += its_sends
        event_id = uuid.uuid4().hex
        made = datetime.fromtimestamp(t, UTC).isoformat().replace("+00:00", "Z")
        stored = {**event, "id": event_id, "createdDateTime": made, "modificationDateTime": made, "objectType": "EVENT"}
        self._db.execute(
            "INSERT INTO openadr_event VALUES (?, ?, ?, ?)",
            (event_id, json.dumps(stored), json.dumps(order_ids), t * 1000),
        )
        return stored, sends

    def cancel(self, event_id: str, client: str, t: int) -> tuple[dict[str, Any], list[CommandToSend]]:
        """The event ends: what waits for approval is withdrawn, limits that went are cancelled. Raises KeyError."""
        row = self._db.execute("SELECT body, order_ids FROM openadr_event WHERE id = ?", (event_id,)).fetchone()
        if row is None:
            raise KeyError(event_id)
        sends: list[CommandToSend] = []
        for order_id in json.loads(row[1]):
            sends += self._orders.take_back(order_id, client, t)
        self._db.execute("DELETE FROM openadr_event WHERE id = ?", (event_id,))
        return json.loads(row[0]), sends


def events_of(db: BookReader, skip: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Events that were called and not ended, oldest first."""
    rows = db.execute("SELECT body FROM openadr_event ORDER BY made_ms, id LIMIT ? OFFSET ?", (limit, skip))
    return [json.loads(row[0]) for row in rows]


def event_of(db: BookReader, event_id: str) -> dict[str, Any] | None:
    """One of them."""
    row = db.execute("SELECT body FROM openadr_event WHERE id = ?", (event_id,)).fetchone()
    found: dict[str, Any] | None = None if row is None else json.loads(row[0])
    return found


def reports_of(db: BookReader, event_id: str, skip: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """What each hub made of an event, out of its receipts: a report a hub, its payload RECEIPT_STATUS (a private type)
    with the status and the reason."""
    row = db.execute("SELECT order_ids FROM openadr_event WHERE id = ?", (event_id,)).fetchone()
    found = []
    for order_id in json.loads(row[0]) if row else ():
        answers = db.execute(
            "SELECT hub, status, reason FROM order_hub WHERE order_id = ? ORDER BY hub LIMIT ? OFFSET ?",
            (order_id, limit, skip),
        )
        for hub, status, reason in answers:
            payload = {"type": "RECEIPT_STATUS", "values": [status, reason]}
            resource = {"resourceName": "AGGREGATED_REPORT", "intervals": [{"id": 0, "payloads": [payload]}]}
            found.append(
                {"id": f"{order_id}-{hub}", "objectType": "REPORT", "programID": PROGRAM_ID, "eventID": event_id,
                 "clientName": hub, "resources": [resource]}
            )  # fmt: skip
    return found
