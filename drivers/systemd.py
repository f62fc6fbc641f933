"""systemd: READY, STOPPING and the watchdog, over the notify socket; silent where there is none."""

import os
import socket


def notify(state: str) -> bool:
    """Send one sd_notify(3) message, e.g. "READY=1"; False when systemd is not there or not listening."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear WATCHDOG=1: half of what it tolerates; None when it does not watch."""
    try:
        interval_s = int(os.environ["WATCHDOG_USEC"]) / 2e6
    except (KeyError, ValueError):
        return None
    return interval_s if interval_s > 0 and os.environ.get("WATCHDOG_PID") in (None, str(os.getpid())) else None
