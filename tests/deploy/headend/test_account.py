"""What holds a book against its hubs finds each kind of fault: `make chaos` says nothing where it would find none."""

from contextlib import closing

import pytest

from deploy.headend.account import faults_of_book, faults_of_orders
from deploy.headend.control_point import reader
from tests.deploy.headend.home import Fleet

LIMIT = {"watts": 900, "duration": 5}


@pytest.fixture(autouse=True)
def its_life(fleet: Fleet) -> None:
    """Each hub has kept a limit, and said what it read."""
    fleet.give("limit", LIMIT, {"all": True})
    fleet.run(130)


def findings(fleet: Fleet) -> list[str]:
    accounts = [hub.account() for hub in fleet.hubs.values()]
    with closing(reader(fleet.place)) as db:
        return [*faults_of_book(db, accounts), *faults_of_orders(db, accounts)]


def change(fleet: Fleet, sql: str) -> None:
    fleet.point.book.begin()
    assert fleet.point.book.db.execute(sql).rowcount
    fleet.point.commit()


def test_a_book_that_is_whole_has_no_fault(fleet: Fleet) -> None:
    assert findings(fleet) == []
    account = fleet.hubs["SIM-1"].account()
    rows = fleet.point.book.db.execute("SELECT count(*) FROM series JOIN reading ON series = id WHERE hub = 'SIM-1'")
    assert account["readings"] == rows.fetchone()[0] > 0 and account["numbers"]["readings"] == 2
    assert set(account["answers"].values()) == {"completed"}


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM message WHERE hub = 'SIM-1' AND lane = 'readings' AND n = 1", "1 messages, and"),
        ("DELETE FROM range WHERE hub = 'SIM-1' AND lane = 'events'", "it sent 1 to"),
        ("UPDATE range SET is_given_up = 1 WHERE hub = 'SIM-2' AND lane = 'readings'", "in the book are"),
        ("UPDATE range SET last = last + 1 WHERE hub = 'SIM-2' AND lane = 'readings'", "messages, and"),
        ("UPDATE range SET epoch = epoch + 1 WHERE hub = 'SIM-2' AND lane = 'readings'", "it never said so"),
        ("DELETE FROM reading WHERE series = (SELECT min(id) FROM series WHERE hub = 'SIM-1')", "SIM-1: "),
        ("UPDATE series SET readings = readings + 1 WHERE hub = 'SIM-2'", "readings, in the book "),
        ("UPDATE hub SET faults = 1 WHERE hub = 'SIM-1'", "1 messages not believed"),
        ("UPDATE receipt SET prev = hash WHERE hub = 'SIM-1' AND i = 2", "chain of receipts is broken"),
        ("UPDATE order_hub SET status = 'sent' WHERE hub = 'SIM-1'", "is sent"),
        ("UPDATE order_hub SET status = 'silent' WHERE hub = 'SIM-1'", "is silent in the book, and completed"),
    ],
)
def test_each_kind_of_fault_is_found(fleet: Fleet, sql: str, found: str) -> None:
    change(fleet, sql)
    assert [each for each in findings(fleet) if found in each], findings(fleet)


def test_what_the_line_lost_and_nobody_asked_for_yet_is_found(fleet: Fleet) -> None:
    fleet.drops = lambda message: True
    fleet.run(61)
    assert any("SIM-1 readings: it sent 1 to 3" in each for each in findings(fleet))
