"""Appliances that are held back by their level or their setpoint: an EV charger's amperes, a heater's degrees.

They do not let go by themselves: the hub gives each back what it had when the time has passed, and after a restart what
an earlier life of the hub had taken. So nothing is asked of them that may not last should the hub be gone for good: a
charger keeps the least it can charge with, a room its warmth but for a few degrees (promise P4).
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from zigpy.device import ZigbeeDevice
from zigpy.exceptions import ZigbeeException
from zigpy.zcl.foundation import Status

from drivers.clock import monotonic
from drivers.zigbee import asking
from drivers.zigbee.address import CLIENT_PREFIX
from drivers.zigbee.appliance import ZclAppliance
from drivers.zigbee.channel import ZclReading
from drivers.zigbee.exceptions import CurrentLimit, SetpointLimit
from drivers.zigbee.measures import LEVEL, THERMOSTAT
from hub.core.records import Change, EventRecorded, RetainedSet, SubscriptionAdded, SubscriptionRemoved

log = logging.getLogger(__name__)

NOT_THERE = (TimeoutError, ZigbeeException, AttributeError, ConnectionError)
NOMINAL_V = 230.0
ORDER_TIMEOUT_S = 12.0
_RELEASE_AGAIN_S = 10.0
_MOVE_TO_LEVEL = 0x00
_HEATING_SETPOINT = 0x0012  # OccupiedHeatingSetpoint (ZCL 6.3.2.2.2.7), 0.01 degrees Celsius
_PER_DEGREE = 100
_ROUNDED = 25  # to half a degree, in the setpoint's counts
# A report of the setpoint from before the order may be on its way for so long.
_STALE_S = 15.0


class KnownAppliances(Protocol):
    """What is needed of whoever knows the appliances."""

    def reachable(self, client_id: str) -> tuple[ZclAppliance, ZigbeeDevice]:
        """Raises ValueError for none of ours, ConnectionError while the radio is down."""

    async def save(self) -> None:
        """Make durable what was changed."""


async def order(appliance: ZclAppliance, command: Callable[[], Any]) -> None:
    """Give an order. Raises ConnectionError when it was not taken."""
    appliance.frames_out += 1
    try:
        async with asyncio.timeout(ORDER_TIMEOUT_S):
            answer = await command()
    except NOT_THERE as error:
        raise ConnectionError(f"{appliance.client_id} does not answer: {error!r}") from None
    if answer is False or getattr(answer, "status", Status.SUCCESS) != Status.SUCCESS:
        raise ConnectionError(f"{appliance.client_id} refuses: {answer!r}")


class Holding:
    """Holds and lets go. It outlives the radio's applications: nobody stays held because the radio went.

    `observed(changes)`, `reading(client_id, quantity, text)`: what an MQTT-SN adapter would have said of itself, as in
    drivers/zigbee/loads.py.
    """

    def __init__(
        self,
        known: KnownAppliances,
        reading: Callable[[str, str, str], None],
        observed: Callable[[list[Change]], None],
        record_event: Callable[[str, dict[str, Any]], Any],
    ) -> None:
        self._known = known
        self._reading = reading
        self._observed = observed
        self._record_event = record_event
        self._timers: dict[str, asyncio.TimerHandle] = {}  # by ClientId, as all that follows
        self._locks: dict[str, asyncio.Lock] = {}  # one at a time holds an appliance or lets it go
        self._ordered: dict[str, tuple[int, float]] = {}  # what it was told, and when
        self._announced: set[str] = set()
        self._releases: set[asyncio.Task[None]] = set()

    # Who can be held

    def present(self, there: Iterable[tuple[ZclAppliance, ZigbeeDevice]]) -> None:
        """These are there: who can be held is announced, with its class; who is not there any more is withdrawn."""
        holdable = {}
        for appliance, device in there:
            if appliance.is_read and _cluster_of(appliance, device) is not None:
                holdable[appliance.client_id] = appliance
        for client_id in self._announced - holdable.keys():
            self._announced.discard(client_id)
            self._observed([SubscriptionRemoved(client_id, f"control/{client_id}")])
        for client_id, appliance in holdable.items():
            if client_id not in self._announced:
                self._announced.add(client_id)
                about = json.dumps(_about(appliance)).encode()
                self._observed(
                    [
                        RetainedSet(f"about/{client_id}", about, 0),
                        SubscriptionAdded(client_id, f"control/{client_id}", 0),
                    ]
                )

    # Orders

    async def limit(
        self, client_id: str, watts: float | None, duration_s: float, nominal_w: float | None = None
    ) -> float | None:
        """Hold an appliance to so many watts for so long, as near as it can; None lets go, and so do more watts than
        it draws at most (`nominal_w`). What it is held to, in W.

        It is let go when the time has passed. Below the least that it can be held to it keeps the least: a limit never
        switches off. Raises ValueError for one that cannot be held, ConnectionError when it did not happen.
        """
        if watts is not None and nominal_w and watts >= nominal_w:
            watts = None
        async with self._locks.setdefault(client_id, asyncio.Lock()):  # a release that is under way comes to its end
            return await self._hold(client_id, watts, duration_s)

    async def _hold(self, client_id: str, watts: float | None, duration_s: float) -> float | None:
        appliance, device = self._known.reachable(client_id)
        how, cluster = appliance.exceptions.limit, _cluster_of(appliance, device)
        if how is None or cluster is None:
            raise ValueError(f"{client_id} cannot be held to a power")
        if watts is None and appliance.held_from is None and isinstance(how, SetpointLimit):
            return None  # its householder's own setpoint is all that it knows
        if appliance.held_from is None:
            before = how.most_a if isinstance(how, CurrentLimit) else await _setpoint(appliance, cluster)
        else:
            before = appliance.held_from
            # A hub that was away did not hear its householder turn the knob, nor does one whose report was lost.
            if isinstance(how, SetpointLimit) and (watts is None or client_id not in self._ordered):
                now_set = await _setpoint(appliance, cluster)
                if _is_householders(now_set, _counts(how, 0.0, before), before):
                    self._opted_out(appliance)
                    await self._known.save()
                    return None
        if watts is not None and appliance.held_from is None:
            # Durable before it is so: a hub that dies now lets go of it when it is back.
            appliance.held_from, appliance.changed = before, True
            await self._known.save()
        counts = before if watts is None else _counts(how, watts, before)
        if isinstance(how, CurrentLimit):
            await order(appliance, lambda: cluster.command(_MOVE_TO_LEVEL, counts, 0))
        else:
            await order(appliance, lambda: asking.write_int16(cluster, _HEATING_SETPOINT, counts))
        self._stop_timer(client_id)
        if watts is None:
            self._ordered.pop(client_id, None)
            appliance.held_from, appliance.changed = None, True
            await self._known.save()
            self._observed([EventRecorded("adapter.limit_cleared", {"client": client_id})])
            return None
        self._ordered[client_id] = (counts, monotonic())
        self._timers[client_id] = asyncio.get_running_loop().call_later(duration_s, self.let_go, client_id)
        held_w = counts * how.phases * NOMINAL_V if isinstance(how, CurrentLimit) else watts
        self._reading(client_id, "limit", f"{held_w:.0f}")
        return held_w

    def let_go(self, client_id: str) -> None:
        """Its time has passed. While it does not answer it is told again: nobody is held longer than was ordered."""
        loop = asyncio.get_running_loop()
        self._timers.pop(client_id, None)

        async def release() -> None:
            async with self._locks.setdefault(client_id, asyncio.Lock()):
                if client_id in self._timers:  # held anew meanwhile
                    return
                try:
                    await self._hold(client_id, None, 0.0)
                except ConnectionError:
                    self._timers[client_id] = loop.call_later(_RELEASE_AGAIN_S, self.let_go, client_id)
                except ValueError as error:  # it was removed, or is another device now
                    log.info("%s is not let go: %s", client_id, error)

        task = loop.create_task(release(), name=f"release-{client_id}")
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def found_held(self, appliance: ZclAppliance) -> None:
        """It is there, perhaps held by a hub that is no more: then it is let go."""
        if appliance.held_from is not None and appliance.client_id not in self._timers:
            self.let_go(appliance.client_id)

    def heard(self, appliance: ZclAppliance, readings: Iterable[ZclReading]) -> None:
        """What it says of itself: a setpoint that is neither ours nor the one before is its householder's."""
        ordered = self._ordered.get(appliance.client_id)
        if ordered is None or not isinstance(appliance.exceptions.limit, SetpointLimit):
            return
        for reading in readings:
            if reading.quantity != "setpoint":
                continue
            counts = round(float(reading.text) * _PER_DEGREE)
            is_stale = counts == appliance.held_from and monotonic() - ordered[1] < _STALE_S
            if abs(counts - ordered[0]) > _ROUNDED and not is_stale:
                self._opted_out(appliance)
                return

    def _opted_out(self, appliance: ZclAppliance) -> None:
        client_id = appliance.client_id
        self._stop_timer(client_id)
        self._ordered.pop(client_id, None)
        appliance.held_from, appliance.changed = None, True
        said = {"client": client_id}
        self._record_event("limit.opted_out", said)
        self._observed([EventRecorded("limit.opted_out", said)])

    def _stop_timer(self, client_id: str) -> None:
        timer = self._timers.pop(client_id, None)
        if timer is not None:
            timer.cancel()

    def forget(self, ieee: str) -> None:
        """It was removed from the network for good."""
        client_id = CLIENT_PREFIX + ieee
        self._stop_timer(client_id)
        self._ordered.pop(client_id, None)
        self._locks.pop(client_id, None)

    def close(self) -> None:
        """The hub stops: its next life lets go of whom this one held."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._releases:
            task.cancel()


def _cluster_of(appliance: ZclAppliance, device: ZigbeeDevice) -> Any:
    """Where an appliance is told its level or setpoint, or None."""
    how = appliance.exceptions.limit
    if how is None:
        return None
    wanted = LEVEL if isinstance(how, CurrentLimit) else THERMOSTAT
    endpoints = {place.endpoint for place in appliance.places}
    found = (device.endpoints[number].in_clusters.get(wanted) for number in endpoints if number in device.endpoints)
    return next((cluster for cluster in found if cluster is not None), None)


def _about(appliance: ZclAppliance) -> dict[str, Any]:
    """What it is, in the words of `about/{me}` (design 3.2)."""
    how = appliance.exceptions.limit
    if isinstance(how, CurrentLimit):
        per_a = how.phases * NOMINAL_V
        return {
            "class": "ev-charger", "nominal_w": how.most_a * per_a, "minimum_w": how.least_a * per_a, "never_off": True,
        }  # fmt: skip
    return {"class": "heater"}


def _counts(how: CurrentLimit | SetpointLimit, watts: float, before: int) -> int:
    if isinstance(how, CurrentLimit):
        return max(how.least_a, min(how.most_a, int(watts / (how.phases * NOMINAL_V))))
    lowered = max(round(how.least_c * _PER_DEGREE), before - round(how.back_c * _PER_DEGREE))
    return min(before, lowered)  # whose room is colder already keeps what it has


def _is_householders(now_set: int, ordered: int, before: int) -> bool:
    """Whether a setpoint is neither the one before nor the one ordered, which an appliance may have rounded."""
    return now_set != before and abs(now_set - ordered) > _ROUNDED


async def _setpoint(appliance: ZclAppliance, cluster: Any) -> int:
    """What its householder has set."""
    try:
        async with asyncio.timeout(ORDER_TIMEOUT_S):
            answer = await asking.read(cluster, [_HEATING_SETPOINT], retries=1)
    except NOT_THERE as error:
        raise ConnectionError(f"{appliance.client_id} does not answer: {error!r}") from None
    numbers = [record.number for record in answer.records if record.number is not None]
    if not numbers:
        raise ConnectionError(f"{appliance.client_id} does not say what it is set to")
    return int(numbers[0])
