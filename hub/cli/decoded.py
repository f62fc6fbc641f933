"""What a frame of `meterhub trace` says: a message's name in the standard's words, its fields, both in a line."""

from collections import defaultdict
from typing import Any, NamedTuple

from hub.cli.words import words

_SERIES_SHOWN = 6
_HIDDEN = ("topic_id_type", "topic_type")  # said with the topic


class Said(NamedTuple):
    """One frame. `protocol`: MQTT-SN, MQTT-SN 2.0, MQTT, ZCL, ZDO or APS; `message`: its name there; `fields`: for
    programs; `text`: all of it for people; `topic`: of a message that has one."""

    protocol: str
    message: str
    fields: dict[str, Any]
    text: str
    topic: str = ""


class Decoder:
    """Decodes frames in their order; it remembers the topic ids that it saw registered."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, int], str] = {}
        self._asked: dict[tuple[str, int], str] = {}  # what is under way, by message id

    def learn(self, topics: dict[str, dict[str, str]]) -> None:
        """Topic ids by client, as the hub has them."""
        for client, named in topics.items():
            for topic_id, topic in named.items():
                self._topics[client, int(topic_id)] = topic

    def decode(self, frame: dict[str, Any]) -> Said:
        """Whatever is on the line is shown, not judged: a frame that says nothing we know is shown by its bytes."""
        data = bytes.fromhex(frame["data"])
        kind = frame.get("kind", "mqtt" if frame["side"] == "uplink" else "mqtt-sn")
        try:
            if frame["size_bytes"] > len(data):
                raise ValueError(f"cut off: {len(data)} of {frame['bytes']} bytes")
            if kind == "zigbee":
                return _zigbee(frame["aps"], data)
            if kind == "mqtt":
                return _mqtt(frame["where"], data)
            return self._mqtt_sn(frame["client"] or frame["where"], data)
        except Exception as error:
            shown = f"{data[:32].hex()}{'...' if len(data) > 32 else ''}"
            topic = frame["where"] if kind == "mqtt" else ""
            text = f"{topic} malformed ({error}): {shown}".strip()
            return Said(_PROTOCOLS[kind], "malformed", {"why": str(error)}, text, topic)

    def _mqtt_sn(self, client: str, data: bytes) -> Said:
        from hub.wire.mqttsn.messages import Malformed
        from hub.wire.mqttsn.messages import decode as decode_1_2
        from hub.wire.mqttsn.v2.messages import decode2

        try:
            message, protocol = decode_1_2(data), "MQTT-SN"
        except Malformed:
            try:
                message, protocol = decode2(data), "MQTT-SN 2.0"
            except Malformed:
                message, protocol = None, ""
            if message is None:
                raise
        return self._said(protocol, client, message)

    def _said(self, protocol: str, client: str, message: Any) -> Said:
        name = type(message).__name__.upper()
        fields = {key: _plain(getattr(message, key)) for key in _fields_of(message)}
        if name == "FORWARD":
            inner = self._mqtt_sn(message.wireless_node_id.hex(), message.message)
            fields["message"] = {"message": inner.message, **inner.fields}
            text = f"FORWARD radius={message.radius} node={message.wireless_node_id.hex()}: {inner.text}"
            return Said(protocol, name, fields, text, inner.topic)
        topic = self._topic_of(client, name, message)
        self._remember(client, name, message, topic)
        shown = [f"topic={topic}"] if topic else []
        for key in _fields_of(message):
            value = getattr(message, key)
            if key in _HIDDEN or value is False or value is None:
                continue
            if key in ("topic", "topic_name", "alias") and topic == value:
                continue
            if value is True:
                shown.append(key)
            elif key in ("topic_id", "alias") and isinstance(value, int):
                shown.append(f"{key}=0x{value:04X}")
            elif key in ("return_code", "reason_code"):
                shown.append(f"{key}={_code(protocol, value)}")
            else:
                shown.append(f"{key}={words(_plain(value)) if not isinstance(value, bytes) else words(value)}")
        return Said(protocol, name, {**fields, **({"topic": topic} if topic else {})}, " ".join([name, *shown]), topic)

    def _topic_of(self, client: str, name: str, message: Any) -> str:
        """The topic's name, where the message says or implies one that is known."""
        from hub.wire.mqttsn.messages import TOPIC_PREDEFINED, TOPIC_SHORT, short_topic_name

        for key in ("topic_name", "topic"):
            if isinstance(found := getattr(message, key, None), str):
                return found
        if name in _ANSWERS:  # an id in an acknowledgement may be of any type: it is what was asked that tells
            return self._asked.get((client, _id_of(message)), "")
        topic_id = getattr(message, "topic_id", getattr(message, "topic", getattr(message, "alias", None)))
        if not isinstance(topic_id, int):
            return ""
        kind = getattr(message, "topic_id_type", getattr(message, "topic_type", 0))
        if kind == TOPIC_SHORT:
            return short_topic_name(topic_id)
        if kind != TOPIC_PREDEFINED and (client, topic_id) in self._topics:
            return self._topics[client, topic_id]
        if kind == TOPIC_PREDEFINED:
            from hub.wire.mqttsn.topics import PREDEFINED

            return PREDEFINED.get(topic_id, "").replace("{me}", client)
        return ""

    def _remember(self, client: str, name: str, message: Any, topic: str) -> None:
        if len(self._asked) > 10_000:
            self._asked.clear()
        if name in ("REGISTER", "SUBSCRIBE", "PUBLISH") and topic and _id_of(message):
            self._asked[client, _id_of(message)] = topic
            if name == "REGISTER" and (given := getattr(message, "topic_id", None)):
                self._topics[client, given] = topic
        elif name in ("REGACK", "SUBACK") and topic:
            given = getattr(message, "topic_id", getattr(message, "alias", None))
            if given:
                self._topics[client, given] = topic


_PROTOCOLS = {"mqtt-sn": "MQTT-SN", "mqtt": "MQTT", "zigbee": "APS"}
_ANSWERS = ("REGACK", "SUBACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP")
# MQTT-SN 1.2, table 5.
_RETURN_CODES = {0: "accepted", 1: "congestion", 2: "invalid topic id", 3: "not supported"}


def _id_of(message: Any) -> int:
    return int(getattr(message, "msg_id", getattr(message, "packet_id", 0)) or 0)


def _code(protocol: str, value: int) -> str:
    if protocol == "MQTT-SN":
        return f"0x{value:02X} ({_RETURN_CODES.get(value, 'reserved')})"
    from hub.core.uplink.reasons import describe

    return "0x00 (success)" if value == 0 else describe(value)


def _fields_of(message: Any) -> tuple[str, ...]:
    names = getattr(type(message), "FIELDS", ()) or getattr(type(message), "__slots__", ())
    return tuple(names)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.decode("ascii") if value.isascii() and value.decode("ascii").isprintable() else value.hex()
    if hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# The uplink


def _mqtt(topic: str, data: bytes) -> Said:
    from hub.wire.uplink.cbor import decode_own
    from hub.wire.uplink.envelope import PLACE, split_sign1

    kind = topic.rpartition("/")[2]

    def said(fields: dict[str, Any], text: str) -> Said:
        return Said("MQTT", "PUBLISH", {"topic": topic, **_plain(fields)}, f"PUBLISH {topic} {text}", topic)

    if kind == "state" or "/han/" in topic:
        text = data.decode("utf-8", "replace")
        return said({"payload": text}, text)
    if kind == "heartbeat":
        heartbeat = decode_own(data)
        return said(heartbeat, words(heartbeat))
    message = split_sign1(data)
    place = message.header.get(PLACE)
    kid = bytes(message.kid or b"")
    if isinstance(place, list) and len(place) == 4:
        head = f"{words(place[2])} {words(place[3])} of epoch {words(place[1])}"
        fields: dict[str, Any] = {
            "hub": place[0],
            "epoch": place[1],
            "lane": place[2],
            "number": place[3],
            "kid": kid.hex(),
        }
    else:
        by = kid.decode("utf-8", "replace")
        head, fields = f"command of {by}", {"kid": by}
    more, text = _content(kind, message.header, message.payload)
    return said({**fields, **more}, f"{head}: {text}")


def _content(kind: str, header: dict[Any, Any], payload: bytes) -> tuple[dict[str, Any], str]:
    """What an envelope holds: fields and a text."""
    from hub.wire.uplink.cbor import decode as decode_strictly
    from hub.wire.uplink.cbor import decode_own

    if kind in ("readings", "answers"):
        return _pack(header, payload)
    if kind == "commands":  # anybody's
        claims = decode_strictly(payload)
        return _named(claims), f"{words(claims.get('op'))} {words(claims.get('args'))} ctr={words(claims.get('ctr'))}"
    claims = decode_own(payload)
    if kind == "receipts":
        named = {_CLAIMS.get(key, str(key)): value for key, value in claims.items()}
        said = (claims.get("status"), claims.get("reason"), words(claims.get("detail") or None).strip("-"))
        return named, f"receipt {claims.get('i')} re {words(claims.get('re'))}: {' '.join(filter(None, said))}"
    text = " ".join(f"{key}={words(value)}" for key, value in claims.items() if key not in ("t", "event"))
    return claims, f"{claims.get('event')} {text}".strip()


def _named(claims: dict[Any, Any]) -> dict[str, Any]:
    return {_CLAIMS.get(key, str(key)): value for key, value in claims.items()}


_CLAIMS = {1: "iss", 3: "aud", 4: "exp", 5: "nbf", 6: "iat", 7: "cti"}  # RFC 8392, table 1


def _pack(header: dict[Any, Any], payload: bytes) -> tuple[dict[str, Any], str]:
    from hub.wire.uplink.envelope import DEFLATED
    from hub.wire.uplink.pack import decode_pack, inflate_pack
    from hub.wire.uplink.reading import format_decimal, unit_of

    plain = inflate_pack(header, payload)
    series: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for reading in decode_pack(plain):
        series[reading.client_id, reading.quantity].append(reading)
    shown, rows = [], []
    for (client, quantity), readings in series.items():
        last = readings[-1]
        value = f"{format_decimal(last.mantissa, last.exponent)} {unit_of(quantity)}".strip()
        count = f" ({len(readings)})" if len(readings) > 1 else ""
        shown.append(f"{client} {quantity} {value}{count}")
        rows.append({"client": client, "quantity": quantity, "count": len(readings), "last": value})
    if len(shown) > _SERIES_SHOWN:
        shown[_SERIES_SHOWN:] = [f"and {len(shown) - _SERIES_SHOWN} series more"]
    deflated = f", deflated from {len(plain)} to {len(payload)} B" if DEFLATED in header else ""
    total = sum(map(len, series.values()))
    readings_word = "reading" if total == 1 else "readings"
    return {"series": rows, "deflated": DEFLATED in header}, f"{total} {readings_word}{deflated}: {'; '.join(shown)}"


# Zigbee


def _zigbee(aps: dict[str, int], data: bytes) -> Said:
    from hub.wire.zigbee import names

    head: dict[str, Any] = {
        "profile": f"0x{aps['profile']:04X}",
        "cluster": f"0x{aps['cluster']:04X}",
        "endpoint": aps["device_ep"],
    }
    if aps["profile"] == 0 and aps["hub_ep"] == aps["device_ep"] == 0:
        name = names.zdo_command(aps["cluster"])
        return Said("ZDO", name, {**head, "data": data.hex()}, f"{name} {data[1:].hex()}".strip())
    return _zcl(aps, head, data)


def _zcl(aps: dict[str, int], head: dict[str, Any], data: bytes) -> Said:
    from hub.wire.zigbee import names, zcl

    parsed = zcl.parse(data)
    if parsed is None:
        raise ValueError("too short for ZCL")
    header, body = parsed
    cluster = names.CLUSTERS.get(aps["cluster"], head["cluster"])
    if header.is_for_cluster:
        known = names.CLUSTER_COMMANDS.get((aps["cluster"], header.is_from_server, header.command))
    else:
        known = names.COMMANDS.get(header.command)
    name = known or f"command 0x{header.command:02X}"
    fields: dict[str, Any] = {**head, "command": header.command, "tsn": header.tsn}
    if header.manufacturer is not None:
        fields["manufacturer"] = header.manufacturer
    rest = body.hex()
    if header.is_report:
        records = zcl.report(body)
        fields["attributes"] = {_attribute(aps["cluster"], it.attribute): _value(it) for it in records}
        rest = " ".join(f"{key}={value}" for key, value in fields["attributes"].items())
    elif not header.is_for_cluster and header.command == 0x00:
        asked = [int.from_bytes(body[at : at + 2], "little") for at in range(0, len(body) - 1, 2)]
        fields["attributes"] = [_attribute(aps["cluster"], attribute) for attribute in asked]
        rest = " ".join(fields["attributes"])
    return Said("ZCL", name, fields, f"{cluster}: {name} seq={header.tsn} {rest}".strip())


def _attribute(cluster: int, attribute: int) -> str:
    from hub.wire.zigbee import names

    return names.ATTRIBUTES.get((cluster, attribute), f"0x{attribute:04X}")


def _value(record: Any) -> Any:
    if record.text is not None:
        return record.text
    number = record.number
    if number is None:
        return record.bytes.hex()
    return int(number) if number == int(number) else float(number)
