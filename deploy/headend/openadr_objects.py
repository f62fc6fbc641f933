"""What clients of OpenADR 3 keep here beside events: VENs with their resources, and subscriptions.

Every hub is a VEN by itself, by its own name, with its groups as targets; nobody makes or changes one of those. A VEN
that a client makes is a name for hubs: each of its resources bears the name of one. An event for that VEN, or for a
resource, is an event for those hubs.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from hub.headend.database import BookDatabase, BookReader

VEN, RESOURCE, SUBSCRIPTION = "VEN", "RESOURCE", "SUBSCRIPTION"
PROGRAM_ID = "meterhub"
OBJECTS = ("PROGRAM", "EVENT", "REPORT", SUBSCRIPTION, VEN, RESOURCE)
OPERATIONS = ("GET", "POST", "PUT", "DELETE")
_MOST_BYTES, _MOST_ROWS, _MOST_TEXT = 16_384, 100, 128
_MOST_OBJECTS = {VEN: 10_000, RESOURCE: 100_000, SUBSCRIPTION: 1_000}
_MOST_RESOURCES = 10_000  # of one VEN


class BadObject(ValueError):
    """The object cannot be kept; the text says which part of it is wrong."""


class OpenAdrObjects:
    """Table `openadr_object`. The caller opens and ends transactions. `callback_hosts`: where webhooks may go."""

    def __init__(self, db: BookDatabase, callback_hosts: frozenset[str] = frozenset()) -> None:
        self._db = db
        self._callback_hosts = callback_hosts

    def make(self, kind: str, body: dict[str, Any], owner: str, t: int, parent: str = "") -> dict[str, Any]:
        """A new one, as it is told from now on. `parent`: a resource's VEN. Raises BadObject, KeyError without one."""
        count = self._db.execute("SELECT count(*) FROM openadr_object WHERE kind = ?", (kind,)).fetchone()[0]
        if count >= _MOST_OBJECTS[kind]:
            raise BadObject(f"{kind}: there are {count}, which is the most")
        name, kept = self._checked(kind, body, parent, "")
        stored = {**kept, "id": uuid.uuid4().hex, "objectType": kind, "createdDateTime": moment(t),
                  "modificationDateTime": moment(t)}  # fmt: skip
        self._db.execute(
            "INSERT INTO openadr_object (id, kind, name, parent, owner, body, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (stored["id"], kind, name, parent, owner, json.dumps(stored), t * 1000),
        )
        return stored

    def change(self, kind: str, object_id: str, body: dict[str, Any], owner: str, t: int) -> dict[str, Any]:
        """In place of what it was; a subscription is its owner's alone. Raises BadObject, KeyError."""
        row = self._row(kind, object_id, owner)
        name, kept = self._checked(kind, body, row[1], object_id)
        before = json.loads(row[0])
        stored = {**kept, "id": object_id, "objectType": kind, "createdDateTime": before["createdDateTime"],
                  "modificationDateTime": moment(t)}  # fmt: skip
        self._db.execute(
            "UPDATE openadr_object SET name = ?, body = ? WHERE id = ?", (name, json.dumps(stored), object_id)
        )
        return stored

    def delete(self, kind: str, object_id: str, owner: str) -> dict[str, Any]:
        """It goes, a VEN with its resources. Raises KeyError."""
        row = self._row(kind, object_id, owner)
        self._db.execute("DELETE FROM openadr_object WHERE id = ? OR parent = ?", (object_id, object_id))
        found: dict[str, Any] = json.loads(row[0])
        return found

    def hubs_of(self, name: str) -> list[str]:
        """The hubs that a VEN, or a resource, of this name stands for: itself where it is a hub's."""
        rows = self._db.execute(
            "SELECT r.name FROM openadr_object v JOIN openadr_object r ON r.parent = v.id"
            " WHERE v.kind = ? AND v.name = ? ORDER BY r.name",
            (VEN, name),
        ).fetchall()
        return [row[0] for row in rows] or [name]

    def subscriptions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, body) of all of them."""
        for row in self._db.execute("SELECT id, body FROM openadr_object WHERE kind = ?", (SUBSCRIPTION,)).fetchall():
            yield row[0], json.loads(row[1])

    def _row(self, kind: str, object_id: str, owner: str) -> tuple[str, str]:
        row = self._db.execute(
            "SELECT body, parent, owner FROM openadr_object WHERE id = ? AND kind = ?", (object_id, kind)
        ).fetchone()
        if row is None or (kind == SUBSCRIPTION and row[2] != owner):
            raise KeyError(object_id)
        return row[0], row[1]

    def _checked(self, kind: str, body: dict[str, Any], parent: str, object_id: str) -> tuple[str, dict[str, Any]]:
        if not is_tellable(body):
            raise BadObject(f"{kind}: a number or a text in it is none")
        if len(json.dumps(body)) > _MOST_BYTES:
            raise BadObject(f"{kind}: {_MOST_BYTES} bytes at most")
        if kind == VEN:
            return self._ven(body, object_id)
        return self._resource(body, parent, object_id) if kind == RESOURCE else self._subscription(body)

    def _ven(self, body: dict[str, Any], object_id: str) -> tuple[str, dict[str, Any]]:
        name = _text(body, "venName")
        if self._is_hub(name):
            raise BadObject(f"venName: {name} is a hub, which is a VEN by itself")
        if body.get("resources"):
            raise BadObject("resources: they are made one by one, below their VEN")
        self._is_free(VEN, name, "", object_id)
        return name, {"venName": name, **_attributes_and_targets(body)}

    def _resource(self, body: dict[str, Any], parent: str, object_id: str) -> tuple[str, dict[str, Any]]:
        if self._db.execute("SELECT 1 FROM openadr_object WHERE id = ? AND kind = ?", (parent, VEN)).fetchone() is None:
            raise KeyError(parent)
        name = _text(body, "resourceName")
        if not self._is_hub(name):
            raise BadObject(f"resourceName: {name}: no hub of that name is known")
        if body.get("venID") not in (None, parent):
            raise BadObject("venID: not the VEN of this path")
        count = self._db.execute("SELECT count(*) FROM openadr_object WHERE parent = ?", (parent,)).fetchone()[0]
        if count >= _MOST_RESOURCES:
            raise BadObject(f"a VEN has {_MOST_RESOURCES} resources at most")
        self._is_free(RESOURCE, name, parent, object_id)
        return name, {"resourceName": name, "venID": parent, **_attributes_and_targets(body)}

    def _subscription(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        name = _text(body, "clientName")
        if body.get("programID") != PROGRAM_ID:
            raise BadObject(f"programID: there is one program, {PROGRAM_ID}")
        if body.get("targets"):
            raise BadObject("targets: a subscription here is for all of the program")
        operations = [self._operation(row) for row in _rows(body, "objectOperations")]
        if not operations:
            raise BadObject("objectOperations: a list that is not empty")
        return name, {"clientName": name, "programID": PROGRAM_ID, "objectOperations": operations}

    def _operation(self, row: dict[str, Any]) -> dict[str, Any]:
        objects, operations = row.get("objects"), row.get("operations")
        for field, said, known in (("objects", objects, OBJECTS), ("operations", operations, OPERATIONS)):
            if not isinstance(said, list) or not said or not all(word in known for word in said):
                raise BadObject(f"objectOperations.{field}: some of {', '.join(known)}")
        url, token = row.get("callbackUrl"), row.get("bearerToken")
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or len(url) > 2048:
            raise BadObject("objectOperations.callbackUrl: a URL")
        try:
            parts = urlsplit(url)
            place = f"{parts.hostname}:{parts.port or 443}"
        except ValueError:
            raise BadObject("objectOperations.callbackUrl: a URL") from None
        if parts.scheme != "https" or parts.username is not None:
            raise BadObject("objectOperations.callbackUrl: https, with no name or password in it")
        if place not in self._callback_hosts:
            raise BadObject(f"objectOperations.callbackUrl: {place} is not one of openadr.callback_hosts")
        if token is not None and (not isinstance(token, str) or not token.isascii() or not token.isprintable()):
            raise BadObject("objectOperations.bearerToken: a text")
        return {"objects": objects, "operations": operations, "callbackUrl": url, "bearerToken": token}

    def _is_hub(self, name: str) -> bool:
        return self._db.execute("SELECT 1 FROM hub WHERE hub = ?", (name,)).fetchone() is not None

    def _is_free(self, kind: str, name: str, parent: str, object_id: str) -> None:
        row = self._db.execute(
            "SELECT id FROM openadr_object WHERE kind = ? AND name = ? AND parent = ?", (kind, name, parent)
        ).fetchone()
        if row is not None and row[0] != object_id:
            raise BadObject(f"{kind}: there is one of the name {name}")


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_TEXT or not value.isprintable():
        raise BadObject(f"{field}: a text of 1 to {_MOST_TEXT} characters")
    return value


def _rows(body: dict[str, Any], field: str) -> list[dict[str, Any]]:
    rows = body.get(field) or []
    if not isinstance(rows, list) or len(rows) > _MOST_ROWS or not all(isinstance(row, dict) for row in rows):
        raise BadObject(f"{field}: a list of at most {_MOST_ROWS} objects")
    return rows


def _attributes_and_targets(body: dict[str, Any]) -> dict[str, Any]:
    """Kept and told as they are (openadr3.yaml, `valuesMap`)."""
    found = {}
    for field in ("attributes", "targets"):
        rows = _rows(body, field)
        for row in rows:
            if set(row) != {"type", "values"} or not isinstance(row["values"], list):
                raise BadObject(f"{field}: each has a type and values")
            _text(row, "type")
        if rows:
            found[field] = rows
    return found


def is_tellable(body: Any) -> bool:
    """Whether it can be told again as it was said: Python reads NaN and half a surrogate pair, and no JSON has them, so
    one of these would be the end of every list that it is in."""
    try:
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def moment(t: int) -> str:
    """As openadr3.yaml has it: `dateTime`."""
    return datetime.fromtimestamp(t, UTC).isoformat().replace("+00:00", "Z")


# What the API reads, through connections of its own


def objects_of(
    db: BookReader, kind: str, *, owner: str = "", parent: str = "", name: str = "", skip: int = 0,
    limit: int = 50,
) -> list[dict[str, Any]]:  # fmt: skip
    """What clients made, the oldest first. `owner`: of a subscription."""
    where, values = ["kind = ?"], [kind]
    for column, value in (("owner", owner), ("parent", parent), ("name", name)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    rows = db.execute(
        "SELECT body FROM openadr_object WHERE " + " AND ".join(where) + " ORDER BY made_ms, name, id LIMIT ? OFFSET ?",
        (*values, limit, skip),
    ).fetchall()
    return [json.loads(row[0]) for row in rows]


def object_of(db: BookReader, kind: str, object_id: str, owner: str = "") -> dict[str, Any] | None:
    """One of them."""
    row = db.execute("SELECT body, owner FROM openadr_object WHERE id = ? AND kind = ?", (object_id, kind)).fetchone()
    if row is None or (owner and row[1] != owner):
        return None
    found: dict[str, Any] = json.loads(row[0])
    return found


def vens_of(
    db: BookReader, name: str, groups: list[str], skip: int, limit: int
) -> list[dict[str, Any]]:  # fmt: skip
    """Those that clients made, then the hubs, by name. `groups`: hubs of these, and made ones with such a target."""
    made = objects_of(db, VEN, name=name, limit=_MOST_OBJECTS[VEN])
    if groups:
        made = [ven for ven in made if _has_group(ven, groups)]
    found = made[skip : skip + limit]
    left = limit - len(found)
    if left <= 0:
        return found
    where, values = ["true"], []  # type: list[str], list[Any]
    if name:
        where.append("hub = ?")
        values.append(name)
    if groups:
        where.append(f"hub IN (SELECT hub FROM hub_group WHERE name IN ({', '.join('?' * len(groups))}))")
        values += groups
    rows = db.execute(
        "SELECT hub, seen_ms FROM hub WHERE " + " AND ".join(where) + " ORDER BY hub LIMIT ? OFFSET ?",
        (*values, left, max(0, skip - len(made))),
    ).fetchall()
    return [*found, *(_hub_as_ven(db, row[0], row[1]) for row in rows)]


def ven_of(db: BookReader, ven_id: str) -> dict[str, Any] | None:
    """One that a client made, or a hub."""
    row = db.execute("SELECT hub, seen_ms FROM hub WHERE hub = ?", (ven_id,)).fetchone()
    return object_of(db, VEN, ven_id) if row is None else _hub_as_ven(db, row[0], row[1])


def _has_group(ven: dict[str, Any], groups: list[str]) -> bool:
    targets = [row for row in ven.get("targets", []) if row["type"] == "GROUP"]
    return any(value in groups for row in targets for value in row["values"])


def _hub_as_ven(db: BookReader, hub: str, seen_ms: int) -> dict[str, Any]:
    names = [row[0] for row in db.execute("SELECT name FROM hub_group WHERE hub = ? ORDER BY name", (hub,)).fetchall()]
    seen = moment(seen_ms // 1000)
    ven = {"id": hub, "objectType": VEN, "venName": hub, "createdDateTime": seen, "modificationDateTime": seen}
    return {**ven, "targets": [{"type": "GROUP", "values": names}]} if names else ven
