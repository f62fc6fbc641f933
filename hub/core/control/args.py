"""The arguments of each operation, checked before anything is done (design 3.3, table of operations).

A table: op -> argument -> rule. An unknown argument is refused: a control point that says more than the hub understands
must not believe that it was heard.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hub.core.control.limits import MAX_DURATION_S
from hub.wire.printable import quoted
from hub.wire.uplink.envelope import LANES

MAX_STEPS = 1000
MAX_SWITCH_S = 86_400.0
MAX_APPROVALS = 16


class BadArgs(ValueError):
    """The arguments are not what the operation takes; the text names the first that is wrong."""


Rule = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: its rule, and whether it must be there."""

    rule: Rule
    required: bool = True


def _number(least: float, most: float, what: str) -> Rule:
    def rule(value: Any) -> float:
        # A NaN compares false with everything, so it is refused here too.
        if type(value) not in (int, float) or not least <= value <= most:
            raise ValueError(f"{what} from {least:g} to {most:g}")
        return value  # type: ignore[no-any-return]

    return rule


def _whole(least: int, most: int, what: str) -> Rule:
    def rule(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{what} from {least} to {most}")
        return value

    return rule


def _text(most: int = 64) -> Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise ValueError(f"a text of 1 to {most} characters")
        return value

    return rule


def _octets(size: int) -> Rule:
    def rule(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError(f"{size} bytes")
        return value

    return rule


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _hexadecimal(value: Any) -> str:
    try:
        return bytes.fromhex(value).hex()
    except (TypeError, ValueError):
        raise ValueError("hexadecimal digits") from None


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdefABCDEF"):
        raise ValueError("64 hexadecimal digits")
    return value.lower()


def _one_of(*words: str) -> Rule:
    def rule(value: Any) -> str:
        if value not in words:
            raise ValueError("one of " + ", ".join(words))
        return str(value)

    return rule


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        raise ValueError("a map that is not empty")
    return value


def _steps(of: Rule) -> Rule:
    def rule(value: Any) -> list[list[Any]]:
        if not isinstance(value, list) or not 0 < len(value) <= MAX_STEPS:
            raise ValueError(f"1 to {MAX_STEPS} steps")
        for step in value:
            if not isinstance(step, list) or len(step) != 3:
                raise ValueError("steps of [start, duration, value]")
            _TIME(step[0])
            _number(1, MAX_DURATION_S, "a duration")(step[1])
            of(step[2])
        return value

    return rule


def _place(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("[epoch, number]")
    return [_whole(0, 2**53, "an epoch")(value[0]), _whole(0, 2**53, "a number")(value[1])]


def _approvals(value: Any) -> list[bytes]:
    if not isinstance(value, list) or len(value) > MAX_APPROVALS or not all(isinstance(each, bytes) for each in value):
        raise ValueError(f"a list of at most {MAX_APPROVALS} byte strings")
    return value


def _forecast(value: Any) -> Any:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and 0 < len(key) <= 32 and type(item) in (int, float) for key, item in value.items()
    ):
        raise ValueError("a map of numbers")
    return value


_TIME = _number(0, 2**40, "UTC epoch seconds")
_WATTS = _number(0, 1_000_000, "watts")
_DURATION = _number(1, MAX_DURATION_S, "seconds")
_LANE = _one_of(*LANES)

ARGS: dict[str, dict[str, Arg]] = {
    "limit": {
        "watts": Arg(_WATTS),
        "duration": Arg(_DURATION),
        "start": Arg(_TIME, False),
        "randomise": Arg(_number(0, 3600, "seconds"), False),
        "randomise_end": Arg(_number(0, 3600, "seconds"), False),
        "direction": Arg(_one_of("import", "export"), False),
        "criticality": Arg(_whole(0, 9, "a whole number"), False),
    },
    "limit.cancel": {"cti": Arg(_octets(16), False)},
    "switch": {
        "client": Arg(_text()),
        "on": Arg(_bool),
        "duration": Arg(_number(1, MAX_SWITCH_S, "seconds"), False),
    },
    "set": {
        "client": Arg(_text()),
        "quantity": Arg(_text(32)),
        "value": Arg(_number(-1e9, 1e9, "a number")),
        "duration": Arg(_number(1, MAX_SWITCH_S, "seconds")),
    },
    "heartbeat": {},
    "price": {"currency": Arg(_text(3)), "steps": Arg(_steps(_number(-1e6, 1e6, "a price")))},
    "weather": {"steps": Arg(_steps(_forecast))},
    "read": {
        "client": Arg(_text(), False),
        "quantity": Arg(_text(32), False),
        "from": Arg(_TIME),
        "to": Arg(_TIME),
    },
    "resend": {
        "lane": Arg(_LANE),
        "epoch": Arg(_whole(0, 2**53, "an epoch")),
        "from": Arg(_whole(1, 2**31, "a number")),
        "to": Arg(_whole(1, 2**31, "a number")),
    },
    "booked": {lane: Arg(_place, False) for lane in LANES},
    "permit": {
        "ieee": Arg(_hexadecimal, False),
        "install_code": Arg(_hexadecimal, False),
        "duration": Arg(_whole(1, 254, "seconds")),
    },
    "diagnose": {"what": Arg(_one_of("status", "network", "bundle"))},
    "config": {"set": Arg(_table)},
    "trust": {"operators": Arg(_text(12_000)), "approvals": Arg(_approvals, False)},
    "trust.confirm": {},
    "update": {
        "url": Arg(_text(1000), False),
        "han": Arg(_text(1000), False),
        "sha256": Arg(_sha256),
        "version": Arg(_text(64)),
    },
}


def check_args(op: str, args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation, each checked. Raises BadArgs."""
    rules = ARGS[op]
    for name in args:
        if name not in rules:
            raise BadArgs(f"{op} takes no {quoted(name, 32)}")
    checked: dict[str, Any] = {}
    for name, arg in rules.items():
        if name not in args:
            if arg.required:
                raise BadArgs(f"{op} needs {name}")
            continue
        try:
            checked[name] = arg.rule(args[name])
        except ValueError as error:
            raise BadArgs(f"{name}: expected {error}") from None
    if op == "switch" and not checked["on"] and "duration" not in checked:
        raise BadArgs("off needs a duration: every restriction has an end")
    if op == "update" and ("url" in checked) == ("han" in checked):
        raise BadArgs("update needs url or han, not both")
    return checked
