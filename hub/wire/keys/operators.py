"""Who may command what: `operators.toml` (design 3.3).

threshold = 2                        # optional: how many admins have to sign a new list
[operator.KID]
public_key = "PEM"
roles = ["limit", ...]
name = "..."
not_after = 2030-01-01T00:00:00Z     # optional
lpc = true                           # optional: its silence is the failsafe's
priority = 5                         # optional, 0..9: who is heard when the table of limits is full
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from hub.wire.printable import plain, quoted
from hub.wire.uplink.command import ROLES
from hub.wire.uplink.envelope import BadEnvelope, PublicKey, alg_of

KNOWN_ROLES = frozenset(ROLES.values())
MAX_OPERATORS = 64
MAX_PRIORITY = 9
VALID_FOR_S = 30 * 86400.0  # what is left to an admin of a list that is to be trusted
_KEYS = {"public_key", "roles", "name", "not_after", "lpc", "priority"}


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
    lpc: bool = False
    priority: int = 0

    def may(self, role: str, t: float) -> bool:
        """Whether it has this role, and still has it at `t` (UTC epoch seconds)."""
        return role in self.roles and (self.not_after is None or t <= self.not_after)


class Operators(dict[str, Operator]):
    """Operators by their kid. `threshold`: how many admins have to sign the list that replaces this one."""

    threshold: int = 1


def parse_operators(text: str) -> Operators:
    """Read operators.toml. Raises BadOperators. An empty text is no operators: nobody may command."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of too many digits
        raise BadOperators(f"not TOML: {plain(str(error))}") from None
    table = document.pop("operator", {})
    threshold = document.pop("threshold", 1)
    if document or not isinstance(table, dict):
        found = quoted(next(iter(document), "something else"))
        raise BadOperators(f"threshold and [operator.KID] tables are expected, found {found}")
    if len(table) > MAX_OPERATORS:
        raise BadOperators(f"more than {MAX_OPERATORS} operators")
    operators = Operators({kid: _read(kid, entry) for kid, entry in table.items()})
    admins = sum("admin" in operator.roles for operator in operators.values())
    if type(threshold) is not int or not 1 <= threshold <= max(1, admins):
        raise BadOperators(
            f"threshold: expected a whole number from 1 to {max(1, admins)}, as many as there are admins"
        )
    operators.threshold = threshold
    return operators


def operator_entry(kid: str, public_key: PublicKey, roles: Iterable[str], name: str) -> str:
    """One operator's entry for operators.toml. Raises BadOperators where no hub would take it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public_key.public_bytes(encoding, form).decode()
    listed = ", ".join(f'"{role}"' for role in roles)
    entry = f'[operator.{kid}]\nname = "{name}"\nroles = [{listed}]\npublic_key = """\n{pem}"""\n'
    parse_operators(entry)
    return entry


def _read(kid: str, entry: Any) -> Operator:
    where = f"operator.{plain(kid)}"
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
    lpc, priority = entry.get("lpc", False), entry.get("priority", 0)
    if type(lpc) is not bool:
        raise BadOperators(f"{where}.lpc: expected true or false")
    if type(priority) is not int or not 0 <= priority <= MAX_PRIORITY:
        raise BadOperators(f"{where}.priority: expected a whole number from 0 to {MAX_PRIORITY}")
    key = _key(where, entry.get("public_key"))
    return Operator(kid, key, frozenset(roles), name, _not_after(where, entry), lpc, priority)


def _key(where: str, pem: Any) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(str(pem).encode())
        alg_of(key)
    except (ValueError, BadEnvelope, UnsupportedAlgorithm):
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


def refusal_of_list(new: Operators, t: float) -> str:
    """Whether `trust` may put this list in force: "" when it may, else why not. Nobody is ever locked out: an admin
    has to remain who is valid for 30 days more, and as many as the list's own threshold asks for."""
    lasting = sum(operator.may("admin", t + VALID_FOR_S) for operator in new.values())
    if lasting < new.threshold:
        return f"{new.threshold} operators with the role admin have to be valid for 30 days more, {lasting} are"
    return ""
