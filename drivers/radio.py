"""What a radio is to the rest of the hub, beyond being a link: what may be asked of it without knowing its
libraries."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from drivers.link import Link

if TYPE_CHECKING:
    from hub.wire.admin import (
        AdapterRow,
        ChannelRow,
        KeyAnswer,
        MoveAnswer,
        NeighbourRow,
        RadioAnswer,
        RemoveAnswer,
        RestoreAnswer,
    )


class ApsFrame(NamedTuple):
    """One APS data frame (Zigbee R22, 2.2.5). `ieee`: the device's address, 16 hex digits, "" where it is not known;
    `nwk`: its network address, or a broadcast's; `hub_ep`, `device_ep`: endpoints."""

    ieee: str
    nwk: int
    pan_id: int
    profile: int
    cluster: int
    hub_ep: int
    device_ep: int
    counter: int
    data: bytes


# Whoever looks at the frames: called with "in" or "out" and the frame.
FrameTap = Callable[[str, ApsFrame], None]


class Radio(Link, Protocol):
    """A link whose devices join, report by themselves and can be looked at. Errors of the asker are ValueError."""

    tap: FrameTap | None  # what is no MQTT-SN: ZCL and ZDO

    def status(self) -> "RadioAnswer":
        """Its figures."""

    async def permit(self, duration_s: int, ieee: str | None = None, install_code: str | None = None) -> None:
        """Let devices join for a while."""

    async def switch(self, client_id: str, on: bool) -> None:
        """Switch a ZCL appliance."""

    async def limit(
        self, client_id: str, watts: float | None, duration_s: float, nominal_w: float | None = None
    ) -> float | None:
        """Hold a ZCL appliance to a power for so long; None lets go. What it is held to, in W."""

    async def scan(self) -> "list[ChannelRow]":
        """Energy on each channel."""

    async def draw(self) -> "list[NeighbourRow]":
        """Who hears whom how well."""

    async def back_up(self) -> dict[str, Any]:
        """The network, as the Open Coordinator Backup has it."""

    async def restore(self, document: Any) -> "RestoreAnswer":
        """Take up a network from its backup."""

    async def remove(self, ieee: str) -> "RemoveAnswer":
        """Take a device off the network for good."""

    async def rotate_key(self) -> "KeyAnswer":
        """Give the network another key."""

    async def move(self, channel: int | None, in_s: float) -> "MoveAnswer":
        """Move the network to another channel, None: the quietest, after a while."""

    def appliances(self) -> "list[AdapterRow]":
        """What reports by itself, a row each for `meterhub adapters`."""

    def tell_prices(self, currency: str, steps: list[tuple[float, float, float]], event_id: int) -> None:
        """Tell displays what power costs."""

    def tell_limit(self, watts: float | None, message_id: int, duration_s: float | None) -> None:
        """Tell displays what the household must keep to."""
