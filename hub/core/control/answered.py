"""Which commands were answered lately, and where the newest receipt of each is: a bounded memory.

What is forgotten cannot be done twice all the same: its counter is used up, so it would be refused as replayed.
"""

from collections import OrderedDict

from hub.core.control.records import Journal, answered_name
from hub.wire.uplink.cbor import loads_one

MAX_ANSWERED = 1000


class Answered:
    """Commands (cti) -> `(epoch, number)` in lane receipts, the longest known first."""

    def __init__(self) -> None:
        self._where: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def __contains__(self, cti: bytes) -> bool:
        return cti in self._where

    def get(self, cti: bytes | None) -> tuple[int, int] | None:
        return None if cti is None else self._where.get(cti)

    def put(self, cti: bytes, epoch: int, number: int) -> None:
        """The store says where the newest receipt of a command is."""
        self._where[cti] = (epoch, number)

    def restore(self, cti: bytes, value: bytes) -> None:
        """Take up the store's item. Raises ValueError or TypeError when it does not read."""
        epoch, number, _ = loads_one(value)
        self._where[cti] = (int(epoch), int(number))

    def keep_bounds(self, journal: Journal, room: int = 0) -> None:
        """Forget the oldest, in the journal too, until there is room for so many more."""
        while len(self._where) > MAX_ANSWERED - room:
            cti, _ = self._where.popitem(last=False)
            journal.kept[answered_name(cti)] = None
