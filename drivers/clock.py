"""Time: the monotonic clock for machines, UTC for people and packs, and whether UTC can be trusted."""

import ctypes
import time

_TIME_ERROR = 5  # ntp_adjtime(3): the clock is not synchronised
_TIMEX_OCTETS = 256  # struct timex is 208 octets on 64-bit Linux, 128 on 32-bit; room to spare


def monotonic() -> float:
    """Seconds of the clock that never jumps; what every machine calls `now`."""
    return time.monotonic()


def utc_ms() -> int:
    """UTC epoch milliseconds, as the system clock has them."""
    return time.time_ns() // 1_000_000


class Clock:
    """Relates the monotonic clock to UTC. `offset_ms`: UTC minus monotonic, in milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def offset_ms(self) -> int:
        return utc_ms() - int(monotonic() * 1000)

    def is_trusted(self) -> bool:
        """Whether the kernel's clock is being kept by NTP or better (ntp_adjtime); reading it changes nothing."""
        answer: int = self._libc.ntp_adjtime(ctypes.create_string_buffer(_TIMEX_OCTETS))
        return 0 <= answer != _TIME_ERROR
