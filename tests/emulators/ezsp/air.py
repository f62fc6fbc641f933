# SPDX-License-Identifier: GPL-3.0-or-later
"""The air between an NCP and its devices: joining, delivery, loss, delay, sleep. No I/O, one seeded dice."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from . import zdo
from .device import APS_OPTION_ENCRYPTION, COORDINATOR_NWK, HUB, ApsFrame, Device
from .mesh import Mesh
from .plug import Plug

UPDATE_SECURED_REJOIN: Final = 0  # EmberDeviceUpdate (UG100)
UPDATE_UNSECURED_JOIN: Final = 1
UPDATE_LEFT: Final = 2
UPDATE_UNSECURED_REJOIN: Final = 3
DECISION_USE_PRECONFIGURED_KEY: Final = 0  # EmberJoinDecision
DECISION_DENY_JOIN: Final = 2
DECISION_NO_ACTION: Final = 3

JOIN_S: Final = 0.05  # association and transport of the network key
FAILURE_S: Final = 1.0  # a unicast nobody acknowledges, all retries included
INDIRECT_TIMEOUT_S: Final = 7.68  # how long a parent keeps a message for a sleeping child (R22, nwkTransactionPersist)
SCHEDULED_LIMIT: Final = 10_000
ROUTE_S: Final = 2.0  # until a router has found another way: a route discovery, its retries included
POLLS_UNHEARD: Final = 3  # a sleeping device gives its parent up after so many
# End Device Timeout (R22, table 3.44): 0 is ten seconds, n is two to the n minutes; 8 where nobody asked for another.
SHORTEST_TIMEOUT_MIN, DEFAULT_TIMEOUT, S_PER_MINUTE = 1 / 6, 8, 60.0
LOOKS_PER_TIMEOUT, MOST_BETWEEN_LOOKS_S = 8, 60.0  # how often a parent looks who has not asked
SEARCH_S: Final = 10.0  # a device that hears its network no more looks for it on all channels
# Somebody else on the channel: from so many dBm on a frame is lost in spite of all retries, with this chance.
JAMMED: Final = ((-40, 0.9), (-60, 0.5))

Verdict = Literal["welcome", "denied", "wrong key"]
TrustCenter = Callable[[bytes, bytes, float], Verdict]  # (ieee, the device's link key, now)


@dataclass(frozen=True)
class Incoming:
    """A frame that reached the coordinator."""

    frame: ApsFrame
    device: Device


@dataclass(frozen=True)
class Sent:
    """What became of a frame the coordinator sent."""

    handle: int
    ok: bool


@dataclass(frozen=True)
class Moved:
    """A device joined, rejoined or left: what trustCenterJoinHandler reports."""

    device: Device
    nwk: int
    update: int
    decision: int
    parent: int


@dataclass(frozen=True)
class Routed:
    """A frame brings the routers that it came over: incomingRouteRecordHandler. The one next to the device first."""

    device: Device
    relays: tuple[int, ...]


@dataclass(frozen=True)
class RouteBroken:
    """The way to an address is broken: incomingRouteErrorHandler, incomingNetworkStatusHandler."""

    nwk: int


@dataclass(frozen=True)
class Aged:
    """The coordinator forgets a child that has not asked for its messages: childJoinHandler."""

    device: Device


@dataclass(frozen=True)
class AddressConflict:
    """Two devices have one address: idConflictHandler."""

    nwk: int


Event = Incoming | Sent | Moved | Routed | RouteBroken | Aged | AddressConflict
Route = tuple[int, ...] | None  # relays by NWK address, the one next to the device first; None: the network's own way


class Air:
    """All devices in reach, and what happens to frames on the way."""

    def __init__(self, devices: Iterable[Device] = (), *, seed: int = 0, loss: float = 0.0) -> None:
        self.devices: dict[bytes, Device] = {device.ieee: device for device in devices}
        self.loss = loss
        self.network_id: bytes | None = None  # None while the coordinator's radio is off
        self.channel = self.pan_id = 0
        self.wants_route_records = False  # the coordinator is a concentrator
        self.noise: dict[int, int] = {}  # dBm, where somebody else is loud
        self.lets_back: Callable[[], bool] = lambda: False  # whether unsecured rejoins are allowed
        # Whether the coordinator takes what comes from this neighbour (its IEEE address) with this frame counter and
        # this key, and the same of what a device encrypted with its link key.
        self.admits: Callable[[bytes, int, bytes], bool] = lambda _ieee, _counter, _key: True
        self.admits_encrypted: Callable[[bytes, int, bytes], bool] = lambda _ieee, _counter, _key: True
        self.heard: Callable[[bytes], int] = lambda _ieee: -1  # the frame counter that it had last from a neighbour
        self.default_timeout: Callable[[], int] = lambda: DEFAULT_TIMEOUT  # where a child asked for none
        self.minute_s = S_PER_MINUTE
        self.permit_until = 0.0
        self.tc_ieee = b"\0" * 8
        self.tc_key = b""
        self.trust_center: TrustCenter = lambda _ieee, _key, _now: "welcome"
        self.counters: dict[str, int] = {}
        self.dirty = False  # what `to_dict` gives has changed
        self.mesh = Mesh(self.devices, self._is_there)
        self._seeking: set[bytes] = set()  # devices that look for another way
        self._looks = False  # whether somebody looks which children have not asked for their messages
        self._recorded: dict[bytes, tuple[ApsFrame, Device, int, bytes]] = {}  # what each device said last, on the air
        self._dice = random.Random(seed)
        self._events: deque[Event] = deque()
        self._order = itertools.count()
        self._scheduled: list[tuple[float, int, Callable[[float], None]]] = []

    # -- the coordinator's side --------------------------------------------------------------------------------

    def network(
        self,
        network_id: bytes | None,
        tc_ieee: bytes,
        now: float,
        channel: int = 0,
        tc_key: bytes = b"",
        pan_id: int = 0,
    ) -> None:
        """The coordinator's radio serves this network now (None: off)."""
        self.tc_key, self.pan_id = tc_key, pan_id
        self.network_id, self.tc_ieee, self.channel = network_id, tc_ieee, channel
        if network_id is None:
            self.permit_until = now
        elif not self._looks:
            self._looks = True
            self._look_for_children(now)

    def permit(self, duration_s: float, now: float) -> None:
        """Open the network for joining at the coordinator; devices that wait for that try at once."""
        self.permit_until = now + duration_s
        self._try_all(now)

    def send(self, frame: ApsFrame, handle: int, now: float, route: Route = None) -> None:
        """Put a frame of the coordinator on the air; a `Sent` with this handle follows."""
        if frame.mode == "unicast":
            self._send_unicast(frame, handle, now, route)
            return
        self._count("broadcasts")
        for device in self.devices.values():
            if not self._reachable(device) or not device.hears_broadcasts:
                continue
            if frame.mode == "multicast" and not device.groups.endpoints_of(frame.dst):
                continue
            hears = device.poll_s is None or frame.dst == 0xFFFF
            if hears and not self._lost(device) and self._admits(device, frame):
                self._at(now + self._latency(device), self._deliver, device, frame)
        self._at(now + 0.01, lambda _at: self._events.append(Sent(handle, True)))

    def _send_unicast(self, frame: ApsFrame, handle: int, now: float, route: Route) -> None:
        device = self.by_nwk(frame.dst)
        if device is not None and self._is_there(device) and self.mesh.relays(device) is None:
            self._events.append(RouteBroken(device.nwk))
            self._seek(device, now)
        relays = None
        if device is not None and self._reachable(device):
            relays = self._relays(device) if route is None else self._routers(device, route)
        latency = None if device is None or relays is None else self._latency(device, relays)
        if device is not None and not self._admits(device, frame):
            device = None
        if (
            device is None
            or relays is None
            or latency is None
            or latency > INDIRECT_TIMEOUT_S
            or self._lost(device, relays)
        ):
            self._count("undelivered")
            wait = INDIRECT_TIMEOUT_S if latency is not None and latency > INDIRECT_TIMEOUT_S else FAILURE_S
            self._at(now + wait, lambda _at: self._events.append(Sent(handle, False)))
            return
        self._count("unicasts")
        self._at(now + latency, self._deliver, device, frame)
        # The acknowledgement can be lost on its way back: delivered, and reported as failed.
        ok = not self._lost(device)
        wait = latency + device.delay_s if ok else FAILURE_S
        self._at(now + wait, self._acknowledged, device, handle, ok)

    def _acknowledged(self, at: float, device: Device, handle: int, ok: bool) -> None:
        """An acknowledgement is a frame of the device like any other: what the coordinator does not take is none."""
        if not ok or self._hand_over(device):
            self._events.append(Sent(handle, ok))
        else:
            self._at(at + FAILURE_S, lambda _at: self._events.append(Sent(handle, False)))

    def _routers(self, device: Device, route: tuple[int, ...]) -> list[Device] | None:
        """The routers of a source route; None: it leads nowhere, and the coordinator is told."""
        routers = [self.by_nwk(nwk) for nwk in route]
        found = [router for router in routers if router is not None]
        if len(found) == len(routers) and self.mesh.is_route(device, found):
            self._count("source_routed")
            return found
        self._count("source_routes_broken")
        self._events.append(RouteBroken(device.nwk))
        return None

    def spread_key(self, key: bytes, now: float, to: bytes | None = None) -> None:
        """The coordinator sends another network key, to everybody or to one (its address)."""
        for device in self.devices.values():
            if to is not None and device.ieee != to:
                continue
            latency = self._latency(device) if self._reachable(device) else INDIRECT_TIMEOUT_S + 1
            if latency <= INDIRECT_TIMEOUT_S and not self._lost(device):
                self._at(now + latency, self._take_key, device, key)

    @staticmethod
    def _take_key(_at: float, device: Device, key: bytes) -> None:
        device.next_key = key

    def switch_key(self, network_id: bytes) -> None:
        """The coordinator uses the new key: whoever has it hears that, and does so too."""
        before, self.network_id = self.network_id, network_id
        for device in self.devices.values():
            if device.network_id == before and device.next_key == network_id[8:]:
                device.network_id, device.next_key, device.counter_heard = network_id, None, -1
        self.dirty = True

    def _admits(self, device: Device, frame: ApsFrame) -> bool:
        """Whether a device takes a frame of the coordinator: it drops what was numbered before (R22, 4.3.1.2, 4.4.1.2),
        and what it cannot decrypt."""
        if frame.counter is not None:
            if frame.counter <= device.counter_heard:
                self._count("replays")
                return False
            device.counter_heard = frame.counter
        if frame.aps_counter is not None:
            if frame.aps_key != device.tc_key:
                self._count("undecryptable")
                return False
            if frame.aps_counter <= device.aps_counter_heard:
                self._count("aps_replays")
                return False
            device.aps_counter_heard = frame.aps_counter
        return True

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def by_nwk(self, nwk: int) -> Device | None:
        return next((device for device in self.devices.values() if device.joined and device.nwk == nwk), None)

    def neighbors(self) -> list[zdo.Neighbor]:
        """The coordinator's neighbour table."""
        return [self._neighbor(d) for d in self.devices.values() if d.hop == HUB and self._reachable(d)]

    def _neighbor(self, device: Device) -> zdo.Neighbor:
        pan = (self.network_id or b"\0" * 8)[:8]
        kind = device.logical_type
        return zdo.Neighbor(pan, device.ieee, device.nwk, kind, device.rx_on_when_idle, 1, device.lqi)

    # -- devices come and go -----------------------------------------------------------------------------------

    def join(self, device: Device, now: float) -> None:
        """Somebody pressed the button: the device looks for an open network, now or when one opens."""
        if device.joined:
            self._forget(device, now)
        device.wants_join = True
        self._try_join(device, now)

    def rejoin(self, device: Device, now: float, *, new_nwk: bool = True) -> None:
        """The device lost touch and comes back with its keys, usually under another short address."""
        device.channel = device.pan_id = None  # it looks on every channel
        device.is_forgotten = False
        hop = self.mesh.way(device)
        device.hop = device.hop if hop is None else hop
        update, decision = UPDATE_SECURED_REJOIN, DECISION_NO_ACTION
        device.counter += 1  # a request to come back is numbered, too
        if not self._reachable(device) or (device.hop == HUB and device.counter <= self.heard(device.ieee)):
            if not self._may_come_back(device):
                self._count("rejoin_refused")
                return
            update, decision = UPDATE_UNSECURED_REJOIN, DECISION_USE_PRECONFIGURED_KEY
        if new_nwk:
            device.nwk = self._free_nwk()
        moved = Moved(device, device.nwk, update, decision, self._nwk_of(device.hop))
        self._at(now + JOIN_S, lambda at: self._settle(device, moved, at))

    def _nwk_of(self, hop: bytes) -> int:
        return COORDINATOR_NWK if hop == HUB else self.devices[hop].nwk

    def conflict(self, device: Device, other: Device, now: float) -> None:
        """Two devices have one address. Whoever hears of it takes another, and says so (R22, 3.6.1.9)."""
        other.nwk = device.nwk
        self._count("address_conflicts")
        self._events.append(AddressConflict(device.nwk))
        for each in (device, other):
            self._at(now + JOIN_S, self._readdress, each)

    def _readdress(self, at: float, device: Device) -> None:
        device.nwk = self._free_nwk()
        self.dirty = True
        device.announce()
        self._pump(device, at)

    def move_pan(self, pan_id: int) -> None:
        """The network has another PAN id. Whoever hears broadcasts follows; the others have to look for it."""
        there = [device for device in self.devices.values() if device.poll_s is None and self._reachable(device)]
        self.pan_id = pan_id
        for device in there:
            device.pan_id = pan_id
        self.dirty = True

    def _seek(self, device: Device, now: float) -> None:
        """The device finds that nobody hears it, and looks for another way."""
        if device.ieee in self._seeking:
            return
        self._seeking.add(device.ieee)
        wait_s = ROUTE_S if device.poll_s is None else POLLS_UNHEARD * device.poll_s
        self._at(now + (wait_s if self._is_there(device) else SEARCH_S), self._find, device)

    def _find(self, at: float, device: Device) -> None:
        self._seeking.discard(device.ieee)
        if not device.joined or not device.powered or not device.in_range or self._reachable(device):
            return
        hop = self.mesh.way(device)
        if hop is None:
            self._count("no_way")
        elif device.poll_s is None and self._is_there(device):
            device.hop = hop
            self._count("repaired")
            self._pump(device, at)
        else:
            self.rejoin(device, at, new_nwk=False)

    def _may_come_back(self, device: Device) -> bool:
        """Without the network's key, by its link key (R22, 4.6.3.3): the network is the same, and this is allowed."""
        same = self.network_id is not None and device.joined and (device.network_id or b"")[:8] == self.network_id[:8]
        return same and device.powered and device.in_range and self.lets_back()

    def leave(self, device: Device, now: float) -> None:
        """The device leaves and says so."""
        if self._reachable(device):
            self._events.append(Moved(device, device.nwk, UPDATE_LEFT, DECISION_NO_ACTION, COORDINATOR_NWK))
        self._forget(device, now)

    def press(self, plug: Plug, on: bool, now: float) -> None:
        """Somebody presses the button of a plug."""
        plug.switch(on, now)
        self._pump(plug, now)

    def speak(self, device: Device, now: float) -> None:
        """Something was done to a device: what it wants to say goes on the air."""
        self._pump(device, now)

    def _forget(self, device: Device, now: float) -> None:
        if device.joined:
            device.network_id = None
            device.counter_heard, device.channel, device.next_key = -1, None, None
            device.nwk = 0xFFFF
            device.bindings.clear()
            device.frames_to_send()
            device.on_left(now)

    def _try_all(self, now: float) -> None:
        for device in self.devices.values():
            if device.wants_join:
                self._try_join(device, now)

    def _parent(self, device: Device, now: float) -> bytes | None:
        """Who lets a new device in: the coordinator, if it has room, or a router that was asked to."""
        if (
            self.permit_until > now
            and HUB in device.hears
            and (device.poll_s is None or self.mesh.has_room_for(device))
        ):
            return HUB
        routers = (d for d in self.devices.values() if self._reachable(d) and d.poll_s is None)
        heard = (router for router in routers if HUB in device.hears or router.ieee in device.hears)
        return next((router.ieee for router in heard if router.permit_until > now), None)

    def _try_join(self, device: Device, now: float) -> None:
        parent = self._parent(device, now)
        if self.network_id is None or parent is None or device.joined or not (device.powered and device.in_range):
            return
        verdict = self.trust_center(device.ieee, device.link_key, now)
        decision = DECISION_DENY_JOIN if verdict == "denied" else DECISION_USE_PRECONFIGURED_KEY
        moved = Moved(device, self._free_nwk(), UPDATE_UNSECURED_JOIN, decision, self._nwk_of(parent))
        if verdict == "welcome":
            device.wants_join = False
            device.hop = parent
            device.nwk = moved.nwk
            self._at(now + JOIN_S, lambda at: self._settle(device, moved, at))
        else:
            # Denied, or it cannot read the network key: the coordinator hears of it, and of nothing more.
            self._count(verdict.replace(" ", "_"))
            self._events.append(moved)

    def _settle(self, device: Device, moved: Moved, now: float) -> None:
        is_full = device.poll_s is not None and moved.parent == COORDINATOR_NWK and not self.mesh.has_room_for(device)
        if self.network_id is None or is_full:
            device.wants_join = True
            return
        if device.network_id != self.network_id:
            device.counter_heard, device.next_key = -1, None
        if moved.update == UPDATE_UNSECURED_JOIN:
            device.tc_key, device.aps_counter_heard = self.tc_key, -1
        device.asked_at, device.is_forgotten = now, False
        device.network_id, device.tc_ieee, device.nwk = self.network_id, self.tc_ieee, moved.nwk
        device.channel, device.pan_id = self.channel, self.pan_id
        self._events.append(moved)
        device.announce()
        device.on_joined(now)
        self._pump(device, now)

    def _free_nwk(self) -> int:
        taken = {device.nwk for device in self.devices.values()}
        return next(nwk for nwk in iter(lambda: self._dice.randint(1, 0xFFF7), 0) if nwk not in taken)

    # -- delivery ----------------------------------------------------------------------------------------------

    def _is_there(self, device: Device) -> bool:
        """Whether it has power and is on the network, however it is reached."""
        return device.network_id is not None and device.network_id == self.network_id and self._is_near(device)

    def _is_near(self, device: Device) -> bool:
        """Whether what it sends reaches this network, under whatever key."""
        same = self.network_id is not None and (device.network_id or b"")[:8] == self.network_id[:8]
        here = device.channel in (None, self.channel) and device.pan_id in (None, self.pan_id)
        return same and here and device.powered and device.in_range

    def _reachable(self, device: Device) -> bool:
        is_on_its_way = device.hop == HUB or self.mesh.relays(device) is not None
        return self._is_there(device) and is_on_its_way and not device.is_forgotten

    def _timeout_s(self, device: Device) -> float:
        chosen = self.default_timeout() if device.timeout is None else device.timeout
        return self.minute_s * (2**chosen if chosen else SHORTEST_TIMEOUT_MIN)

    def _look_for_children(self, now: float) -> None:
        """A parent forgets a child that has not asked for its messages in time, and sends it to join again when it does
        ask (R22, 3.6.10)."""
        wait_s = MOST_BETWEEN_LOOKS_S
        for device in self.devices.values():
            if device.poll_s is None:
                continue
            limit_s = self._timeout_s(device)
            wait_s = min(wait_s, limit_s / LOOKS_PER_TIMEOUT)
            if self.network_id is None or not device.joined:
                continue
            asks = self._is_there(device) and (device.hop == HUB or self.mesh.relays(device) is not None)
            asks_again = asks and now - device.asked_at >= device.poll_s
            if device.is_forgotten and asks_again:
                self._at(now + JOIN_S, lambda at, child=device: self.rejoin(child, at, new_nwk=False))
            elif asks_again:
                device.asked_at = now - (now - device.asked_at) % device.poll_s if device.poll_s else now
            elif not device.is_forgotten and now - device.asked_at >= limit_s:
                device.is_forgotten = self.dirty = True
                self._count("aged")
                if device.hop == HUB:
                    self._events.append(Aged(device))
        self._at(now + wait_s, self._look_for_children)

    def _relays(self, device: Device) -> list[Device]:
        return [] if device.hop == HUB else self.mesh.relays(device) or []

    def _lost(self, device: Device, relays: list[Device] | None = None) -> bool:
        jammed = next((chance for dbm, chance in JAMMED if self.noise.get(self.channel, -99) >= dbm), 0.0)
        for each in (device, *(self._relays(device) if relays is None else relays)):
            if self._dice.random() < max(self.loss, each.loss, jammed):
                self._count("lost")
                return True
        return False

    def _latency(self, device: Device, relays: list[Device] | None = None) -> float:
        """Until a frame arrives: hop by hop, and a sleeping device hears nothing before its next poll."""
        over = self._relays(device) if relays is None else relays
        hops_s = device.delay_s + sum(relay.delay_s for relay in over)
        return hops_s if device.poll_s is None else hops_s + self._dice.uniform(0, device.poll_s)

    def _deliver(self, at: float, device: Device, frame: ApsFrame) -> None:
        if self._reachable(device):
            if device.poll_s is None:  # a router's table is made when somebody asks for it
                device.neighbors = [self._neighbor(each) for each in self.mesh.neighbours_of(device)]
            device.receive_aps(frame, at)
            self._pump(device, at)
            if device.permit_until > at and frame.cluster == zdo.MGMT_PERMIT_JOINING_REQ:
                self._try_all(at)

    def _pump(self, device: Device, now: float) -> None:
        for frame in device.frames_to_send():
            self._uplink(device, frame, now)
        self.dirty, device.dirty = self.dirty or device.dirty, False
        if device.leaving:
            how, device.leaving = device.leaving, ""
            act = self.leave if how == "leave" else self.rejoin
            self._at(now + JOIN_S, lambda at: act(device, at))

    def _uplink(self, device: Device, frame: ApsFrame, now: float) -> None:
        if not self._reachable(device) or self._lost(device):
            self._count("uplink_lost")
            if self._is_near(device) and not self._is_there(device) and device.hop == HUB:
                self._hand_over(device)  # under another key: it is heard, and cannot be read
            if self.network_id is not None and device.joined and not self._reachable(device):
                self._seek(device, now)
            return
        frame = replace(frame, src=device.nwk)
        if frame.mode == "unicast" and frame.dst != COORDINATOR_NWK:
            peer = self.by_nwk(frame.dst)
            if peer is not None:
                self._at(now + self._latency(peer), self._deliver, peer, frame)
            return
        self._count("uplink")
        relays = tuple(relay.nwk for relay in self._relays(device))
        if self.wants_route_records and frame.mode == "unicast" and relays != device.relays_told:
            device.relays_told = relays
            self._events.append(Routed(device, relays))
        if frame.options & APS_OPTION_ENCRYPTION:
            device.aps_counter += 1
            frame = replace(frame, aps_counter=device.aps_counter, aps_key=device.tc_key)
        self._at(now + device.delay_s, self._arrive, device, frame)

    def _arrive(self, _at: float, device: Device, frame: ApsFrame) -> None:
        if self._hand_over(device, frame):
            self._take_encrypted(device, frame)

    def _hand_over(self, device: Device, frame: ApsFrame | None = None) -> bool:
        """Whether the coordinator takes what the last router on the way, or the device, says to it now."""
        neighbour = next(reversed(self._relays(device)), device)
        neighbour.counter += 1
        key = (neighbour.network_id or b"")[8:]
        if frame is not None:
            self._recorded[device.ieee] = (frame, neighbour, neighbour.counter, key)
        return self._is_admitted(neighbour, neighbour.counter, key)

    def _is_admitted(self, neighbour: Device, counter: int, key: bytes) -> bool:
        if self.admits(neighbour.ieee, counter, key):
            return True
        self._count("uplink_refused")
        return False

    def _take_encrypted(self, device: Device, frame: ApsFrame) -> None:
        if frame.aps_counter is None or self.admits_encrypted(device.ieee, frame.aps_counter, frame.aps_key):
            self._events.append(Incoming(frame, device))
        else:
            self._count("uplink_encrypted_refused")

    def replay(self, device: Device, *, resealed: bool = False) -> None:
        """Somebody recorded what the device said last, and says it again. `resealed`: with the
        network's key, so that only what is inside is old."""
        frame, neighbour, counter, key = self._recorded[device.ieee]
        if resealed:
            neighbour.counter += 1
            counter = neighbour.counter
        if self._is_admitted(neighbour, counter, key):
            self._take_encrypted(device, frame)

    # -- time ----------------------------------------------------------------------------------------------------

    def _at(self, at: float, call: Callable[..., None], *args: Any) -> None:
        if len(self._scheduled) >= SCHEDULED_LIMIT:
            self._count("overrun")
            return
        heapq.heappush(self._scheduled, (at, next(self._order), lambda now: call(now, *args)))

    def get_timer(self) -> float | None:
        """When `handle_timer` is due, or None."""
        first = self._scheduled[0][0] if self._scheduled else None
        for device in self.devices.values():  # of hundreds of devices, with every frame: a plain loop
            timer = device.get_timer()
            if timer is not None and (first is None or timer < first):
                first = timer
        return first

    def handle_timer(self, now: float) -> None:
        """Deliver what is due, in order, and let the devices do what is due."""
        while self._scheduled and self._scheduled[0][0] <= now:
            at, _, call = heapq.heappop(self._scheduled)
            call(at)
        for device in self.devices.values():
            timer = device.get_timer()
            if timer is not None and timer <= now:
                device.handle_timer(now)
                self._pump(device, now)

    # -- what survives a restart of the emulator -----------------------------------------------------------------

    def to_dict(self, now: float) -> dict[str, Any]:
        """Who is on which network, under which address, and what each device keeps for itself."""
        return {
            d.ieee.hex(): {
                "nwk": d.nwk,
                "network_id": d.network_id.hex(),
                "bindings": [[ep, cluster, ieee.hex(), to] for ep, cluster, ieee, to in d.bindings],
                "tc_ieee": d.tc_ieee.hex(),
                "channel": d.channel,
                "pan_id": d.pan_id,
                "hop": d.hop.hex(),
                "tc_key": d.tc_key.hex(),
                "aps_counter_heard": d.aps_counter_heard,
                "counter_heard": d.counter_heard,
                "counter": d.counter,
                "aps_counter": d.aps_counter,
                "is_forgotten": d.is_forgotten,
                "kept": d.keep(now),
            }
            for d in self.devices.values()
            if d.network_id is not None
        }

    def restore(self, saved: dict[str, Any], now: float) -> None:
        """Put the devices back where `to_dict` found them; unknown ones are ignored."""
        for ieee, entry in saved.items():
            device = self.devices.get(bytes.fromhex(ieee))
            if device is not None:
                device.nwk, device.network_id = entry["nwk"], bytes.fromhex(entry["network_id"])
                device.bindings = [(ep, cl, bytes.fromhex(to), dst) for ep, cl, to, dst in entry["bindings"]]
                device.tc_ieee = bytes.fromhex(entry["tc_ieee"])
                device.channel, device.tc_key = entry["channel"], bytes.fromhex(entry["tc_key"])
                device.aps_counter_heard, device.counter_heard = entry["aps_counter_heard"], entry["counter_heard"]
                device.pan_id, device.hop = entry.get("pan_id"), bytes.fromhex(entry.get("hop", ""))
                device.counter, device.aps_counter = entry.get("counter", 0), entry.get("aps_counter", 0)
                device.is_forgotten, device.asked_at = entry.get("is_forgotten", False), now
                device.wants_join = False
                device.recall(entry["kept"], now)
                device.on_joined(now)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
