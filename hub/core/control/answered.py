"""Which commands were answered lately, and where the newest receipt of each is: a bounded memory, shared out fairly.

What is forgotten cannot be done twice all the same: its counter is used up, so it would be refused as replayed. What is
still under way is never forgotten: no receipt may contradict the one that told of it.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from hub.core.control.records import Journal, answered_name
from hub.wire.uplink.cbor import decode_own

MAX_ANSWERED = 1000


class ReceiptPlace(NamedTuple):
    """Where a receipt is in lane receipts, and whose command it answers."""

    epoch: int
    number: int
    kid: str


class Answered:
    """Commands (cti) -> Place, the longest known first. `is_live(cti)`: whether it is still under way."""

    def __init__(self, is_live: Callable[[bytes], bool] = lambda cti: False) -> None:
        self._where: OrderedDict[bytes, ReceiptPlace] = OrderedDict()
        self._is_live = is_live

    def __contains__(self, cti: bytes) -> bool:
        return cti in self._where

    def get(self, cti: bytes | None) -> ReceiptPlace | None:
        return None if cti is None else self._where.get(cti)

    def put(self, cti: bytes, epoch: int, number: int, kid: str) -> None:
        """The store says where the newest receipt of a command is."""
        self._where[cti] = ReceiptPlace(epoch, number, kid)

    def restore(self, cti: bytes, value: bytes) -> None:
        """Take up the store's item. Raises ValueError or TypeError when it does not read."""
        epoch, number, kid = decode_own(value)
        self._where[cti] = ReceiptPlace(int(epoch), int(number), str(kid))

    def keep_bounds(self, journal: Journal, room: int = 0) -> None:
        """Forget the oldest of whoever has most, in the journal too, until there is room for so many more."""
        while len(self._where) > MAX_ANSWERED - room:
            most = Counter(place.kid for place in self._where.values()).most_common(1)[0][0]
            of_most = [cti for cti, place in self._where.items() if place.kid == most]
            cti = next((cti for cti in of_most if not self._is_live(cti)), of_most[0])
            del self._where[cti]
            journal.kept[answered_name(cti)] = None
