"""A Zigbee group by which plain appliances that are switched together are switched at once. No I/O.

A command to a group (ZCL 3.6, On/Off 3.8) is one broadcast, which nobody acknowledges. So it is a faster first try and
nothing more: whoever has not reported the new state soon is told by a unicast, as if there were no group. And it must
never reach anybody whom the order does not mean (promise P4). That rests on one rule: it is used only while everybody
who may be in the group is meant. Who "may be" is counted generously: whoever was asked to join and has not confirmed
that he left, and whoever has not said yet that he is not in it.

    no answer yet --not in it--> clear --asked to join (durable first)--> asked --confirmed--> member
                                   ^                                        |                    |
                                   +-------- confirmed that it left --------+-- asked to leave --+

Whom the orders mean is learned from the orders: those who were switched together are asked to join, later and slowly.
Where nobody is, there is no group, and nobody is asked anything. One who does not confirm that he left costs the group
its number: it is given up for good, and the rest get another.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from drivers.zigbee.channel import SwitchPlace
from hub.core.backoff import Pace

# Group identifiers that anybody may use (Zigbee R22, 2.2.4.1.1; ZCL 3.6: from 0xFFF8 on they are reserved).
FIRST_GROUP, LAST_GROUP = 0x0001, 0xFFF7
# A broadcast may still arrive after so long (Zigbee R22, nwkNetworkBroadcastDeliveryTime).
BROADCAST_LIFE_S = 9.0
# Whoever has not reported its new state by then, and so long after the last one that did, is told by a unicast: the
# reports of two hundred come one after the other, on a serial line for four seconds.
PROOF_S, PROOF_MOST_S = 1.0, 6.0
# All members report at the same moment, three frames each. A radio keeps so many until its host has fetched them (the
# emulated one 200) and loses the others, among them its word of what became of other frames. Sixty members fit.
MEMBERS_MOST = 60
# Orders in the same sense that follow each other so soon are one order to many, given one by one.
BREATH_S = 2.0
# A report of an earlier order may be on its way for so long: it proves nothing of a later one.
REPORT_LATE_S = 10.0
# A network carries about nine broadcasts in nine seconds, for everything.
FRAME_SPACING_S, FRAMES_A_MINUTE = 1.0, 4
# Members are made and questions asked when no order was given for so long, one in so many seconds.
QUIET_S, QUESTION_SPACING_S = 30.0, 2.0
# One who was asked to leave has so long to confirm it; and a request to join may arrive so late.
LEAVE_S, JOIN_LATE_S = 120.0, 10.0
# A member that did not hear the group is asked to join once more, this often at most.
_JOIN_AGAIN_S = 3600.0
# Told by a unicast while an opposite broadcast is in the air: told once more after it, until it answers.
_AGAIN_S, _AGAIN_TRIES = 5.0, 12
_RETIRED_MOST, _FOREIGN_MOST = 32, 4096
_PACE = Pace(first_s=60.0, cap_s=3600.0, factor=4.0)
# ZCL 2.6.3
SUCCESS, DUPLICATE_EXISTS, NOT_FOUND = 0x00, 0x8A, 0x8B

QuestionKind = Literal["membership", "add", "remove"]


class GroupQuestion(NamedTuple):
    """What to ask one endpoint's Groups cluster: which groups it is in, to join one, or to leave it."""

    kind: QuestionKind
    place: SwitchPlace
    group_id: int


class GroupCommand(NamedTuple):
    """Switch all members."""

    group_id: int
    on: bool


class _Order:
    """One endpoint is being switched. `due`: when it is told by a unicast, unless it proves its state before."""

    __slots__ = ("due", "is_again", "is_in_group", "is_missed", "may_prove", "on", "proof_until", "tries")

    def __init__(self, on: bool, due: float) -> None:
        self.on = on
        self.due = due
        self.is_in_group = False  # the group's command may have reached it
        self.is_missed = False  # it is in the group, and did not do what that was told
        self.may_prove = False  # a report is an answer to this order, and to no earlier one
        self.proof_until = -math.inf
        self.is_again = False  # whoever gave it has had its answer
        self.tries = 0


class SwitchGroup:
    """`at_least`: fewer than so many are not worth a group. `draw()`: a random number from FIRST_GROUP to LAST_GROUP.

    `changed`: what `to_record` gives is new. It has to be durable before a question to join is put.
    """

    def __init__(self, at_least: int, draw: Callable[[], int], record: dict[str, Any] | None = None) -> None:
        self._at_least = at_least
        self._draw = draw
        self.group_id: int | None = None
        self.changed = False
        self.frames = 0
        self._wanted: frozenset[SwitchPlace] = frozenset()
        self._before: frozenset[SwitchPlace] = frozenset()  # whom the last order to many meant
        # The order that is being given: its sense, when its last part came, whom it means so far.
        self._said: tuple[bool, float, frozenset[SwitchPlace]] = (True, -math.inf, frozenset())
        self._may: dict[SwitchPlace, bool] = {}  # who may be in the group; True: it confirmed that it is
        self._clear: set[SwitchPlace] = set()  # who said that it is not
        self._refused: set[SwitchPlace] = set()  # no room for another group, or none at all
        self._foreign: set[int] = set()  # groups that the home has: left alone
        self._retired: OrderedDict[int, set[SwitchPlace]] = OrderedDict()  # given up, and who may still be in them
        self._there: frozenset[SwitchPlace] | None = None  # None: it is not known who is
        self._plain: frozenset[SwitchPlace] = frozenset()
        self._asked_at: dict[SwitchPlace, float] = {}  # to join
        self._leaving_since: dict[SwitchPlace, float] = {}
        self._joined_again_at: dict[SwitchPlace, float] = {}
        self._tries: dict[GroupQuestion, tuple[int, float]] = {}
        self._quiet_at = self._question_at = float("-inf")
        self._orders: dict[SwitchPlace, _Order] = {}
        self._flying: dict[SwitchPlace, tuple[bool, float]] = {}  # unicasts under way, since when
        self._latest: dict[SwitchPlace, tuple[bool, float]] = {}  # what each was ordered last, and when
        self._states: dict[SwitchPlace, bool] = {}
        self._sent: deque[tuple[float, GroupCommand, frozenset[SwitchPlace]]] = deque(maxlen=FRAMES_A_MINUTE)
        self._done: list[tuple[SwitchPlace, bool, bool]] = []
        if record:
            self._recall(record)

    # Who is there

    def present(self, there: Iterable[SwitchPlace], plain: Iterable[SwitchPlace], now: float) -> None:
        """All endpoints that could be in a group and hear it; those among them that have nothing but a switch."""
        self._there, self._plain = frozenset(there), frozenset(plain)
        if now - self._said[1] >= BREATH_S:
            self._learn(now)
        self._want(self._wanted - (self._there - self._plain), now)

    def detached(self) -> None:
        """The radio is gone: nobody knows who is there when it is back."""
        self._there = None

    def excluded(self, ieee: str, now: float) -> None:
        """This device may not be switched with the others any more: it left, or is something else."""
        self._want(frozenset(place for place in self._wanted if place.ieee != ieee), now)

    def forgotten(self, ieee: str, now: float) -> None:
        """It was removed from the network, and told to leave the group before that if it could be (`leave`). If it did
        not confirm that, the group is given up at once."""
        self.excluded(ieee, now)
        if any(place.ieee == ieee for place in self._may):
            self._retire()
        for places in (self._clear, self._refused, *self._retired.values()):
            gone = {place for place in places if place.ieee == ieee}
            places -= gone
            self.changed = self.changed or bool(gone)
        for table in (self._states, self._latest, self._asked_at, self._joined_again_at):
            for place in [place for place in table if place.ieee == ieee]:
                del table[place]

    def reset(self, ieee: str) -> None:
        """It came back and may have forgotten its groups: it is asked to join again."""
        for place in self._may:
            if place.ieee == ieee and self._may[place]:
                self._may[place], self.changed = False, True

    def holders(self) -> frozenset[SwitchPlace]:
        """Everybody who may be in the group: whoever is not known not to be."""
        unknown = () if self._there is None else self._there - self._clear
        return frozenset((*self._may, *unknown))

    @property
    def members(self) -> list[SwitchPlace]:
        """Who confirmed that it is in the group, and did not leave it since."""
        return sorted(place for place, is_sure in self._may.items() if is_sure and place not in self._leaving_since)

    @property
    def unconfirmed(self) -> int:
        """How many were asked to join or to leave and have not confirmed it."""
        return len(self._may) - len(self.members)

    # Orders

    def order(self, targets: Iterable[SwitchPlace], on: bool, now: float) -> GroupCommand | None:
        """Switch these at the same moment. The command to the group, where that may be used; `take_unicasts` has the
        rest. An order to the contrary that one of them had before is over, and not done."""
        targets = frozenset(targets)
        self._quiet_at = now + QUIET_S
        if self._said[0] != on or now - self._said[1] >= BREATH_S:
            self._learn(now)
        self._said = (on, now, self._said[2] | targets)
        for place in targets:
            older = self._orders.pop(place, None)
            if older is not None and older.on != on and not older.is_again:
                self._done.append((place, older.on, False))
            order = self._orders[place] = _Order(on, now)
            order.may_prove = now - self._latest.get(place, (on, -math.inf))[1] >= REPORT_LATE_S
            self._latest[place] = (on, now)
        command = self._command(targets, on, now)
        if command is not None:
            members = frozenset(self.members)
            for place in targets:
                # The others have their turn once the members have reported: both at once is more than a line carries.
                self._orders[place].is_in_group = place in members
                self._orders[place].due = now + PROOF_S
                self._orders[place].proof_until = now + PROOF_MOST_S
            self._sent.append((now, command, self.holders()))
            self.frames += 1
        return command

    def _command(self, targets: frozenset[SwitchPlace], on: bool, now: float) -> GroupCommand | None:
        if self.group_id is None or self._there is None:
            return None
        meant = {place for place, (sense, at) in self._latest.items() if sense == on and now - at < BREATH_S}
        meant |= {place for place, order in self._orders.items() if order.on == on and not order.is_again}
        holders = self.holders()
        may_be_used = (
            holders <= meant
            and len(targets.intersection(self.members)) >= self._at_least
            and not any(self._flying.get(place, (on,))[0] != on for place in holders)
            and self._has_budget(now)
            and not any(command.on != on for _, command, _ in self._in_air(now))
        )
        return GroupCommand(self.group_id, on) if may_be_used else None

    def _has_budget(self, now: float) -> bool:
        if self._sent and now - self._sent[-1][0] < FRAME_SPACING_S:
            return False
        return len(self._sent) < FRAMES_A_MINUTE or now - self._sent[0][0] >= 60.0

    def _in_air(self, now: float) -> list[tuple[float, GroupCommand, frozenset[SwitchPlace]]]:
        return [sent for sent in self._sent if now - sent[0] < BROADCAST_LIFE_S]

    def _learn(self, now: float) -> None:
        """An order to many has come to its end. Those whom it means, and the next one too, are worth a group."""
        on, at, targets = self._said
        self._said = (on, at, frozenset())
        if len(targets) < self._at_least:
            return
        plain = self._few(targets & self._plain - self._refused)
        both, self._before = self._before & plain, plain
        if not self._wanted:
            self._want(plain, now)
        elif len(both) >= self._at_least and (not self._wanted <= targets or len(both) > len(self._wanted)):
            self._want(both, now)

    def _few(self, places: frozenset[SwitchPlace]) -> frozenset[SwitchPlace]:
        """As many of them as may be in a group; first those who are."""
        return frozenset(sorted(places, key=lambda place: (place not in self._wanted, place))[:MEMBERS_MOST])

    def command_failed(self, now: float) -> None:
        """The radio did not send the group's command, or does not say so."""
        for order in self._orders.values():
            if now < order.due <= order.proof_until:
                order.due, order.may_prove = now, False

    def reported(self, place: SwitchPlace, on: bool, now: float) -> None:
        """It says what state it is in."""
        self._states[place] = on
        order = self._orders.get(place)
        if order is None or not order.is_in_group or order.due <= now or place in self._flying:
            return
        if order.on != on:
            order.due = now
        elif order.may_prove:
            self._finish(place, order, True)
            waiting = [other for other in self._orders.values() if now < other.due < other.proof_until]
            is_last = not any(other.is_in_group for other in waiting)
            for other in waiting:
                other.due = now if is_last else max(other.due, min(now + PROOF_S, other.proof_until))

    def take_unicasts(self, now: float) -> list[tuple[SwitchPlace, bool]]:
        """Whom to tell now, and what; `told` for each afterwards."""
        due = []
        for place, order in self._orders.items():
            if order.due <= now and place not in self._flying:
                self._flying[place] = (order.on, now)
                order.is_missed = order.is_in_group and self._states.get(place) not in (None, order.on)
                due.append((place, order.on))
        return due

    def told(self, place: SwitchPlace, on: bool, now: float, *, is_taken: bool) -> None:
        """A unicast was acknowledged by the appliance, or was not."""
        _, sent_at = self._flying.pop(place, (on, now))
        order = self._orders.get(place)
        if order is None or order.on != on:
            return  # another order took its place: that is told now
        if is_taken and order.is_missed:
            self._missed(place, now)
        if is_taken:
            self._states[place] = on
        order.tries += 1
        opposite = [at for at, command, to in self._in_air(sent_at) if command.on != on and place in to]
        if not is_taken and order.is_again and order.tries < _AGAIN_TRIES:
            order.due = now + _AGAIN_S
        elif opposite:
            # A broadcast that says the opposite may have reached it after this, or may still.
            self._finish(place, order, is_taken)
            again = self._orders[place] = _Order(on, max(opposite) + BROADCAST_LIFE_S)
            again.is_again = True
        else:
            self._finish(place, order, is_taken)

    def _missed(self, place: SwitchPlace, now: float) -> None:
        """It is a member, and did not hear the group: it may have lost that."""
        if self._may.get(place) and now - self._joined_again_at.get(place, -math.inf) >= _JOIN_AGAIN_S:
            self._joined_again_at[place] = now
            self._may[place], self.changed = False, True

    def _finish(self, place: SwitchPlace, order: _Order, is_taken: bool) -> None:
        del self._orders[place]
        if not order.is_again:
            self._done.append((place, order.on, is_taken))

    def take_done(self) -> list[tuple[SwitchPlace, bool, bool]]:
        """Orders that came to an end: whom, what, whether it was done."""
        done, self._done = self._done, []
        return done

    def get_timer(self) -> float | None:
        """When `take_unicasts` is worth calling."""
        return min((order.due for place, order in self._orders.items() if place not in self._flying), default=None)

    # Membership

    def _want(self, wanted: frozenset[SwitchPlace], now: float) -> None:
        if len(wanted) < self._at_least:
            wanted = frozenset()
        if wanted == self._wanted:
            return
        self._wanted, self.changed = wanted, True
        if wanted and self.group_id is None:
            self._draw_group()
        for place in self._may:
            if place not in wanted:
                self._leaving_since.setdefault(place, now)
        for place in wanted.intersection(self._leaving_since):
            del self._leaving_since[place]
            if place in self._may:
                self._may[place] = False  # it may have left: it is asked to join again

    def _draw_group(self) -> None:
        self.changed = True
        taken = self._foreign | self._retired.keys()
        while (drawn := self._draw()) in taken:
            pass
        self.group_id = drawn

    def _retire(self) -> None:
        """Give the group's number up for good. Whoever was in it has said which groups it is in: not in the next."""
        if self.group_id is None:
            return
        self._retired[self.group_id] = set(self._may)
        while len(self._retired) > _RETIRED_MOST:
            self._retired.popitem(last=False)
        self._clear |= self._may.keys()
        self._may.clear()
        self._leaving_since.clear()
        self._tries.clear()
        self.group_id, self.changed = None, True
        if self._wanted:
            self._draw_group()

    def next_question(self, now: float) -> GroupQuestion | None:
        """What to ask now, if it is quiet; `answered` afterwards. While `changed` is set it has to be made durable
        first."""
        if any(now - since >= LEAVE_S for since in self._leaving_since.values()):
            self._retire()
        if self._there is None or now < max(self._quiet_at, self._question_at) or self._orders:
            return None
        for question in self._questions(now):
            if self._tries.get(question, (0, -math.inf))[1] <= now:
                self._question_at = now + QUESTION_SPACING_S
                if question.kind == "add":
                    self._may[question.place], self._asked_at[question.place] = False, now
                    self._clear.discard(question.place)
                    self.changed = True
                return question
        return None

    def _questions(self, now: float) -> Iterable[GroupQuestion]:
        there, group_id = self._there or frozenset(), self.group_id
        if group_id is not None:
            for place in sorted(self._leaving_since.keys() & there):
                if now - self._asked_at.setdefault(place, now) >= JOIN_LATE_S:
                    yield GroupQuestion("remove", place, group_id)
            if self._wanted:
                for place in sorted(there - self._clear - self._may.keys()):
                    yield GroupQuestion("membership", place, group_id)
            for place in sorted(self._wanted & there - self._refused):
                if place in self._clear or self._may.get(place) is False:
                    yield GroupQuestion("add", place, group_id)
        for retired, holders in self._retired.items():
            for place in sorted(holders & there):
                if now - self._asked_at.setdefault(place, now) >= JOIN_LATE_S:
                    yield GroupQuestion("remove", place, retired)

    def answered(
        self, question: GroupQuestion, now: float, status: int | None, groups: Iterable[int] = (), room: int = 0xFF
    ) -> None:
        """What became of a question. `status`: of ZCL, None: no answer; `groups`, `room`: to a question of membership
        (Get Group Membership Response, ZCL 3.6.2.4.3)."""
        place = question.place
        if status is None:
            tries = self._tries.get(question, (0, 0.0))[0]
            self._tries[question] = (tries + 1, now + _PACE.ceiling_s(tries))
            return
        self._tries.pop(question, None)
        if question.group_id != self.group_id:
            if question.kind == "remove" and status in (SUCCESS, NOT_FOUND) and question.group_id in self._retired:
                self._retired[question.group_id].discard(place)
                self.changed = True
            return
        if question.kind == "membership":
            self._take_membership(place, frozenset(groups), room, now)
        elif question.kind == "add":
            self._take_add(place, status, now)
        elif status in (SUCCESS, NOT_FOUND):
            self.left(place)
        else:  # it does not do as the specification says: what it is in, nobody knows
            self._tries[question] = (1, now + _PACE.ceiling_s(0))

    def _take_membership(self, place: SwitchPlace, groups: frozenset[int], room: int, now: float) -> None:
        self.changed = True
        for group in groups - self._retired.keys() - {self.group_id}:
            if len(self._foreign) < _FOREIGN_MOST:
                self._foreign.add(group)
        if self.group_id in groups:
            # Somebody else's group has this number, or one of ours that is forgotten: it is left alone.
            self._retire()
        self._clear.add(place)
        if not room:
            self._refused.add(place)
            self._want(self._wanted - {place}, now)

    def _take_add(self, place: SwitchPlace, status: int, now: float) -> None:
        self.changed = True
        if status in (SUCCESS, DUPLICATE_EXISTS):
            self._may[place] = True
            return
        # It says no. That it is not in is believed once it has confirmed that it is out.
        self._refused.add(place)
        self._want(self._wanted - {place}, now)
        if place in self._may:
            self._leaving_since.setdefault(place, now)

    def left(self, place: SwitchPlace) -> None:
        """It confirmed that it is not in the group."""
        self._may.pop(place, None)
        self._leaving_since.pop(place, None)
        self._clear.add(place)
        self.changed = True
        if not self._wanted and not self._may:
            self._retire()

    def leave(self, ieee: str) -> list[GroupQuestion]:
        """It is about to be removed from the network: what to ask it before that."""
        if self.group_id is None:
            return []
        return [GroupQuestion("remove", place, self.group_id) for place in self._may if place.ieee == ieee]

    # What is kept

    def to_record(self) -> dict[str, Any]:
        """All that has to outlive a restart, ready for JSON."""
        return {
            "group": self.group_id,
            "wanted": sorted(map(str, self._wanted)),
            "may": {str(place): is_sure for place, is_sure in self._may.items()},
            "clear": sorted(map(str, self._clear)),
            "refused": sorted(map(str, self._refused)),
            "foreign": sorted(self._foreign),
            "retired": {str(group): sorted(map(str, holders)) for group, holders in self._retired.items()},
        }

    def _recall(self, record: dict[str, Any]) -> None:
        """Raises nothing: of a damaged record nothing is taken, and its group is never used again."""
        try:
            group_id = record["group"]
            if group_id is not None and not (type(group_id) is int and FIRST_GROUP <= group_id <= LAST_GROUP):
                raise ValueError(group_id)
            wanted = frozenset(map(_place, record["wanted"]))
            may = {_place(text): is_sure is True for text, is_sure in record["may"].items()}
            clear, refused = set(map(_place, record["clear"])), set(map(_place, record["refused"]))
            foreign = {int(group) for group in record["foreign"]}
            retired = [(int(group), set(map(_place, holders))) for group, holders in record["retired"].items()]
        except (AttributeError, KeyError, TypeError, ValueError):
            return
        self.group_id, self._wanted, self._may = group_id, wanted, may
        self._clear, self._refused, self._foreign = clear - may.keys(), refused, foreign
        self._retired = OrderedDict(retired)
        # They were asked before the restart, and have not confirmed it: their time is over.
        self._leaving_since = {place: -math.inf for place in may if place not in wanted}


def _place(text: str) -> SwitchPlace:
    ieee, _, endpoint = text.partition(":")
    return SwitchPlace(ieee, int(endpoint))
