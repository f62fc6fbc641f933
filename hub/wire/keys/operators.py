"""Who may command what: `operators.toml` (design 3.3).

[operator.KID]
public_key = "PEM"
roles = ["limit", ...]
name = "..."
not_after = 2030-01-01T00:00:00Z     # optional
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from cryptography.hazmat.primitives import serialization

from hub.wire.uplink.command import ROLES
from hub.wire.uplink.envelope import BadEnvelope, PublicKey, alg_of

KNOWN_ROLES = frozenset(ROLES.values())
MAX_OPERATORS = 64
_KEYS = {"public_key", "roles", "name", "not_after"}


class BadOperators(ValueError):
    """The text is not a usable list of operators; says which entry and what is expected."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. `not_after` in UTC epoch seconds."""

    kid: str
    public_key: PublicKey
    roles: frozenset[str]
    name: str
    not_after: float | None


Operators = dict[str, Operator]


def parse_operators(text: str) -> Operators:
    """Read operators.toml. Raises BadOperators. An empty text is no operators: nobody may command."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadOperators(f"not TOML: {error}") from None
    table = document.pop("operator", {})
    if document or not isinstance(table, dict):
        raise BadOperators(f"only [operator.KID] tables are expected, found {', '.join(document) or 'something else'}")
    if len(table) > MAX_OPERATORS:
        raise BadOperators(f"more than {MAX_OPERATORS} operators")
    return {kid: _read(kid, entry) for kid, entry in table.items()}


def operator_entry(kid: str, public_key: PublicKey, roles: Iterable[str], name: str) -> str:
    """One operator's entry for operators.toml. Raises BadOperators where no hub would take it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public_key.public_bytes(encoding, form).decode()
    listed = ", ".join(f'"{role}"' for role in roles)
    entry = f'[operator.{kid}]\nname = "{name}"\nroles = [{listed}]\npublic_key = """\n{pem}"""\n'
    parse_operators(entry)
    return entry


def _read(kid: str, entry: Any) -> Operator:
    where = f"operator.{kid}"
    if not isinstance(entry, dict) or set(entry) - _KEYS:
        raise BadOperators(f"{where}: expected the keys {', '.join(sorted(_KEYS))}")
    if not 0 < len(kid) <= 64:
        raise BadOperators(f"{where}: a KID has 1 to 64 characters")
    roles = entry.get("roles")
    if not isinstance(roles, list) or not roles or not set(map(str, roles)) <= KNOWN_ROLES:
        raise BadOperators(f"{where}.roles: expected a list out of {', '.join(sorted(KNOWN_ROLES))}")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise BadOperators(f"{where}.name: expected a text")
    return Operator(kid, _key(where, entry.get("public_key")), frozenset(roles), name, _not_after(where, entry))


def _key(where: str, pem: Any) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(str(pem).encode())
        alg_of(key)
    except (ValueError, BadEnvelope):
        raise BadOperators(f"{where}.public_key: expected a PEM public key, P-256 or Ed25519") from None
    return key  # type: ignore[return-value]


def _not_after(where: str, entry: dict[str, Any]) -> float | None:
    value = entry.get("not_after")
    if value is None:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    raise BadOperators(f"{where}.not_after: expected a date and time")


def may_replace(old: Operators, new: Operators, now: float) -> str:
    """Whether `trust` may put `new` in place of `old`: "" when it may, else why not. Nobody is ever locked out.

    At least one operator who can change the list again must remain, today and when the next one expires.
    """
    if not any("admin" in operator.roles and _is_valid(operator, now) for operator in new.values()):
        return "the last operator with the role admin cannot be removed"
    return ""


def _is_valid(operator: Operator, now: float) -> bool:
    return operator.not_after is None or now <= operator.not_after
