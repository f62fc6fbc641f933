"""NWK addresses that belong to no device we know: when to ask whose they are, what to keep meanwhile. No I/O.

zigpy would broadcast a question for every single frame of such an address; a broadcast costs every router a slot, and
eight of them in nine seconds are all that a Zigbee network can carry.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Frame = TypeVar("Frame")

ASK_PERIOD_S = 10.0
# Somebody who answered and is not ours: ask again seldom, in case the table of addresses changed.
REFUSED_PERIOD_S = 600.0
HELD_FRAMES = 4
STRANGERS_LIMIT = 64


@dataclass(slots=True)
class _Stranger(Generic[Frame]):
    ask_at: float
    is_refused: bool = False
    held: list[Frame] = field(default_factory=list)


class Strangers(Generic[Frame]):
    """At most STRANGERS_LIMIT addresses, the oldest forgotten first; `dropped` counts frames that found no room."""

    def __init__(self) -> None:
        self._by_nwk: OrderedDict[int, _Stranger[Frame]] = OrderedDict()
        self.dropped = 0

    def heard(self, nwk: int, frame: Frame | None, now: float) -> bool:
        """A frame came from `nwk`: keep it (None: not worth it) and say whether to ask for the IEEE address now."""
        stranger = self._by_nwk.get(nwk)
        if stranger is None:
            stranger = self._by_nwk[nwk] = _Stranger(now)
            while len(self._by_nwk) > STRANGERS_LIMIT:
                self.dropped += len(self._by_nwk.popitem(last=False)[1].held)
        if frame is None or stranger.is_refused or len(stranger.held) >= HELD_FRAMES:
            self.dropped += 1
        else:
            stranger.held.append(frame)
        if now < stranger.ask_at:
            return False
        stranger.ask_at = now + (REFUSED_PERIOD_S if stranger.is_refused else ASK_PERIOD_S)
        return True

    def refused(self, nwk: int, now: float) -> None:
        """The device behind `nwk` is not to be served: what was kept of it goes."""
        stranger = self._by_nwk.setdefault(nwk, _Stranger(now))
        self.dropped += len(stranger.held)
        stranger.held.clear()
        stranger.is_refused = True
        stranger.ask_at = now + REFUSED_PERIOD_S

    def known(self, nwk: int) -> list[Frame]:
        """`nwk` belongs to a device we serve: forget the address, hand over what was kept, oldest first."""
        stranger = self._by_nwk.pop(nwk, None)
        return [] if stranger is None else stranger.held

    def reconsider(self) -> None:
        """The network was opened: who was refused may be asked again."""
        for nwk in [nwk for nwk, stranger in self._by_nwk.items() if stranger.is_refused]:
            del self._by_nwk[nwk]
