"""Appliances that are switched: each order proved by each appliance, and many at the same moment sooner, by a group
(switch_group.py)."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zigpy import types as t
from zigpy.exceptions import ZigbeeException

from drivers.clock import monotonic
from drivers.zigbee.address import client_id_of
from drivers.zigbee.application import Application
from drivers.zigbee.channel import SwitchPlace
from drivers.zigbee.frames import group_command
from drivers.zigbee.kept import RecordsFile
from drivers.zigbee.measures import GROUPS, ON_OFF

if TYPE_CHECKING:
    from drivers.zigbee.switch_group import GroupCommand, GroupQuestion, SwitchGroup
    from hub.wire.admin import SwitchGroupFigures

log = logging.getLogger(__name__)

FILE = "radio-group.json"
_RECORD = "group"
# Fewer than so many at the same moment are not worth a group (docs/figures.md).
AT_LEAST = 6
# What is asked for so soon after another order is gathered until so long nothing more comes, and no longer than that;
# the first one never waits.
_GATHER_S, _GATHER_MOST_S = 0.05, 0.5
_LOOK_S = 1.0
_ASK_S, _LEAVE_S = 12.0, 5.0
_NOT_THERE = (TimeoutError, ZigbeeException, AttributeError, ConnectionError)
_COMMANDS = {"add": 0x00, "membership": 0x02, "remove": 0x03}  # ZCL 3.6.2.3


class Switches(NamedTuple):
    """All endpoints with a switch that could be in a group, and those of them that are held by nothing else."""

    there: list[SwitchPlace]
    plain: list[SwitchPlace]


class SwitchOwner(Protocol):
    """Whoever knows the appliances."""

    def switches(self) -> Switches:
        """Who there is."""

    async def tell_switch(self, place: SwitchPlace, on: bool) -> None:
        """Tell one, and hear that it did so. Raises ConnectionError."""

    def cluster_at(self, place: SwitchPlace, cluster_id: int) -> Any:
        """zigpy's cluster, or None."""


class Switching:
    """It outlives the radio's applications. A home in which never many are switched at once has no group, and no
    module of it in memory."""

    def __init__(self, owner: SwitchOwner, data_dir: Path) -> None:
        self._owner = owner
        self._file = RecordsFile(data_dir, FILE)
        self._group: SwitchGroup | None = self._make() if self._file.records else None
        self._application: Application | None = None
        self._asked: list[tuple[SwitchPlace, bool, asyncio.Future[None]]] = []
        self._giving: asyncio.TimerHandle | None = None
        self._is_gathering = False
        self._given_at = self._gathering_since = float("-inf")
        self._waiting: dict[SwitchPlace, list[tuple[bool, asyncio.Future[None]]]] = {}
        self._whys: dict[SwitchPlace, str] = {}  # why the last unicast was not taken
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving = asyncio.Lock()

    def _make(self) -> "SwitchGroup":
        from drivers.zigbee import switch_group  # here: only a home that has a group pays for it

        span = switch_group.LAST_GROUP - switch_group.FIRST_GROUP + 1
        return switch_group.SwitchGroup(
            AT_LEAST, lambda: switch_group.FIRST_GROUP + secrets.randbelow(span), self._file.records.get(_RECORD)
        )

    # The radio comes and goes

    def attach(self, application: Application) -> None:
        self._application = application
        self._look_after_group()

    def detach(self) -> None:
        self._application = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._group is not None:
            self._group.detached()

    async def close(self) -> None:
        """The hub stops."""
        for handle in (self._giving, self._timer):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        for waiting in self._waiting.values():
            for _, future in waiting:
                future.cancel()
        await self._save()

    # Orders

    async def switch(self, place: SwitchPlace, on: bool) -> None:
        """Switch one. Raises ConnectionError when it did not happen, or another order took its place."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._asked.append((place, on, future))
        now = monotonic()
        if self._giving is None:
            self._gathering_since = now
            self._is_gathering = now - self._given_at < _GATHER_MOST_S
            self._giving = loop.call_later(_GATHER_S if self._is_gathering else 0.0, self._give)
        elif self._is_gathering and now - self._gathering_since < _GATHER_MOST_S:
            self._giving.cancel()
            self._giving = loop.call_later(_GATHER_S, self._give)
        await future

    def _give(self) -> None:
        """All that was asked for at the same moment is one order."""
        self._giving, self._given_at = None, monotonic()
        asked, self._asked = self._asked, []
        newest = {place: on for place, on, _ in asked}
        if self._group is None and len(newest) >= AT_LEAST:
            self._group = self._make()
            self._look_after_group()
        if self._group is None:
            for place, on, future in asked:
                self._spawn(self._tell_alone(place, on, future))
            return
        self._see_who_is_there(self._group)
        now = monotonic()
        for on in (True, False):
            targets = [place for place, wanted in newest.items() if wanted == on]
            command = self._group.order(targets, on, now) if targets else None
            if command is not None:
                self._spawn(self._command(self._group, command))
        self._settle()  # those whose order was taken back by another
        for place, on, future in asked:
            if newest[place] == on:
                self._waiting.setdefault(place, []).append((on, future))
            else:
                _end(future, _superseded(place))
        self._go()

    async def _tell_alone(self, place: SwitchPlace, on: bool, future: "asyncio.Future[None]") -> None:
        error = None
        try:
            await self._owner.tell_switch(place, on)
        except ConnectionError as failure:
            error = failure
        _end(future, error)

    def _go(self) -> None:
        """Send what is due, tell whoever waits, and come back when there is more."""
        group = self._group
        if group is None:
            return
        now = monotonic()
        for place, on in group.take_unicasts(now):
            self._spawn(self._unicast(group, place, on))
        self._settle()
        if self._timer is not None:
            self._timer.cancel()
        due = group.get_timer()
        loop = asyncio.get_running_loop()
        self._timer = None if due is None else loop.call_later(max(0.0, due - now), self._go)

    def _settle(self) -> None:
        for place, on, is_done in [] if self._group is None else self._group.take_done():
            waiting = self._waiting.pop(place, [])
            why = self._whys.pop(place, None)
            error = None if is_done else ConnectionError(why) if why else _superseded(place)
            for wanted, future in waiting:
                if wanted == on:
                    _end(future, error)
                else:
                    self._waiting.setdefault(place, []).append((wanted, future))

    async def _unicast(self, group: "SwitchGroup", place: SwitchPlace, on: bool) -> None:
        is_taken = False
        self._whys.pop(place, None)
        try:
            await self._owner.tell_switch(place, on)
            is_taken = True
        except ConnectionError as error:
            self._whys[place] = str(error)
        finally:
            group.told(place, on, monotonic(), is_taken=is_taken)
        self._go()

    async def _command(self, group: "SwitchGroup", command: "GroupCommand") -> None:
        application = self._application
        try:
            if application is None:
                raise ConnectionError("the radio is down")
            tsn = int(application.get_sequence())
            async with asyncio.timeout(_LEAVE_S):
                await application.send_packet(group_command(command.group_id, ON_OFF, tsn, int(command.on)))
        except _NOT_THERE as error:
            log.info("the group's command was not sent, each is told alone: %r", error)
            group.command_failed(monotonic())
            self._go()

    def reported(self, place: SwitchPlace, on: bool) -> None:
        """An appliance says whether it is on."""
        if self._group is not None:
            self._group.reported(place, on, monotonic())
            self._go()

    # The group's members

    def _see_who_is_there(self, group: "SwitchGroup") -> None:
        if self._application is not None:
            group.present(*self._owner.switches(), monotonic())

    def _look_after_group(self) -> None:
        if self._group is not None and self._application is not None and self._looking is None:
            work = self._look(self._application, self._group)
            self._looking = asyncio.get_running_loop().create_task(work, name="switch-group")

    async def _look(self, application: Application, group: "SwitchGroup") -> None:
        """Make members and let them go, one question at a time. It ends with the radio's life."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                self._see_who_is_there(group)
                question = group.next_question(monotonic())
                is_durable = await self._save()
                if question is not None and (is_durable or question.kind != "add"):
                    await self._ask(application, group, question, _ASK_S)
                elif question is not None:
                    group.answered(question, monotonic(), None)
            except Exception:
                log.exception("looking after the group")

    async def _ask(
        self, application: Application, group: "SwitchGroup", question: "GroupQuestion", limit_s: float
    ) -> None:
        cluster = self._owner.cluster_at(question.place, GROUPS)
        arguments: dict[str, tuple[Any, ...]] = {
            "membership": ([],),
            "add": (question.group_id, ""),
            "remove": (question.group_id,),
        }
        answer: Any = None
        try:
            if cluster is not None:
                async with asyncio.timeout(limit_s), application.request_priority(t.PacketPriority.LOW):
                    answer = await cluster.command(_COMMANDS[question.kind], *arguments[question.kind])
        except _NOT_THERE as error:
            log.debug("asking %s about its groups: %r", client_id_of(question.place.ieee), error)
        now = monotonic()
        groups = getattr(answer, "groups", None)
        if groups is not None:
            group.answered(question, now, 0, [int(each) for each in groups], int(answer.capacity))
        elif answer is None:
            group.answered(question, now, None)
        elif question.kind == "membership":  # it has the cluster, and not the command: it is in no group
            group.answered(question, now, 0, (), 0)
        else:
            group.answered(question, now, int(answer.status))

    def came_back(self, ieee: str) -> None:
        """A device joined anew: it may have forgotten its groups."""
        if self._group is not None:
            self._group.reset(ieee)

    def went(self, ieee: str) -> None:
        """A device says that it leaves the network."""
        if self._group is not None:
            self._group.excluded(ieee, monotonic())

    async def remove(self, ieee: str) -> None:
        """It is about to be removed from the network for good: it leaves the group before that, if it answers."""
        group, application = self._group, self._application
        if group is None or application is None:
            return
        for question in group.leave(ieee):
            await self._ask(application, group, question, _LEAVE_S)
        group.forgotten(ieee, monotonic())
        await self._save()

    def forget(self) -> None:
        """There is another network: whoever is in a group of the old one is not in this one."""
        if self._group is not None:
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
            self._group = None
            self._file.records.clear()
            for place, waiting in self._waiting.items():
                for _, future in waiting:
                    _end(future, ConnectionError(f"{client_id_of(place.ieee)} was in another network"))
            self._waiting.clear()
            self._spawn(self._erase())

    async def _erase(self) -> None:
        async with self._saving:
            try:
                await asyncio.to_thread(self._file.write, {})
            except OSError as error:
                log.warning("forgetting the group: %s", error)

    async def _save(self) -> bool:
        """Whether all that is known of the group is durable."""
        group = self._group
        if group is None or not group.changed:
            return True
        async with self._saving:
            group.changed = False
            try:
                await asyncio.to_thread(self._file.write, {_RECORD: group.to_record()})
            except OSError as error:
                group.changed = True
                log.warning("saving the group: %s", error)
        return not group.changed

    def figures(self) -> "SwitchGroupFigures | None":
        """For people; None: there is no group."""
        group = self._group
        if group is None or group.group_id is None:
            return None
        return {
            "id": f"0x{group.group_id:04X}",
            "members": sorted({client_id_of(place.ieee) for place in group.members}),
            "unconfirmed": group.unconfirmed,
            "frames": group.frames,
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="switching")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _superseded(place: SwitchPlace) -> ConnectionError:
    return ConnectionError(f"{client_id_of(place.ieee)}: another order took this one's place")


def _end(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
