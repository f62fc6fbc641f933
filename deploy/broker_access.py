"""Who may say and hear what, in the words of brokers that have no patterns for it: nats-server and RabbitMQ.

    python -m deploy.broker_access nats NAME... > users.conf
    python -m deploy.broker_access rabbitmq NAME... > definitions.json

What deploy/broker/acl says in eleven lines for every hub, they want said of each hub by name: names are the CNs of
hubs' certificates. The control point's own (`headend`, and its workers, which show the same certificate) is added.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

CONTROL_POINT = "headend"
_OWN = ("state", "readings", "events", "receipts", "answers", "heartbeat")
_COMMANDS = ("meters.*.commands", "meters.group.*.commands", "meters.all.commands")
# A dot in a name is a level of a topic to both, and the rest has a meaning to one of them.
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class UnfitName(ValueError):
    """A name that these brokers cannot tell from a part of a topic."""


def nats_users(names: Iterable[str]) -> str:
    """`authorization` for nats-server with `verify_and_map`: a user is the subject of a certificate, and here that is a
    CN alone. `names`: of hubs. Its subjects have dots where topics have strokes."""
    lines = ["authorization { users = ["]
    lines.append(_nats_user(CONTROL_POINT, _COMMANDS, ("meters.>",)))
    for name in _checked(names):
        said = [*(f"meters.{name}.{lane}" for lane in _OWN), f"meters.{name}.han.>"]
        lines.append(_nats_user(name, said, _heard_by(name)))
    return "\n".join([*lines, "] }\n"])


def _nats_user(name: str, says: Iterable[str], hears: Iterable[str]) -> str:
    # QoS 1 is delivered through a subject of the server's own; up to 2.12.2 it has to be allowed.
    may_say, may_hear = json.dumps(list(says)), json.dumps([*hears, "$MQTT.sub.>"])
    may = f"permissions: {{ publish: {may_say}, subscribe: {may_hear} }}"
    return f'  {{ user: "CN={name}", allowed_connection_types: ["MQTT"], {may} }}'


def _heard_by(name: str) -> tuple[str, ...]:
    return (f"meters.{name}.state", f"meters.{name}.commands", "meters.group.*.commands", "meters.all.commands")


def rabbitmq_definitions(names: Iterable[str]) -> str:
    """Users, permissions and topic permissions for RabbitMQ with `mqtt.ssl_cert_login`: `load_definitions` at its
    start, `rabbitmqctl import_definitions` later; who is there already stays. A user's queues are those of its own
    client id: in another's session there is nothing for it."""
    rows = list(_rabbitmq_rows(_checked(names)))
    return json.dumps(
        {
            "vhosts": [{"name": "/"}],
            "users": [{"name": name, "password_hash": "", "tags": ""} for name, *_ in rows],
            "permissions": [
                {"user": name, "vhost": "/", "configure": queues, "write": f"^amq\\.topic$|{queues}",
                 "read": f"^amq\\.topic$|{queues}"} for name, queues, _, _ in rows
            ],
            "topic_permissions": [
                {"user": name, "vhost": "/", "exchange": "amq.topic", "write": says, "read": hears}
                for name, _, says, hears in rows
            ],
        },
        indent=1,
    )  # fmt: skip


def _rabbitmq_rows(names: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    """Of each user: its queues, what it says, what it hears; regular expressions."""
    yield (
        CONTROL_POINT,
        f"^mqtt-subscription-{CONTROL_POINT}.*$",
        r"^meters\.([^.]+|group\.[^.]+|all)\.commands$",
        r"^meters\..*$",
    )
    for name in names:
        yield (
            name,
            f"^mqtt-subscription-{name}qos[01]$",
            rf"^meters\.{name}\.({'|'.join(_OWN)}|han\..*)$",
            rf"^meters\.({name}\.(state|commands)|group\.[^.]+\.commands|all\.commands)$",
        )


def _checked(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not _PLAIN.match(name) or name in (CONTROL_POINT, "group", "all"):
            raise UnfitName(f"{name!r}: expected letters, digits, - and _ alone, and no word of the contract's")
        yield name


_KINDS: dict[str, Any] = {"nats": nats_users, "rabbitmq": rabbitmq_definitions}


def main(words: list[str]) -> int:
    if len(words) < 2 or words[0] not in _KINDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(_KINDS[words[0]](words[1:]))
    except UnfitName as error:
        print(f"broker_access: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
