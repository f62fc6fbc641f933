"""Time: the monotonic clock for machines, UTC for people and packs, and whether UTC can be trusted."""

import ctypes
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from hub.wire.version import WRITTEN_MS

_TIME_ERROR = 5  # ntp_adjtime(3): the clock is not synchronised
SOURCE_VARIABLE = "METERHUB_CLOCK"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Touched when the clock was first set from the network: systemd-timesyncd.service(8); on the image beside chrony.
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
LEAP_MS = 86_400_000  # a trusted clock that moves by more has to hold that for a while
DOUBTED_S = 3600.0
_TIMEX_BYTES = 256  # struct timex is 208 bytes on 64-bit Linux, 128 on 32-bit; room to spare


def monotonic() -> float:
    """Seconds of the clock that never jumps; what every machine calls `now`."""
    return time.monotonic()


def machine_boot(run_dir: Path) -> str:
    """The same text for as long as `monotonic` goes on, another after each start of the machine; "" where nobody knows.

    The kernel's, where the unit's hardening leaves it in sight (ProcSubset=pid does not); else one drawn by the first
    start after the machine's and kept in `run_dir`, which is on a tmpfs there.
    """
    drawn = run_dir / "machine-boot"
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        pass
    try:
        if not drawn.exists():
            drawn.write_text(uuid.uuid4().hex)
        return drawn.read_text("ascii").strip()
    except OSError:
        return ""


def utc_ms() -> int:
    """UTC epoch milliseconds, as the system clock has them."""
    return time.time_ns() // 1_000_000


class Clock:
    """Relates the monotonic clock to UTC. `offset_ms`: UTC minus monotonic, in milliseconds.

    What makes UTC trustworthy depends on the machine, and only who built it knows. "ntp", which the image and the
    systemd unit say: the kernel's clock is kept by NTP; until then a board without a battery only guesses. "system":
    also a clock that nobody synchronises here but that is not obviously wrong, as on a virtual machine, whose host
    keeps it. `floor_ms`: UTC before this cannot be right (the hub's certificate begins then); `ceiling_ms`: nor later.

    A clock that was trusted and then leaps is doubted for an hour: what stamps readings and ends limits must not move
    by years because of one wrong answer from the network.
    """

    def __init__(
        self,
        source: str | None = None,
        floor_ms: int = 0,
        mark: Path = _SYNCHRONISED,
        ceiling_ms: int | None = None,
        now: Callable[[], float] = monotonic,
        utc: Callable[[], int] = utc_ms,
    ) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._needs_ntp = (source or os.environ.get(SOURCE_VARIABLE, "system")) == "ntp"
        self._mark = mark
        self._floor_ms = max(floor_ms, WRITTEN_MS)
        self._ceiling_ms = ceiling_ms
        self._now, self._utc = now, utc
        self._steady_ms: int | None = None  # the offset that was trusted last
        self._leapt_at: float | None = None

    def offset_ms(self) -> int:
        return self._utc() - int(self._now() * 1000)

    def is_trusted(self) -> bool:
        """Whether UTC may be believed: for commands, for stamping readings, for telling the home the time."""
        utc = self._utc()
        if utc < self._floor_ms or (self._ceiling_ms is not None and utc > self._ceiling_ms):
            return False
        return (not self._needs_ntp or self._is_synchronised()) and self._is_steady()

    def _is_steady(self) -> bool:
        offset_ms = self.offset_ms()
        if self._steady_ms is None or abs(offset_ms - self._steady_ms) <= LEAP_MS:
            self._steady_ms, self._leapt_at = offset_ms, None
            return True
        if self._leapt_at is None:
            self._leapt_at = self._now()
        if self._now() - self._leapt_at < DOUBTED_S:
            return False
        self._steady_ms, self._leapt_at = offset_ms, None
        return True

    def _is_synchronised(self) -> bool:
        # Reading it (ntp_adjtime) changes nothing, but a sandbox may forbid it all the same (ProtectClock=).
        answer: int = self._libc.ntp_adjtime(ctypes.create_string_buffer(_TIMEX_BYTES))
        return answer != _TIME_ERROR if answer >= 0 else self._mark.exists()
