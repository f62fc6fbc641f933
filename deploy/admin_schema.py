"""Writes docs/reference/admin-socket.json: the admin socket's answers (hub/wire/admin.py) as JSON Schema 2020-12.

python -m deploy.admin_schema [FILE]
"""

import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from hub.wire.admin import ANSWERS, OPEN

FILE = Path(__file__).resolve().parents[1] / "docs/reference/admin-socket.json"
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def schema_of(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; records go into `found` by name, and are referred to. Raises TypeError for other types."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, parts = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return schema_of(parts[0], found)
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(part, found) for part in parts]}
    if origin is list:
        return {"type": "array", "items": schema_of(parts[0], found)}
    if origin is dict and parts[0] is str:
        return {"type": "object", "additionalProperties": schema_of(parts[1], found)}
    if is_typeddict(kind):
        if kind.__name__ not in found:
            found[kind.__name__] = {}  # of a record within itself
            found[kind.__name__] = _record(kind, found)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    raise TypeError(f"no schema for {kind!r}")


def _record(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    told = inspect.getdoc(kind) if kind.__doc__ else None
    return {
        "type": "object",
        **({"description": " ".join(told.split())} if told else {}),
        "properties": {name: schema_of(each, found) for name, each in get_type_hints(kind).items()},
        "required": sorted(kind.__required_keys__),
        "additionalProperties": kind in OPEN,
    }


def document() -> dict[str, Any]:
    """One schema: `properties` is by question; `$defs` has the records."""
    found: dict[str, Any] = {}
    answers = {question: schema_of(kind, found) for question, kind in ANSWERS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "meterhub: the admin socket's answers, by question",
        "description": "Written by `python -m deploy.admin_schema` from hub/wire/admin.py; a test compares.",
        "type": "object",
        "properties": answers,
        "$defs": dict(sorted(found.items())),
    }


def text() -> str:
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else FILE).write_text(text(), "utf-8")
