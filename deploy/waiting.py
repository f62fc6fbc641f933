"""Waits on conditions, so that nobody sleeps for luck."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Generous: a wait that succeeds costs what it takes, one that fails has failed anyway.
DEFAULT_TIMEOUT_S = 60.0
_FIRST_PORT = 11_000  # above what services of these packages have by default
_TRIES = 200


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
    """A port of the loopback that was free a moment ago, and that no outgoing connection is given meanwhile.

    The kernel gives those from a range of its own (ip(7), ip_local_port_range), and a fleet's take thousands.
    """
    for _ in range(_TRIES):
        port = random.randrange(_FIRST_PORT, _first_outgoing_port())
        with socket.socket(socket.AF_INET, kind) as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port of 127.0.0.1 in {_TRIES} tries")


def _first_outgoing_port() -> int:
    try:
        return max(_FIRST_PORT + 1000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return 32_768
