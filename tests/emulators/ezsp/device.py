# SPDX-License-Identifier: GPL-3.0-or-later
"""One device on the simulated network: addresses, the device profile, and the seam that appliances fill in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from . import zdo
from .groups import GroupTable

COORDINATOR_NWK: Final = 0x0000
HUB: Final = b""  # among the neighbours that a device hears: the coordinator itself
WELL_KNOWN_KEY: Final = b"ZigBeeAlliance09"
FRAGMENT: Final = 0x8000
APS_OPTIONS: Final = 0x0140  # retry, enable route discovery (UG100, EmberApsOption)
APS_OPTION_ENCRYPTION: Final = 0x0020

Mode = Literal["unicast", "broadcast", "multicast"]


@dataclass(frozen=True)
class ApsFrame:
    """One APS data frame. Addresses are NWK addresses; `dst` is a group for mode "multicast"."""

    src: int
    dst: int
    profile: int
    cluster: int
    src_ep: int
    dst_ep: int
    payload: bytes
    sequence: int = 0
    options: int = APS_OPTIONS
    mode: Mode = "unicast"
    counter: int | None = None  # the coordinator's NWK frame counter; the air numbers what devices send
    group: int = 0  # of a fragment: how many there are, and its number (UG100, EmberApsFrame)
    aps_counter: int | None = None  # the sender's APS frame counter, where it encrypted the frame with the link key
    aps_key: bytes = b""  # that key


@dataclass(eq=False)
class Device(zdo.Node):
    """A router, or an end device when `poll_s` says how often it asks its parent for messages.

    `hears`: its neighbours on the way to the coordinator (IEEE addresses, HUB), best first; it goes over `hop`.
    `loss` is the chance, 0 to 1, that a frame is lost after all retries of the lower layers, each way.
    """

    name: str = ""
    lqi: int = 180
    rssi: int = -60
    loss: float = 0.0
    delay_s: float = 0.005
    poll_s: float | None = None
    link_key: bytes = WELL_KNOWN_KEY
    groups: GroupTable = field(default_factory=GroupTable)
    hears_broadcasts: bool = True  # False: in a spot where they do not arrive; nobody sends them to it again
    powered: bool = True
    in_range: bool = True
    wants_join: bool = True
    network_id: bytes | None = None
    tc_ieee: bytes = b"\xff" * 8
    leaving: Literal["", "leave", "rejoin"] = ""
    permit_until: float = 0.0
    hears: tuple[bytes, ...] = (HUB,)
    hop: bytes = HUB
    relays_told: tuple[int, ...] = ()  # of its last route record
    pan_id: int | None = None  # None: it finds the network under whatever PAN id that has
    channel: int | None = None  # None: it finds the network on whatever channel that is
    next_key: bytes | None = None  # a network key that it was sent and does not use yet
    aps_counter_heard: int = -1  # the same of frames under the link key
    tc_key: bytes = b""  # the trust centre's link key as it was when the device joined
    counter_heard: int = -1  # the highest frame counter of the coordinator: what is not above it is a replay
    counter: int = 0  # its own NWK frame counter, which a device keeps for as long as it lives (R22, 4.3.1.3)
    aps_counter: int = 0  # its own of what it encrypts with the link key
    timeout: int | None = None  # the End Device Timeout that it asked for (R22, 3.4.11.3.1); None: its parent's own
    asked_at: float = 0.0  # when it last asked its parent for messages
    is_forgotten: bool = False  # by its parent, which it has not asked for too long

    def __post_init__(self) -> None:
        self._aps_sequence = 0
        self._tsn = 0
        self._frames: deque[ApsFrame] = deque()
        self._fragments: deque[ApsFrame] = deque()  # the first is on its way, and waits for its acknowledgement
        self._incomplete: dict[tuple[int, int], tuple[int, list[ApsFrame]]] = {}
        self.dirty = False  # something that the device keeps through a power cut has changed

    @property
    def joined(self) -> bool:
        return self.network_id is not None

    @property
    def is_child(self) -> bool:
        """Whether a parent keeps its messages for it."""
        return self.joined and self.poll_s is not None and not self.is_forgotten

    # -- what appliances fill in ---------------------------------------------------------------------------------

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        """A frame for one of the endpoints other than 0."""

    def on_joined(self, now: float) -> None:
        """The device is on the network, new or again."""

    def on_left(self, now: float) -> None:
        """The device is off the network."""

    def forget_reporting(self) -> None:
        """What it was told to report is gone."""

    def keep(self, now: float) -> dict[str, Any]:
        """What the device keeps through a power cut, beside its place on the network; ready for JSON."""
        return {}

    def recall(self, kept: dict[str, Any], now: float) -> None:
        """Take back what `keep` gave."""

    def get_timer(self) -> float | None:
        """When `handle_timer` is due, or None."""
        return None

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def describe(self, now: float) -> dict[str, Any]:
        """State for people and tests, ready for JSON."""
        return {
            "ieee": self.ieee[::-1].hex(),
            "name": self.name,
            "kind": type(self).__name__.lower(),
            "joined": self.joined,
            "nwk": self.nwk,
            "powered": self.powered,
            "in_range": self.in_range,
            "lqi": self.lqi,
            "rssi": self.rssi,
            "bindings": len(self.bindings),
        }

    # -- the air's side ------------------------------------------------------------------------------------------

    def transmit_fragments(
        self, profile: int, cluster: int, src_ep: int, dst_ep: int, payload: bytes, size: int = 60
    ) -> None:
        """Queue a message that is too long for a frame: fragment by fragment, each once the one before was heard."""
        self._aps_sequence = (self._aps_sequence + 1) & 0xFF
        parts = [payload[at : at + size] for at in range(0, len(payload), size)]
        frames = [
            ApsFrame(
                self.nwk, COORDINATOR_NWK, profile, cluster, src_ep, dst_ep, part, self._aps_sequence,
                options=APS_OPTIONS | FRAGMENT, group=len(parts) << 8 | number,
            )
            for number, part in enumerate(parts)
        ]  # fmt: skip
        self._fragments.extend(frames)
        self._frames.append(frames[0])

    def _fragment_heard(self, frame: ApsFrame) -> None:
        """The coordinator says which fragment it has (R22 §2.2.8.4.5)."""
        if self._fragments and frame.group & 0xFF == self._fragments[0].group & 0xFF:
            self._fragments.popleft()
            if self._fragments:
                self._frames.append(self._fragments[0])

    def _take_fragment(self, frame: ApsFrame, now: float) -> None:
        """Put a message together: its fragments have one APS counter, and the first says how many there are."""
        key, number = (frame.src, frame.sequence), frame.group & 0xFF
        if not number:
            self._incomplete = {key: (frame.group >> 8, [frame])}  # there is memory for one
        elif key in self._incomplete and number == len(self._incomplete[key][1]):
            self._incomplete[key][1].append(frame)
        count, parts = self._incomplete.get(key, (0, []))
        whole = b"".join(part.payload for part in parts)
        if count and len(parts) == count and len(whole) <= self.most_bytes:
            self._incomplete.clear()
            self.receive_aps(replace(frame, payload=whole, options=frame.options & ~FRAGMENT), now)

    def receive_aps(self, frame: ApsFrame, now: float) -> None:
        """Take a frame from the air."""
        if frame.options & FRAGMENT and not frame.payload:
            self._fragment_heard(frame)
        elif frame.options & FRAGMENT:
            self._take_fragment(frame, now)
        elif frame.mode == "multicast":
            for endpoint in self.groups.endpoints_of(frame.dst):
                self.receive_data(replace(frame, dst_ep=endpoint), now)
        elif frame.profile == zdo.PROFILE and frame.dst_ep == 0:
            self._receive_zdo(frame, now)
        elif frame.dst_ep in self.endpoints or frame.dst_ep == 0xFF:
            self.receive_data(frame, now)

    def frames_to_send(self) -> list[ApsFrame]:
        """Everything the device wants on the air, oldest first."""
        frames = list(self._frames)
        self._frames.clear()
        return frames

    def announce(self) -> None:
        """Device_annce (R22 §2.4.3.1.11)."""
        body = zdo.le16(self.nwk) + self.ieee + bytes((self.capability,))
        payload = bytes((self.next_tsn(),)) + body
        self.transmit(zdo.PROFILE, zdo.DEVICE_ANNCE, 0, 0, payload, dst=0xFFFD, mode="broadcast")

    def transmit(
        self,
        profile: int,
        cluster: int,
        src_ep: int,
        dst_ep: int,
        payload: bytes,
        *,
        dst: int = COORDINATOR_NWK,
        mode: Mode = "unicast",
        is_encrypted: bool = False,
    ) -> None:
        """Queue a frame for the air. `is_encrypted`: with the trust centre's link key."""
        self._aps_sequence = (self._aps_sequence + 1) & 0xFF
        options = APS_OPTIONS | (APS_OPTION_ENCRYPTION if is_encrypted else 0)
        self._frames.append(
            ApsFrame(self.nwk, dst, profile, cluster, src_ep, dst_ep, payload, self._aps_sequence, options, mode)
        )

    def next_tsn(self) -> int:
        self._tsn = (self._tsn + 1) & 0xFF
        return self._tsn

    def _receive_zdo(self, frame: ApsFrame, now: float) -> None:
        response = zdo.answer(self, frame.cluster, frame.payload, broadcast=frame.mode != "unicast")
        if (response is not None and frame.mode == "unicast") or (response is not None and self._answers(frame)):
            self.transmit(zdo.PROFILE, frame.cluster | zdo.RESPONSE, 0, 0, response, dst=frame.src)
        self.dirty = self.dirty or frame.cluster in (zdo.BIND_REQ, zdo.UNBIND_REQ)
        if frame.cluster == zdo.MGMT_LEAVE_REQ and len(frame.payload) >= 10:
            self.leaving = "rejoin" if frame.payload[9] & 0x80 else "leave"
        elif frame.cluster == zdo.MGMT_NWK_UPDATE_REQ and len(frame.payload) >= 7 and frame.payload[5] == zdo.MOVE:
            mask = int.from_bytes(frame.payload[1:5], "little")
            self.channel = mask.bit_length() - 1
            self.dirty = True
        elif frame.cluster == zdo.MGMT_PERMIT_JOINING_REQ and len(frame.payload) >= 2:
            self.permit_until = now + frame.payload[1]

    @staticmethod
    def _answers(frame: ApsFrame) -> bool:
        """Broadcast requests that are answered at all: Mgmt_Permit_Joining is not (R22 §2.4.3.3.7.2)."""
        return frame.cluster != zdo.MGMT_PERMIT_JOINING_REQ


def parse_ieee(text: str) -> bytes:
    """An IEEE address as people write it, most significant first, with or without colons. Raises ValueError."""
    raw = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if len(raw) != 8:
        raise ValueError(f"an IEEE address has 8 bytes: {text!r}")
    return raw[::-1]
