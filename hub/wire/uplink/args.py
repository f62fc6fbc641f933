"""The arguments of each operation, checked before anything is done (design 3.3, table of operations).

A table: op -> argument -> rule (hub/wire/schema.py). An argument that the table does not have is refused.
"""

from typing import Any

from hub.wire.printable import quoted
from hub.wire.schema import Rule, Unmet, checked, flag, number, one_of, required, rule, text, whole
from hub.wire.uplink.envelope import LANES

MAX_DURATION_S = 7 * 86_400.0  # of a limit, a price, a forecast
MAX_STEPS = 1000
MAX_SWITCH_S = 86_400.0
MAX_APPROVALS = 16


class BadArgs(ValueError):
    """The arguments are not what the operation takes; the text names the first that is wrong."""


def _bytes(size: int) -> Rule:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError
        return value

    return Rule(f"{size} bytes", check)


@rule("hexadecimal digits")
def _hexadecimal(value: Any) -> str:
    try:
        return bytes.fromhex(value).hex()
    except (TypeError, ValueError):
        raise ValueError from None


@rule("64 hexadecimal digits")
def _sha256(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdefABCDEF"):
        raise ValueError
    return value.lower()


@rule("a map that is not empty")
def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        raise ValueError
    return value


def _steps(of: Rule) -> Rule:
    def check(value: Any) -> list[list[Any]]:
        if not isinstance(value, list) or not 0 < len(value) <= MAX_STEPS:
            raise ValueError
        for step in value:
            if not isinstance(step, list) or len(step) != 3:
                raise ValueError("steps of [start, duration, value]")
            _TIME(step[0])
            number(1, MAX_DURATION_S, "a duration")(step[1])
            of(step[2])
        return value

    return Rule(f"1 to {MAX_STEPS} steps", check)


@rule("[epoch, number]")
def _place(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    return [whole(0, 2**53, "an epoch")(value[0]), whole(0, 2**53, "a number")(value[1])]


@rule(f"a list of at most {MAX_APPROVALS} byte strings")
def _approvals(value: Any) -> list[bytes]:
    if not isinstance(value, list) or len(value) > MAX_APPROVALS or not all(isinstance(each, bytes) for each in value):
        raise ValueError
    return value


@rule("a map of numbers")
def _forecast(value: Any) -> Any:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and 0 < len(key) <= 32 and type(item) in (int, float) for key, item in value.items()
    ):
        raise ValueError
    return value


_TIME = number(0, 2**40, "UTC epoch seconds")
_WATTS = number(0, 1_000_000, "watts")
_DURATION = number(1, MAX_DURATION_S, "seconds")
_LANE = one_of(*LANES)

ARGS: dict[str, dict[str, Rule]] = {
    "limit": {
        "watts": required(_WATTS),
        "duration": required(_DURATION),
        "start": _TIME,
        "randomise": number(0, 3600, "seconds"),
        "randomise_end": number(0, 3600, "seconds"),
        "direction": one_of("import", "export"),
        "criticality": whole(0, 9, "a whole number"),
    },
    "limit.cancel": {"cti": _bytes(16)},
    "switch": {
        "client": required(text(64)),
        "on": required(flag),
        "duration": number(1, MAX_SWITCH_S, "seconds"),
    },
    "set": {
        "client": required(text(64)),
        "quantity": required(text(32)),
        "value": required(number(-1e9, 1e9, "a number")),
        "duration": required(number(1, MAX_SWITCH_S, "seconds")),
    },
    "heartbeat": {},
    "price": {"currency": required(text(3)), "steps": required(_steps(number(-1e6, 1e6, "a price")))},
    "weather": {"steps": required(_steps(_forecast))},
    "read": {
        "client": text(64),
        "quantity": text(32),
        "from": required(_TIME),
        "to": required(_TIME),
    },
    "resend": {
        "lane": required(_LANE),
        "epoch": required(whole(0, 2**53, "an epoch")),
        "from": required(whole(1, 2**31, "a number")),
        "to": required(whole(1, 2**31, "a number")),
    },
    "booked": dict.fromkeys(LANES, _place),
    "permit": {
        "ieee": _hexadecimal,
        "install_code": _hexadecimal,
        "duration": required(whole(1, 254, "seconds")),
    },
    "diagnose": {"what": required(one_of("status", "network", "bundle"))},
    "config": {"set": required(_table)},
    "trust": {"operators": required(text(12_000)), "approvals": _approvals},
    "trust.confirm": {},
    "update": {
        "url": text(1000),
        "han": text(1000),
        "sha256": required(_sha256),
        "version": required(text(64)),
    },
}


def check_args(op: str, args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation, each checked. Raises BadArgs."""
    try:
        values = checked(ARGS[op], args)
    except Unmet as unmet:
        if unmet.kind == "unknown":
            raise BadArgs(f"{op} takes no {quoted(unmet.name, 32)}") from None
        if unmet.kind == "missing":
            raise BadArgs(f"{op} needs {unmet.name}") from None
        raise BadArgs(f"{unmet.name}: expected {unmet.expected}") from None
    if op == "switch" and not values["on"] and "duration" not in values:
        raise BadArgs("off needs a duration: every restriction has an end")
    if op == "update" and ("url" in values) == ("han" in values):
        raise BadArgs("update needs url or han, not both")
    return values
