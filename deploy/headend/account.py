"""A book held against what hubs themselves know that they said (SimulatedHub.account): each finding is a sentence."""

from collections.abc import Iterator
from typing import Any

from deploy.headend.control_point import broken_chains
from deploy.headend.orders import SILENT, is_over
from hub.headend.database import BookReader


def faults_of_book(db: BookReader, accounts: list[dict[str, Any]]) -> Iterator[str]:
    """What of the hubs' numbers and readings is missing, given up, doubled, altered, or not theirs. Of a hub that gives
    no account every lane has to be whole as far as it goes."""
    ranges: dict[tuple[str, int, str], list[tuple[int, int, int]]] = {}
    for hub, epoch, lane, first, last, is_given_up in db.execute(
        "SELECT hub, epoch, lane, first, last, is_given_up FROM range ORDER BY first"
    ):
        ranges.setdefault((hub, epoch, lane), []).append((first, last, is_given_up))
    for hub, epoch, lane, count in db.execute("SELECT hub, epoch, lane, count(*) FROM message GROUP BY 1, 2, 3"):
        said = ranges.get((hub, epoch, lane), [])
        if count != sum(last - first + 1 for first, last, is_given_up in said if not is_given_up):
            yield f"{hub} {lane}: {count} messages, and {said} in the ledger"
    for account in accounts:
        for lane, number in account["numbers"].items():
            found = ranges.pop((account["hub"], account["epoch"], lane), [])
            if found != [(1, number, 0)]:
                yield f"{account['hub']} {lane}: it sent 1 to {number}, in the book are {found}"
    known = {account["hub"] for account in accounts}
    for (hub, epoch, lane), found in ranges.items():
        if hub in known:
            yield f"{hub} {epoch} {lane}: {found} are in the book, and it never said so"
        elif len(found) != 1 or found[0][0] != 1 or found[0][2]:
            yield f"{hub} {lane}: {found}"
    yield from _readings(db, accounts)
    for hub, faults, fault in db.execute("SELECT hub, faults, fault FROM hub WHERE faults > 0"):
        yield f"{hub}: {faults} messages not believed: {fault}"
    for hub, epoch, i in broken_chains(db):
        yield f"{hub}: its chain of receipts is broken at {epoch} {i}"


def _readings(db: BookReader, accounts: list[dict[str, Any]]) -> Iterator[str]:
    rows = db.execute("SELECT hub, count(*) FROM series JOIN reading ON series = id GROUP BY hub").fetchall()
    there = dict(rows)
    counted = dict(db.execute("SELECT hub, sum(readings) FROM series GROUP BY hub").fetchall())
    for account in accounts:
        hub, readings = account["hub"], account["readings"]
        if not readings == there.get(hub, 0) == counted.get(hub, 0):
            yield f"{hub}: {readings} readings, in the book {there.get(hub, 0)}, counted {counted.get(hub, 0)}"


def faults_of_orders(db: BookReader, accounts: list[dict[str, Any]]) -> Iterator[str]:
    """Orders that went, and of which the book does not know yet what a hub did, or knows it wrongly."""
    answers = {account["hub"]: account["answers"] for account in accounts}
    for order_id, hub, cti, status in db.execute(
        "SELECT h.order_id, h.hub, h.cti, h.status FROM order_hub h JOIN grid_order o ON o.id = h.order_id"
        " WHERE o.state = 'sent'"
    ):
        if not is_over(status):
            yield f"{hub}: order {order_id} is {status}"
        elif hub in answers:
            said = answers[hub].get(bytes(cti).hex(), SILENT)
            if said != status:
                yield f"{hub}: order {order_id} is {status} in the book, and {said} at the hub"
