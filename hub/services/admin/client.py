"""The admin socket: the asker's half, used by the command line."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NoDaemon(Exception):
    """Nobody answers on the socket; exit status 3. The text says which socket and what to do."""


class RequestRefused(Exception):
    """The daemon answered that it will not, and why."""


# An answer that takes longer than this is waited for aloud.
PATIENT_S = 2.0


def ask(
    path: Path,
    what: str,
    timeout_s: float = 10.0,
    waiting: Callable[[float], None] = lambda waited_s: None,
    **arguments: Any,
) -> Any:
    """Ask the daemon one thing; return its answer. Raises NoDaemon or RequestRefused.

    `timeout_s`: how long it may take; `waiting(seconds so far)` is told every two seconds.
    """
    request = json.dumps({"ask": what, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(request)
            line = _line_of(sock, timeout_s, waiting)
    except TimeoutError:
        text = f"the hub is there, and has not answered within {timeout_s:g} s; meterhub doctor says how busy it is"
        raise RequestRefused(text) from None
    except PermissionError:
        raise NoDaemon(f"{path}: permission denied; run as root or as a member of the hub's group") from None
    except OSError as error:
        raise NoDaemon(f"{path}: {error.strerror or error}; is the hub running? (systemctl status meterhub)") from None
    if not line.endswith(b"\n"):
        raise NoDaemon(f"{path}: the daemon closed the connection")
    answer = json.loads(line)
    if "error" in answer:
        raise RequestRefused(str(answer["error"]))
    return answer["answer"]


def _line_of(sock: socket.socket, timeout_s: float, waiting: Callable[[float], None]) -> bytes:
    """Raises TimeoutError."""
    begun, line = time.monotonic(), bytearray()
    while not line.endswith(b"\n"):
        left_s = timeout_s - (time.monotonic() - begun)
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(min(PATIENT_S, left_s))
        try:
            data = sock.recv(1 << 16)
        except TimeoutError:
            waiting(time.monotonic() - begun)
            continue
        if not data:
            break
        line += data
    return bytes(line)
