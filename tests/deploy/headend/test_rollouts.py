"""Roll-outs on a virtual clock: waves, what starts the next, what stops all."""

from hashlib import sha256
from typing import Any

import pytest

from deploy.headend.control_point import reader
from deploy.headend.orders import Refusal
from deploy.headend.rollouts import rollouts_of
from hub.wire.uplink.command import read_claims, split_command
from tests.deploy.headend.home import Fleet

NAMES = [f"SIM-{number}" for number in range(10)]
pytestmark = pytest.mark.fleet(names=NAMES)
ARGS = {"set": {"hub.groups": ["north"]}}


def begin(fleet: Fleet, **rule: Any) -> str:
    fleet.point.book.begin()
    rule = {"wave_hubs": 3, "success_share": 1.0, "error_share": 0.2, "valid_s": 60} | rule
    rollout_id = fleet.point.rollouts.begin("config", ARGS, {"all": True}, "desk", int(fleet.t), **rule)
    fleet.point.commit()
    return rollout_id


def shown(fleet: Fleet) -> dict[str, Any]:
    return rollouts_of(reader(fleet.place))[0]


def test_it_goes_wave_by_wave_to_the_end(fleet: Fleet) -> None:
    begin(fleet)
    fleet.run(1)
    assert shown(fleet)["counts"] == {"completed": 3, "to come": 7}
    fleet.run(1)
    assert shown(fleet)["counts"] == {"completed": 6, "to come": 4}
    fleet.run(4)
    assert shown(fleet)["counts"] == {"completed": 10} and shown(fleet)["state"] == "done"


def test_a_wave_that_has_not_answered_holds_the_next_back(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic.startswith("meters/SIM-1/")
    begin(fleet, error_share=0.5)
    fleet.run(30)
    assert shown(fleet)["counts"] == {"completed": 2, "sent": 1, "to come": 7}
    fleet.drops = lambda _message: False
    fleet.run(40)
    assert shown(fleet)["state"] == "done"


def test_silence_stops_it_and_a_person_lets_it_go_on(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic.startswith("meters/SIM-1/")
    rollout_id = begin(fleet)
    fleet.run(70)
    stopped = shown(fleet)
    assert stopped["state"] == "stopped" and "1 of 3 hubs did not do it" in stopped["why"]
    assert stopped["counts"] == {"completed": 2, "silent": 1, "to come": 7}
    fleet.run(60)
    assert shown(fleet)["counts"]["to come"] == 7, "nothing more by itself"
    fleet.drops = lambda _message: False
    fleet.point.book.begin()
    fleet.point.rollouts.resume(rollout_id, int(fleet.t))
    fleet.run(30)
    assert shown(fleet)["state"] == "done" and shown(fleet)["counts"] == {"completed": 10}


def test_some_may_fail(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic.startswith("meters/SIM-1/")
    begin(fleet, success_share=0.6, error_share=0.4)
    fleet.run(80)
    assert shown(fleet)["state"] == "done" and shown(fleet)["counts"] == {"completed": 9, "silent": 1}


@pytest.mark.fleet(names=NAMES, second_person_above=9)
def test_one_for_many_hubs_waits_for_a_second_person(fleet: Fleet) -> None:
    """Whatever the size of its waves: what it is of reaches all of them without anybody else."""
    rollout_id = begin(fleet)
    fleet.run(30)
    assert (shown(fleet)["state"], shown(fleet)["counts"]) == ("waiting", {"to come": 10})
    rollouts = fleet.point.rollouts
    for forbidden in (
        rollouts.pause,
        lambda it: rollouts.resume(it, int(fleet.t)),
        lambda it: rollouts.stop(it, "desk"),
    ):
        with pytest.raises(Refusal, match="it is waiting"):
            forbidden(rollout_id)
    with pytest.raises(Refusal, match="second person"):
        rollouts.approve(rollout_id, "desk")
    fleet.point.book.begin()
    rollouts.approve(rollout_id, "second")
    fleet.point.commit()
    fleet.run(10)
    assert shown(fleet)["state"] == "done"
    fleet.point.book.begin()
    back = rollouts.back(rollout_id, ARGS, "desk", int(fleet.t))
    assert rollouts.state_of(back) == "waiting", "its arguments are anything, too"
    rollouts.withdraw(back)
    fleet.point.commit()
    for forbidden in (lambda it: rollouts.resume(it, int(fleet.t)), lambda it: rollouts.approve(it, "second")):
        with pytest.raises(Refusal, match="it is withdrawn"):
            forbidden(back)


def test_a_pause_lets_no_further_wave_go(fleet: Fleet) -> None:
    rollout_id = begin(fleet)
    fleet.run(1)
    fleet.point.book.begin()
    fleet.point.rollouts.pause(rollout_id)
    fleet.run(20)
    assert shown(fleet)["counts"]["to come"] == 7
    with pytest.raises(Refusal, match="it is paused"):
        fleet.point.rollouts.pause(rollout_id)
    fleet.point.rollouts.resume(rollout_id, int(fleet.t))
    fleet.run(10)
    assert shown(fleet)["state"] == "done"


def test_only_what_may_go_in_waves(fleet: Fleet) -> None:
    fleet.point.book.begin()
    with pytest.raises(Refusal, match="update or config"):
        fleet.point.rollouts.begin("limit", {}, {"all": True}, "desk", 1, wave_hubs=1, success_share=1.0,
                                   error_share=0.0, valid_s=60)  # fmt: skip
    with pytest.raises(Refusal, match="no such"):
        fleet.point.rollouts.pause("0" * 32)


def test_it_goes_on_after_the_control_point_died(fleet: Fleet) -> None:
    begin(fleet)
    fleet.run(1)
    fleet.close()
    fleet.open()
    fleet.run(10)
    assert shown(fleet)["counts"] == {"completed": 10}


def test_it_is_stopped_by_hand_and_tried_again(fleet: Fleet) -> None:
    rollout_id = begin(fleet)
    fleet.run(1)
    fleet.point.book.begin()
    fleet.point.rollouts.stop(rollout_id, "desk")
    fleet.run(20)
    assert (shown(fleet)["state"], shown(fleet)["why"]) == ("stopped", "by desk")
    assert [wave["counts"] for wave in shown(fleet)["waves"]] == [{"completed": 3}]
    with pytest.raises(Refusal, match="it is stopped"):
        fleet.point.rollouts.stop(rollout_id, "desk")
    fleet.point.rollouts.resume(rollout_id, int(fleet.t))
    fleet.run(10)
    assert [sum(wave["counts"].values()) for wave in shown(fleet)["waves"]] == [3, 3, 3, 1]


def test_those_that_did_it_are_brought_back(fleet: Fleet) -> None:
    rollout_id = begin(fleet)
    with pytest.raises(Refusal, match="nothing to bring back"):
        fleet.point.rollouts.back(rollout_id, {"set": {"hub.groups": []}}, "desk", int(fleet.t))
    fleet.run(1)
    back_id = fleet.point.rollouts.back(rollout_id, {"set": {"hub.groups": ["before"]}}, "desk", int(fleet.t))
    fleet.run(20)
    db = reader(fleet.place)
    [stopped], [back] = rollouts_of(db, rollout_id), rollouts_of(db, back_id)
    assert (stopped["state"], stopped["why"]) == ("stopped", "brought back by desk")
    assert (back["state"], back["counts"]) == ("done", {"completed": 3})
    assert sorted(hub.hub for hub in fleet.hubs.values() if hub.groups == ["before"]) == NAMES[:3]
    assert [hub.groups for hub in fleet.hubs.values()].count([]) == 7, "the others were not touched"
    with pytest.raises(Refusal, match="no such"):
        fleet.point.rollouts.back("0" * 32, {}, "desk", 1)
    db.close()


@pytest.mark.parametrize("value", [1 << 70, float("nan"), {"hex": 5}, "y" * 20_000, [[[[[[[[[1]]]]]]]]]])
def test_what_no_message_can_hold_is_refused_to_who_asks(fleet: Fleet, value: Any) -> None:
    """Not found out by the thread that sends the next wave, or what a second person has approved."""
    args = {"set": {"hub.groups": value}}
    fleet.point.book.begin()
    with pytest.raises(ValueError, match="no message can hold"):
        fleet.point.rollouts.begin("config", args, {"all": True}, "desk", int(fleet.t), wave_hubs=3, success_share=1.0,
                                   error_share=0.2, valid_s=60)  # fmt: skip
    with pytest.raises(ValueError, match="no message can hold"):
        fleet.point.orders.give("config", args, {"all": True}, 60, "desk", int(fleet.t))
    fleet.point.undo()
    fleet.run(2)
    assert rollouts_of(reader(fleet.place)) == []


def test_hubs_that_took_it_and_were_heard_no_more_stop_it(fleet: Fleet) -> None:
    """Firmware that kills a hub: its receipt says that it begins, and nothing follows."""
    dead, orders = ("SIM-1", "SIM-4"), []

    def dies(message: Any) -> bool:
        _, name, lane = message.topic.split("/")
        if name in dead and lane == "commands":
            orders.append((fleet.hubs[name], message.message))
        return name in dead

    fleet.drops = dies
    rollout_id = begin(fleet, success_share=0.6, error_share=0.1, valid_s=60)
    fleet.run(2)
    fleet.drops = lambda _message: False
    for hub, message in orders:
        command = read_claims(split_command(message))
        fleet.hear([hub._receipt(command, sha256(message).digest(), "accepted", fleet.t)])
    assert shown(fleet)["counts"] == {"accepted": 2, "completed": 4, "to come": 4}
    fleet.drops = dies
    fleet.run(100)
    assert shown(fleet)["state"] == "running"
    fleet.run(30)
    assert shown(fleet)["state"] == "stopped" and "hubs did not do it" in shown(fleet)["why"]
    fleet.drops = lambda _message: False
    fleet.point.rollouts.resume(rollout_id, int(fleet.t))
    fleet.run(20)
    assert shown(fleet)["state"] == "done" and shown(fleet)["counts"] == {"completed": 10}
