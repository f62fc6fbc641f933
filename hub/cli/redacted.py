"""A configuration as it may leave the hub: what is listed here, and no secret that it names anywhere else either.

A key that is not on the list stays at home whatever it holds: one that a later version adds is left out until somebody
has thought about it.
"""

import re
import tomllib
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.wire.keys.pkcs11 import SCHEME, parse_uri

_SHOWN = {
    "hub": {"data_dir", "run_dir", "groups", "admin_group", "id"},
    "radio": {"path", "baudrate", "tunnel"},
    "han.udp": {"listen", "networks", "advertise", "publishes_per_s"},
    "meter": {"path", "protocol"},
    "uplink": {
        "host", "hosts", "port", "ca_file", "cert_file", "key_file", "protocol", "keepalive_s", "pack_interval_s",
        "booked_within_s", "drain_kb_s", "boot_spread_s", "retry_cap_s", "deflate", "time_step_ms",
        "crl_file", "est_url", "est_look_s",
    },
    "forward": {"out"},
    "store": {"max_mb", "retention_days", "daily_write_mb"},
    "update": {"slots_dir", "kb_s", "spread_s", "max_mb", "well_s", "uplink_s"},
    "control": {"operators_file", "heartbeat_s", "failsafe", "failsafe_min_s", "floor_w"},
}  # fmt: skip
_LEAST_SECRET = 4  # characters; a shorter one would blacken half of the text
_MAX_SECRET_FILE = 4096
_BLACK = "(left out)"
_PASSWORD = re.compile("://[^/?#:]*:([^/?#]*)@")  # of a URL, also of one that is none otherwise


def redacted(text: str) -> str:
    """TOML with the keys that may be seen; of the others only that they are there."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return f"# not TOML: line {getattr(error, 'lineno', '?')}\n"
    lines: list[str] = []
    for name, table in _tables(document):
        lines.append(f"[{name}]")
        for key, value in table.items():
            shown = _shown(name, key, value)
            lines.append(f"# {dumps(key)}: {_BLACK}" if shown is None else f"{key} = {dumps(shown)}")
    return "\n".join(lines) + "\n"


def _tables(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, table in document.items():
        if not isinstance(table, dict):
            continue
        inner = {key: value for key, value in table.items() if isinstance(value, dict)} if name == "han" else {}
        if name != "han":
            yield name, table
        for key, value in inner.items():
            yield f"{name}.{key}", value


def _shown(table: str, key: str, value: Any) -> Any:
    """The value as it may be seen; None: not at all."""
    if key not in _SHOWN.get(table, ()) or isinstance(value, dict):
        return None
    if isinstance(value, str) and SCHEME in value:
        return None
    if key == "est_url" and isinstance(value, str):
        try:
            parts = urlsplit(value)
        except ValueError:
            return None
        return f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else None
    return value


def secrets_of(text: str) -> list[str]:
    """The secrets that a configuration holds or names, to be blackened wherever else they turn up."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return []
    uplink, meter = (document[name] if isinstance(document.get(name), dict) else {} for name in ("uplink", "meter"))
    found: list[str] = []
    key_file = uplink.get("key_file")
    if isinstance(key_file, str) and key_file.startswith(SCHEME):
        try:
            found += [value for name, value in parse_uri(key_file).query.items() if name == "pin-value"]
        except ValueError:
            pass
        found += [part.partition("=")[2] for part in key_file.replace("&", "?").split("?") if "pin-value=" in part]
    for file in (uplink.get("password_file"), meter.get("key_file")):
        if isinstance(file, str):
            found.append(_content(Path(file)))
    est = uplink.get("est_url")
    if isinstance(est, str) and (password := _PASSWORD.search(est)):
        found.append(password[1])
    return sorted({secret for secret in found if len(secret) >= _LEAST_SECRET}, key=len, reverse=True)


def _content(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_SECRET_FILE).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def blackened(text: str, secrets: list[str]) -> str:
    """The text without the secrets, also as JSON writes them."""
    for secret in secrets:
        for form in (secret, dumps(secret)[1:-1]):
            text = text.replace(form, _BLACK)
    return text
