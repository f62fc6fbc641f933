"""What the home is told: prices and weather as they pass, the time from a trustworthy clock alone, power and limit."""

import json

from hub.core.records import SubscriptionAdded
from tests.hub.core.control.desk import BOILER, UTC, Desk


def said(desk: Desk, topic: str) -> list[bytes]:
    return [payload for name, payload in desk.notices if name == topic]


def test_prices_change_with_their_steps_and_are_said_once_each() -> None:
    desk = Desk()
    steps = [[UTC + 60, 60, 0.4], [UTC, 60, 0.3]]
    desk.send("price", {"currency": "GBP", "steps": steps})
    desk.run(150, 5)
    shown = [json.loads(payload) for payload in said(desk, "price")]
    assert [price["now"] for price in shown] == [0.3, 0.4, None]
    assert shown[0] == {"currency": "GBP", "now": 0.3, "until": UTC + 60, "next": [[UTC + 60, 60, 0.4]]}


def test_weather_survives_a_restart() -> None:
    desk = Desk()
    desk.send("weather", {"steps": [[UTC, 3600, {"temp": 7.5}]]})
    desk.restart(off_s=3)
    desk.notices.clear()
    desk.run(1)
    assert json.loads(said(desk, "weather")[0])["now"] == {"temp": 7.5}


def test_the_time_is_told_once_a_minute_and_to_whom_asks() -> None:
    desk = Desk()
    desk.run(130)
    assert said(desk, "time") == [str(int(UTC) + s).encode() for s in (1, 61, 121)]
    desk.observe(SubscriptionAdded("clock", "time", 0))
    assert said(desk, "time")[-1] == str(int(UTC) + 130).encode() and len(said(desk, "time")) == 4


def test_without_a_trustworthy_clock_nobody_is_told_the_time() -> None:
    desk = Desk(trusted=False)
    desk.observe(SubscriptionAdded("clock", "time", 0))
    desk.run(130)
    assert said(desk, "time") == []


def test_a_display_sees_power_every_ten_seconds_and_the_limit_at_once() -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 1234)
    desk.run(60)
    assert said(desk, "home/power") == [b"1234"] * 6
    desk.send("limit", {"watts": 1500, "duration": 20})
    assert said(desk, "home/limit")[-1] == b"1500"
    desk.run(21)
    assert said(desk, "home/limit")[-1] == b""
