"""The hub's orders to an appliance, on `control/{me}`: messages whose SECONDS count from when they are sent.

An order says how long it lasts, not until when (design 3.2). One that waited for a sleeper, or was repeated because an
acknowledgement was lost, would outlive its end by as long (promise P4). So an order keeps its end, its text is made at
each transmission, and it is not kept across a restart: control gives it anew, as it is by then.
"""

from typing import NamedTuple

NEVER = float("-inf")  # when it was, on the machine's clock: not yet (one object, since thousands of clients have it)
EVERYTHING = "*"  # the slot of `release`: it takes back whatever was ordered before


class Order(NamedTuple):
    """One order. `text`: all but its SECONDS. `until`: when it ends, on the machine's clock; None: it has no end.

    `slot`: what it is about ("limit", "switch", "set QUANTITY"); the newest order of a slot replaces the older.
    """

    slot: str
    text: str
    until: float | None = None

    def render(self, now: float) -> bytes | None:
        """The payload as of now; None when its end has come."""
        if self.until is None:
            return self.text.encode()
        seconds = int(self.until - now)  # rounded down: rather a second early than late
        return f"{self.text} {seconds}".encode() if seconds > 0 else None

    def replaces(self, older: "Order") -> bool:
        return self.slot in (EVERYTHING, older.slot)
