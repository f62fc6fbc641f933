"""headend.toml: where the service listens, its broker, its operator key, who may ask it for what."""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from deploy.headend.reach import EVERYBODY, Reach
from hub.headend.engines import is_server
from hub.wire.keys.pkcs11 import BadUri, make_uri, parse_uri
from hub.wire.schema import Rule, Unmet, checked, required, rule, text, whole

# What a client of the API may be allowed (README.md has the table of what each opens).
ROLES = ("fleet", "usage", "control", "approve", "admin")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class BadConfig(ValueError):
    """The file cannot be used; the text names the file, the key and what is expected."""


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Somebody who may ask: a program or a person. `secret_sha256`: hex, of a random secret. `reach`: whose hubs."""

    client_id: str
    name: str
    secret_sha256: str
    roles: frozenset[str]
    reach: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class AuthorityConfig:
    """Tables `authority` and `est`: who certifies hubs, what brokers are told of it, where hubs renew.

    `folder`, `earlier`: of provisioning stations; `trusted`: certificates of others' authorities, whose hubs may renew
    here; `more_crls`: their lists, PEM. `est`: (host, port), certificate, key.
    """

    folder: Path
    passphrase_file: Path | None = None
    earlier: tuple[Path, ...] = ()
    trusted: tuple[Path, ...] = ()
    certificate_days: int = 730
    trusted_file: Path | None = None
    crl_file: Path | None = None
    crl_days: int = 14
    more_crls: tuple[Path, ...] = ()
    broker_command: tuple[str, ...] = ()
    est: tuple[tuple[str, int], Path, Path] | None = None


@dataclass(frozen=True, slots=True)
class KeepPeriods:
    """Table `keep`: after how many days rows are cleared; 0: never. README.md says why these."""

    packs_days: int = 400  # as signed, the evidence of readings
    readings_days: int = 400
    half_hours_days: int = 2557  # seven years; all versions, substitutes too
    events_days: int = 1096
    receipts_days: int = 2557  # and the orders that they answer
    audit_days: int = 1096


@dataclass(frozen=True, slots=True)
class HeadendConfig:
    """What headend.toml says. Durations in seconds, powers in watts."""

    data_dir: Path
    listen_host: str
    listen_port: int
    timezone: ZoneInfo
    brokers: tuple[tuple[str, int], ...]  # host, port
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
    workers: int = 0  # processes beside the service that take packs
    is_divided_by_name: bool = False  # the broker has no `$share`: each worker hears all packs and takes its hubs'
    columns_url: str = ""  # of a columnar store; empty: none
    file: Path = Path("headend.toml")  # where all this stands
    database: str = ""  # postgresql://...; empty: SQLite in data_dir
    authority: AuthorityConfig | None = None
    keep: KeepPeriods = KeepPeriods()
    callback_hosts: frozenset[str] = frozenset()  # HOST:PORT: where webhooks may go
    callback_ca_file: Path | None = None  # who certifies those; none: the system's authorities

    @property
    def place(self) -> Path | str:
        """Where the book is: a folder, or the server."""
        return self.database or self.data_dir


@rule("a command: a list of words")
def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError
    return tuple(value)


@rule("a list of files")
def _files(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(file, str) for file in value):
        raise ValueError
    return value


@rule("a name like Europe/London")
def _zone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, TypeError, OSError):
        raise ValueError from None


def _host_and_port(value: Any) -> tuple[str, int]:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdigit() or not 0 <= int(port) < 1 << 16:
        raise ValueError
    return host, int(port)


@rule("http://... or https://...")
def _web(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise ValueError
    return value


@rule("postgresql://...; without it the book is a file in data_dir")
def _database(value: Any) -> str:
    if not isinstance(value, str) or not is_server(value):
        raise ValueError
    return value


@rule("HOST:PORT")
def _listen(value: Any) -> tuple[str, int]:
    return _host_and_port(value)


@rule("a list of HOST:PORT")
def _hosts(value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(_host_and_port(host) for host in value)


@rule("0 (for ever), or days from 31 on: what comes late, and is corrected by it, comes within a month")
def _days(value: Any) -> int:
    if type(value) is not int or not (value == 0 or 31 <= value <= 36_500):
        raise ValueError
    return value


@rule("broker ($share), or name: for one that has no $share")
def _sharing(value: Any) -> bool:
    if value not in ("broker", "name"):
        raise ValueError
    return bool(value == "name")


@rule("64 hex digits (python -m deploy.headend secret makes one)")
def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise ValueError
    return value


@rule("some of " + ", ".join(ROLES))
def _roles(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(role in ROLES for role in value):
        raise ValueError
    return frozenset(value)


_RULES: dict[str, dict[str, Rule]] = {
    "service": {
        "data_dir": required(text()), "listen": _listen, "timezone": _zone, "database": _database,
        "workers": whole(0, 256),
    },
    "columns": {"url": _web},
    "broker": {
        "host": text(), "port": whole(1, 65_535), "hosts": _hosts, "ca_file": required(text()),
        "cert_file": required(text()), "key_file": required(text()), "client_id": text(64),
        "divides_by": _sharing,
    },
    "operator": {"kid": required(text(64)), "key_file": text(), "key_uri": text(), "pin_file": text()},
    "registry": {"journals": _files, "certificates": text()},
    "policy": {
        "second_person_above": whole(0, 10**9), "max_power_w": whole(1, 10**7), "gap_after_s": whole(1, 86_400),
        "booked_every_s": whole(1, 86_400),
    },
    "keep": {field.name: _days for field in fields(KeepPeriods)},
    "authority": {
        "folder": required(text()), "passphrase_file": text(), "earlier": _files, "trusted": _files,
        "certificate_days": whole(1, 7300), "trusted_file": text(), "crl_file": text(), "crl_days": whole(1, 365),
        "more_crls": _files, "broker_command": _words,
    },
    "openadr": {"callback_hosts": _hosts, "callback_ca_file": text()},
    "est": {"listen": required(_listen), "cert_file": required(text()), "key_file": required(text())},
}  # fmt: skip
_MAY_LACK = ("authority", "est")


@rule("a list of groups' names")
def _groups(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError
    return tuple(value)


_CLIENT: dict[str, Rule] = {
    "name": text(64), "secret_sha256": required(_digest), "roles": required(_roles), "groups": _groups,
}  # fmt: skip


def load(file: Path) -> HeadendConfig:
    """Read and check the file. Raises BadConfig."""
    try:
        tables = tomllib.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(f"{file}: {error}") from None
    clients = tables.pop("client", {})
    for table in tables:
        if table not in _RULES:
            raise BadConfig(f"{file}: [{table}]: not one of {', '.join(_RULES)}, client.ID")
    openadr = _table(file, "openadr", _RULES["openadr"], tables.get("openadr", {}))
    said = {
        name: _table(file, name, rules, tables.get(name, {}))
        for name, rules in _RULES.items()
        if name in tables or name not in _MAY_LACK
    }
    service, broker, operator, registry = (said[name] for name in ("service", "broker", "operator", "registry"))
    if service.get("workers") and "database" not in service:
        raise BadConfig(f"{file}: service.workers: expected a database (postgresql://...): SQLite has one that writes")
    listen_host, listen_port = service.get("listen", ("127.0.0.1", 8080))
    certificates = registry.get("certificates")
    return HeadendConfig(
        Path(service["data_dir"]), listen_host, listen_port, service.get("timezone", ZoneInfo("UTC")),
        _brokers(file, broker), Path(broker["ca_file"]), Path(broker["cert_file"]),
        Path(broker["key_file"]), broker.get("client_id", "headend"), operator["kid"], _operator_key(file, operator),
        tuple(Path(journal) for journal in registry.get("journals", [])),
        None if certificates is None else Path(certificates),
        clients=_clients(file, clients), database=service.get("database", ""),
        workers=service.get("workers", 0), is_divided_by_name=broker.get("divides_by", False),
        columns_url=said["columns"].get("url", ""), file=file.absolute(),
        authority=_authority(file, said), keep=_keep(file, said["keep"]),
        callback_hosts=frozenset(f"{host}:{port}" for host, port in openadr.get("callback_hosts", ())),
        callback_ca_file=Path(openadr["callback_ca_file"]) if "callback_ca_file" in openadr else None, **said["policy"],
    )  # fmt: skip


def _keep(file: Path, said: dict[str, Any]) -> KeepPeriods:
    keep = KeepPeriods(**said)
    # A bill is made of half-hours: what they were made of may go before them, not the other way round.
    if keep.half_hours_days and not 0 < keep.readings_days <= keep.half_hours_days:
        raise BadConfig(f"{file}: keep.half_hours_days: expected no less than readings_days ({keep.readings_days})")
    return keep


def _operator_key(file: Path, said: dict[str, Any]) -> Path:
    """A file, or a path that is a `pkcs11:` URI (hub/wire/keys/pkcs11.py)."""
    if ("key_file" in said) == ("key_uri" in said):
        raise BadConfig(f"{file}: operator: expected either key_file, or key_uri (a key in a token)")
    if "key_file" in said:
        return Path(said["key_file"])
    try:
        uri = parse_uri(said["key_uri"])
    except BadUri as error:
        raise BadConfig(f"{file}: operator.key_uri: expected {error}") from None
    if "pin_file" in said:
        uri = make_uri(uri.path, {**uri.query, "pin-source": said["pin_file"]})
    return Path(uri.text)


def _authority(file: Path, said: dict[str, dict[str, Any]]) -> AuthorityConfig | None:
    est, found = said.get("est"), said.get("authority")
    if found is None:
        if est is not None:
            raise BadConfig(f"{file}: est: an authority certifies there: [authority] is missing")
        return None
    values: dict[str, Any] = {}
    for name, value in found.items():
        if name in ("folder", "passphrase_file", "trusted_file", "crl_file"):
            values[name] = Path(value)
        elif name in ("earlier", "trusted", "more_crls"):
            values[name] = tuple(Path(each) for each in value)
        else:
            values[name] = value
    if est is not None:
        values["est"] = (est["listen"], Path(est["cert_file"]), Path(est["key_file"]))
    return AuthorityConfig(**values)


def _brokers(file: Path, said: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    if ("host" in said) == ("hosts" in said):
        raise BadConfig(f"{file}: broker: expected either host, or hosts (a list of HOST:PORT)")
    return said["hosts"] if "hosts" in said else ((said["host"], said.get("port", 8883)),)


def _table(file: Path, name: str, rules: dict[str, Rule], given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise BadConfig(f"{file}: {name}: expected a table")
    try:
        return checked(rules, given)
    except Unmet as unmet:
        said = {"unknown": f"not one of {', '.join(rules)}", "missing": "is missing"}.get(unmet.kind)
        raise BadConfig(f"{file}: {name}.{unmet.name}: {said or f'expected {unmet.expected}'}") from None


def _clients(file: Path, given: Any) -> dict[str, ApiClient]:
    if not isinstance(given, dict):
        raise BadConfig(f"{file}: client: expected tables [client.ID]")
    found = {}
    for client_id, entry in given.items():
        said = _table(file, f"client.{client_id}", _CLIENT, entry)
        name, reach = said.get("name") or client_id, Reach(said.get("groups"))
        found[client_id] = ApiClient(client_id, name, said["secret_sha256"], said["roles"], reach)
    return found
