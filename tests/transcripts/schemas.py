"""What `--json` prints, as JSON Schema: what programs rely on. More may stand beside it, nothing less."""

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


CONDITION = record(code=TEXT, severity=one_of("error", "warning"), text=TEXT, remedy=TEXT)
LANE = record(pending=WHOLE, oldest_s=maybe(NUMBER), next=WHOLE)
QUEUE = record(readings=LANE, events=LANE, receipts=LANE, answers=LANE)
UPLINK = record(
    state=TEXT, host=maybe(TEXT), protocol=maybe(TEXT), since=maybe(NUMBER), rtt_ms=maybe(NUMBER),
    last_error=maybe(TEXT),
    sessions=WHOLE, attempts=WHOLE, messages=WHOLE, payload_bytes=WHOLE, traffic=record(today=ANY, month=ANY),
)  # fmt: skip
RADIO = record(state=TEXT, channel=maybe(WHOLE), pan_id=maybe(TEXT), ieee=maybe(TEXT), resets=WHOLE)
LIMIT = record(state=TEXT, watts=maybe(NUMBER), until=maybe(NUMBER))
STATUS = record(
    hub=TEXT, version=TEXT, epoch=WHOLE, boot=WHOLE, uptime_s=NUMBER, uplink=UPLINK, queue=QUEUE,
    store=record(bytes=WHOLE, max_bytes=WHOLE, written_bytes=WHOLE, readings=WHOLE), radio=RADIO,
    han=record(clients=WHOLE, asleep=WHOLE, lost=WHOLE), limit=LIMIT, meter=record(state=TEXT),
    process=record(rss_bytes=WHOLE, clock_trusted=FLAG), conditions=rows(CONDITION),
)  # fmt: skip
ADAPTER = record(client=TEXT, link=TEXT, address=TEXT, state=TEXT, last_seen_s=maybe(NUMBER), refused=by_name(WHOLE))
READING = record(client=TEXT, quantity=TEXT, t_ms=WHOLE, value=TEXT, unit=TEXT, flags=WHOLE)

SCHEMAS: dict[str, Json] = {
    "status": STATUS,
    "adapters": rows(ADAPTER),
    "queue": QUEUE,
    "uplink": UPLINK,
    "readings": {**rows(READING), "minItems": 1},
    "events": {**rows(record(t=WHOLE, event=TEXT)), "minItems": 1},
    "limits": {
        **record(
            limits=rows(
                record(
                    cti=TEXT, operator=TEXT, state=one_of("scheduled", "active"), watts=NUMBER, start=NUMBER,
                    end=NUMBER,
                    direction=one_of("import", "export"), criticality=WHOLE, told=TEXT,
                )
            ),
            orders=rows(record(cti=TEXT, operator=TEXT, client=TEXT, order=TEXT, end=NUMBER)),
            household=ANY,
            appliances=rows(record(client=TEXT, protected=FLAG, restrictable=FLAG)),
            operators=rows(record(kid=TEXT, name=TEXT, roles=rows(TEXT))),
        ),
        "allOf": [LIMIT],
    },
    "operators list": record(
        operators=rows(
            record(kid=TEXT, name=TEXT, roles=rows(TEXT), not_after=maybe(NUMBER), priority=WHOLE, lpc=FLAG)
        ),
        threshold=WHOLE, admins=rows(TEXT), trial_until=maybe(NUMBER),
    ),
    "radio info": RADIO,
    "meter": record(
        state=TEXT, protocol=maybe(TEXT), ident=maybe(TEXT), telegrams=WHOLE, bad=WHOLE, doubtful=WHOLE,
        quantities=by_name(TEXT), registers=by_name(record(value=TEXT, unit=TEXT)),
    ),
    "doctor": rows(record(check=TEXT, severity=one_of("fine", "warning", "error"), text=TEXT, remedy=TEXT)),
}  # fmt: skip


def faults_of(document: Any, schema: Json) -> list[str]:
    """Where a document is not as its schema says, one line each."""
    errors = Draft202012Validator(schema).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path)) or 'document'}: {error.message[:200]}" for error in errors]
