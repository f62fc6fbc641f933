"""Topics: the predefined table, who may publish what, and which subscriptions a topic matches.

Topics are local to the home (design 3.2). Nothing here knows a session's life; the gateway asks and remembers.
"""

import re
from zlib import crc32

from hub.wire.uplink.reading import is_quantity

# Design 3.2; `{me}` is the sender's ClientId, so one table serves every adapter.
PREDEFINED = {
    0x0001: "readings/power",
    0x0002: "readings/energy",
    0x0003: "readings/voltage",
    0x0004: "readings/current",
    0x0005: "readings/temperature",
    0x0006: "readings/state",
    0x0007: "readings/limit",
    0x0008: "readings/battery",
    0x0020: "about/{me}",
    0x0021: "alarm/{me}",
    0x0030: "control/{me}",
    0x0040: "price",
    0x0041: "weather",
    0x0042: "time",
    0x0043: "home/power",
    0x0044: "home/limit",
}

# What the hub's own meter port publishes as (design 3.2): the meter, and what it passes on from others.
_METERS = frozenset(("meter", "meter-gas", "meter-water", "meter-heat"))
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,23}\Z")
_HUB_ONLY = re.compile(r"(control|home)(/|\Z)|(price|weather|time)\Z")
_OWN_ONLY = re.compile(r"(?:about|alarm)(?:/(.*))?\Z", re.DOTALL)

MAX_TOPIC_BYTES = 255

# What a publish to a topic becomes besides a local message.
READING, ALARM, ABOUT, PLAIN = "reading", "alarm", "about", "plain"
FORBIDDEN, UNKNOWN, TOO_MANY, OUT_OF_CLASS = "forbidden", "unknown", "too-many", "out-of-class"


class Route:
    """What publishing to one topic means for one client; worked out once, then looked up by topic id."""

    __slots__ = ("digest_seed", "kind", "quantity", "topic")

    def __init__(self, topic: str, kind: str, quantity: str = "") -> None:
        self.topic = topic
        self.kind = kind
        self.quantity = quantity
        self.digest_seed = crc32(topic.encode())


def is_client_id(client_id: str) -> bool:
    """1-23 characters of `A-Za-z0-9._-`: it becomes a topic level and a name in files and databases."""
    return _CLIENT_ID.match(client_id) is not None


def is_reserved_client_id(client_id: str) -> bool:
    """Names that belong to ZCL devices, nameless UDP senders and the meters: no adapter may connect as one."""
    return client_id in _METERS or client_id.startswith(("zb-", "udp-"))


def is_topic_name(topic: str) -> bool:
    """A topic that can be published to: no wildcard, not empty, of bounded length, none of the `$` namespace."""
    return bool(topic) and topic[0] != "$" and "+" not in topic and "#" not in topic and _fits(topic)


def is_topic_filter(topic_filter: str) -> bool:
    """MQTT 3.1.1 section 4.7.1: `#` last and alone in its level, `+` alone in its level."""
    if not topic_filter or not _fits(topic_filter):
        return False
    levels = topic_filter.split("/")
    return all(
        ("#" not in level and "+" not in level) or level == "+" or (level == "#" and at == len(levels) - 1)
        for at, level in enumerate(levels)
    )


def is_hub_only(topic: str) -> bool:
    """A topic that the hub alone publishes to (design 3.2)."""
    return _HUB_ONLY.match(topic) is not None


def has_wildcard(topic_filter: str) -> bool:
    return "#" in topic_filter or "+" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1 section 4.7: whether a topic name matches a filter (`a/#` matches `a` too, wildcards never `$...`)."""
    if topic_filter == topic:
        return True
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("#", "+"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or (level != "+" and level != levels[at]):
            return False
    return len(wanted) == len(levels)


def short_topic(topic_id: int) -> str | None:
    """The two-character name that a short topic id spells (MQTT-SN 1.2 section 3.1), or None when it spells none."""
    try:
        name = topic_id.to_bytes(2, "big").decode("ascii")
    except UnicodeDecodeError:
        return None
    return name if name.isprintable() and " " not in name else None


def short_topic_id(topic: str) -> int | None:
    """The id of a two-byte topic name, or None for any other."""
    return int.from_bytes(topic.encode("ascii"), "big") if len(topic) == 2 and topic.isascii() else None


def route_for(client_id: str, topic: str) -> Route:
    """What `client_id` publishing to `topic` means; FORBIDDEN where the topic is another's (design 3.2)."""
    if not is_topic_name(topic) or _HUB_ONLY.match(topic):
        return Route(topic, FORBIDDEN)
    own = _OWN_ONLY.match(topic)
    if own is not None:
        if own.group(1) != client_id:
            return Route(topic, FORBIDDEN)
        return Route(topic, ALARM if topic.startswith("alarm/") else ABOUT)
    if topic == "readings" or topic.startswith("readings/"):
        quantity = topic[9:]
        return Route(topic, READING, quantity) if is_quantity(quantity) else Route(topic, FORBIDDEN)
    return Route(topic, PLAIN)


def may_hear(client_id: str, topic: str) -> bool:
    """Whether a client is told what is published to a topic: what the hub orders one appliance is no other's business.
    A wildcard that covers it brings the rest."""
    return not topic.startswith("control/") or topic.split("/", 2)[1] == client_id


def _fits(topic: str) -> bool:
    return len(topic.encode()) <= MAX_TOPIC_BYTES and "\x00" not in topic


class Subscriptions:
    """Who subscribed to what: exact filters by dictionary, wildcards by scan, answers remembered until a change."""

    # Topics and the clients that hear them, together: a topic that everybody hears is as large as the home.
    MAX_REMEMBERED = 8192

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, int]] = {}
        self._wild: dict[str, dict[str, int]] = {}
        self._remembered: dict[str, tuple[tuple[str, int], ...]] = {}
        self._size = 0

    def add(self, client_id: str, topic_filter: str, qos: int) -> None:
        table = self._wild if has_wildcard(topic_filter) else self._exact
        table.setdefault(topic_filter, {})[client_id] = qos
        self._forget_answers()

    def remove(self, client_id: str, topic_filter: str) -> None:
        table = self._wild if has_wildcard(topic_filter) else self._exact
        clients = table.get(topic_filter, {})
        clients.pop(client_id, None)
        if not clients:
            table.pop(topic_filter, None)
        self._forget_answers()

    def match(self, topic: str) -> tuple[tuple[str, int], ...]:
        """`((client_id, highest granted qos), ...)`: overlapping filters deliver once."""
        found = self._remembered.get(topic)
        if found is None:
            found = self._find(topic)
            self._size += 1 + len(found)
            if self._size > self.MAX_REMEMBERED:
                self._forget_answers()
                self._size = 1 + len(found)
            self._remembered[topic] = found
        return found

    def _forget_answers(self) -> None:
        self._remembered.clear()
        self._size = 0

    def _find(self, topic: str) -> tuple[tuple[str, int], ...]:
        granted = dict(self._exact.get(topic, {}))
        for topic_filter, clients in self._wild.items():
            if matches(topic_filter, topic):
                for client_id, qos in clients.items():
                    granted[client_id] = max(qos, granted.get(client_id, 0))
        return tuple((client_id, qos) for client_id, qos in granted.items() if may_hear(client_id, topic))
