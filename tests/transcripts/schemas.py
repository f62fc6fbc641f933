"""What `--json` prints, as JSON Schema: what programs rely on. The admin socket's answers are judged by the document
that is written for them (deploy/admin_schema.py): nothing less, and nothing that it does not name."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]

TEXT, WHOLE, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
ANY: Json = {}


def maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*words: str) -> Json:
    return {"enum": list(words)}


def record(**fields: Json) -> Json:
    """An object that has at least these."""
    return {"type": "object", "required": list(fields), "properties": fields}


def rows(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def by_name(schema: Json) -> Json:
    return {"type": "object", "additionalProperties": schema}


# The verbs that print an answer of the admin socket as it is, and the schema written for integrators.
_QUESTIONS = {
    "status": "status", "adapters": "adapters", "queue": "queue", "readings": "readings", "events": "events",
    "limits": "limits", "operators list": "operators", "meter": "meter",
}  # fmt: skip
_DOCUMENT: Json = json.loads((Path(__file__).resolve().parents[2] / "docs/reference/admin-socket.json").read_text())


def answer(schema: Json) -> Json:
    """A schema of the admin socket's document, with its records."""
    return {**schema, "$defs": _DOCUMENT["$defs"]}


SCHEMAS: dict[str, Json] = {
    **{verb: answer(_DOCUMENT["properties"][question]) for verb, question in _QUESTIONS.items()},
    "uplink": answer({"$ref": "#/$defs/UplinkAnswer"}),
    "radio info": answer({"$ref": "#/$defs/RadioAnswer"}),
    "doctor": rows(record(check=TEXT, severity=one_of("fine", "warning", "error"), text=TEXT, remedy=TEXT, why=TEXT)),
}
for _verb in ("readings", "events"):
    SCHEMAS[_verb]["minItems"] = 1


def faults_of(document: Any, schema: Json) -> list[str]:
    """Where a document is not as its schema says, one line each."""
    errors = Draft202012Validator(schema).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path)) or 'document'}: {error.message[:200]}" for error in errors]
