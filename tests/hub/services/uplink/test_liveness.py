"""A loop that does not come back when it said it would is known by name; one that only waits is not."""

import socket
from collections.abc import Callable

from drivers.clock import monotonic
from hub.core.liveness import AWAKE_S, Liveness
from tests.harness.house import House
from tests.harness.waiting import wait_for


class Ahead:
    """The clock that liveness look at, to be set ahead."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.by_s


def test_who_is_late_is_known_by_name() -> None:
    now = [0.0]
    liveness = Liveness(lambda: now[0])
    liveness.expect("uplink", 30)
    liveness.expect("control", float("inf"))
    now[0] = 30.0
    assert liveness.overdue() == []
    now[0] = 30.1
    assert liveness.overdue() == ["uplink"]
    liveness.expect("uplink", 1)
    assert liveness.overdue() == []


def test_an_uplink_that_hangs_is_late_and_one_that_goes_on_is_not(make_house: Callable[..., House]) -> None:
    ahead = Ahead()
    liveness = Liveness(ahead)
    with socket.create_server(("127.0.0.1", 0)) as server:
        house = make_house(server.getsockname()[1], liveness=liveness)
        connection, _ = server.accept()  # and not a word of TLS
        assert house.status()["state"] == "connecting" and liveness.overdue() == []
        ahead.by_s = 299.0
        assert liveness.overdue() == []
        ahead.by_s = 400.0
        assert liveness.overdue() == ["uplink"]
    connection.close()
    wait_for("the next attempts to prove life", lambda: liveness.overdue() == [])
    house.wait_state("waiting")
    assert liveness.overdue() == [], "waiting is no fault"


def test_a_machine_that_slept_has_no_loop_that_is_stuck() -> None:
    now = [0.0]
    liveness = Liveness(lambda: now[0])
    liveness.expect("uplink", 30)
    liveness.expect("control", 60)
    now[0] = 3600.0  # nobody ran for an hour, and the watch happens to wake first
    assert liveness.stuck() == [], "late, and so would be anybody"
    liveness.expect("uplink", 30)
    now[0] += AWAKE_S
    assert liveness.stuck() == ["control"], "the other one had the time to speak"
    liveness.expect("control", 1)
    now[0] += 2.0
    assert liveness.stuck() == [], "this is another lateness, and the first look at it"
    now[0] += AWAKE_S
    assert liveness.stuck() == ["control"]
