"""Work that asks the radio for hundreds of things in a row, and stands behind whatever is to be sent.

bellows sends one command at a time, and a frame for the air only when no other command waits. One that reads the whole
of the radio's memory leaves gaps, two at once leave none: nothing was sent until one of them was through. On a slow
line, or a slow machine, the radio was taken for dead meanwhile, and read anew from the beginning.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from drivers.zigbee.protocols import extend_protocols

_BEHIND_SENDING = -2  # bellows gives -1 to what it sends, 0 to everything else
_is_background: ContextVar[bool] = ContextVar("is_background", default=False)


@contextlib.contextmanager
def background() -> Iterator[None]:
    """What this task asks the radio for in here has time."""
    token = _is_background.set(True)
    try:
        yield
    finally:
        _is_background.reset(token)


def _patient(handler: Any) -> Any:
    """The class of a protocol version that knows of it."""

    class Patient(handler):  # type: ignore[misc]
        def _get_command_priority(self, name: str) -> int:
            return _BEHIND_SENDING if _is_background.get() else int(super()._get_command_priority(name))

    return Patient


def give_way() -> None:
    """Have bellows heed it, whatever version its radio speaks."""
    extend_protocols(lambda _version, handler: _patient(handler))
