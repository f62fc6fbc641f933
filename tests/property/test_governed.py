"""P4 and P5 under everything at once, on a virtual clock."""

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.operator import cti_of
from tests.property.governed import APPLIANCES, FORGER, OPERATOR, TRADER, UTC, WIRE, Governed
from tests.property.home import Faults

# A command's receipts, in order: told once that it is taken, then what became of it, then its end, once.
TRUE_STORY = re.compile(
    r"refused( refused)*|"
    r"accepted( (applied|partial))*( (completed|cancelled|superseded|failed))?"
)
FAULTS = st.builds(
    Faults,
    loss=st.sampled_from((0.0, 0.1, 0.3)),
    max_delay_s=st.just(0.4),
    restart_every_s=st.sampled_from((0.0, 40.0, 120.0)),
)


def random_command(home: Governed) -> None:
    """The control point, or somebody else, says something."""
    rng = home.rng
    what = rng.choices(("limit", "cancel", "switch", "set", "heartbeat", "forged", "garbage"), (6, 2, 4, 2, 1, 3, 2))[0]
    operator = rng.choice((OPERATOR, OPERATOR, TRADER))
    claims = {"iat": int(UTC + home.now), "exp": int(UTC + home.now + rng.choice((30, 600)))}
    end: float = 0.0
    if what == "limit":
        args = {"watts": rng.choice((0, 500, 1500, 4000, 20000)), "duration": rng.randrange(5, 180)}
        if rng.random() < 0.3 and not home.clocks_step:  # a start in the future is a matter of the wall clock
            args["randomise"] = rng.randrange(1, 30)
        command = operator.command("limit", args, **claims)
        end = args["duration"] + args.get("randomise", 0)
    elif what == "cancel":
        command = operator.command("limit.cancel", {}, **claims)
    elif what == "switch":
        client = rng.choice(list(APPLIANCES))
        on = rng.random() < 0.3
        duration_s = rng.choice((5, 60, 400, 900))
        command = operator.command(
            "switch", {"client": client, "on": on} | ({} if on else {"duration": duration_s}), **claims
        )
        end = 0.0 if on else duration_s
    elif what == "set":
        end = rng.choice((5, 60, 400, 900))
        args = {"client": rng.choice(list(APPLIANCES)), "quantity": "temperature", "value": 40, "duration": end}
        command = operator.command("set", args, **claims)
    elif what == "heartbeat":
        command = operator.command("heartbeat", {}, **claims)
    elif what == "forged":
        command = FORGER.command("limit", {"watts": 0, "duration": 9999}, **claims)
        home.forged.add(command)
    else:
        command = rng.randbytes(rng.randrange(200))
        home.forged.add(command)
    home.send(command)
    if end:
        home.lasts_s[cti_of(command)] = end


def play(seed: int, faults: Faults, *, clocks: bool) -> Governed:
    home = Governed(seed, WIRE)
    home.clocks_step = clocks
    for name in APPLIANCES:
        home.add_appliance(name)
    home.run(40)
    sleeper = home.adapters["pump"]
    sleeper.sleeps = True
    home.naps(sleeper)
    home.faults = faults
    if faults.restart_every_s:
        home.at(home.now + faults.restart_every_s / 2, home.kill_hub)
    for _ in range(25):
        random_command(home)
        if home.rng.random() < 0.2:
            home.uplink_is_up = not home.uplink_is_up
        if home.rng.random() < 0.03:
            home.becomes_protected(home.rng.choice(("boiler", "car")))
        if clocks and home.rng.random() < 0.2:
            home.step_clock(home.rng.choice((-7200.0, -30.0, 30.0, 7200.0)))
        home.run(home.rng.uniform(0.0, 40.0))
    home.uplink_is_up, home.faults, sleeper.sleeps = True, WIRE, False
    home.run(60)
    home.step_clock(UTC - home.clock_s)
    home.run(1500)
    return home


def check_stories(home: Governed) -> None:
    stories: dict[bytes | None, list[str]] = {}
    for receipt in home.receipts:
        stories.setdefault(receipt.re, []).append(receipt.status)
    stories.pop(None, None)
    for cti, story in stories.items():
        if "accepted" in story:  # before that the hub may have had no clock; afterwards nothing contradicts it
            story[:] = story[story.index("accepted") :]
        assert TRUE_STORY.fullmatch(" ".join(story)), (cti, story)
    open_ones = [story for story in stories.values() if story[-1] in ("accepted", "applied", "partial")]
    assert not open_ones, "every command that was taken comes to its end"


@given(seed=st.integers(0, 2**32), faults=FAULTS, clocks=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_restriction_outlives_its_end_and_nobody_protected_is_touched(
    seed: int, faults: Faults, clocks: bool
) -> None:
    check_all(play(seed, faults, clocks=clocks))


def check_all(home: Governed) -> None:
    """Nobody is held beyond the end of what was commanded (`limit`, `switch`, `set`), and every story has its end."""
    for name, obedience in home.obedience.items():
        assert obedience.limit_until is None and obedience.off_until is None, f"{name} is still restricted"
        assert obedience.appliance.on
    assert not len(home.controller.limits) and not home.controller.orders
    check_stories(home)
    assert not home.broker, "every command was acknowledged"


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), faults=FAULTS, clocks=st.booleans())
@settings(
    max_examples=int(os.environ.get("METERHUB_EXAMPLES", "1500")), deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
def test_the_same_at_length(seed: int, faults: Faults, clocks: bool) -> None:
    check_all(play(seed, faults, clocks=clocks))


def test_an_order_of_a_clock_that_was_ahead_does_not_outlive_it() -> None:
    """What a clock two hours ahead began ends when a restart brings the right one: found by 5,000 examples of these."""
    check_all(play(250, Faults(loss=0.0, max_delay_s=0.4, restart_every_s=40.0), clocks=True))


def test_a_forged_cti_does_not_block_the_genuine_command() -> None:
    home = Governed(1, WIRE)
    home.run(30)
    genuine = OPERATOR.command("limit", {"watts": 5, "duration": 30}, iat=int(UTC + 30), exp=int(UTC + 99))
    cti = cti_of(genuine)
    forged = FORGER.command("limit", {"watts": 9, "duration": 30}, cti=cti, iat=int(UTC + 30), exp=int(UTC + 99))
    home.forged.add(forged)
    home.send(forged)
    home.send(genuine)
    home.run(20)
    story = [receipt.status for receipt in home.receipts if receipt.re == cti]
    assert story[:2] == ["refused", "accepted"]


def test_a_clock_that_is_set_just_before_the_hub_dies_lengthens_nothing() -> None:
    """The machine goes on, so the hub that comes next knows by how much: found by 5,000 examples of these."""
    check_all(play(1613198, Faults(loss=0.3, max_delay_s=0.4, restart_every_s=40.0), clocks=True))
