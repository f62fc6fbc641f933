"""headend.toml: where the service listens, its broker, its operator key, who may ask it for what."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# What a client of the API may be allowed (README.md has the table of what each opens).
ROLES = ("fleet", "usage", "control", "approve", "admin")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class BadConfig(ValueError):
    """The file cannot be used; the text names the file, the key and what is expected."""


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Somebody who may ask: a program or a person. `secret_sha256`: hex, of a random secret."""

    client_id: str
    name: str
    secret_sha256: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Config:
    """What headend.toml says. Durations in seconds, powers in watts."""

    data_dir: Path
    listen_host: str
    listen_port: int
    timezone: ZoneInfo
    broker_host: str
    broker_port: int
    ca_file: Path
    cert_file: Path
    key_file: Path
    client_id: str
    operator_kid: str
    operator_key_file: Path
    journals: tuple[Path, ...] = ()
    certificates: Path | None = None
    second_person_above: int = 100
    max_power_w: int = 24_000
    gap_after_s: float = 60.0
    booked_every_s: float = 3600.0
    clients: dict[str, ApiClient] = field(default_factory=dict)


# table -> key -> (type, default); REQUIRED has none.
_REQUIRED = object()
_KEYS: dict[str, dict[str, tuple[type, Any]]] = {
    "service": {
        "data_dir": (str, _REQUIRED),
        "listen": (str, "127.0.0.1:8080"),
        "timezone": (str, "UTC"),
    },
    "broker": {
        "host": (str, _REQUIRED),
        "port": (int, 8883),
        "ca_file": (str, _REQUIRED),
        "cert_file": (str, _REQUIRED),
        "key_file": (str, _REQUIRED),
        "client_id": (str, "headend"),
    },
    "operator": {"kid": (str, _REQUIRED), "key_file": (str, _REQUIRED)},
    "registry": {"journals": (list, []), "certificates": (str, "")},
    "policy": {
        "second_person_above": (int, 100),
        "max_power_w": (int, 24_000),
        "gap_after_s": (int, 60),
        "booked_every_s": (int, 3600),
    },
}


def load(file: Path) -> Config:
    """Read and check the file. Raises BadConfig."""
    try:
        tables = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{file}: {error}") from None
    clients = tables.pop("client", {})
    if not isinstance(clients, dict):
        raise BadConfig(f"{file}: client: expected tables [client.ID]")
    for table in tables:
        if table not in _KEYS:
            raise BadConfig(f"{file}: [{table}]: not one of {', '.join(_KEYS)}, client.ID")
    service, broker, operator, registry, policy = (_table(file, name, tables.get(name, {})) for name in _KEYS)
    host, _, port = service["listen"].rpartition(":")
    if not host or not port.isdigit():
        raise BadConfig(f"{file}: service.listen: expected HOST:PORT")
    try:
        zone = ZoneInfo(service["timezone"])
    except (ZoneInfoNotFoundError, ValueError):
        raise BadConfig(f"{file}: service.timezone: expected a name like Europe/London") from None
    if not all(isinstance(journal, str) for journal in registry["journals"]):
        raise BadConfig(f"{file}: registry.journals: expected a list of files")
    return Config(
        Path(service["data_dir"]), host, int(port), zone,
        broker["host"], broker["port"], Path(broker["ca_file"]), Path(broker["cert_file"]), Path(broker["key_file"]),
        broker["client_id"], operator["kid"], Path(operator["key_file"]),
        tuple(Path(journal) for journal in registry["journals"]),
        Path(registry["certificates"]) if registry["certificates"] else None,
        policy["second_person_above"], policy["max_power_w"], float(policy["gap_after_s"]),
        float(policy["booked_every_s"]),
        {client_id: _client(file, client_id, entry) for client_id, entry in clients.items()},
    )  # fmt: skip


def _table(file: Path, name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadConfig(f"{file}: {name}: expected a table")
    known = _KEYS[name]
    for key in given:
        if key not in known:
            raise BadConfig(f"{file}: {name}.{key}: not one of {', '.join(known)}")
    found = {}
    for key, (kind, default) in known.items():
        value = given.get(key, default)
        if value is _REQUIRED:
            raise BadConfig(f"{file}: {name}.{key}: is missing")
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise BadConfig(f"{file}: {name}.{key}: expected {_WORDS[kind]}")
        found[key] = value
    return found


_WORDS: dict[type, str] = {str: "a text", int: "a whole number from 0", list: "a list"}


def _client(file: Path, client_id: str, entry: Any) -> ApiClient:
    where = f"{file}: client.{client_id}"
    if not isinstance(entry, dict) or set(entry) - {"name", "secret_sha256", "roles"}:
        raise BadConfig(f"{where}: expected name, secret_sha256, roles")
    secret, roles, name = entry.get("secret_sha256"), entry.get("roles"), entry.get("name", client_id)
    if not isinstance(secret, str) or not _SHA256.match(secret):
        raise BadConfig(f"{where}.secret_sha256: expected 64 hex digits (python -m deploy.headend secret makes one)")
    if not isinstance(roles, list) or not roles or not set(roles) <= set(ROLES):
        raise BadConfig(f"{where}.roles: expected some of {', '.join(ROLES)}")
    if not isinstance(name, str):
        raise BadConfig(f"{where}.name: expected a text")
    return ApiClient(client_id, name, secret, frozenset(roles))
