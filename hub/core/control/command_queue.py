"""Commands that wait to be judged: in order within an operator, in turn between operators.

Whose they are is only claimed: verifying costs more than all the rest, and is what has to be shared out. So a flood in
one operator's name makes that operator wait, and nobody else. What comes in nobody's name never comes here.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class CommandQueue(Generic[Item]):
    """Operators by kid, each with its queue; the first is next."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, kid: str, item: Item) -> None:
        """Add what an operator sent. How much may wait is bounded by how much the uplink reads unacknowledged."""
        self._queues.setdefault(kid, deque()).append(item)

    def take(self) -> Item:
        """The next one; its operator is then the last in turn. Raises StopIteration where nothing waits."""
        kid, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        self._queues.move_to_end(kid)
        if not queue:
            del self._queues[kid]
        return item
