"""OpenADR 3.0.1 for whoever calls grid events: an event becomes orders, receipts become reports.

The service plays the VTN towards a business client (OpenADR 3.0.1, openadr3.yaml: `event`, `interval`, `valuesMap`,
`report`, `problem`). What is understood: payloads IMPORT_CAPACITY_LIMIT, EXPORT_CAPACITY_LIMIT (kW, or W where the
payload's descriptor says so) and PRICE (per kWh); targets GROUP, VEN_NAME and RESOURCE_NAME, or none for all hubs. The
rest is refused in words: an event that is only half understood must not be believed to be carried out.
"""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from deploy.headend.openadr_notices import OpenAdrNotices
from deploy.headend.openadr_objects import PROGRAM_ID, OpenAdrObjects, is_tellable, moment
from deploy.headend.orders import GridOrders
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookDatabase, BookReader
from hub.wire.uplink.args import BadArgs, check_args

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
        if (
            kind not in ("GROUP", "VEN_NAME", "RESOURCE_NAME")
            or not isinstance(values, list)
            or not all(isinstance(value, str) for value in values)
        ):
            raise BadEvent("targets: GROUP (of hubs), VEN_NAME or RESOURCE_NAME (hubs), with values")
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
    """Tables `openadr_event` and `openadr_order`. The caller opens and ends transactions and publishes what is
    returned. `callback_hosts`: where webhooks may go, HOST:PORT."""

    def __init__(
        self, db: BookDatabase, orders: GridOrders, callback_hosts: frozenset[str] = frozenset()
    ) -> None:  # fmt: skip
        self._db = db
        self._orders = orders
        self._objects = OpenAdrObjects(db, callback_hosts)
        self.notices = OpenAdrNotices(db, self._objects)

    def make(self, kind: str, body: dict[str, Any], owner: str, t: int, parent: str = "") -> dict[str, Any]:
        """A VEN, a resource, a subscription. Raises BadObject, KeyError."""
        made = self._objects.make(kind, body, owner, t, parent)
        self.notices.tell(kind, "POST", made, t)
        return made

    def change(self, kind: str, object_id: str, body: dict[str, Any], owner: str, t: int) -> dict[str, Any]:
        """Raises BadObject, KeyError."""
        changed = self._objects.change(kind, object_id, body, owner, t)
        self.notices.tell(kind, "PUT", changed, t)
        return changed

    def delete(self, kind: str, object_id: str, owner: str, t: int) -> dict[str, Any]:
        """Raises KeyError."""
        deleted = self._objects.delete(kind, object_id, owner)
        self.notices.tell(kind, "DELETE", deleted, t)
        return deleted

    def call(self, event: dict[str, Any], client: str, t: int) -> tuple[dict[str, Any], list[CommandToSend]]:
        """All of its orders, or none. Raises BadEvent, ValueError where it names nobody."""
        if not is_tellable(event):
            raise BadEvent("a number or a text in it is none")
        order_ids, sends = [], []
        event_id = uuid.uuid4().hex
        wanted = self._merged(orders_of(event, t))
        # It is one event, however many groups it names: a second person is needed for all of its hubs, or for none.
        hubs = self._orders.hubs_together(order.target for order in wanted)
        for op, args, target, valid_s in wanted:
            order_id, its_sends = self._orders.give(op, args, target, valid_s, client, t, together=hubs)
            order_ids.append(order_id)
            sends += its_sends
            self._db.execute("INSERT INTO openadr_order VALUES (?, ?)", (order_id, event_id))
        made = moment(t)
        stored = {**event, "id": event_id, "createdDateTime": made, "modificationDateTime": made, "objectType": "EVENT"}
        self._db.execute(
            "INSERT INTO openadr_event VALUES (?, ?, ?, ?)",
            (event_id, json.dumps(stored), json.dumps(order_ids), t * 1000),
        )
        self.notices.tell("EVENT", "POST", stored, t)
        return stored, sends

    def _merged(self, wanted: list[WantedOrder]) -> list[WantedOrder]:
        """Hubs by name are one order together: so it counts how many they are, should a second person be needed."""
        found: list[WantedOrder] = []
        named: dict[str, tuple[WantedOrder, list[str]]] = {}
        for order in wanted:
            if "hub" not in order.target:
                found.append(order)
                continue
            key = json.dumps([order.op, order.args], sort_keys=True, default=str)
            hubs = named.setdefault(key, (order, []))[1]
            hubs += [hub for hub in self._objects.hubs_of(order.target["hub"]) if hub not in hubs]
        return [*found, *(order._replace(target={"hubs": hubs}) for order, hubs in named.values())]

    def heard(self, hub: str, cti: bytes | None, status: str, reason: str, t: int) -> None:
        """A receipt that may answer an event: whoever subscribed to reports is told."""
        row = self._db.execute(
            "SELECT e.event_id, e.order_id FROM openadr_order e JOIN order_message m ON m.order_id = e.order_id"
            " WHERE m.cti = ?",
            (cti,),
        ).fetchone()
        if row is not None:
            report = _report(row[0], row[1], hub, status, reason, t)
            self.notices.tell("REPORT", "POST", report, t)

    def cancel(self, event_id: str, client: str, t: int) -> tuple[dict[str, Any], list[CommandToSend]]:
        """The event ends: what waits for approval is withdrawn, limits that went are cancelled. Raises KeyError."""
        row = self._db.execute("SELECT body, order_ids FROM openadr_event WHERE id = ?", (event_id,)).fetchone()
        if row is None:
            raise KeyError(event_id)
        sends: list[CommandToSend] = []
        for order_id in json.loads(row[1]):
            sends += self._orders.take_back(order_id, client, t)
        self._db.execute("DELETE FROM openadr_event WHERE id = ?", (event_id,))
        self._db.execute("DELETE FROM openadr_order WHERE event_id = ?", (event_id,))
        ended: dict[str, Any] = json.loads(row[0])
        self.notices.tell("EVENT", "DELETE", ended, t)
        return ended, sends


def events_of(
    db: BookReader, skip: int = 0, limit: int = 50, targets: tuple[str, list[str]] | None = None
) -> list[dict[str, Any]]:  # fmt: skip
    """Events that were called and not ended, oldest first. `targets`: those alone that name one of these (type,
    values)."""
    if targets is None:
        rows = db.execute("SELECT body FROM openadr_event ORDER BY made_ms, id LIMIT ? OFFSET ?", (limit, skip))
        return [json.loads(row[0]) for row in rows]
    found = [json.loads(row[0]) for row in db.execute("SELECT body FROM openadr_event ORDER BY made_ms, id")]
    kind, values = targets
    return [
        event
        for event in found
        if any(row["type"] == kind and set(row["values"]) & set(values) for row in event.get("targets") or [])
    ][skip : skip + limit]


def event_of(db: BookReader, event_id: str) -> dict[str, Any] | None:
    """One of them."""
    row = db.execute("SELECT body FROM openadr_event WHERE id = ?", (event_id,)).fetchone()
    found: dict[str, Any] | None = None if row is None else json.loads(row[0])
    return found


def reports_of(
    db: BookReader, event_id: str = "", hub: str = "", skip: int = 0, limit: int = 50
) -> list[dict[str, Any]]:  # fmt: skip
    """What each hub made of an event, or of all that are not ended, out of its receipts: a report a hub and order, its
    payload RECEIPT_STATUS (a private type) with the status and the reason."""
    return _reports(db, [("e.event_id", event_id), ("h.hub", hub)], skip, limit)


def report_of(db: BookReader, report_id: str) -> dict[str, Any] | None:
    """One of them."""
    order_id, _, hub = report_id.partition("-")
    found = _reports(db, [("e.order_id", order_id), ("h.hub", hub)], 0, 1) if hub else []
    return found[0] if found else None


def _reports(db: BookReader, wanted: list[tuple[str, str]], skip: int, limit: int) -> list[dict[str, Any]]:
    """`wanted`: (column, value); an empty value is any."""
    where = " AND ".join(["true", *(f"{column} = ?" for column, value in wanted if value)])
    rows = db.execute(
        "SELECT e.event_id, e.order_id, h.hub, h.status, h.reason, h.heard_ms, o.made_ms FROM openadr_order e"
        " JOIN order_hub h ON h.order_id = e.order_id JOIN grid_order o ON o.id = e.order_id"
        f" WHERE {where} ORDER BY o.made_ms, e.order_id, h.hub LIMIT ? OFFSET ?",
        (*(value for _, value in wanted if value), limit, skip),
    ).fetchall()
    return [
        _report(event, order, hub, status, reason, max(heard_ms, made_ms) // 1000)
        for event, order, hub, status, reason, heard_ms, made_ms in rows
    ]


def _report(event_id: str, order_id: str, hub: str, status: str, reason: str, t: int) -> dict[str, Any]:
    payload = {"type": "RECEIPT_STATUS", "values": [status, reason]}
    resource = {"resourceName": hub, "intervals": [{"id": 0, "payloads": [payload]}]}
    return {"id": f"{order_id}-{hub}", "objectType": "REPORT", "programID": PROGRAM_ID, "eventID": event_id,
            "clientName": hub, "reportName": status, "createdDateTime": moment(t), "modificationDateTime": moment(t),
            "resources": [resource]}  # fmt: skip
