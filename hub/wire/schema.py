"""What a table of named values must be: the rules of hub.toml and of a command's arguments.

A table is name -> Rule. What the table does not name is refused: whoever says more than the hub understands must not
believe that it was heard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """What one value must be. `expected`: in words, after "expected". `check(value)` gives the value as it is used, or
    raises ValueError; with a text where it has more to say than `expected`."""

    expected: str
    check: Callable[[Any], Any]
    is_required: bool = False

    def __call__(self, value: Any) -> Any:
        """The value as it is used. Raises ValueError, whose text says what is expected."""
        try:
            return self.check(value)
        except ValueError as error:
            raise ValueError(str(error) or self.expected) from None


def required(rule: Rule) -> Rule:
    """The same, of a value that must be there."""
    return replace(rule, is_required=True)


def rule(expected: str) -> Callable[[Callable[[Any], Any]], Rule]:
    """A check as a rule."""
    return lambda check: Rule(expected, check)


class Unmet(ValueError):
    """A table is not what it must be. `name`: of the first value that is wrong; `kind`: "unknown", "missing" or
    "wrong"; `expected`: in words, where it is wrong."""

    def __init__(self, name: str, kind: str, expected: str = "") -> None:
        super().__init__(f"{name}: {expected or kind}")
        self.name, self.kind, self.expected = name, kind, expected


def checked(rules: Mapping[str, Rule], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a table as they are used. Raises Unmet."""
    for name in given:
        if name not in rules:
            raise Unmet(name, "unknown")
    values: dict[str, Any] = {}
    for name, each in rules.items():
        if name in given:
            try:
                values[name] = each(given[name])
            except ValueError as error:
                raise Unmet(name, "wrong", str(error)) from None
        elif each.is_required:
            raise Unmet(name, "missing")
    return values


# Rules that more than one table has.


def text(most: int | None = None) -> Rule:
    """A text that is not empty, of at most so many characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value or (most is not None and len(value) > most):
            raise ValueError
        return value

    return Rule("a non-empty string" if most is None else f"a text of 1 to {most} characters", check)


def whole(least: int, most: int, what: str = "a whole number") -> Rule:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError
        return value

    return Rule(f"{what} from {least} to {most}", check)


def number(least: float, most: float, what: str) -> Rule:
    def check(value: Any) -> float:
        # A NaN compares false with everything, so it is refused here too.
        if type(value) not in (int, float) or not least <= value <= most:
            raise ValueError
        return value  # type: ignore[no-any-return]

    return Rule(f"{what} from {least:g} to {most:g}", check)


def one_of(*words: str) -> Rule:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Rule("one of " + ", ".join(f'"{word}"' for word in words), check)


@rule("true or false")
def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value
