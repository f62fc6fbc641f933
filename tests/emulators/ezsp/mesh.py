# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh: over which routers a device is reached, and which other way there is when one of them goes. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .device import HUB, Device

MOST_CHILDREN: Final = 256
MOST_HOPS: Final = 30  # R22, nwkMaxDepth doubled


class Mesh:
    """`is_there`: whether a device is on the network and has power; `most_children`: so many sleeping devices have the
    coordinator for their parent at most."""

    def __init__(self, devices: Mapping[bytes, Device], is_there: Callable[[Device], bool]) -> None:
        self._devices = devices
        self._is_there = is_there
        self.most_children: Callable[[], int] = lambda: MOST_CHILDREN

    def relays(self, device: Device) -> list[Device] | None:
        """The routers between a device and the coordinator, the one next to the device first; None: the way is
        broken."""
        found: list[Device] = []
        hop = device.hop
        while hop != HUB:
            router = self._devices.get(hop)
            if router is None or router is device or len(found) >= MOST_HOPS or not self._carries(router):
                return None
            found.append(router)
            hop = router.hop
        return found

    def is_route(self, device: Device, routers: list[Device]) -> bool:
        """Whether these routers, the one next to the device first, hear each other all the way to the coordinator."""
        hops = [*routers, None]
        return all(
            (HUB if hop is None else hop.ieee) in before.hears and (hop is None or self._carries(hop))
            for before, hop in zip([device, *routers], hops, strict=True)
        )

    def way(self, device: Device) -> bytes | None:
        """The best neighbour to go over at present, as the device hears them; None: there is none."""
        return next((hop for hop in device.hears if self._leads(device, hop)), None)

    def has_room_for(self, child: Device) -> bool:
        """Whether the coordinator takes this sleeping device, or has it already."""
        others = (d for d in self._devices.values() if d.is_child and d.hop == HUB)
        return sum(other is not child for other in others) < self.most_children()

    def neighbours_of(self, router: Device) -> list[Device]:
        """Whoever goes over this router, and the router that it goes over itself."""
        over = [device for device in self._devices.values() if device.hop == router.ieee and self._is_there(device)]
        up = self._devices.get(router.hop)
        return over if up is None else [up, *over]

    def _leads(self, device: Device, hop: bytes) -> bool:
        if hop == HUB:
            return device.poll_s is None or self.has_room_for(device)
        router = self._devices.get(hop)
        if router is None or not self._carries(router):
            return False
        relays = self.relays(router)
        return relays is not None and device not in relays

    def _carries(self, router: Device) -> bool:
        return router.poll_s is None and self._is_there(router)
