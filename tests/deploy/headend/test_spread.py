"""How an order spreads over its hubs: how many, how many watts, second by second, on a virtual clock."""

import pytest

from deploy.headend import charts
from deploy.headend.control_point import reader
from deploy.headend.orders import Spread, spread_of, watts_of
from tests.deploy.headend.home import Fleet

LIMIT_W = 150
pytestmark = pytest.mark.fleet(names=[f"SIM-{number}" for number in range(6)], run_s=150)


def test_watts_asked_against_watts_reached(fleet: Fleet) -> None:
    order_id = fleet.give("limit", {"watts": LIMIT_W, "duration": 180}, {"all": True})
    fleet.run(400)
    db = reader(fleet.place)
    spread = spread_of(db, order_id, 300, 5)
    assert [count for _, count in spread.obeyed] == [1, 2, 3, 4, 5, 6]
    assert spread.asked == (0.0, 180.0, 6.0 * LIMIT_W) and spread.households == 6
    found = watts_of(spread, 6)
    assert found["before_w"] > 6 * LIMIT_W >= found["now_w"] > 0 == found["above_w"]
    assert spread.watts[-1][1] > 6 * LIMIT_W, "the limit has ended"
    assert [after_s for after_s, _ in spread.watts] == sorted({after_s for after_s, _ in spread.watts})
    drawn = charts.spread(spread, 6, 300).decode()
    assert "watts asked for, at most" in drawn and "hubs that obey (of 6)" in drawn and "<script" not in drawn
    db.close()


def test_what_was_drawn_before_is_not_what_was_drawn_once_it_was_sent() -> None:
    # Within the first second five of six obey already.
    its = Spread([(0.2, 5)], [(-2.0, 9000.0), (-1.0, 9100.0), (0.0, 2500.0), (1.0, 900.0)], [], (0.0, 60.0, 900.0), 6)
    found = watts_of(its, 6)
    assert (found["before_w"], found["now_w"]) == (9100.0, 900.0)


def test_one_that_does_not_obey_is_seen(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic == "meters/SIM-1/commands"
    order_id = fleet.give("limit", {"watts": LIMIT_W, "duration": 180}, {"where": {"state": "online"}})
    fleet.run(200)
    db = reader(fleet.place)
    spread = spread_of(db, order_id, 180, 5)
    found = watts_of(spread, 6)
    assert len(spread.obeyed) == 5
    assert found["above_w"] > 0 and found["now_w"] == pytest.approx(5 * LIMIT_W + LIMIT_W + found["above_w"])
    db.close()


def test_a_sum_of_few_is_told_to_nobody(fleet: Fleet) -> None:
    """Many hubs are meant, and the meters of a few were heard."""
    fleet.point.book.begin()
    for number in range(4):
        fleet.point.usage.erase(f"SIM-{number}")
    fleet.point.commit()
    fleet.drops = lambda message: message.topic.endswith(("0/readings", "1/readings", "2/readings", "3/readings"))
    order_id = fleet.give("limit", {"watts": LIMIT_W, "duration": 60}, {"all": True})
    fleet.run(90)
    db = reader(fleet.place)
    spread = spread_of(db, order_id, 120, 5)
    assert (spread.watts, spread.above, spread.asked, spread.households) == ([], [], None, 0)
    nothing = dict.fromkeys(watts_of(spread, 6)) | {"hubs": 6, "households": 0}
    assert watts_of(spread, 6) == nothing and b"watts" not in charts.spread(spread, 6, 120)
    assert spread_of(db, order_id, 120).households == 2
    db.close()


def test_what_is_no_limit_of_import_asks_for_no_watts(fleet: Fleet) -> None:
    order_id = fleet.give("limit", {"watts": 0, "duration": 60, "direction": "export"}, {"all": True})
    fleet.run(70)
    db = reader(fleet.place)
    spread = spread_of(db, order_id, 60)
    found = watts_of(spread, 6)
    assert spread.asked is None and found["asked_w"] is None and found["above_w"] is None
    db.close()
