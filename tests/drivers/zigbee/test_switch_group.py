"""The group by which appliances are switched at once: whom it may reach, whatever is lost, late, or forgotten."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from drivers.zigbee.channel import SwitchPlace
from drivers.zigbee.switch_group import (
    BREATH_S,
    BROADCAST_LIFE_S,
    JOIN_LATE_S,
    LEAVE_S,
    MEMBERS_MOST,
    NOT_FOUND,
    PROOF_S,
    QUIET_S,
    SUCCESS,
    GroupCommand,
    GroupQuestion,
    SwitchGroup,
)

INSUFFICIENT_SPACE = 0x89
AT_LEAST = 3
HOME = [SwitchPlace(f"{n:016x}", 1) for n in range(6)]
SEVERAL = st.sets(st.sampled_from(HOME), min_size=1)
REPORT_MOST_S = 8.0
HOMES_OWN = 0x2000  # a group that a remote of the home made


def draws(*ids: int) -> Callable[[], int]:
    return iter([*ids, *range(0x2001, 0x3000)]).__next__


class Home:
    """Six appliances, and a network on which everything can be lost or late. Its clock jumps."""

    def __init__(self, seed: int, group: SwitchGroup) -> None:
        self.now = 1000.0
        self.dice = random.Random(seed)
        self.group = group
        self.saved: dict[str, Any] = group.to_record()
        self.groups: dict[SwitchPlace, set[int]] = {place: set() for place in HOME}
        self.groups[HOME[0]].add(HOMES_OWN)
        self.on = dict.fromkeys(HOME, True)
        self.room = dict.fromkeys(HOME, 16)
        self.there, self.plain = set(HOME), set(HOME)
        self.ordered: dict[SwitchPlace, bool] = {}  # what was ordered last, of those whose order was done
        self.under_way: dict[SwitchPlace, bool] = {}
        self.said: dict[SwitchPlace, tuple[bool, float]] = {}
        self.is_bad = True  # whether the network loses anything
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), what))

    def advance(self, until: float) -> None:
        """Everything that happens until then, and what the driver does (switching.py): ask, tell, save."""
        while True:
            timer = self.group.get_timer()
            due = min(timer if timer is not None else until, self._events[0][0] if self._events else until, until)
            self.now = max(self.now, due)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self.drive()
            if due >= until:
                return

    def drive(self) -> None:
        for place, on in self.group.take_unicasts(self.now):
            self._unicast(place, on)
        for place, on, is_done in self.group.take_done():
            if self.under_way.get(place) == on:
                del self.under_way[place]
                if is_done:
                    self.ordered[place] = on
                else:
                    self.ordered.pop(place, None)

    def order(self, targets: Iterable[SwitchPlace], on: bool) -> GroupCommand | None:
        self.group.present(self.there, self.plain, self.now)
        command = self.group.order(targets, on, self.now)
        self.drive()  # what it took the place of
        self.under_way |= dict.fromkeys(targets, on)
        self.said |= dict.fromkeys(targets, (on, self.now))
        if command is not None:
            meant = {place for place, each in self.under_way.items() if each == on}
            meant |= {place for place, (each, at) in self.said.items() if each == on and self.now - at < BREATH_S}
            members = {place for place in HOME if command.group_id in self.groups[place]}
            assert members <= meant, "nobody may be in the group whom this order does not mean (P4)"
            for place in HOME:
                if not self.is_bad or self.dice.random() < 0.7:
                    # Who is a member is seen when it arrives: a request to join may overtake it.
                    late_s = self.dice.uniform(0, BROADCAST_LIFE_S) if self.is_bad else 0.1
                    self.at(late_s * 0.999, lambda place=place: self._hear(place, command, meant))
            if self.is_bad and self.dice.random() < 0.1:
                self.group.command_failed(self.now)
        self.drive()
        return command

    def _hear(self, place: SwitchPlace, command: GroupCommand, meant: set[SwitchPlace]) -> None:
        if command.group_id in self.groups[place]:
            assert place in meant, "nor anybody who has joined since"
            self._switch(place, command.on)

    def _switch(self, place: SwitchPlace, on: bool) -> None:
        if self.on[place] != on and not (self.is_bad and self.dice.random() < 0.2):
            late_s = self.dice.uniform(0, REPORT_MOST_S) if self.is_bad else 0.2
            self.at(late_s, lambda: self.group.reported(place, on, self.now))
        self.on[place] = on

    def _unicast(self, place: SwitchPlace, on: bool) -> None:
        group = self.group
        is_lost = self.is_bad and self.dice.random() < 0.15
        is_unheard = is_lost or (self.is_bad and self.dice.random() < 0.1)
        reach_s, answer_s = self.dice.uniform(0, 1.0), self.dice.uniform(1.0, 3.0)
        if not is_lost:
            self.at(reach_s, lambda: self._switch(place, on))

        def told() -> None:
            group.told(place, on, self.now, is_taken=not is_unheard)

        self.at(answer_s, told)

    def look(self) -> None:
        """One look of the driver: who is there, one question, what is new is saved first."""
        self.group.present(self.there, self.plain, self.now)
        question = self.group.next_question(self.now)
        is_saved = not (self.is_bad and self.dice.random() < 0.05)
        if is_saved:
            self.saved, self.group.changed = self.group.to_record(), False
        if question is not None and (is_saved or question.kind != "add"):
            self._ask(question)
        elif question is not None:
            self.group.answered(question, self.now, None)

    def _ask(self, question: GroupQuestion) -> None:
        group, place = self.group, question.place
        is_lost = self.is_bad and self.dice.random() < 0.2
        is_unheard = self.is_bad and self.dice.random() < 0.2
        reach_s = self.dice.uniform(0, JOIN_LATE_S * 0.99) if is_unheard else 0.1

        def arrive() -> None:
            mine = self.groups[place]
            if question.kind == "membership":
                answer = (SUCCESS, sorted(mine), self.room[place] - len(mine))
            elif question.kind == "add":
                is_full = question.group_id not in mine and len(mine) >= self.room[place]
                if not is_full:
                    mine.add(question.group_id)
                answer = (INSUFFICIENT_SPACE if is_full else SUCCESS, [], 0)
            else:
                answer = (SUCCESS if question.group_id in mine else NOT_FOUND, [], 0)
                mine.discard(question.group_id)
            if not is_unheard:
                group.answered(question, self.now, *answer)

        if not is_lost:
            self.at(reach_s, arrive)
        if is_lost or is_unheard:
            self.at(12.0, lambda: group.answered(question, self.now, None))
        self.advance(self.now + (12.0 if is_lost or is_unheard else 0.2))

    def restart(self, record: dict[str, Any] | None) -> None:
        """The hub is killed. Whoever had ordered something has no answer to it."""
        for place in self.under_way:
            self.ordered.pop(place, None)
        self.under_way.clear()
        self.advance(self.now + BROADCAST_LIFE_S)
        # Its numbers begin anew: one of before that is forgotten may come again. Not one of a device that was removed
        # and did not hear of it: whom nobody knows nobody can ask: there is chance alone, 1 in 65,527.
        unknown = set().union(*(self.groups[place] for place in HOME if place not in self.there))
        numbers = (number for number in range(HOMES_OWN, 0x3000) if number not in unknown)
        self.group = SwitchGroup(AT_LEAST, numbers.__next__, record)

    def settle(self) -> None:
        """Nothing is lost from now on, and everything comes to its end."""
        self.is_bad = False
        self.advance(self.now + 120.0)


class AnyHome(RuleBasedStateMachine):
    """Orders, joins, departures, restarts and losses in any order. What must hold is asserted in `Home` at each frame;
    at the end every appliance is as it was told last, unless it was said that this could not be done."""

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.home = Home(seed, SwitchGroup(AT_LEAST, draws(HOMES_OWN)))

    @rule(whom=SEVERAL, on=st.booleans())
    def order(self, whom: set[SwitchPlace], on: bool) -> None:
        self.home.order(whom, on)

    @rule(on=st.booleans(), but=st.sampled_from([None, *HOME]))
    def order_all(self, on: bool, but: SwitchPlace | None) -> None:
        self.home.order([place for place in HOME if place != but], on)

    @rule(on=st.booleans())
    def order_those_who_confirmed(self, on: bool) -> None:
        self.home.order(self.home.group.members, on)

    @rule(seed=st.integers(0, 1 << 32))
    def two_days(self, seed: int) -> None:
        """A group of some, and then, while much is lost, of others: and an order to exactly those who confirmed."""
        dice = random.Random(seed)
        for _ in range(2):
            self.home.order(dice.sample(HOME, dice.randint(AT_LEAST, len(HOME))), dice.random() < 0.5)
            self.quiet(dice.randint(5, 30))
            self.order_those_who_confirmed(dice.random() < 0.5)
            self.wait(20.0)

    @rule()
    def the_record_is_lost_and_those_who_answer_make_a_group(self) -> None:
        home = self.home
        home.restart(None)
        whom = HOME[:AT_LEAST]
        home.order(whom, True)
        self.quiet(12)
        home.order(whom, False)

    @rule(delay_s=st.floats(0.01, 12.0))
    def wait(self, delay_s: float) -> None:
        self.home.advance(self.home.now + delay_s)

    @rule(looks=st.integers(1, 40))
    def quiet(self, looks: int) -> None:
        self.home.advance(self.home.now + QUIET_S)
        for _ in range(looks):
            self.home.advance(self.home.now + 2.0)
            self.home.look()

    @rule()
    def a_good_day(self) -> None:
        """Nothing is lost for a while: there is a group of all who are there."""
        home = self.home
        home.is_bad = False
        home.advance(home.now + 30.0)
        for _ in range(2):
            formed(home, home.plain)
        home.is_bad = True

    @rule()
    def long_quiet(self) -> None:
        self.home.advance(self.home.now + LEAVE_S)
        self.quiet(30)

    @rule(place=st.sampled_from(HOME))
    def protect(self, place: SwitchPlace) -> None:
        self.home.plain.discard(place)

    @rule(place=st.sampled_from(HOME))
    def unprotect(self, place: SwitchPlace) -> None:
        if place in self.home.there:
            self.home.plain.add(place)

    @rule(place=st.sampled_from(HOME))
    def leaves(self, place: SwitchPlace) -> None:
        self.home.group.excluded(place.ieee, self.home.now)

    @rule(place=st.sampled_from(HOME[1:]), is_reset=st.booleans())
    def is_removed(self, place: SwitchPlace, is_reset: bool) -> None:
        home = self.home
        home.there.discard(place)
        home.plain.discard(place)
        # What it has of a life of the hub that is forgotten, whom nobody knows nobody can ask: see `restart`.
        home.groups[place] &= {home.group.group_id, *home.group._retired}
        home.group.forgotten(place.ieee, home.now)
        if is_reset:
            home.groups[place].clear()

    @rule(place=st.sampled_from(HOME))
    def is_there_again(self, place: SwitchPlace) -> None:
        self.home.there.add(place)

    @rule(place=st.sampled_from(HOME[1:]), is_seen=st.booleans())
    def loses_its_groups(self, place: SwitchPlace, is_seen: bool) -> None:
        self.home.groups[place].clear()
        if is_seen:
            self.home.group.reset(place.ieee)

    @rule(place=st.sampled_from(HOME), room=st.sampled_from([0, 1, 16]))
    def has_room(self, place: SwitchPlace, room: int) -> None:
        self.home.room[place] = max(room, len(self.home.groups[place]))

    @rule(is_kept=st.booleans())
    def restart(self, is_kept: bool) -> None:
        self.home.restart(self.home.saved if is_kept else None)

    @rule()
    def the_radio_goes(self) -> None:
        self.home.group.detached()

    def teardown(self) -> None:
        if not hasattr(self, "home"):
            return
        home = self.home
        home.settle()
        assert not home.under_way, "every order comes to an end"
        assert {place: home.on[place] for place in home.ordered} == home.ordered


TestAnyHome = AnyHome.TestCase
TestAnyHome.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def formed(home: Home, whom: Iterable[SwitchPlace] = HOME) -> None:
    """Have everybody in the group."""
    if whom := set(whom):
        home.order(whom, True)
    home.advance(home.now + QUIET_S + 5)
    for _ in range(30):
        home.advance(home.now + 2.0)
        home.look()


def quiet_home() -> Home:
    home = Home(1, SwitchGroup(AT_LEAST, draws(0x0077)))
    home.is_bad = False
    return home


def test_who_is_switched_together_is_in_the_group_the_next_time() -> None:
    home = quiet_home()
    assert home.order(HOME, True) is None
    formed(home)
    assert home.group.members == HOME
    command = home.order(HOME, False)
    assert command == GroupCommand(0x0077, False)
    told: list[SwitchPlace] = []
    unicast = home._unicast
    home._unicast = lambda place, on: (told.append(place), unicast(place, on))[1]  # type: ignore[method-assign]
    home.advance(home.now + 5)
    assert not any(home.on.values())
    assert told == [], "each has proved its state by its report"


def test_what_is_ordered_one_by_one_in_a_breath_is_one_order() -> None:
    home = quiet_home()
    home.order(HOME[:1], True)
    home.advance(home.now + BREATH_S / 2)
    home.order(HOME[1:], True)
    formed(home, [])
    assert home.group.members == HOME
    home.order(HOME[:1], False)
    home.advance(home.now + BREATH_S * 0.9)
    assert home.order(HOME[1:], False) is not None
    home.advance(home.now + 60)
    home.order(HOME[:1], True)
    home.advance(home.now + 2 * BREATH_S)
    assert home.order(HOME[1:], True) is None, "that is another order"
    home.advance(home.now + 60)
    home.order(HOME[:1], True)
    home.order(HOME[:1], False)
    assert home.order(HOME[1:], True) is None, "the newest counts"


def test_few_at_once_and_a_home_without_such_orders_have_no_group() -> None:
    home = quiet_home()
    home.order(HOME[: AT_LEAST - 1], True)
    home.advance(home.now + 60)
    home.look()
    assert home.group.group_id is None
    assert home.group.next_question(home.now + 600) is None


def test_whom_an_order_does_not_mean_is_never_reached_and_then_asked_to_leave() -> None:
    home = quiet_home()
    formed(home)
    assert home.order(HOME[:-1], False) is None, "the last one is a member, and not meant"
    home.advance(home.now + QUIET_S + JOIN_LATE_S + 5)
    for _ in range(10):
        home.advance(home.now + 2.0)
        home.look()
    assert HOME[-1] not in home.group.holders()
    assert 0x0077 not in home.groups[HOME[-1]]
    assert home.order(HOME[:-1], True) is not None


def test_one_who_does_not_confirm_that_he_left_costs_the_group_its_number() -> None:
    home = quiet_home()
    formed(home)
    home.order(HOME[:-1], False)
    home.there.discard(HOME[-1])  # it is out of reach, and still a member for all that is known
    home.advance(home.now + QUIET_S)
    home.look()
    home.advance(home.now + LEAVE_S)
    for _ in range(10):
        home.advance(home.now + 2.0)
        home.look()
    assert home.group.group_id not in (None, 0x0077)
    assert 0x0077 in home.groups[HOME[-1]]
    command = home.order(HOME[:-1], True)
    assert command is not None and command.group_id != 0x0077
    home.advance(home.now + 60)
    home.there.add(HOME[-1])
    home.look()
    assert home.group._retired[0x0077] == set(HOME[-1:]) or 0x0077 not in home.groups[HOME[-1]]


def test_a_member_that_misses_the_broadcast_is_told_and_asked_to_join_again() -> None:
    home = quiet_home()
    formed(home)
    home.groups[HOME[2]].clear()
    assert home.order(HOME, False) is not None
    home.advance(home.now + PROOF_S / 2)
    assert home.on[HOME[2]], "it did not hear the group"
    home.advance(home.now + 5)
    assert not home.on[HOME[2]]
    assert HOME[2] not in home.group.members
    home.advance(home.now + QUIET_S)
    home.look()
    home.advance(home.now + 1)
    assert home.group.members == HOME


def test_an_order_is_given_again_once_a_broadcast_to_the_contrary_cannot_arrive_any_more() -> None:
    home = quiet_home()
    formed(home)
    began = home.now
    home.order(HOME, False)
    home.advance(began + 2)
    home.order(HOME[:1], True)
    home.advance(began + 4)
    home._switch(HOME[0], False)  # the broadcast, passed on by a neighbour that was busy
    home.advance(began + BROADCAST_LIFE_S - 0.1)
    assert not home.on[HOME[0]]
    home.advance(began + BROADCAST_LIFE_S + 2)
    assert home.on[HOME[0]]


def test_broadcasts_are_few() -> None:
    home = quiet_home()
    formed(home)
    sent = [home.order(HOME, False) is not None for _ in range(60) if home.advance(home.now + 1) is None]
    assert sum(sent) == 4
    home.advance(home.now + 60)
    assert home.order(HOME, False) is not None
    home.advance(home.now + 0.5)
    assert home.order(HOME, False) is None, "one a second"


def test_a_group_is_no_larger_than_its_reports_are_welcome() -> None:
    places = [SwitchPlace(f"{n:016x}", 1) for n in range(3 * MEMBERS_MOST)]
    group = SwitchGroup(AT_LEAST, draws())
    group.present(places, places, 0.0)
    group.order(places, True, 0.0)
    group.present(places, places, BREATH_S)
    assert group.to_record()["wanted"] == [str(place) for place in places[:MEMBERS_MOST]]
    group.order(places[3:], True, 60.0)
    group.present(places, places, 60.0 + BREATH_S)
    wanted = group.to_record()["wanted"]
    assert set(map(str, places[3:MEMBERS_MOST])) <= set(wanted) and len(wanted) <= MEMBERS_MOST


def test_one_without_room_is_left_out() -> None:
    home = quiet_home()
    home.room[HOME[3]] = 0
    formed(home)
    assert home.group.members == [place for place in HOME if place != HOME[3]]
    assert home.order(HOME, False) is not None
    home.advance(home.now + 5)
    assert not home.on[HOME[3]]


def test_a_group_that_the_home_has_is_left_alone() -> None:
    home = Home(1, SwitchGroup(AT_LEAST, draws(HOMES_OWN, 0x0101)))
    home.is_bad = False
    formed(home)
    formed(home)
    assert home.group.group_id == 0x0101
    assert [place for place in HOME if HOMES_OWN in home.groups[place]] == HOME[:1], "as it was"


def test_nobody_is_asked_to_join_before_that_is_durable() -> None:
    home = quiet_home()
    home.order(HOME, True)
    home.advance(home.now + QUIET_S + 5)
    for _ in range(40):
        home.advance(home.now + 2.0)
        home.group.present(home.there, home.plain, home.now)
        question = home.group.next_question(home.now)
        if question is not None and question.kind == "add":
            assert home.group.changed
            assert str(question.place) in home.group.to_record()["may"]
            return
        if question is not None:
            home._ask(question)
    raise AssertionError("nobody was asked to join")


def test_a_damaged_record_is_no_record() -> None:
    for record in ({"group": 0}, {"group": 7}, {"group": 0xFFFF, "wanted": []}, {"wanted": 3}, {"group": "x"}):
        assert SwitchGroup(AT_LEAST, draws(), record).group_id is None


def test_one_who_may_have_joined_counts_as_a_member() -> None:
    home = quiet_home()
    home.order(HOME, True)
    home.advance(home.now + QUIET_S + 5)
    unheard = HOME[1]
    for _ in range(30):
        home.advance(home.now + 2.0)
        home.group.present(home.there, home.plain, home.now)
        question = home.group.next_question(home.now)
        if question is not None and question.kind == "add" and question.place == unheard:
            home.groups[unheard].add(question.group_id)  # it joined; its answer is lost
            home.group.answered(question, home.now, None)
        elif question is not None:
            home._ask(question)
    assert home.group.members == [place for place in HOME if place != unheard]
    assert home.order(home.group.members, False) is None
    home.advance(home.now + 5)
    assert home.on[unheard]
    assert home.order(HOME, True) is not None, "meant with the others it does no harm"
    home.advance(home.now + 60)
    home.group.reset(unheard.ieee)
    home.there.discard(unheard)  # the radio's database lost it, and its device is where it was
    home.plain.discard(unheard)
    assert home.order([place for place in HOME if place != unheard], False) is None


def test_a_number_of_before_that_is_forgotten_is_not_used_where_somebody_may_still_have_it() -> None:
    home = quiet_home()
    formed(home)
    home.restart(None)
    home.group = SwitchGroup(AT_LEAST, draws(0x0077, 0x0078))  # chance gives the same number again
    home.order(HOME[:4], True)
    home.advance(home.now + QUIET_S + 5)
    for _ in range(30):
        home.advance(home.now + 2.0)
        home.group.present(home.there, home.plain, home.now)
        question = home.group.next_question(home.now)
        if question is not None and question.place == HOME[5]:
            home.group.answered(question, home.now, None)  # it is asleep, or switched off at the wall
        elif question is not None:
            home._ask(question)
    assert home.group.group_id == 0x0078
    assert home.order(HOME[:4], False) is None, "one has not said which groups it is in"


def test_one_of_whom_nothing_is_known_stands_in_the_way() -> None:
    home = quiet_home()
    home.there.discard(HOME[5])
    home.plain.discard(HOME[5])
    formed(home, HOME[:5])
    assert home.group.members == HOME[:5]
    home.there.add(HOME[5])  # it has just joined
    assert home.order(HOME[:5], False) is None


def test_while_nobody_knows_who_is_there_the_group_rests() -> None:
    home = quiet_home()
    formed(home)
    home.group.detached()
    assert home.group.order(HOME, False, home.now) is None
    home.advance(home.now + 60)
    assert home.order(HOME, True) is not None


def test_a_request_to_join_that_is_late_does_not_come_after_the_one_to_leave() -> None:
    home = quiet_home()
    formed(home)
    late = HOME[5]
    home.group.reset(late.ieee)
    home.look()  # it is asked to join again
    asked_at = home.now
    home.group.excluded(late.ieee, home.now)
    questions = []
    while home.now < asked_at + JOIN_LATE_S + 5:
        home.advance(home.now + 1.0)
        question = home.group.next_question(home.now)
        if question is not None:
            questions.append((question.kind, question.place, home.now - asked_at >= JOIN_LATE_S))
            home.group.answered(question, home.now, None)
    assert questions == [("remove", late, True)]


def test_one_who_refuses_to_leave_may_still_be_in() -> None:
    home = quiet_home()
    formed(home)
    home.group.excluded(HOME[5].ieee, home.now)
    home.advance(home.now + JOIN_LATE_S)
    while (question := home.group.next_question(home.now)) is None:
        home.advance(home.now + 1.0)
    home.group.answered(question, home.now, 0x01)
    assert HOME[5] in home.group.holders()
    assert home.order(HOME[:5], False) is None


def test_a_report_of_an_earlier_order_proves_nothing_of_a_later_one() -> None:
    home = quiet_home()
    formed(home)
    one = HOME[0]
    home.order([one], False)
    home.advance(home.now + 4)
    home.order([one], True)
    home.advance(home.now + 4)
    home.groups[one].clear()  # it will not hear the group
    assert home.order(HOME, False) is not None
    home.group.reported(one, False, home.now)  # as it was after the first
    home.advance(home.now + 5)
    assert not home.on[one]


def test_two_commands_to_the_contrary_are_never_in_the_air() -> None:
    home = quiet_home()
    formed(home)
    assert home.order(HOME, False) is not None
    home.advance(home.now + 3)
    assert home.order(HOME, True) is None
    home.advance(home.now + BROADCAST_LIFE_S + 5)
    assert all(home.on.values())


def test_a_command_does_not_overtake_a_unicast_to_the_contrary() -> None:
    home = quiet_home()
    formed(home)
    home.order(HOME[:1], True)  # under way: nobody has acknowledged it
    assert home.order(HOME, False) is None
    home.advance(home.now + 10)
    assert not any(home.on.values())


def test_what_has_to_be_said_again_is_said_until_it_is_taken() -> None:
    home = quiet_home()
    formed(home)
    began, one = home.now, HOME[0]
    home.order(HOME, False)
    home.advance(began + 2)
    home.order([one], True)
    home.advance(began + BROADCAST_LIFE_S - 0.1)
    home.now = began + BROADCAST_LIFE_S
    for _ in range(3):
        assert home.group.take_unicasts(home.now) == [(one, True)]
        home.group.told(one, True, home.now, is_taken=False)
        assert home.group.take_done() == [], "whoever ordered it has had his answer"
        due = home.group.get_timer()
        assert due is not None
        home.now = due
    home.group.take_unicasts(home.now)
    home.group.told(one, True, home.now, is_taken=True)
    assert home.group.get_timer() is None


def test_those_who_are_not_in_the_group_have_their_turn_once_the_members_have_reported() -> None:
    home = quiet_home()
    home.room[HOME[3]] = 0
    formed(home)
    group, now = home.group, home.now
    assert group.order(HOME, False, now) is not None
    assert group.take_unicasts(now) == []
    for place in HOME:
        if place != HOME[3]:
            assert group.get_timer() != now + 0.2
            group.reported(place, False, now + 0.2)
    assert group.get_timer() == now + 0.2
    assert group.take_unicasts(now + 0.2) == [(HOME[3], False)]
    # And no later than that where nobody reports.
    home = quiet_home()
    home.room[HOME[3]] = 0
    formed(home)
    assert home.group.order(HOME, False, home.now) is not None
    assert home.group.get_timer() == home.now + PROOF_S
