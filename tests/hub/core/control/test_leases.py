"""Every restriction is a short lease, operators are kept apart, receipts never contradict (promises P4 and P5)."""

import hashlib
from itertools import pairwise

import pytest

from hub.core.control.household import ORDER_S
from hub.core.control.limits import MAX_LIMITS, MAX_LIMITS_EACH
from hub.core.control.trial import TRIAL_S
from hub.core.control.watch import AUTONOMOUS, CONTROLLED, FAILSAFE, INIT, LIMITED
from tests.harness.operator import Operator
from tests.hub.core.control.desk import BOILER, CAR, UTC, Desk

PLAIN = b'{"class":"socket"}'
SOLAR = b'{"class":"solar","nominal_w":5000}'


def longest_order_s(desk: Desk, client: str) -> float:
    """The longest SECONDS that an appliance was ever told."""
    last_words = [text.split()[-1] for _, name, text in desk.orders if name == client]
    return max(float(word) for word in last_words if word.isdigit())


# Short leases


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("switch", {"client": "boiler", "on": False, "duration": 86_399}),
        ("set", {"client": "boiler", "quantity": "temperature", "value": 40, "duration": 86_399}),
    ],
)
def test_a_day_reaches_the_appliance_five_minutes_at_a_time(op: str, args: dict[str, object]) -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send(op, args)
    desk.run(3600, 5)
    assert longest_order_s(desk, "boiler") <= ORDER_S
    times = [at for at, name, _ in desk.orders if name == "boiler"]
    assert all(later - earlier < ORDER_S for earlier, later in pairwise(times)), "it is renewed before it ends"
    assert desk.story(cti) == ["accepted"]


def test_a_lease_is_not_renewed_by_a_dead_hub_and_ends_with_its_own_time() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.send("switch", {"client": "boiler", "on": False, "duration": 400})
    desk.run(410)
    told = [(at, text) for at, name, text in desk.orders if name == "boiler"]
    assert max(at + int(text.split()[-1]) for at, text in told) <= 400


def test_an_appliance_that_becomes_protected_is_free_at_once_and_stays_so() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("switch", {"client": "boiler", "on": False, "duration": 3600})
    desk.run(1)
    desk.add("boiler", b'{"class":"medical"}', 0)
    assert desk.told("boiler")[-1] == "on"
    assert (desk.story(cti)[-1], desk.reason(cti)) == ("cancelled", "protected")
    before = len(desk.orders)
    desk.restart()
    desk.add("boiler", b'{"class":"medical"}', 0)
    desk.run(600, 5)
    assert len(desk.orders) == before


def test_a_limit_lets_go_of_what_becomes_protected_at_once() -> None:
    desk = Desk()
    desk.add("car", CAR, 7000)
    desk.send("limit", {"watts": 1000, "duration": 3600})
    desk.run(2)
    assert desk.told("car") == ["limit 0"]
    desk.add("car", b'{"class":"medical"}', 7000)
    assert desk.told("car")[-1] == "release"
    desk.run(400, 2)
    assert desk.told("car")[-1] == "release"


@pytest.mark.parametrize("about", [PLAIN, b"", b'{"class":"water-heater","sheddable":false}'])
def test_what_has_not_said_that_it_may_be_shed_is_never_switched_off(about: bytes) -> None:
    desk = Desk()
    desk.add("thing", about, 500)
    cti = desk.send("switch", {"client": "thing", "on": False, "duration": 60})
    assert desk.story(cti) == ["refused"] and desk.reason(cti) in ("not-sheddable", "protected")
    assert desk.told("thing") == []


def test_cancel_of_everything_is_everything_of_this_operator() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    desk.add("car", CAR, 7000)
    limit = desk.send("limit", {"watts": 1000, "duration": 600})
    off = desk.send("switch", {"client": "boiler", "on": False, "duration": 600})
    warm = desk.send("set", {"client": "car", "quantity": "current", "value": 6, "duration": 600})
    desk.send("limit.cancel")
    assert [desk.story(cti)[-1] for cti in (limit, off, warm)] == ["cancelled"] * 3
    assert "on" in desk.told("boiler") and not desk.control.orders


def test_an_appliance_that_is_forgotten_ends_what_it_was_told() -> None:
    from hub.core.records import SessionRemoved

    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    cti = desk.send("switch", {"client": "boiler", "on": False, "duration": 600})
    desk.observe(SessionRemoved("boiler"))
    assert (desk.story(cti)[-1], desk.reason(cti)) == ("cancelled", "gone")


# Operators are kept apart


def test_silence_ends_what_the_silent_one_commanded_and_nothing_else() -> None:
    other = Operator("trader", "limit")
    desk = Desk(others=(other,))
    desk.add("boiler", BOILER, 2000)
    desk.add("car", CAR, 7000)
    desk.send("heartbeat", by=other)
    gone = desk.send("limit", {"watts": 800, "duration": 3600}, by=other)
    off = desk.send("switch", {"client": "car", "on": False, "duration": 3600}, by=other)
    stays = desk.send("limit", {"watts": 3000, "duration": 3600})
    desk.run(130)
    assert [desk.story(cti)[-1] for cti in (gone, off)] == ["cancelled", "cancelled"]
    assert desk.reason(gone) == desk.reason(off) == "heartbeat-lost"
    assert desk.story(stays)[-1] != "cancelled"
    assert desk.control.status(desk.now)["watts"] == 3000
    assert ("control.lost", {"operator": "trader"}) in desk.events


def test_a_beating_operator_is_missed_after_a_restart_too() -> None:
    desk = Desk()
    desk.send("heartbeat")
    cti = desk.send("limit", {"watts": 800, "duration": 3600})
    desk.restart()
    desk.run(115)
    assert desk.story(cti)[-1] != "cancelled"
    desk.run(10)
    assert (desk.story(cti)[-1], desk.reason(cti)) == ("cancelled", "heartbeat-lost")


def test_what_a_silent_operator_commands_without_a_heartbeat_ends_with_its_silence_too() -> None:
    desk = Desk()
    desk.send("heartbeat")
    desk.run(130)
    cti = desk.send("limit", {"watts": 800, "duration": 7 * 86_400})
    desk.run(115)
    assert desk.story(cti)[-1] != "cancelled", "the command itself was a sign of life"
    desk.run(10)
    assert (desk.story(cti)[-1], desk.reason(cti)) == ("cancelled", "heartbeat-lost")
    assert [name for name, _ in desk.events].count("control.lost") == 2
    assert desk.control.status(desk.now)["watts"] is None


def test_another_operators_limit_is_cancelled_by_an_admin_alone() -> None:
    trader, boss = Operator("trader", "limit"), Operator("boss", "limit", "admin")
    desk = Desk(others=(trader, boss))
    cti = desk.send("limit", {"watts": 800, "duration": 3600})
    tried = desk.send("limit.cancel", {"cti": cti}, by=trader)
    assert (desk.story(tried), desk.reason(tried)) == (["refused"], "wrong-role")
    desk.send("limit.cancel", by=trader)
    assert desk.story(cti) == ["accepted"], "everything of this operator is nothing of another's"
    desk.send("limit.cancel", {"cti": cti}, by=boss)
    assert desk.story(cti)[-1] == "cancelled"


def test_nobody_fills_the_table_for_the_others() -> None:
    names = [Operator(f"op-{n}", "limit") for n in range(MAX_LIMITS // MAX_LIMITS_EACH)]
    grid = Operator("grid-control", "limit")
    toml = "\n".join([o.toml for o in names] + [grid.toml + "priority = 9\n"])
    desk = Desk(toml=toml)
    for operator in names:
        for n in range(MAX_LIMITS_EACH):
            start = UTC + 86_400 + n * 100
            assert desk.story(desk.send("limit", {"watts": 1, "duration": 1, "start": start}, by=operator)) == [
                "accepted"
            ]
    more = desk.send("limit", {"watts": 1, "duration": 1, "start": UTC + 90_000}, by=names[0])
    assert desk.reason(more) == "too-many"
    cti = desk.send("limit", {"watts": 500, "duration": 60}, by=grid)
    assert desk.story(cti)[0] == "accepted", "who counts for more is heard"
    displaced = [receipt for receipt in desk.receipts if receipt.reason == "displaced"]
    assert len(displaced) == 1 and displaced[0].status == "cancelled"


SUN, BATTERY = b'{"class":"solar","nominal_w":5000}', b'{"class":"battery","nominal_w":3000}'


def test_the_end_of_an_export_limit_undoes_no_other_operators_order() -> None:
    trader = Operator("trader", "limit")
    desk = Desk(others=(trader,))
    desk.add("roof", SUN, -3000)
    off = desk.send("switch", {"client": "roof", "on": False, "duration": 3600}, by=trader)
    export = desk.send("limit", {"watts": 1000, "duration": 600, "direction": "export"})
    desk.run(5)
    desk.send("limit.cancel", {"cti": export})
    desk.run(5)
    assert "release" not in desk.told("roof") and desk.story(off)[-1] != "cancelled"
    assert desk.told("roof")[-1] == "limit 999999"


def test_an_export_limit_lets_go_of_what_becomes_protected_at_once() -> None:
    desk = Desk()
    desk.add("roof", SUN, -3000)
    desk.send("limit", {"watts": 1000, "duration": 3600, "direction": "export"})
    desk.run(2)
    desk.add("roof", b'{"class":"medical"}', -3000)
    assert desk.told("roof") == ["limit 1000", "release"]
    desk.run(400, 2)
    assert desk.told("roof")[-1] == "release"


def test_a_set_that_is_cancelled_releases_nobody_from_an_export_limit() -> None:
    trader = Operator("trader", "limit")
    desk = Desk(others=(trader,))
    desk.add("roof", SUN, -3000)
    tilt = desk.send("set", {"client": "roof", "quantity": "tilt", "value": 4, "duration": 3600}, by=trader)
    desk.send("limit", {"watts": 1000, "duration": 600, "direction": "export"})
    desk.send("limit.cancel", {"cti": tilt}, by=trader)
    desk.run(2)
    assert desk.told("roof")[-2:] == ["release", "limit 1000"]


@pytest.mark.parametrize("order", [("import", "export"), ("export", "import")])
@pytest.mark.parametrize(("drawn", "fed_in"), [(0, 1000), (1500, 700)])
def test_a_battery_under_both_limits_keeps_within_both(order: tuple[str, str], drawn: int, fed_in: int) -> None:
    """One order holds it at a time: that of one limit must not be what lets it off the other."""
    desk = Desk()
    desk.add("battery", BATTERY, 3000)
    watts, duration = {"import": drawn, "export": fed_in}, {"import": 3600, "export": 900}
    for direction in order:
        desk.send("limit", {"watts": watts[direction], "duration": duration[direction], "direction": direction})
    desk.run(5)
    at = len(desk.orders)
    for _ in range(80):
        desk.power("battery", 0)
        desk.run(10)
    told = {float(text.split()[1]) for _, _, text in desk.orders[at:]}
    assert told and max(told) <= min(drawn, fed_in)
    times = [now for now, _, _ in desk.orders]
    assert all(later - earlier < ORDER_S for earlier, later in pairwise(times)) and len(desk.orders) < 20
    for _ in range(20):
        desk.power("battery", 0)
        desk.run(10)
    left_w = float(desk.told("battery")[-1].split()[1])
    assert left_w <= drawn and (left_w > fed_in or drawn < fed_in), "the other one is all that holds it"


@pytest.mark.parametrize("first", ["import", "export"])
def test_one_limit_of_a_battery_that_is_cancelled_leaves_the_other(first: str) -> None:
    desk = Desk()
    desk.add("battery", BATTERY, 3000)
    ctis = {
        direction: desk.send("limit", {"watts": watts, "duration": 600, "direction": direction})
        for direction, watts in (("import", 0), ("export", 700))
    }
    desk.run(5)
    desk.send("limit.cancel", {"cti": ctis[first]})
    desk.run(2)
    left = "limit 700" if first == "import" else "limit 0"
    assert desk.told("battery")[-2:] == ["limit 999999", left]
    assert "release" not in desk.told("battery")


def test_what_a_removed_operator_commanded_ends() -> None:
    trader = Operator("trader", "limit")
    desk = Desk(others=(trader,))
    desk.add("boiler", BOILER, 2000)
    limit = desk.send("limit", {"watts": 10, "duration": 86_400}, by=trader)
    desk.send("trust", {"operators": desk.operator.toml})
    assert (desk.story(limit)[-1], desk.reason(limit)) == ("cancelled", "operator-removed")
    assert desk.control.status(desk.now)["watts"] is None


# trust


def test_a_list_is_on_trial_until_one_of_its_own_admins_confirms_it() -> None:
    heir = Operator("heir", "admin", "limit")
    desk = Desk()
    cti = desk.send("trust", {"operators": heir.toml})
    assert desk.story(cti) == ["accepted", "completed"]
    desk.restart()
    assert desk.control.trial.is_on and "heir" in desk.control.authority.operators
    done = desk.send("trust.confirm", by=heir)
    assert desk.story(done) == ["accepted", "completed"]
    desk.run(8 * 86_400, 3600)
    assert "heir" in desk.control.authority.operators
    assert desk.reason(desk.send("trust.confirm", by=heir)) == "no-trial"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_list_that_nobody_confirms_gives_way_to_the_old_one(restarts: bool) -> None:
    heir = Operator("heir", "admin", "limit")
    desk = Desk()
    desk.send("trust", {"operators": heir.toml})
    limit = desk.send("limit", {"watts": 10, "duration": 7 * 86_400}, by=heir)
    if restarts:
        desk.restart(off_s=86_400)
    desk.run(8 * 86_400, 3600)
    assert list(desk.control.authority.operators) == ["grid"]
    assert any(name == "operators.returned" for name, _ in desk.events)
    assert desk.story(limit)[-1] in ("cancelled", "completed")
    desk.restart()
    assert list(desk.control.authority.operators) == ["grid"] and not desk.control.trial.is_on


def test_a_threshold_wants_several_admins_signatures() -> None:
    one, two, stranger = Operator("one", "admin"), Operator("two", "admin"), Operator("stranger", "admin")
    listed = "threshold = 2\n" + one.toml + two.toml
    desk = Desk(toml=listed)
    new = "threshold = 2\n" + one.toml + two.toml + Operator("three", "admin").toml
    digest = hashlib.sha256(new.encode()).digest()

    def reason(*approvals: bytes) -> str:
        return desk.reason(desk.send("trust", {"operators": new, "approvals": list(approvals)}, by=one))

    assert reason() == "threshold"
    assert reason(one.approval(digest)) == "threshold", "the same admin twice is one"
    assert reason(stranger.approval(digest)) == "threshold"
    assert reason(two.approval(hashlib.sha256(b"another").digest())) == "threshold"
    assert reason(two.approval(digest)) == ""
    assert "three" in desk.control.authority.operators


@pytest.mark.parametrize("left_s", [8, 29 * 86_400])
def test_a_list_whose_admins_are_nearly_over_is_refused(left_s: int) -> None:
    import datetime

    ends = datetime.datetime.fromtimestamp(UTC + left_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk = Desk()
    cti = desk.send("trust", {"operators": desk.operator.toml + f"not_after = {ends}\n"})
    assert (desk.story(cti), desk.reason(cti)) == (["refused"], "locked-out")


# Receipts that never contradict


def test_a_limit_in_force_is_not_signed_away_when_its_message_comes_again() -> None:
    desk = Desk()
    now = int(UTC)
    message = desk.operator.command("limit", {"watts": 500, "duration": 3600}, iat=now, exp=now + 10)
    desk.take(message)
    desk.run(60)
    step = desk.take(message)
    assert len(step.resend) == 1 and not step.journal
    assert [receipt.status for receipt in desk.receipts if receipt.status == "refused"] == []


def test_a_replay_flood_of_a_genuine_command_costs_no_flash_and_few_bytes() -> None:
    desk = Desk()
    now = int(UTC)
    message = desk.operator.command("limit", {"watts": 500, "duration": 60}, iat=now - 100, exp=now - 50)
    before = len(desk.receipts)
    resent = sum(len(desk.take(message).resend) for _ in range(5000))
    assert len(desk.receipts) - before == 1 and resent <= 25
    cti = desk.send("limit", {"watts": 500, "duration": 60})
    assert next(r for r in desk.receipts if r.re == cti).detail["unanswered"] >= 4900


def test_a_flood_of_one_operators_refusals_silences_no_other() -> None:
    trader = Operator("trader", "price")
    desk = Desk(others=(trader,))
    for _ in range(300):
        desk.send("limit", {"watts": 1, "duration": 1}, by=trader)
    assert sum(r.status == "refused" for r in desk.receipts) <= 25
    cti = desk.send("limit", {"watts": -1, "duration": 60})
    assert desk.story(cti) == ["refused"], "another operator's refusals have a budget of their own"


@pytest.mark.parametrize(("metered_w", "kept"), [(400, True), (900, False), (None, None)])
def test_completed_says_whether_it_was_kept(metered_w: float | None, kept: bool | None) -> None:
    desk = Desk()
    cti = desk.send("limit", {"watts": 500, "duration": 200})
    for _ in range(21):
        if metered_w is not None:
            desk.power("meter", metered_w)
        desk.run(10)
    detail = [r for r in desk.receipts if r.re == cti][-1]
    assert detail.status == "completed" and detail.detail.get("kept") is kept


def test_nothing_is_said_of_a_limit_through_part_of_which_the_hub_was_off() -> None:
    desk = Desk()
    cti = desk.send("limit", {"watts": 500, "duration": 200})
    desk.power("meter", 100)
    desk.restart(off_s=60)
    for _ in range(15):
        desk.power("meter", 100)
        desk.run(10)
    last = [r for r in desk.receipts if r.re == cti][-1]
    assert last.status == "completed" and "kept" not in last.detail


# LPC, LPP


def test_failsafe_and_init_are_left_by_a_heartbeat_and_a_decision_together() -> None:
    desk = Desk(failsafe_w=4200.0)
    assert (desk.control.status(desk.now)["state"], desk.control.status(desk.now)["watts"]) == (INIT, 4200)
    desk.send("heartbeat")
    assert desk.control.status(desk.now)["state"] == INIT, "a heartbeat alone decides nothing"
    desk.send("limit.cancel")
    assert desk.control.status(desk.now)["state"] == CONTROLLED
    desk.run(121)
    assert desk.control.status(desk.now)["state"] == FAILSAFE
    desk.send("limit", {"watts": 9000, "duration": 600})
    assert desk.control.status(desk.now)["state"] == FAILSAFE, "a limit alone does not end it either"
    assert desk.control.status(desk.now)["watts"] == 4200
    desk.send("heartbeat")
    assert (desk.control.status(desk.now)["state"], desk.control.status(desk.now)["watts"]) == (LIMITED, 9000)


def test_the_operator_that_is_marked_decides_about_the_failsafe() -> None:
    lpc, trader = Operator("lpc", "limit"), Operator("trader", "limit")
    desk = Desk(toml=lpc.toml + "lpc = true\n" + trader.toml, failsafe_w=3000.0)
    desk.run(125)
    assert desk.control.status(desk.now)["state"] == AUTONOMOUS
    for operator in (lpc, trader):
        desk.send("heartbeat", by=operator)
        desk.send("limit.cancel", by=operator)
    for _ in range(3):
        desk.run(60)
        desk.send("heartbeat", by=lpc)
    assert desk.control.status(desk.now)["state"] == CONTROLLED, "the other's silence is its own"
    desk.run(125)
    assert desk.control.status(desk.now)["state"] == FAILSAFE


def test_a_floor_under_every_limit() -> None:
    desk = Desk(floor_w=4200)
    cti = desk.send("limit", {"watts": 1000, "duration": 60})
    assert desk.control.status(desk.now)["watts"] == 4200
    assert desk.receipts[0].detail["floor_w"] == 4200 and desk.story(cti)[0] == "accepted"


def test_an_end_of_its_own_spread() -> None:
    desk = Desk()
    cti = desk.send("limit", {"watts": 100, "duration": 60, "randomise": 40, "randomise_end": 20})
    detail = next(receipt.detail for receipt in desk.receipts if receipt.re == cti)
    assert detail == {"start": UTC + 20, "end": UTC + 70}


def test_an_export_limit_holds_what_generates_and_nothing_else() -> None:
    desk = Desk()
    desk.add("roof", SOLAR, 0)
    desk.add("boiler", BOILER, 2000)
    desk.power("roof", -4800)
    desk.power("meter", -2800)
    cti = desk.send("limit", {"watts": 1000, "duration": 600, "direction": "export"})
    desk.run(2)
    assert desk.told("boiler") == []
    assert desk.told("roof")[-1] == "limit 3000", "1,000 W fed in beside the 2,000 W that the boiler draws"
    assert longest_order_s(desk, "roof") <= ORDER_S
    desk.power("roof", -3000)
    desk.power("meter", -1000)
    desk.run(2)
    assert desk.story(cti) == ["accepted", "applied"]
    desk.run(600)
    assert desk.story(cti)[-1] == "completed"


def test_booked_goes_to_the_store_without_a_receipt() -> None:
    desk = Desk()
    cti = desk.send("booked", {"readings": [1, 40], "events": [1, 3]})
    assert desk.story(cti) == [] and desk.booked == {"readings": (1, 40), "events": (1, 3)}
    assert desk.reason(desk.send("booked", {"nonsense": [1, 1]})) == "bad-args"


@pytest.mark.parametrize("op", ["trust.confirm", "trust"])
def test_a_list_whose_trial_ends_while_its_confirmation_is_being_written_stays(op: str) -> None:
    """The step is on its way to the disk, which is full: what follows from time must not be written over it."""
    desk = Desk()
    new = Operator("new", "admin", "limit")
    desk.send("trust", {"operators": new.toml})
    desk.run(TRIAL_S - 1, 3600)
    now = int(UTC + desk.now)
    args = {"operators": new.toml} if op == "trust" else {}
    step = desk.control.command(new.command(op, args, iat=now, exp=now + 600), desk.now)
    for name, value in step.journal.kept.items():  # first in the queue: what time brings is written after it
        if value is None:
            desk.kept.pop(name)
        else:
            desk.kept[name] = value
    desk.run(5)
    step.apply(desk.now)
    desk.settle()
    assert set(desk.control.authority.operators) == {"new"}
    desk.restart()
    assert set(desk.control.authority.operators) == {"new"}
