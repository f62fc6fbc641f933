"""The admin socket: the asker's half, used by the command line."""

import json
import socket
from pathlib import Path
from typing import Any


class NoDaemon(Exception):
    """Nobody answers on the socket; exit status 3. The text says which socket and what to do."""


class RequestRefused(Exception):
    """The daemon answered that it will not, and why."""


def ask(path: Path, what: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
    """Ask the daemon one thing; return its answer. Raises NoDaemon or Refused."""
    request = json.dumps({"ask": what, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(request)
            line = sock.makefile("rb").readline()
    except PermissionError:
        raise NoDaemon(f"{path}: permission denied; run as root or as a member of the hub's group") from None
    except OSError as error:
        raise NoDaemon(f"{path}: {error.strerror or error}; is the hub running? (systemctl status meterhub)") from None
    if not line:
        raise NoDaemon(f"{path}: the daemon closed the connection")
    answer = json.loads(line)
    if "error" in answer:
        raise RequestRefused(str(answer["error"]))
    return answer["answer"]
