"""Limits of time that a slow machine does not use up: only time in which the loop could look counts.

On a board with a busy core the answer lies in the serial port's buffer when a timer fires that nobody had time for: the
radio would be taken for dead because its hub was slow.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

_SLICE_S = 0.25


@contextlib.asynccontextmanager
async def patient_timeout(limit_s: float) -> AsyncIterator[asyncio.Timeout]:
    """As `asyncio.timeout`, in slices of which each counts once, however late the loop comes back to it."""
    loop = asyncio.get_running_loop()
    left = max(1, math.ceil(limit_s / _SLICE_S))
    slice_s = max(0.0, limit_s) / left
    timer: asyncio.TimerHandle | None = None
    async with asyncio.timeout(None) as timeout:

        def tick() -> None:
            nonlocal left, timer
            left -= 1
            if left < 0:
                timeout.reschedule(loop.time())
            else:
                timer = loop.call_later(slice_s, tick)

        tick()
        try:
            yield timeout
        finally:
            if timer is not None:
                timer.cancel()
