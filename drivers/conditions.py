"""Where drivers say what is wrong: the part of hub/core/health.py that they need."""

from typing import Protocol


class ConditionTable(Protocol):
    """The conditions that hold now, by their codes."""

    def raise_condition(self, code: str, detail: str = "") -> None: ...

    def clear_condition(self, *codes: str) -> None: ...

    def set_condition(self, code: str, holds: bool, detail: str = "") -> None: ...
