"""One ZCL appliance: what is known of it, whether it is there, and which attribute is which of its quantities."""

from collections.abc import Callable
from typing import Any

from zigpy.device import ZigbeeDevice

from drivers.zigbee.address import client_id_of
from drivers.zigbee.measures import Measure
from drivers.zigbee.scaling import Scale

# Every configured attribute is reported four times an hour at least.
LOST_AFTER_S = 3600.0


class Appliance:
    """Kept for as long as the hub runs; the zigpy device behind it changes with every life of the radio."""

    def __init__(self, ieee: str) -> None:
        self.ieee = ieee
        self.client_id = client_id_of(ieee)
        self.device: ZigbeeDevice | None = None
        # (cluster, attribute name) -> the quantity it is the source of
        self.sources: dict[tuple[int, str], tuple[Measure, Scale]] = {}
        self.frames_in = self.frames_out = self.accepted = self.refused = 0
        self._heard_at: float | None = None
        self._has_left = False
        self._releases: list[Callable[[], Any]] = []

    def take_up(self, device: ZigbeeDevice) -> None:
        """This is its device now."""
        self.let_go()
        self.device = device
        self._has_left = False

    def on_release(self, release: Callable[[], Any]) -> None:
        """Call this when the device is let go."""
        self._releases.append(release)

    def let_go(self) -> None:
        for release in self._releases:
            release()
        self._releases.clear()
        self.device = None

    def left(self) -> None:
        """It said that it leaves the network."""
        self._has_left = True

    def heard(self, now: float) -> None:
        self.frames_in += 1
        self._heard_at = now
        self._has_left = False

    def value_of(self, cluster_id: int, name: str | None, value: Any) -> tuple[str, str] | None:
        """`(quantity, decimal text)` when this attribute is the source of one and has a value."""
        source = self.sources.get((cluster_id, name or ""))
        if source is None:
            return None
        measure, scale = source
        if not isinstance(value, int) or value == measure.missing:
            self.refused += 1
            return None
        self.accepted += 1
        return measure.quantity, scale.text(int(value))

    def state(self, now: float) -> str:
        """ "left", "lost" (not heard for an hour), "joining" (not heard yet), "active"."""
        if self._has_left:
            return "left"
        if self._heard_at is None:
            return "joining" if not self.sources else "lost"
        return "active" if now - self._heard_at < LOST_AFTER_S else "lost"

    def row(self, now: float) -> dict[str, Any]:
        """A row for `meterhub adapters`, with the columns of an MQTT-SN session and a few of its own."""
        device = self.device
        return {
            "client": self.client_id,
            "link": "zigbee",
            "address": self.ieee,
            "state": self.state(now),
            "last_seen_s": None if self._heard_at is None else round(now - self._heard_at, 1),
            "duration_s": None,
            "queued": 0,
            "subscriptions": [],
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "accepted": self.accepted,
            "repeats": 0,
            "retransmissions": 0,
            "lost": 0,
            "refused": {"value": self.refused} if self.refused else {},
            "quantities": sorted({measure.quantity for measure, _ in self.sources.values()}),
            "manufacturer": getattr(device, "manufacturer", None),
            "model": getattr(device, "model", None),
            "lqi": getattr(device, "lqi", None),
            "rssi": getattr(device, "rssi", None),
        }
