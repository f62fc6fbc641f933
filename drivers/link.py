"""What a driver that carries MQTT-SN is to the bridge: a link."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

# A transport address, the link's name first; see hub/core/records.py.
Peer = tuple[Any, ...]
Datagrams = list[tuple[Peer, bytes]]
# Called on the event loop with everything that arrived in one wake-up, in order.
Arrived = Callable[[Datagrams], None]


class Link(Protocol):
    """One way to reach adapters. `name` is the first element of its peers; `max_bytes` its longest message.

    `is_up`: whether adapters can be heard now; `changed` is called, on the loop, when that changes.
    """

    name: str
    max_bytes: int | None
    is_up: bool
    changed: Callable[[bool], None]

    async def start(self, arrived: Arrived) -> None:
        """Begin to receive. Raises OSError when the operator gave an address that cannot be used."""

    def send(self, datagrams: Datagrams) -> None:
        """Send as well as the link can; never raises, never blocks. What it drops it counts."""

    async def close(self) -> None:
        """Stop, and give back what was taken."""

    def status(self) -> Mapping[str, Any]:
        """Figures for `meterhub status`."""
