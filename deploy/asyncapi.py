"""Writes deploy/asyncapi.yaml: the uplink's contract (design 3.3) as AsyncAPI 3, from the code's own tables.

    python -m deploy.asyncapi [FILE]

Every example is a real message: made with the code that hubs and control points run, signed with a throw-away Ed25519
key (whose signatures are always the same), and decoded again for the reader.
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519

from drivers.meter.quantities import PASSED_ON, QUANTITIES, codes_of
from hub.core.control.authority import REASONS
from hub.services.uplink.status import state_payload
from hub.wire.uplink.args import ARGS
from hub.wire.uplink.cbor import decode_own
from hub.wire.uplink.command import ROLES, Command, sign_command
from hub.wire.uplink.envelope import ANSWERS_CTI, DEFLATED, LANES, PLACE, FileSigner, seal, split_sign1
from hub.wire.uplink.event import CONTENT_TYPE as EVENT_TYPE
from hub.wire.uplink.event import EVENTS, encode_event
from hub.wire.uplink.pack import CONTENT_TYPE as PACK_TYPE
from hub.wire.uplink.pack import deflate_pack, encode_pack, inflate_pack
from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED, IMPLAUSIBLE, THINNED, UNITS, Reading
from hub.wire.uplink.receipt import FIRST_PREV, STATUSES, Receipt, encode_receipt
from hub.wire.version import VERSION

FILE = Path(__file__).with_name("asyncapi.yaml")
HUB, T_MS = "MTR-1", 1_800_000_000_000
SIGNER = FileSigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))), bytes(range(8)))
SEALED = 'application/cose; cose-type="cose-sign1"'

Json = dict[str, Any]

# What each operation takes, as an example; names and rules are those of hub/wire/uplink/args.py (a test compares).
ARGUMENTS: dict[str, Json] = {
    "limit": {
        "watts": 1500,
        "duration": 1800,
        "start": T_MS // 1000 + 600,
        "randomise": 300,
        "criticality": 5,
        "randomise_end": 300,
        "direction": "import",
    },
    "limit.cancel": {"cti": bytes(16)},
    "switch": {"client": "boiler", "on": False, "duration": 900},
    "set": {"client": "boiler", "quantity": "temperature", "value": 55, "duration": 3600},
    "heartbeat": {},
    "price": {"currency": "GBP", "steps": [[T_MS // 1000, 1800, 0.28], [T_MS // 1000 + 1800, 1800, 0.31]]},
    "weather": {"steps": [[T_MS // 1000, 3600, {"temp": 7.5, "wind": 4}]]},
    "read": {"client": "boiler", "quantity": "power", "from": T_MS // 1000 - 3600, "to": T_MS // 1000},
    "resend": {"lane": "readings", "epoch": 1, "from": 1, "to": 10},
    "booked": {"readings": [T_MS // 1000, 120], "events": [T_MS // 1000, 7]},
    "permit": {"ieee": "000d6f0000000001", "install_code": "83fed3407a939723a5c639b26916d505c3b5", "duration": 180},
    "diagnose": {"what": "status"},
    "config": {"set": {"uplink.pack_interval_s": 900}},
    "trust": {"operators": "[operator.grid]\n...", "approvals": [bytes(8)]},
    "trust.confirm": {},
    "update": {"url": "https://updates.utility.example/1.1.raucb", "sha256": "00" * 32, "version": "1.1.0"},
}


# Lanes whose messages may be packs.
PACKED = ("readings", "answers")


def readable(value: Any) -> Any:
    """A decoded message for people: byte strings as `h'...'`, map keys as text."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, dict):
        return {str(key): readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(item) for item in value]
    return value


def opened(message: bytes) -> Json:
    """A sealed message as the document shows it: its protected header and its content."""
    header, payload, _, _ = split_sign1(message)
    return {"header": readable(header), "content": readable(decode_own(inflate_pack(header, payload)))}


def example(name: str, message: bytes) -> Json:
    return {"name": name, "summary": f"on the wire: {message.hex()}", "payload": opened(message)}


def sealed(
    lane: str, number: int, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None = None
) -> bytes:
    return seal(SIGNER, HUB, 1, lane, number, content_type, payload, extra)


def command(op: str) -> bytes:
    seconds = T_MS // 1000
    claims = Command("grid", HUB, seconds + 300, None, seconds, bytes(range(16)), 1, op, ARGUMENTS[op])
    return sign_command(SIGNER, claims)


def header_schema(lane: str) -> Json:
    return {
        "type": "object",
        "description": "the protected header, RFC 9052",
        "required": ["1", "3", "4", str(PLACE)],
        "properties": {
            "1": {"enum": [-7, -8], "description": "alg: ES256 or EdDSA"},
            "3": {"description": "content type"},
            "4": {"type": "string", "description": "kid: SHA-256 of the hub's certificate (DER), first 8 bytes"},
            str(PLACE): {
                "type": "array",
                "description": "hub (CN of its certificate), epoch, lane, number (gap-free in an epoch and lane)",
                "prefixItems": [
                    {"type": "string"},
                    {"type": "integer"},
                    {"const": lane},
                    {"type": "integer", "minimum": 1},
                ],
                "minItems": 4,
                "maxItems": 4,
            },
            **(
                {
                    str(DEFLATED): {
                        "const": "deflate",
                        "description": "the content is deflated (RFC 1951): uplink.deflate",
                    }
                }
                if lane in PACKED
                else {}
            ),
            **({str(ANSWERS_CTI): {"type": "string", "description": "the command's cti"}} if lane == "answers" else {}),
        },
    }


def pack_schema() -> Json:
    units = ", ".join(f"{quantity} {unit}".strip() for quantity, unit in UNITS.items())
    series = f"[client, quantity, exponent, [dt ms...], [v...], flags?]; value = v * 10^exponent; units: {units}"
    return {
        "type": "object",
        "required": ["0", "1", "2"],
        "properties": {
            "0": {"const": 1},
            "1": {"type": "integer", "description": "t0, UTC epoch milliseconds"},
            "2": {"type": "array", "description": series, "items": {"type": "array", "minItems": 5, "maxItems": 6}},
        },
        "x-flags": {
            str(CLOCK_UNSYNCHRONISED): "the clock was not yet synchronised when it was sampled",
            str(THINNED): "thinned",
            str(IMPLAUSIBLE): "implausible: a register of the meter that fell, jumped or read 0",
        },
        "x-quantities": {
            "meter": {name: {"unit": source.unit, "obis": codes_of(name)} for name, source in QUANTITIES.items()},
            **{
                client: {
                    quantity: {"unit": unit, "obis": codes}
                    for (of, quantity), (codes, unit) in PASSED_ON.items()
                    if of == client
                }
                for client, _ in PASSED_ON
            },
        },
    }


def event_schema() -> Json:
    names = [
        {
            "type": "object",
            "required": ["t", "event"],
            "properties": {"t": {"type": "integer"}, "event": {"const": name}, **{field: {} for field in fields}},
        }
        for name, fields in sorted(EVENTS.items())
    ]
    return {"oneOf": names}


def receipt_schema() -> Json:
    return {
        "type": "object",
        "required": ["1", "6", "re", "digest", "status", "reason", "detail", "prev", "i"],
        "properties": {
            "1": {"type": "string", "description": "iss: the hub"},
            "6": {"type": "integer", "description": "iat, UTC epoch seconds"},
            "re": {"description": "the command's cti; null where it could not be read"},
            "digest": {"type": "string", "description": "SHA-256 of the command message"},
            "status": {"enum": list(STATUSES)},
            "reason": {"type": "string", "description": f"of a refusal: {', '.join(REASONS)}, bad-args, and others"},
            "detail": {"type": "object"},
            "prev": {"type": "string", "description": "SHA-256 of the previous receipt's message"},
            "i": {"type": "integer", "minimum": 1, "description": "index in the chain"},
        },
    }


def command_schema() -> Json:
    operations = [
        {
            "type": "object",
            "required": ["1", "3", "4", "6", "7", "ctr", "op", "args"],
            "properties": {
                "1": {"type": "string", "description": "iss: the operator's kid"},
                "3": {"type": "string", "description": "aud: a hub, group:NAME or all"},
                "4": {"type": "number", "description": "exp"},
                "5": {"type": "number", "description": "nbf"},
                "6": {"type": "number", "description": "iat"},
                "7": {"type": "string", "description": "cti, 16 bytes"},
                "ctr": {"type": "integer", "minimum": 0, "description": "greater than the last one accepted"},
                "op": {"const": op, "description": f"needs the role {ROLES[op]}"},
                "args": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": [name for name, arg in args.items() if arg.is_required],
                    "properties": {name: {} for name in args},
                },
            },
        }
        for op, args in ARGS.items()
    ]
    return {"oneOf": operations}


def sealed_message(lane: str, title: str, content: Json, examples: list[Json]) -> Json:
    properties = {"header": header_schema(lane), "content": content}
    payload = {"type": "object", "required": ["header", "content"], "properties": properties}
    return {"name": lane, "title": title, "contentType": SEALED, "payload": payload, "examples": examples}


def messages() -> dict[str, Json]:
    readings = [Reading("boiler", "power", T_MS + 1000 * i, 2000 + i, 0) for i in range(3)]
    pack = encode_pack(readings)
    minute = [Reading("boiler", "power", T_MS + 1000 * i, 2000 + i % 3, 0) for i in range(60)]
    small, squeezed = deflate_pack(encode_pack(minute))
    event = encode_event(T_MS, "adapter.lost", {"client": "boiler"})
    receipt = Receipt(HUB, T_MS // 1000, bytes(range(16)), bytes(32), "accepted", prev=FIRST_PREV, i=1)
    beat = {"t": T_MS, "epoch": 1, "n": dict.fromkeys(LANES, 1)}
    plain = {"type": "object"}
    claims = {"type": "object", "properties": {"header": plain, "content": command_schema()}}
    state = yaml.safe_load(state_payload("online", 1, 1, VERSION, bytes(range(8)), T_MS))
    return {
        "state": {"contentType": "application/json", "payload": plain,
                  "examples": [{"name": "online", "payload": state}]},
        "pack": sealed_message("readings", "Readings, packed", pack_schema(),
                               [example("three powers", sealed("readings", 1, PACK_TYPE, pack)),
                                example("a minute, deflated", sealed("readings", 2, PACK_TYPE, small, squeezed))]),
        "event": sealed_message("events", "Something happened", event_schema(),
                                [example("lost", sealed("events", 1, EVENT_TYPE, event))]),
        "receipt": sealed_message("receipts", "What became of a command", receipt_schema(),
                                  [example("accepted", sealed("receipts", 1, 61, encode_receipt(receipt)))]),
        "answer": sealed_message("answers", "What a command asked for", pack_schema(),
                                 [example("a read", sealed("answers", 1, PACK_TYPE, pack, {ANSWERS_CTI:
                                 bytes(range(16))}))]),
        "heartbeat": {"contentType": "application/cbor", "payload": plain,
                      "examples": [{"name": "one", "payload": beat}]},
        "forward": {"contentType": "application/octet-stream", "payload": {"type": "string"}},
        "command": {"contentType": SEALED, "payload": claims, "examples": [example(op, command(op)) for op in ARGS]},
    }  # fmt: skip


# channel: (address, what it is for, message, who sends)
CHANNELS: dict[str, tuple[str, str, str, str]] = {
    "state": ("meters/{hub}/state", "retained, also the will", "state", "hub"),
    "readings": ("meters/{hub}/readings", "packs of readings", "pack", "hub"),
    "events": ("meters/{hub}/events", "one event a message", "event", "hub"),
    "receipts": ("meters/{hub}/receipts", "one receipt a message, chained", "receipt", "hub"),
    "answers": ("meters/{hub}/answers", "what read and diagnose asked for", "answer", "hub"),
    "heartbeat": ("meters/{hub}/heartbeat", "the next number of each lane", "heartbeat", "hub"),
    "forwards": ("meters/{hub}/han/{topic}", "a local message, unchanged", "forward", "hub"),
    "commands": ("meters/{hub}/commands", "to one hub", "command", "control point"),
    "groupCommands": ("meters/group/{group}/commands", "to a group of hubs", "command", "control point"),
    "allCommands": ("meters/all/commands", "to every hub", "command", "control point"),
}
_PARAMETERS = {"hub": "CN of the hub's certificate", "group": "a fleet group", "topic": "the local topic"}


def document() -> Json:
    """The whole document, from a hub's point of view."""
    channels: Json = {}
    operations: Json = {}
    for name, (address, summary, message, sender) in CHANNELS.items():
        parameters = {key: {"description": text} for key, text in _PARAMETERS.items() if f"{{{key}}}" in address}
        channels[name] = {
            "address": address,
            "summary": summary,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
            **({"parameters": parameters} if parameters else {}),
        }
        action = "send" if sender == "hub" else "receive"
        operations[f"{action}{name[0].upper()}{name[1:]}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "bindings": {"mqtt": {"qos": 1, "retain": name == "state"}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "meterhub's uplink",
            "version": VERSION,
            "description": "Between a hub and its utility's control point, over MQTT with mutual TLS. Sealed messages "
            "are COSE_Sign1 (RFC 9052); the schemas describe them opened: protected header and decoded content.",
            "license": {"name": "GPL-3.0-or-later"},
        },
        "defaultContentType": SEALED,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages()},
    }


def render() -> str:
    """The document as YAML."""
    return "# Written by `python -m deploy.asyncapi`; a test compares.\n" + yaml.safe_dump(
        document(), sort_keys=False, width=120, allow_unicode=True
    )


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else FILE).write_text(render())
