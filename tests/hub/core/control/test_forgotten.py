"""P5: a hub that lost its memory of counters obeys nothing that it may have obeyed before."""

import cbor2

from hub.core.control.authority import MAX_AHEAD_S
from hub.core.control.records import FORGOT
from tests.harness.operator import cti_of, dumps
from tests.hub.core.control.desk import UTC, Desk

PRICE = {"currency": "GBP", "steps": [[int(UTC), 3600, 0.28]]}


def forgetful(desk: Desk, *, trusted: bool = True) -> None:
    """The store starts over with nothing but its word that it does."""
    desk.kept = {FORGOT: dumps(None)}
    desk.restart(off_s=5, trusted=trusted)


def test_what_was_commanded_before_is_refused_and_what_is_issued_since_is_obeyed() -> None:
    desk = Desk()
    ends = int(UTC) + 4000
    obeyed = desk.operator.command("price", PRICE, iat=int(UTC), exp=ends)
    ahead = desk.operator.command("price", PRICE, iat=int(UTC) + 290, exp=ends)  # by a clock that runs ahead
    desk.take(obeyed)
    desk.take(ahead)
    assert desk.story(cti_of(ahead))[0] == "accepted"
    forgetful(desk)
    for message in (obeyed, ahead):
        desk.take(message)
        assert (desk.story(cti_of(message))[-1], desk.reason(cti_of(message))) == ("refused", "replayed")
    desk.run(MAX_AHEAD_S + 1)
    again = desk.send("price", PRICE)
    assert desk.story(again) == ["accepted", "completed"]


def test_it_is_remembered_over_a_restart_and_counts_from_the_first_trusted_clock() -> None:
    desk = Desk()
    obeyed = desk.operator.command("price", PRICE, iat=int(UTC), exp=int(UTC) + 4000)
    desk.take(obeyed)
    forgetful(desk, trusted=False)
    desk.now += 50
    desk.control.set_clock(UTC, True, desk.now)
    desk.settle()
    assert cbor2.loads(desk.kept[FORGOT]) == UTC + desk.now + MAX_AHEAD_S
    desk.restart(off_s=1000)
    desk.take(obeyed)
    assert desk.reason(cti_of(obeyed)) == "replayed"
    assert desk.story(desk.send("price", PRICE))[0] == "accepted"


def test_a_hub_that_never_forgot_anything_asks_for_nothing() -> None:
    desk = Desk()
    assert FORGOT not in desk.kept
    assert desk.story(desk.send("price", PRICE))[0] == "accepted"
