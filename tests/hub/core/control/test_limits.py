"""The limit's life, and LPC's states: every pair of the tables, and the stories that receipts tell."""

from itertools import pairwise, product

import pytest

from hub.core.control.limits import ACTIVE, LIFE, OVER, SCHEDULED, Limit, step
from hub.core.control.watch import AUTONOMOUS, CONTROLLED, FAILSAFE, INIT, LIMITED, TRANSITIONS, Watch
from tests.hub.core.control.desk import BOILER, CAR, UTC, Desk

EVENTS = sorted({event for _, event in LIFE})


@pytest.mark.parametrize(("state", "event"), list(product((SCHEDULED, ACTIVE, OVER), EVENTS)))
def test_every_pair_of_the_life_is_known_or_cannot_happen(state: str, event: str) -> None:
    limit = Limit(bytes(16), "grid", bytes(32), 1000, 5, 0, 10, state=state)
    if (state, event) not in LIFE:
        with pytest.raises(KeyError):
            step(limit, event)
        return
    moved, status = step(limit, event)
    assert (moved.state, status) == LIFE[state, event]
    assert (moved.state == OVER) == (status in ("completed", "cancelled", "superseded", "failed"))


def test_a_limit_that_is_over_stays_over() -> None:
    assert not any(state == OVER for state, _ in LIFE)


@pytest.mark.parametrize("state", [INIT, CONTROLLED, LIMITED, FAILSAFE, AUTONOMOUS])
@pytest.mark.parametrize("event", ["decided", "limited", "unlimited", "silent", "waited"])
def test_every_pair_of_lpc(state: str, event: str) -> None:
    watch = Watch(60, None, 0.0)
    watch.state = state
    watch.step(event, 5.0)
    assert watch.state == TRANSITIONS.get((state, event), state)


def test_without_control_a_hub_goes_its_own_way_after_two_minutes() -> None:
    desk = Desk()
    assert desk.control.status(0.0)["state"] == INIT
    desk.run(121)
    assert desk.control.status(desk.now)["state"] == AUTONOMOUS


def test_a_control_point_that_never_beats_is_not_missed() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("limit", {"watts": 500, "duration": 1000})
    desk.run(900, 5)
    assert desk.control.status(desk.now)["state"] == LIMITED
    desk.run(150, 5)
    assert desk.story(cti)[-1] == "completed"


@pytest.mark.parametrize("failsafe_w", [None, 800.0])
def test_silence_after_heartbeats_is_the_failsafe(failsafe_w: float | None) -> None:
    desk = Desk(failsafe_w=failsafe_w)
    desk.add("boiler", BOILER, 2000)
    desk.send("heartbeat")
    cti = desk.send("limit", {"watts": 1500, "duration": 3600})
    desk.power("boiler", 0)
    for _ in range(3):
        desk.run(60)
        desk.send("heartbeat")
    status = desk.control.status(desk.now)
    assert (status["state"], status["watts"], status["until"]) == (LIMITED, 1500.0, UTC + 3600)
    desk.run(125)
    assert desk.story(cti)[-1] == "cancelled" and desk.reason(cti) == "heartbeat-lost"
    assert ("control.lost", {"operator": "grid"}) in desk.events
    status = desk.control.status(desk.now)
    assert (status["state"], status["watts"]) == (FAILSAFE, failsafe_w)
    if failsafe_w is None:
        desk.run(30)
        assert desk.told("boiler")[-1] == "release"
    desk.run(7300, 10)
    assert desk.control.status(desk.now)["state"] == AUTONOMOUS
    assert desk.control.status(desk.now)["watts"] is None, "the failsafe ends by itself"
    desk.send("heartbeat")
    assert desk.control.status(desk.now)["state"] == AUTONOMOUS, "a heartbeat alone decides nothing (LPC-918)"
    desk.send("limit.cancel")
    assert desk.control.status(desk.now)["state"] == CONTROLLED


def test_a_later_limit_of_the_same_operator_supersedes_what_it_overlaps() -> None:
    desk = Desk()
    first = desk.send("limit", {"watts": 3000, "duration": 600})
    future = desk.send("limit", {"watts": 2000, "duration": 600, "start": UTC + 1000})
    second = desk.send("limit", {"watts": 5000, "duration": 60})
    assert desk.story(first)[-1] == "superseded" and desk.story(future) == ["accepted"]
    assert desk.control.status(desk.now)["watts"] == 5000
    desk.run(70)
    assert desk.story(second)[-1] == "completed" and desk.control.status(desk.now)["watts"] is None
    desk.run(940)
    assert desk.control.status(desk.now)["watts"] == 2000


def test_a_random_offset_moves_start_and_end_together() -> None:
    desk = Desk()
    cti = desk.send("limit", {"watts": 100, "duration": 60, "randomise": 40})  # the dice say half
    detail = next(receipt.detail for receipt in desk.receipts if receipt.re == cti)
    assert detail == {"start": UTC + 20, "end": UTC + 80}
    assert desk.control.status(desk.now)["watts"] is None
    desk.run(21)
    assert desk.control.status(desk.now)["watts"] == 100
    desk.run(60)
    assert desk.control.status(desk.now)["watts"] is None


def test_cancel_one_or_all_and_power_returns_one_after_the_other() -> None:
    desk = Desk()
    for name in ("a", "b", "c"):
        desk.add(name, BOILER, 2000)
    one = desk.send("limit", {"watts": 100, "duration": 600})
    for name in ("a", "b", "c"):
        assert desk.told(name) == ["limit 0"]
    desk.run(1)
    for name in ("a", "b", "c"):
        desk.power(name, 0)
    desk.run(3)
    assert desk.story(one) == ["accepted", "applied"]
    unknown = desk.send("limit.cancel", {"cti": bytes(16)})
    assert desk.reason(unknown) == "unknown-cti"
    desk.send("limit.cancel", {"cti": one})
    assert desk.story(one)[-1] == "cancelled"
    desk.run(60)
    returned = [at for at, _, text in desk.orders if text == "release"]
    assert len(returned) == 3 and all(b - a >= 9 for a, b in pairwise(returned))


def test_what_cannot_be_met_is_told_as_partial_with_what_was_reached() -> None:
    desk = Desk()
    desk.add("fridge", b'{"class":"fridge"}', 900)
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("limit", {"watts": 500, "duration": 120})
    desk.power("boiler", 0)
    for _ in range(40):
        desk.power("fridge", 900)
        desk.run(1)
    assert desk.story(cti) == ["accepted", "partial"]
    detail = desk.receipts[-1].detail
    assert detail["base_w"] == 900 and detail["restricted"] == {"boiler": 0}
    assert desk.told("fridge") == []


def test_a_restart_in_the_middle_goes_on_to_the_same_end() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("limit", {"watts": 500, "duration": 100})
    desk.run(20)
    desk.restart(off_s=10)
    desk.add("boiler", BOILER, 0)
    desk.run(1)
    status = desk.control.status(desk.now)
    assert (status["state"], status["watts"], status["until"]) == (LIMITED, 500, UTC + 100)
    assert desk.orders[-1][2] == f"limit 0 {int(100 - desk.orders[-1][0])}"
    desk.run(75)
    assert desk.story(cti)[-1] == "completed" and desk.story(cti).count("completed") == 1


def test_until_the_clock_is_trusted_nothing_is_held_and_nothing_obeyed() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.send("limit", {"watts": 500, "duration": 1000})
    desk.restart(trusted=False)
    desk.add("boiler", BOILER, 2000)
    before = len(desk.orders)
    desk.run(30)
    assert len(desk.orders) == before, "nobody knows whether the limit is over"
    refused = desk.send("limit", {"watts": 1, "duration": 10})
    assert (desk.story(refused), desk.reason(refused)) == (["refused"], "no-clock")
    desk.control.set_clock(UTC, True, desk.now)
    desk.run(2)
    assert desk.told("boiler")[-1] == "limit 0"


def test_an_order_never_outlasts_the_limit_nor_five_minutes() -> None:
    desk = Desk()
    desk.add("car", CAR, 7200)
    desk.send("limit", {"watts": 3000, "duration": 1000})
    desk.run(1010)
    for at, _, text in desk.orders:
        words = text.split()
        if words[0] == "limit":
            assert int(words[2]) <= 300 and at + int(words[2]) <= 1000
    assert len([1 for _, _, text in desk.orders if text.startswith("limit")]) >= 5, "it is renewed while it lasts"


@pytest.mark.parametrize("args", [
    {}, {"watts": 100}, {"watts": -1, "duration": 60}, {"watts": "100", "duration": 60},
    {"watts": True, "duration": 60},
    {"watts": 1e7, "duration": 60}, {"watts": 100, "duration": 60, "direction": "sideways"},
    {"watts": 100, "duration": 0}, {"watts": 100, "duration": 1e9},
    {"watts": 100, "duration": 60, "criticality": 10}, {"watts": 100, "duration": 60, "wats": 1},
    {"watts": 100, "duration": 60, "start": UTC + 40 * 86400},
])  # fmt: skip
def test_arguments_that_are_not_sound_are_refused(args: dict[str, object]) -> None:
    desk = Desk()
    cti = desk.send("limit", args)
    assert (desk.story(cti), desk.reason(cti)) == (["refused"], "bad-args")
    assert desk.control.status(0.0)["watts"] is None


def test_what_a_command_ends_is_over_though_its_step_takes_a_while_to_become_durable() -> None:
    """The household comes below its limit while the command that supersedes it is being written: no receipt may follow
    the one that says that it is over, and a restart must not find it again."""
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    old = desk.send("limit", {"watts": 1000, "duration": 600})
    now = int(UTC + desk.now)
    step = desk.control.command(
        desk.operator.command("limit", {"watts": 900, "duration": 600}, iat=now, exp=now + 60), desk.now
    )
    desk.now += 1
    desk._commit(step.journal)
    desk.power("boiler", 0)
    desk.control.follow_clock(UTC + 30)
    desk.settle()
    step.apply(desk.now)
    desk.control.follow_clock(UTC)
    desk.settle()
    assert desk.story(old) == ["accepted", "superseded"]
    desk.restart()
    assert [limit.watts for limit in desk.control.limits] == [900]


def test_a_hold_that_a_command_ends_is_over_in_the_same_way() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    old = desk.send("switch", {"client": "boiler", "on": False, "duration": 600})
    now = int(UTC + desk.now)
    step = desk.control.command(desk.operator.command("limit.cancel", {"cti": old}, iat=now, exp=now + 60), desk.now)
    desk.power("boiler", 0, "state")
    desk._commit(step.journal)
    desk.settle()
    step.apply(desk.now)
    desk.settle()
    assert desk.story(old) == ["accepted", "cancelled"]
    desk.restart()
    assert not desk.control.orders


def test_a_clock_that_is_set_while_a_limit_is_being_written_does_not_lengthen_it() -> None:
    """Found by the property test: the limit was reckoned by the clock of before, and put in place under the new one."""
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    now = int(UTC + desk.now)
    message = desk.operator.command("limit", {"watts": 1000, "duration": 60}, iat=now, exp=now + 60)
    step = desk.control.command(message, desk.now)
    desk.control.follow_clock(UTC - 30)
    desk._commit(step.journal)
    step.apply(desk.now)
    desk.settle()
    assert desk.told("boiler") == ["limit 0"], "at once, not half a minute later"
    assert desk.orders[-1][2] == "limit 0 60"
    assert desk.control.status(desk.now)["until"] == UTC - 30 + 60


@pytest.mark.parametrize(("back_s", "story"), [(3600.0, ["cancelled"]), (10.0, ["cancelled"]), (2.0, [])])
def test_a_limit_that_began_later_than_it_is_now_is_let_go(back_s: float, story: list[str]) -> None:
    """After a restart another trusted clock says that the limit has not begun: one of the two is wrong."""
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("limit", {"watts": 500, "duration": 1000})
    desk.run(5)
    told = len(desk.story(cti))
    desk.restart(trusted=False)
    desk.add("boiler", BOILER, 2000)
    desk.control.set_clock(UTC - desk.now - back_s, True, desk.now)
    desk.run(1)
    assert desk.story(cti)[told:] == story
    assert (desk.reason(cti) == "clock-went-back") == bool(story)
