"""How often somebody may do something: a bucket that fills at a rate. One for adapters, operators and strangers."""


class Allowance:
    """What one sender may still send: a bucket that fills at a rate, up to what it may send at once."""

    __slots__ = ("credit", "credit_at")

    def __init__(self) -> None:
        self.credit = 0.0  # messages, as of credit_at
        self.credit_at = float("-inf")

    def spend(self, rate: float, now: float, burst_s: float = 10.0, amount: float = 1.0) -> bool:
        """One message, or so many; False when that is too much. `rate`: messages a second; so many seconds' worth at
        once."""
        self.credit = min(rate * burst_s, self.credit + (now - self.credit_at) * rate)
        self.credit_at = now
        if self.credit < amount:
            return False
        self.credit -= amount
        return True
