"""Who has seen which condition come and go: a test that is marked `condition(code)` has to have seen both, through a
door that an engineer has, or it fails (tests/conftest.py). tests/test_conditions.py sees to it that each code has one.
"""

from collections.abc import Callable, Collection

from tests.harness.waiting import DEFAULT_TIMEOUT_S, wait_for

_seen: set[tuple[str, str]] = set()


def forget() -> None:
    """A new test begins."""
    _seen.clear()


def missing(codes: Collection[str]) -> list[str]:
    """What a test that is marked with these has not seen."""
    return [f"{code} never {word}" for code in codes for word in ("came", "went") if (code, word) not in _seen]


def came(code: str, present: Collection[str]) -> bool:
    """Whether a condition is there now."""
    if code in present:
        _seen.add((code, "came"))
    return code in present


def went(code: str, present: Collection[str]) -> bool:
    """Whether a condition that was there has gone."""
    if code not in present and (code, "came") in _seen:
        _seen.add((code, "went"))
    return code not in present


def wait_came(code: str, present: Callable[[], Collection[str]], timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    wait_for(f"{code} to come", lambda: came(code, present()), timeout_s)


def wait_went(code: str, present: Callable[[], Collection[str]], timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    wait_for(f"{code} to go", lambda: went(code, present()), timeout_s)
