"""The configuration: one TOML file, every key known, every mistake one clear line (design 3.1).

A wrong file never half-starts a hub: `load_config` either returns a complete `Config` or raises `ConfigError`, whose
text names file, key and what is expected.
"""

import os
import re
import tomllib
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from hub.core.uplink.config import UplinkConfig
from hub.wire.schema import Rule, Unmet, checked, flag, number, one_of, required, rule, text, whole

DEFAULT_PATH = Path("/etc/meterhub/hub.toml")


def default_path() -> Path:
    """The file that is meant when none is named: $METERHUB_CONFIG, else DEFAULT_PATH."""
    return Path(os.environ.get("METERHUB_CONFIG") or DEFAULT_PATH)


class ConfigError(ValueError):
    """The configuration cannot be used; exit status 2. The text is one line: file, key, what is expected."""


@dataclass(frozen=True, slots=True)
class RadioConfig:
    path: str
    baudrate: int = 115200
    tunnel: str = "native"


@dataclass(frozen=True, slots=True)
class MeterConfig:
    path: str
    protocol: str = "auto"
    key_file: Path | None = None  # where the meter encrypts its telegrams
    address: str = ""  # IEC 62056-21: of a meter that answers to its own alone


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, with every default filled in."""

    source: Path
    uplink: UplinkConfig
    data_dir: Path = Path("/var/lib/meterhub")
    run_dir: Path = Path("/run/meterhub")
    hub_id: str | None = None  # what the file says; the CN of uplink.cert_file is the truth
    groups: tuple[str, ...] = ()
    admin_group: str = "meterhub-field"  # who may change something over the admin socket; none where it is not there
    radio: RadioConfig | None = None
    udp_listen: tuple[str, int] | None = None
    udp_networks: tuple[IPv4Network | IPv6Network, ...] = ()  # where adapters may be; none named: anywhere
    udp_advertise: tuple[str, int] | None = None  # where ADVERTISE is broadcast to
    udp_publishes_per_s: int | None = None  # of one adapter, in the long run
    predefined: dict[int, str] = field(default_factory=dict)
    meter: MeterConfig | None = None
    forward_out: tuple[str, ...] = ()
    max_mb: int = 256
    retention_days: int = 400
    # An ordinary home (a reading a second) writes 580 MB a day and fits, so that nobody in it ever waits. 3.7 TB in
    # fifteen years: a 4 GB eMMC of 3000 cycles bears that though it rewrites each byte thrice itself (docs/porter.md).
    daily_write_mb: int = 640
    operators_file: Path = Path("/etc/meterhub/operators.toml")
    # Whose signature brings a new list of operators where nobody can command any more; not there: nobody's.
    recovery_key_file: Path = Path("/etc/meterhub/manufacturer.pem")
    heartbeat_s: int = 60
    failsafe: str | int = "release"
    failsafe_min_s: float = 7200.0  # EEBUS LPC: how long a failsafe limit holds at least, 2 to 24 h
    floor_w: int = 0  # no limit of the household's consumption is lower than this
    slots_dir: Path = Path("/run/meterhub-slots")  # where slots are spoken for; not there: no updates
    update_kb_s: int = 256  # how fast a bundle is fetched; 0: no bound
    update_spread_s: float = 14_400.0  # a command for many hubs: within which time each begins to fetch
    update_max_mb: int = 128
    update_well_s: float = 10.0  # how long a slot has to be well in one go, to be found good
    update_uplink_s: float = 900.0  # by when an uplink that worked before an update has to be back after it


@rule('"https://HOST/.well-known/est"')
def _https(value: Any) -> str:
    if not TEXT(value).startswith("https://"):
        raise ValueError
    return str(value)


def _seconds(least: float, most: float) -> Rule:
    seconds = number(least, most, "seconds")
    return Rule(seconds.expected, lambda value: float(seconds(value)))


TEXT = text()
PATH = Rule(TEXT.expected, lambda value: Path(TEXT(value)))


@rule("up to 32 letters and digits")
def _device_address(value: Any) -> str:
    if len(TEXT(value)) > 32 or not value.isascii() or not value.isalnum():
        raise ValueError
    return str(value)


@rule(TEXT.expected)
def _key_file(value: Any) -> Path:
    """A file, or the name of a key in hardware; both are a Path from here on, so a URI has no // and the like."""
    name = TEXT(value)
    if name.startswith("pkcs11:"):
        from hub.wire.keys.pkcs11 import parse_uri

        parse_uri(name)
        if str(Path(name)) != name:
            raise ValueError("a pkcs11: URI whose slashes are single ones")
    return Path(name)


@rule("a list of non-empty strings")
def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError
    return tuple(value)


@rule('a list of networks such as "192.168.1.0/24"')
def _networks(value: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(network) for network in _texts(value))
    except ValueError:
        raise ValueError from None


@rule("a list of names without / + #")
def _groups(value: Any) -> tuple[str, ...]:
    groups: tuple[str, ...] = _texts(value)
    if any(set(group) & set("/+#\x00") for group in groups):
        raise ValueError
    return groups


@rule("a list of MQTT topic filters")
def _filters(value: Any) -> tuple[str, ...]:
    from hub.wire.mqttsn.topics import is_topic_filter

    filters: tuple[str, ...] = _texts(value)
    if not all(is_topic_filter(topic_filter) for topic_filter in filters):
        raise ValueError
    return filters


def _host_and_port(value: Any, default_port: int | None = None) -> tuple[str, int]:
    host, colon, port = TEXT(value).rpartition(":")
    if not colon or (host.count(":") and not host.startswith("[")):
        host, port = value, "" if default_port is None else str(default_port)
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError('"HOST:PORT"')
    return host.strip("[]"), int(port)


_ADDRESS = Rule('"HOST:PORT"', _host_and_port)


@rule('a list of at least one "HOST:PORT"')
def _hosts(value: Any) -> tuple[str, ...]:
    hosts: tuple[str, ...] = _texts(value)
    if not hosts:
        raise ValueError
    for host in hosts:
        _host_and_port(host, 8883)
    return hosts


@rule('"release" or watts from 0 to 1000000')
def _failsafe(value: Any) -> str | int:
    if value == "release" or (type(value) is int and 0 <= value <= 1_000_000):
        return value  # type: ignore[no-any-return]
    raise ValueError


@rule('the beginning of a topic, such as "tenant/"')
def _prefix(value: Any) -> str:
    if not isinstance(value, str) or set(value) & set("+#\x00") or value.startswith(("/", "$")) or len(value) > 200:
        raise ValueError
    return value if not value or value.endswith("/") else value + "/"


KEYS: dict[str, dict[str, Rule]] = {
    "hub": {"data_dir": PATH, "run_dir": PATH, "groups": _groups, "admin_group": TEXT, "id": TEXT},
    "radio": {"path": required(TEXT), "baudrate": whole(1200, 4_000_000), "tunnel": one_of("native", "digi")},
    "han": {},
    "han.udp": {
        "listen": required(_ADDRESS),
        "networks": _networks,
        "advertise": _ADDRESS,
        "publishes_per_s": whole(1, 1_000_000),
    },
    "meter": {
        "path": required(TEXT),
        "protocol": one_of("auto", "p1", "iec62056-21", "sml", "dlms"),
        "key_file": PATH,
        "address": _device_address,
    },
    "uplink": {
        "host": TEXT,
        "hosts": _hosts,
        "port": whole(1, 65535),
        "ca_file": required(PATH),
        "cert_file": required(PATH),
        "key_file": required(_key_file),
        "protocol": one_of("auto", "5", "3.1.1"),
        "keepalive_s": whole(5, 3600),
        "pack_interval_s": _seconds(0.1, 86400),
        "booked_within_s": _seconds(1, 31_536_000),
        "drain_kb_s": whole(0, 1_000_000),
        "boot_spread_s": _seconds(0, 3600),
        "retry_cap_s": _seconds(0.1, 3600),
        "deflate": flag,
        "time_step_ms": whole(1, 1000),
        "crl_file": PATH,
        "username": TEXT,
        "password_file": PATH,
        "topic_prefix": _prefix,
        "est_url": _https,
        "est_look_s": _seconds(1, 31_536_000),
    },
    "forward": {"out": _filters},
    "store": {
        "max_mb": whole(1, 1_000_000),
        "retention_days": whole(1, 36500),
        "daily_write_mb": whole(0, 1_000_000),
    },
    "update": {
        "slots_dir": PATH,
        "kb_s": whole(0, 1_000_000),
        "spread_s": _seconds(0, 604_800),
        "max_mb": whole(1, 100_000),
        "well_s": _seconds(0, 600),
        "uplink_s": _seconds(1, 1200),
    },
    "control": {
        "operators_file": PATH,
        "recovery_key_file": PATH,
        "heartbeat_s": whole(5, 3600),
        "failsafe": _failsafe,
        "failsafe_min_s": _seconds(7200, 86400),
        "floor_w": whole(0, 1_000_000),
    },
}
_TABLES = ("hub", "radio", "han", "meter", "uplink", "forward", "store", "control", "update")


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError, with one line for the operator."""
    return _ConfigReader(path).read(_document(path))


def override(config: Config, changes: dict[str, Any]) -> Config:
    """The configuration with some keys (`table.key`) set to something else. Raises ConfigError as `load_config`."""
    document = _document(config.source)
    for name, value in changes.items():
        table, _, key = name.rpartition(".")
        if name in ("uplink.host", "uplink.hosts"):
            document.get("uplink", {}).pop("hosts" if key == "host" else "host", None)
        document.setdefault(table, {})[key] = value
    return _ConfigReader(config.source).read(document)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a readable TOML file") from None
    except (ValueError, RecursionError) as error:  # also a number of too many digits, and what is nested too deeply
        # tomllib names a table as Python writes a tuple.
        text = re.sub(r"\(('[^']*'(, )?)+,?\)", lambda found: ".".join(re.findall(r"'([^']*)'", found[0])), str(error))
        raise ConfigError(f"{path}: not TOML: {text}") from None


class _ConfigReader:
    """Checks one document; keeps the file's name for the messages."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _fail(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"{self._path}: {key}: expected {expected}")

    def read(self, document: dict[str, Any]) -> Config:
        for name, table in document.items():
            if name not in _TABLES:
                raise ConfigError(f"{self._path}: {name}: unknown table; expected one of {', '.join(_TABLES)}")
            if not isinstance(table, dict):
                raise self._fail(name, "a table")
        hub = self._table(document, "hub")
        radio = self._table(document, "radio")
        meter = self._table(document, "meter")
        han = document.get("han", {})
        for key in han:
            if key not in ("udp", "predefined"):
                raise ConfigError(f"{self._path}: han.{key}: unknown key; expected one of udp, predefined")
        udp = self._table({"han.udp": han["udp"]} if "udp" in han else {}, "han.udp")
        control = self._table(document, "control")
        names = {"id": "hub_id"}
        update = {
            key if key == "slots_dir" else f"update_{key}": v for key, v in self._table(document, "update").items()
        }
        return Config(
            source=self._path,
            uplink=self._uplink(document),
            radio=RadioConfig(**radio) if radio else None,
            meter=MeterConfig(**meter) if meter else None,
            **{f"udp_{key}": value for key, value in udp.items()},
            predefined=self._predefined(han.get("predefined", {})),
            forward_out=self._table(document, "forward").get("out", ()),
            **{names.get(key, key): value for key, value in hub.items()},
            **self._table(document, "store"),
            **control,
            **update,
        )

    def _table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        if name not in document:
            return {}
        table = document[name]
        if not isinstance(table, dict):
            raise self._fail(name, "a table")
        rules = KEYS[name]
        try:
            return checked(rules, table)
        except Unmet as unmet:
            place = f"{self._path}: {name}.{unmet.name}"
            if unmet.kind == "unknown":
                raise ConfigError(f"{place}: unknown key; expected one of {', '.join(rules)}") from None
            if unmet.kind == "missing":
                raise ConfigError(f"{place}: missing") from None
            raise ConfigError(f"{place}: expected {unmet.expected}, found {table[unmet.name]!r}") from None

    def _uplink(self, document: dict[str, Any]) -> UplinkConfig:
        if "uplink" not in document:
            raise ConfigError(f"{self._path}: uplink: missing; the hub needs to know its utility's host and keys")
        table = self._table(document, "uplink")
        port = table.pop("port", 8883)
        host, hosts = table.pop("host", None), table.pop("hosts", None)
        if (host is None) == (hosts is None):
            raise self._fail("uplink.host", "a host name here, or a list in uplink.hosts, not both")
        if host is not None and ":" in host and not host.startswith("[") and host.count(":") == 1:
            raise self._fail("uplink.host", f"a host's name alone; its port stands in uplink.port, found {host!r}")
        addresses = tuple(_host_and_port(item, port) for item in hosts) if hosts else ((str(host).strip("[]"), port),)
        if "password_file" in table and "username" not in table:
            raise self._fail("uplink.username", "a user name beside uplink.password_file")
        return UplinkConfig(hosts=addresses, **table)

    def _predefined(self, table: Any) -> dict[int, str]:
        if not isinstance(table, dict):
            raise self._fail("han.predefined", "a table")
        predefined: dict[int, str] = {}
        for key, topic in table.items():
            try:
                topic_id = int(key, 16)
            except ValueError:
                topic_id = -1
            if not 0x0100 <= topic_id <= 0xFFFE:
                raise self._fail(f"han.predefined.{key}", 'a topic id from "0x0100" to "0xFFFE"')
            if not isinstance(topic, str) or not topic or "+" in topic or "#" in topic:
                raise self._fail(f"han.predefined.{key}", "a topic name without wildcards")
            predefined[topic_id] = topic
        return predefined
