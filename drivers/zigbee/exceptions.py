"""What is wrong about some devices: drivers/zigbee/exceptions.toml, read once, when the first appliance is met."""

import re
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_FILE = Path(__file__).with_name("exceptions.toml")

Pair = tuple[int, int]  # multiplier, divisor


class CurrentLimit(NamedTuple):
    """How an appliance can be held back: its level is the amperes of each phase it may take."""

    by: str
    least_a: int
    most_a: int
    phases: int

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.least_a}..{self.most_a} A by Level Control"


class SetpointLimit(NamedTuple):
    """How a heater can be held back: its setpoint is lowered by so many degrees, to so many at least (Celsius)."""

    by: str
    back_c: float
    least_c: float

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.back_c:g} degrees less by its setpoint, {self.least_c:g} at least"


@dataclass(slots=True)
class Exceptions:
    """All that is known to be wrong about one device; empty for one that does as the specification says."""

    scale: dict[str, Pair] = field(default_factory=dict)
    lies: dict[str, Pair] = field(default_factory=dict)
    either: dict[str, tuple[Pair, ...]] = field(default_factory=dict)
    factor: dict[str, Pair] = field(default_factory=dict)
    analog: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()
    skip_endpoints: frozenset[int] = frozenset()
    poll: frozenset[str] = frozenset()
    moves: frozenset[str] = frozenset()
    unit: int | None = None
    limit: CurrentLimit | SetpointLimit | None = None
    by_software: bool = False  # its kind has rows for some versions of its software alone
    unsure: frozenset[str] = frozenset()  # what such rows are about, while the version is not known

    def is_polled(self, quantity: str) -> bool:
        """Whether a quantity ("power", "power.b") is known never to be reported."""
        return not self.poll.isdisjoint(("*", quantity, quantity.partition(".")[0]))


def of(
    manufacturer: str | None,
    model: str | None,
    shape: dict[int, int],
    reads: dict[tuple[int, str], int],
    software: str | None = None,
) -> Exceptions:
    """The exceptions of a device. `shape`: device type by endpoint; `reads`: divisors by endpoint and pair; `software`:
    its version (SWBuildID of the Basic cluster), None where it is not known; "" where it has none, and is taken
    to do as the specification says."""
    found = Exceptions()
    for row in _table():
        if not _matches(row, manufacturer or "", model or "", shape, reads):
            continue
        below = _version(row.get("software_below", ""))
        if below:
            found.by_software = True
            if software is None:
                found.unsure |= frozenset(row["factor"])
            version = _version(software or "")
            if not version or version >= below:
                continue
        _add(found, row)
    return found


def _version(text: str) -> tuple[int, ...]:
    """`2.3.079` as (2, 3, 79); () where there is none."""
    return tuple(int(number) for number in re.findall(r"[0-9]{1,9}", text)[:4])


@cache
def _table() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(_FILE.read_text("utf-8"))["device"])


def _matches(
    row: dict[str, Any], manufacturer: str, model: str, shape: dict[int, int], reads: dict[tuple[int, str], int]
) -> bool:
    for key, said in (("manufacturer", manufacturer), ("model", model)):
        patterns = row.get(key, "*")
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not any(fnmatchcase(said.strip(" \0").lower(), pattern.strip().lower()) for pattern in patterns):
            return False
    endpoint = row.get("endpoint")
    if endpoint is None:
        return True
    is_this_type = shape.get(endpoint) == row["device_type"]
    return is_this_type and all(reads.get((endpoint, pair)) == divisor for pair, divisor in row["reads"].items())


def _add(found: Exceptions, row: dict[str, Any]) -> None:
    if "lies" in row and not row["lies"]:
        found.lies.clear()
    found.scale |= {pair: tuple(value) for pair, value in row.get("scale", {}).items()}
    found.lies |= {pair: tuple(value) for pair, value in row.get("lies", {}).items()}
    found.either |= {pair: tuple(map(tuple, value)) for pair, value in row.get("either", {}).items()}
    found.factor |= {quantity: tuple(value) for quantity, value in row.get("factor", {}).items()}
    found.analog |= {int(endpoint): tuple(value) for endpoint, value in row.get("analog", {}).items()}
    found.skip |= frozenset(row.get("skip", ()))
    found.skip_endpoints |= frozenset(row.get("skip_endpoints", ()))
    found.poll |= frozenset(row.get("poll", ()))
    found.moves |= frozenset(row.get("moves", ()))
    found.unit = row.get("unit", found.unit)
    if "limit" in row:
        way = CurrentLimit if row["limit"]["by"] == "level" else SetpointLimit
        found.limit = way(**row["limit"])
