"""Time: the monotonic clock for machines, UTC for people and packs, and whether UTC can be trusted."""

import ctypes
import os
import time
from pathlib import Path

from hub.wire.version import WRITTEN_MS

_TIME_ERROR = 5  # ntp_adjtime(3): the clock is not synchronised
SOURCE_VARIABLE = "METERHUB_CLOCK"
# Touched when the clock was first set from the network: systemd-timesyncd.service(8); on the image beside chrony.
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
_TIMEX_OCTETS = 256  # struct timex is 208 octets on 64-bit Linux, 128 on 32-bit; room to spare


def monotonic() -> float:
    """Seconds of the clock that never jumps; what every machine calls `now`."""
    return time.monotonic()


def utc_ms() -> int:
    """UTC epoch milliseconds, as the system clock has them."""
    return time.time_ns() // 1_000_000


class Clock:
    """Relates the monotonic clock to UTC. `offset_ms`: UTC minus monotonic, in milliseconds.

    What makes UTC trustworthy depends on the machine, and only who built it knows. "ntp", which the image and the
    systemd unit say: the kernel's clock is kept by NTP; until then a board without a battery only guesses. "system":
    also a clock that nobody synchronises here but that is not obviously wrong, as on a virtual machine, whose host
    keeps it. `floor_ms`: UTC before this cannot be right (the hub's certificate begins then).
    """

    def __init__(self, source: str | None = None, floor_ms: int = 0, mark: Path = _SYNCHRONISED) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._needs_ntp = (source or os.environ.get(SOURCE_VARIABLE, "system")) == "ntp"
        self._mark = mark
        self._floor_ms = max(floor_ms, WRITTEN_MS)

    def offset_ms(self) -> int:
        return utc_ms() - int(monotonic() * 1000)

    def is_trusted(self) -> bool:
        """Whether UTC may be believed: for commands, for stamping readings, for telling the home the time."""
        return utc_ms() >= self._floor_ms and (not self._needs_ntp or self._is_synchronised())

    def _is_synchronised(self) -> bool:
        # Reading it (ntp_adjtime) changes nothing, but a sandbox may forbid it all the same (ProtectClock=).
        answer: int = self._libc.ntp_adjtime(ctypes.create_string_buffer(_TIMEX_OCTETS))
        return answer != _TIME_ERROR if answer >= 0 else self._mark.exists()
