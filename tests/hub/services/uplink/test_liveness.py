"""A loop that does not come back when it said it would is known by name; one that only waits is not."""

import socket
from collections.abc import Callable

from drivers.clock import monotonic
from hub.core.liveness import Vitals
from tests.harness.house import House
from tests.harness.waiting import wait_for


class Ahead:
    """The clock that vitals look at, to be set ahead."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.by_s


def test_who_is_late_is_known_by_name() -> None:
    now = [0.0]
    vitals = Vitals(lambda: now[0])
    vitals.expect("uplink", 30)
    vitals.expect("control", float("inf"))
    now[0] = 30.0
    assert vitals.overdue() == []
    now[0] = 30.1
    assert vitals.overdue() == ["uplink"]
    vitals.expect("uplink", 1)
    assert vitals.overdue() == []


def test_an_uplink_that_hangs_is_late_and_one_that_goes_on_is_not(make_house: Callable[..., House]) -> None:
    ahead = Ahead()
    vitals = Vitals(ahead)
    with socket.create_server(("127.0.0.1", 0)) as server:
        house = make_house(server.getsockname()[1], vitals=vitals)
        connection, _ = server.accept()  # and not a word of TLS
        assert house.status()["state"] == "connecting" and vitals.overdue() == []
        ahead.by_s = 299.0
        assert vitals.overdue() == []
        ahead.by_s = 400.0
        assert vitals.overdue() == ["uplink"]
    connection.close()
    wait_for("the next attempts to prove life", lambda: vitals.overdue() == [])
    house.wait_state("waiting")
    assert vitals.overdue() == [], "waiting is no fault"
