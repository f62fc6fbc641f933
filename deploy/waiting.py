"""Waits on conditions, so that nobody sleeps for luck."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Generous: a wait that succeeds costs what it takes, one that fails has failed anyway.
DEFAULT_TIMEOUT_S = 60.0


def wait_for(what: str, condition: Callable[[], T], timeout_s: float = DEFAULT_TIMEOUT_S, period_s: float = 0.02) -> T:
    """Poll until the condition is true and return its value; AssertionError with `what` otherwise."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}; last seen: {value!r}")
        time.sleep(period_s)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
