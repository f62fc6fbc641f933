# SPDX-License-Identifier: GPL-3.0-or-later
"""The NCP's state between two commands: what is in its RAM, its flash (`nv`), and the air in front of its aerial."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from . import zdo
from .air import UPDATE_SECURED_REJOIN, AddressConflict, Aged, Air, Incoming, Moved, RouteBroken, Routed, Sent, Verdict
from .codec import Fields
from .device import COORDINATOR_NWK, Device
from .nv import COUNTER_BLOCK, NonVolatile

NO_NETWORK: Final = 0  # EmberNetworkStatus (UG100)
JOINED_NETWORK: Final = 2

POLICY_TRUST_CENTER: Final = 0x00
POLICY_MESSAGE_CONTENTS: Final = 0x04
ALLOW_JOINS: Final = 0x01
ALLOW_UNSECURED_REJOINS: Final = 0x02
JOINS_USE_INSTALL_CODE_KEY: Final = 0x10
NO_FRAME_COUNTER_RESET: Final = 0x1000

CONFIG_APS_UNICAST_MESSAGE_COUNT: Final = 0x03
CONFIG_ADDRESS_TABLE_SIZE: Final = 0x05
CONFIG_MULTICAST_TABLE_SIZE: Final = 0x06
CONFIG_MAX_END_DEVICE_CHILDREN: Final = 0x11
CONFIG_END_DEVICE_POLL_TIMEOUT: Final = 0x13
CONFIG_KEY_TABLE_SIZE: Final = 0x1E
CONFIG_APPLICATION_ZDO_FLAGS: Final = 0x2A
CONFIG_BROADCAST_TABLE_SIZE: Final = 0x2B
CONFIG_TRANSIENT_KEY_TIMEOUT_S: Final = 0x36

# What a freshly reset NCP says; the host raises what it needs. EzspConfigId: value.
CONFIG_DEFAULTS: Final[dict[int, int]] = dict.fromkeys(range(0x01, 0x43), 0) | {
    0x01: 255,
    0x02: 26,
    CONFIG_APS_UNICAST_MESSAGE_COUNT: 20,
    0x04: 15,
    CONFIG_ADDRESS_TABLE_SIZE: 8,
    CONFIG_MULTICAST_TABLE_SIZE: 8,
    0x07: 16,
    0x08: 8,
    0x0D: 5,
    0x10: 30,
    CONFIG_MAX_END_DEVICE_CHILDREN: 6,
    0x12: 3000,
    CONFIG_END_DEVICE_POLL_TIMEOUT: 8,
    0x1A: 100,
    CONFIG_KEY_TABLE_SIZE: 4,
    0x1F: 1600,
    CONFIG_BROADCAST_TABLE_SIZE: 15,
    0x2D: 1,
    CONFIG_TRANSIENT_KEY_TIMEOUT_S: 300,
}

WILDCARD: Final = b"\xff" * 8
NULL_EUI: Final = b"\0" * 8
NO_NODE: Final = 0xFFFF
CALLBACK_LIMIT: Final = 200
OPEN_FOR_GOOD: Final = 255
BROADCAST_S: Final = 9.0  # how long one is remembered (R22, nwkNetworkBroadcastDeliveryTime)
# EmberStackError, the codes of NWK network status (R22, table 3.42).
STATUS_SOURCE_ROUTE_FAILURE, STATUS_ADDRESS_CONFLICT, STATUS_PAN_UPDATE = 0x0B, 0x0D, 0x0F
SLEEPY_END_DEVICE: Final = 4  # EmberNodeType

# Places in the array of counters (EmberCounterType, UG100).
COUNTERS: Final = 41
TX_BROADCAST, RX_UNICAST, TX_UNICAST_SUCCESS, TX_UNICAST_FAILED = 7, 8, 9, 11
JOIN_INDICATION, CHILD_REMOVED, BROADCAST_TABLE_FULL = 16, 17, 33
NWK_COUNTER_FAILURE, APS_COUNTER_FAILURE, NWK_DECRYPTION_FAILURE, APS_DECRYPTION_FAILURE = 21, 22, 25, 26
LONGEST_TIMEOUT: Final = 14
SOURCE_ROUTE_BYTES: Final = 2  # in the NWK header: how many relays, which is next; and so many for each


@dataclass
class Pending:
    """A message of the host that is on its way."""

    kind: int
    destination: int
    aps: Fields
    tag: int
    message: bytes


@dataclass
class TableEntry:
    """One row of the address table."""

    eui: bytes = NULL_EUI
    nwk: int = NO_NODE
    extended_timeout: bool = False


class Stack:
    """Everything a command can read or change."""

    def __init__(self, nv: NonVolatile, air: Air, version: int, *, seed: int = 0) -> None:
        self.nv, self.air, self.version = nv, air, version
        self.dice = random.Random(seed)
        self.callbacks: deque[tuple[str, Fields]] = deque()
        self.overflowed = False
        self.refusing = ""  # the status with which every send is refused; a restart does not help
        self.swallows = False  # messageSentHandler never comes
        self.boot(0.0)

    def boot(self, now: float) -> None:
        """Everything in RAM is gone; the radio is off until the host starts it."""
        self.state = NO_NETWORK
        self.callbacks.clear()
        self.config = dict(CONFIG_DEFAULTS)
        self.values: dict[int, bytes] = {}
        self.policies: dict[int, int] = {}
        self.multicast: dict[int, Fields] = {}
        self.addresses: dict[int, TableEntry] = {}
        self.extended_timeouts: set[bytes] = set()
        self.transient_keys: dict[bytes, tuple[bytes, float]] = {}
        self.bindings: dict[int, Fields] = {}
        self.counters = [0] * COUNTERS
        self.initial_security: Fields | None = None
        self.pending: dict[int, Pending] = {}
        self.aps_sequence = 0
        self.next_handle = 1
        self.permit_until: float | None = None
        self.frame_counter = self.nv.frame_counter
        self.aps_counter = self.nv.aps_counter
        self.node = zdo.Node(self.nv.own_eui, COORDINATOR_NWK, zdo.COORDINATOR, capability=0x8F)
        self.air.trust_center = self.trust_center
        self.air.lets_back = self.lets_back
        self.air.mesh.most_children = lambda: self.config[CONFIG_MAX_END_DEVICE_CHILDREN]
        self.air.wants_route_records = False
        self.air.admits, self.air.admits_encrypted = self.admits, self.admits_encrypted
        self.air.heard = lambda ieee: self.heard.get(ieee, -1)
        self.air.default_timeout = self._default_timeout
        # What is not above them is a replay. Whoever loses its memory takes the next frame as it comes.
        self.heard: dict[bytes, int] = {}
        self.heard_encrypted: dict[bytes, int] = {}
        self.source_routes: dict[int, tuple[int, ...]] = {}  # each for one message
        self.broadcasts: deque[float] = deque()
        self.next_key: bytes | None = None
        self.air.network(None, self.nv.own_eui, now)

    def callback(self, name: str, **fields: Any) -> None:
        """Tell the host something it did not ask for; what does not fit is lost and marked (UG100 §3.1)."""
        if len(self.callbacks) >= CALLBACK_LIMIT:
            self.overflowed = True
            return
        self.callbacks.append((name, fields))

    # -- the network -------------------------------------------------------------------------------------------

    @property
    def network_id(self) -> bytes | None:
        """What a device needs to have in common with us: extended PAN id and network key."""
        if self.nv.network is None or self.nv.keys is None:
            return None
        return self.nv.network.extended_pan_id + self.nv.keys.network_key

    def network_up(self, now: float) -> None:
        self.state = JOINED_NETWORK
        self.node.ieee = self.nv.own_eui
        # Start at the stored bound, and store the next one: a counter value is never used twice.
        self.frame_counter = self.nv.frame_counter
        self.nv.frame_counter += COUNTER_BLOCK
        self.nv.changed()
        assert self.nv.network is not None
        assert self.nv.keys is not None
        network, key = self.nv.network, self.nv.keys.link_key
        self.air.network(self.network_id, self.nv.own_eui, now, network.channel, key, network.pan_id)
        self.aps_counter = self.nv.aps_counter
        self.nv.aps_counter += COUNTER_BLOCK
        self.callback("stackStatusHandler", status="NETWORK_UP")

    def network_down(self, now: float) -> None:
        self.state = NO_NETWORK
        self.permit_until = None
        self.air.network(None, self.nv.own_eui, now)
        self.callback("stackStatusHandler", status="NETWORK_DOWN")

    def count_frame(self) -> None:
        """One more secured frame went out."""
        self.frame_counter += 1
        if self.frame_counter >= self.nv.frame_counter:
            self.nv.frame_counter = self.frame_counter + COUNTER_BLOCK
            self.nv.changed()

    def count_encrypted(self) -> None:
        """One more frame went out under a link key."""
        self.aps_counter += 1
        if self.aps_counter >= self.nv.aps_counter:
            self.nv.aps_counter = self.aps_counter + COUNTER_BLOCK
            self.nv.changed()

    def move(self, channel: int, update_id: int) -> None:
        """The network is on another channel from now on."""
        assert self.nv.network is not None
        self.nv.network.channel, self.nv.network.update_id = channel, update_id
        self.nv.changed()
        self.air.channel = channel

    def change_pan(self, pan_id: int) -> None:
        """Another network has our PAN id: the network's manager takes another (R22, 3.6.1.13)."""
        if self.nv.network is None or self.state != JOINED_NETWORK:
            return
        self.nv.network.pan_id = pan_id
        self.nv.changed()
        self.air.move_pan(pan_id)
        self.callback("stackStatusHandler", status="PAN_ID_CHANGED")
        self.callback("incomingNetworkStatusHandler", error=STATUS_PAN_UPDATE, id=COORDINATOR_NWK)

    def take_broadcast(self, now: float) -> bool:
        """Whether there is room in the table of broadcasts for one more; each is there for nine seconds."""
        while self.broadcasts and now - self.broadcasts[0] > BROADCAST_S:
            self.broadcasts.popleft()
        if len(self.broadcasts) >= self.config[CONFIG_BROADCAST_TABLE_SIZE]:
            self.counters[BROADCAST_TABLE_FULL] += 1
            return False
        self.broadcasts.append(now)
        return True

    def source_route_overhead(self, nwk: int) -> int:
        """What the source route that is set for this address costs of a frame, bytes."""
        route = self.source_routes.get(nwk)
        return 0 if route is None else SOURCE_ROUTE_BYTES * (1 + len(route))

    # -- what may come in --------------------------------------------------------------------------------------

    def admits(self, ieee: bytes, counter: int, key: bytes) -> bool:
        """Whether a neighbour's frame is under the network's key, and above the one before (R22, 4.3.1.2)."""
        if self.nv.keys is None or key != self.nv.keys.network_key:
            self.counters[NWK_DECRYPTION_FAILURE] += 1
            return False
        return self._is_above(self.heard, NWK_COUNTER_FAILURE, ieee, counter)

    def admits_encrypted(self, ieee: bytes, counter: int, key: bytes) -> bool:
        """The same of what a device encrypted with the trust centre's link key (R22, 4.4.1.2)."""
        if self.nv.keys is None or key != self.nv.keys.link_key:
            self.counters[APS_DECRYPTION_FAILURE] += 1
            return False
        return self._is_above(self.heard_encrypted, APS_COUNTER_FAILURE, ieee, counter)

    def _is_above(self, heard: dict[bytes, int], failure: int, ieee: bytes, counter: int) -> bool:
        if counter <= heard.get(ieee, -1):
            self.counters[failure] += 1
            return False
        heard[ieee] = counter
        return True

    def noticed(self, event: Routed | RouteBroken | Aged | AddressConflict) -> None:
        """What the mesh tells of its routes and addresses, in EZSP's words (UG100)."""
        if self.state != JOINED_NETWORK:
            return
        if isinstance(event, Routed):
            device = event.device
            relays = bytes((len(event.relays),)) + b"".join(map(zdo.le16, event.relays))
            self.callback(
                "incomingRouteRecordHandler",
                id=device.nwk, eui=device.ieee, lqi=device.lqi, rssi=device.rssi, relays=relays,
            )  # fmt: skip
        elif isinstance(event, RouteBroken):
            self.callback("incomingRouteErrorHandler", status="SOURCE_ROUTE_FAILURE", id=event.nwk)
            self.callback("incomingNetworkStatusHandler", error=STATUS_SOURCE_ROUTE_FAILURE, id=event.nwk)
        elif isinstance(event, Aged):
            self.counters[CHILD_REMOVED] += 1
            self._drop_child(event.device)
            self.nv.changed()
        else:
            self.callback("idConflictHandler", id=event.nwk)
            self.callback("incomingNetworkStatusHandler", error=STATUS_ADDRESS_CONFLICT, id=event.nwk)

    def permit(self, duration_s: int, now: float) -> None:
        was_open = self.permit_until is not None
        self.permit_until = now + duration_s if duration_s else None
        if duration_s == OPEN_FOR_GOOD:
            self.permit_until = math.inf
        if duration_s and not was_open:
            self.callback("stackStatusHandler", status="NETWORK_OPENED")
        elif was_open and not duration_s:
            self.callback("stackStatusHandler", status="NETWORK_CLOSED")
        self.air.permit(math.inf if duration_s == OPEN_FOR_GOOD else duration_s, now)

    def get_timer(self) -> float | None:
        return None if self.permit_until == math.inf else self.permit_until

    def handle_timer(self, now: float) -> None:
        if self.permit_until is not None and now >= self.permit_until:
            self.permit_until = None
            self.callback("stackStatusHandler", status="NETWORK_CLOSED")

    # -- joining -----------------------------------------------------------------------------------------------

    def trust_center(self, ieee: bytes, link_key: bytes, now: float) -> Verdict:
        """Whether a device with this link key gets in, under the policy and the transient keys of the moment."""
        policy = self.policies.get(POLICY_TRUST_CENTER, 0)
        if not policy & ALLOW_JOINS:
            return "denied"
        self.transient_keys = {eui: kept for eui, kept in self.transient_keys.items() if kept[1] > now}
        own = self.transient_keys.get(ieee)
        if own is None and policy & JOINS_USE_INSTALL_CODE_KEY:
            return "denied"
        entry = own or self.transient_keys.get(WILDCARD)
        return "welcome" if entry is not None and entry[0] == link_key else "wrong key"

    def lets_back(self) -> bool:
        """Whether a device that has not the network's key may have it, under its own link key."""
        return bool(self.policies.get(POLICY_TRUST_CENTER, 0) & ALLOW_UNSECURED_REJOINS)

    def device_moved(self, moved: Moved) -> None:
        """trustCenterJoinHandler, and the table of children."""
        if self.state != JOINED_NETWORK:
            return
        device = moved.device
        self.counters[JOIN_INDICATION] += 1
        self._drop_child(device)
        if moved.update != UPDATE_SECURED_REJOIN:
            # It has its keys from us, or is gone: whatever counter it begins with is the first.
            self.heard.pop(device.ieee, None)
            self.heard_encrypted.pop(device.ieee, None)
        if device.joined and device.poll_s is not None and moved.parent == COORDINATOR_NWK:
            free = next(i for i in range(256) if i not in self.nv.children)
            self.nv.children[free] = (device.ieee, moved.nwk, SLEEPY_END_DEVICE)
            self._tell_child(free, joining=True)
        for entry in self.addresses.values():
            if entry.eui == device.ieee and device.joined:
                entry.nwk = moved.nwk
        self.nv.changed()
        self.callback(
            "trustCenterJoinHandler",
            id=moved.nwk,
            eui=device.ieee,
            update=moved.update,
            decision=moved.decision,
            parent=moved.parent,
        )

    def _drop_child(self, device: Device) -> None:
        for index in [i for i, child in self.nv.children.items() if child[0] == device.ieee]:
            self._tell_child(index, joining=False)
            del self.nv.children[index]

    def timeout_of(self, ieee: bytes) -> int:
        """A child's End Device Timeout, as its enumeration."""
        device = self.air.devices.get(ieee)
        return self._default_timeout() if device is None or device.timeout is None else device.timeout

    def _default_timeout(self) -> int:
        # Before EZSP 7 it was a number of seconds, and a host may still set it so: no enumeration goes as far.
        return min(self.config[CONFIG_END_DEVICE_POLL_TIMEOUT], LONGEST_TIMEOUT)

    def _tell_child(self, index: int, *, joining: bool) -> None:
        eui, nwk, kind = self.nv.children[index]
        self.callback("childJoinHandler", index=index, joining=joining, id=nwk, eui=eui, type=kind)

    def known_nwk(self, ieee: bytes) -> int:
        """The short address the stack itself has for a device: from its children or the address table."""
        for child, nwk, _kind in self.nv.children.values():
            if child == ieee:
                return nwk
        return next((entry.nwk for entry in self.addresses.values() if entry.eui == ieee), NO_NODE)

    def transient_key(self, eui: bytes, key: bytes, now: float) -> None:
        self.transient_keys[eui] = (key, now + self.config[CONFIG_TRANSIENT_KEY_TIMEOUT_S])


AirEvent = Incoming | Sent | Moved | Routed | RouteBroken | Aged | AddressConflict
