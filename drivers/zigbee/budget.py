"""What one device may say: a babbling one is cut down to a reading now and then, and heard again when it calms. No I/O.

The store commits each reading to flash and the uplink pays for each: one plug whose measuring chip flickers must cost
neither what two hundred good ones do.
"""

# Each quantity: a burst, then one in so many seconds. Good devices say one in five, and fewer where nothing changes.
BURST = 30
ONE_IN_S = 2.0
# A device that has used it up is muted: one reading of each quantity in so many seconds, the newest.
MUTED_ONE_IN_S = 60.0
# It is heard again once it has said no more than its due for so long.
CALM_S = 300.0


class _Quantity:
    __slots__ = ("at", "passed_at", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(BURST)
        self.at = now
        self.passed_at = float("-inf")


class ReportBudget:
    """Of one device. `is_muted` and `dropped` are for people."""

    def __init__(self) -> None:
        self._quantities: dict[str, _Quantity] = {}
        self._muted_until = float("-inf")
        self.dropped = 0

    def is_muted(self, now: float) -> bool:
        return now < self._muted_until

    def admits(self, quantity: str, now: float) -> bool:
        """Whether a reading that came now goes on."""
        state = self._quantities.get(quantity)
        if state is None:
            state = self._quantities[quantity] = _Quantity(now)
        state.tokens = min(float(BURST), state.tokens + (now - state.at) / ONE_IN_S)
        state.at = now
        if state.tokens < 1.0:
            self._muted_until = now + CALM_S
        else:
            state.tokens -= 1.0
        if self.is_muted(now) and now - state.passed_at < MUTED_ONE_IN_S:
            self.dropped += 1
            return False
        state.passed_at = now
        return True
