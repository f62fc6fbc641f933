"""Events about adapters, at a pace: each is signed, stored and sent, and anybody in the home can cause them.

The first of a kind go out one by one; what comes beyond that is counted and told together (`adapter.many`).
"""

from hub.core.allowance import Allowance
from hub.core.gateway.addresses import Address

# How many events of one kind may go out at once, and how long it takes until one more may.
BURST = 32
ONE_IN_S = 60.0
# What is told together is told so long after the first of it, at the soonest.
TOGETHER_S = 600.0
_MAX_NAMES = 16  # of clients, in an event that tells of many
_MAX_ADDRESSES = 256
_PER_ADDRESS = 8


class Together:
    """What happened to many: how often, and to whom first."""

    __slots__ = ("clients", "count")

    def __init__(self) -> None:
        self.count = 0
        self.clients: list[str] = []

    def add(self, client_id: str) -> None:
        self.count += 1
        if len(self.clients) < _MAX_NAMES and client_id not in self.clients:
            self.clients.append(client_id)


class EventPace:
    """Judges events before they are recorded. Times are the machine's `now`, in seconds."""

    def __init__(self) -> None:
        self._of_kind: dict[str, Allowance] = {}
        self._of_address: dict[tuple[str, Address], Allowance] = {}
        self._together: dict[str, Together] = {}
        self._due: float | None = None

    def admits(self, event: str, client_id: str, now: float) -> bool:
        """Whether this event goes out by itself; False: it is told with others, later."""
        if self._of_kind.setdefault(event, Allowance()).spend(1 / ONE_IN_S, now, BURST * ONE_IN_S):
            return True
        self._together.setdefault(event, Together()).add(client_id)
        if self._due is None:
            self._due = now + TOGETHER_S
        return False

    def admits_from(self, event: str, address: Address, now: float) -> bool:
        """Whether this address may cause one more event of a kind that is never told together (an alarm's text)."""
        key = (event, address)
        allowance = self._of_address.pop(key, None) or Allowance()
        self._of_address[key] = allowance
        if len(self._of_address) > _MAX_ADDRESSES:
            del self._of_address[next(iter(self._of_address))]
        if not allowance.spend(1 / ONE_IN_S, now, _PER_ADDRESS * ONE_IN_S):
            return False
        return self._of_kind.setdefault(event, Allowance()).spend(10 / ONE_IN_S, now, 8 * BURST / 10 * ONE_IN_S)

    def get_timer(self) -> float | None:
        """When `take` has something to tell, or None."""
        return self._due

    def take(self, now: float) -> list[tuple[str, Together]]:
        """What is to be told together now: `(event, what there is of it)`."""
        if self._due is None or now < self._due:
            return []
        self._due = None
        told, self._together = list(self._together.items()), {}
        return told
