"""The book on either engine: several that enter at once, values that no table holds, a server that dies."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.headend.control_point import ControlPoint, HeardMessage, book_in, overview, reader
from deploy.local_postgres import PostgresCluster
from hub.headend.book import Book, Gap
from hub.headend.database import FAILURES, UnfitValue
from hub.headend.ledger import Altered, Lane
from hub.wire.uplink import pack
from hub.wire.uplink.envelope import Envelope, seal
from hub.wire.uplink.reading import Reading
from tests.deploy.headend.home import Fleet

LANE = Lane("MTR-1", 1, "readings")


def envelope(number: int, hub: str = "MTR-1", epoch: int = 1) -> Envelope:
    return Envelope(hub, epoch, "readings", number, b"kid", "type", b"", {})


@pytest.fixture
def book(place: Path | str) -> Iterator[Book]:
    if isinstance(place, Path):
        place.mkdir()
    with closing(Book(book_in(place))) as book:
        yield book


def ranges(book: Book, lane: Lane = LANE) -> list[tuple[int, int, int]]:
    return [
        tuple(row)
        for row in book.db.execute(
            "SELECT first, last, is_given_up FROM range WHERE hub = ? AND epoch = ? AND lane = ? ORDER BY first", lane
        ).fetchall()
    ]


def enter(book: Book, *numbers: int) -> None:
    assert all(book.enter_all([(envelope(number), b"message %d" % number) for number in numbers]))
    book.commit()


def test_what_arrives_in_order_is_one_range_and_in_any_order_too(book: Book) -> None:
    enter(book, 1)
    enter(book, 2, 3)
    assert ranges(book) == [(1, 3, 0)]
    enter(book, 9, 7, 5)
    assert ranges(book) == [(1, 3, 0), (5, 5, 0), (7, 7, 0), (9, 9, 0)]
    assert book.gaps() == [Gap(LANE, 4, 4), Gap(LANE, 6, 6), Gap(LANE, 8, 8)]
    enter(book, 4, 8, 6)
    assert ranges(book) == [(1, 9, 0)] and book.gaps() == []


def test_a_repeat_and_a_forgery_are_told_apart_also_within_a_batch(book: Book) -> None:
    first = book.enter_all([(envelope(1), b"a"), (envelope(1), b"a"), (envelope(1), b"b")])
    assert first[:2] == [True, False] and isinstance(first[2], Altered)
    book.commit()
    second = book.enter_all([(envelope(1), b"b"), (envelope(2), b"c"), (envelope(1), b"a")])
    assert isinstance(second[0], Altered) and second[1:] == [True, False]
    book.commit()
    assert ranges(book) == [(1, 2, 0)] and book.count() == 2


def test_what_was_given_up_and_comes_after_all_is_lost_no_longer(book: Book) -> None:
    enter(book, 1, 9)
    book.give_up(Gap(LANE, 2, 8))
    book.commit()
    assert ranges(book) == [(1, 1, 0), (2, 8, 1), (9, 9, 0)] and book.gaps() == []
    enter(book, 4, 5)
    assert ranges(book) == [(1, 1, 0), (2, 3, 1), (4, 5, 0), (6, 8, 1), (9, 9, 0)]
    assert book.lost() == [Gap(LANE, 2, 3), Gap(LANE, 6, 8)] and book.gaps() == []
    enter(book, 2, 3, 6, 7, 8)
    assert ranges(book) == [(1, 9, 0)] and book.lost() == []


def test_booked_is_told_up_to_the_first_gap_and_an_old_epoch_holds_it_back(book: Book) -> None:
    for epoch, numbers in ((1, (1, 2, 4)), (2, (1, 2, 3))):
        book.enter_all([(envelope(n, epoch=epoch), b"%d %d" % (epoch, n)) for n in numbers])
    book.commit()
    assert book.booked() == book.booked("MTR-1") == {"MTR-1": {"readings": [1, 2]}}
    enter(book, 3)
    assert book.booked() == {"MTR-1": {"readings": [2, 3]}}
    book.announce(Lane("MTR-1", 1, "readings"), 9)
    assert book.booked() == {"MTR-1": {"readings": [1, 4]}}, "the old epoch had more"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 25), min_size=1, max_size=6, unique=True)), max_size=10)
)
def test_ranges_are_what_a_set_of_numbers_would_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, list[int]]]
) -> None:
    with closing(Book(tmp_path_factory.mktemp("book") / "db")) as book:
        here: set[int] = set()
        lost: set[int] = set()
        for is_given_up, numbers in steps:
            if is_given_up:
                low, high = min(numbers), max(numbers)
                book.give_up(Gap(LANE, low, high))
                lost |= set(range(low, high + 1)) - here
            else:
                book.enter_all([(envelope(n), b"%d" % n) for n in numbers])
                here |= set(numbers)
                lost -= set(numbers)
            book.commit()
            shown = [(n, kind) for first, last, kind in ranges(book) for n in range(first, last + 1)]
            assert shown == sorted([*((n, 0) for n in here), *((n, 1) for n in lost)])
            known = here | lost
            missing = [n for gap in book.gaps() for n in range(gap.first, gap.last + 1)]
            assert missing == [n for n in range(1, max(known, default=0)) if n not in known]


def test_four_that_enter_the_same_at_once_enter_it_once(server_place: str) -> None:
    """Each gives all numbers, in another order and in batches of another size; they meet on every row."""
    Book(server_place).close()
    new: list[int] = []
    failures: list[BaseException] = []

    def enter_some(seed: int) -> None:
        try:
            with closing(Book(server_place)) as book:
                messages = [(envelope(n, f"MTR-{hub}"), b"%d %d" % (hub, n)) for n in range(1, 101) for hub in range(7)]
                messages = messages[seed * 40 :] + messages[: seed * 40]
                size = 30 + 20 * seed
                for at in range(0, len(messages), size):
                    new.append(sum(found is True for found in book.enter_all(messages[at : at + size])))
                    book.commit()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=enter_some, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(new) == 700
    with closing(Book(server_place)) as book:
        assert [ranges(book, Lane(f"MTR-{hub}", 1, "readings")) for hub in range(7)] == [[(1, 100, 0)]] * 7
        assert book.count() == 700 and book.gaps() == []


def _pack_of(fleet: Fleet, *readings: Reading) -> HeardMessage:
    hub = fleet.hubs["SIM-1"]
    message = seal(hub._signer, hub.hub, 7, "readings", 1, pack.CONTENT_TYPE, pack.encode_pack(list(readings)))
    return HeardMessage("meters/SIM-1/readings", message)


@pytest.mark.parametrize(
    "reading",
    [
        Reading("meter", "power", (1 << 53) - 1, 1, 0),
        Reading("me\0ter", "power", 1, 1, 0),
        Reading("meter", "power", 1, 1, 0),
    ],
    ids=["far", "nul", "plain"],
)
def test_what_a_pack_holds_is_taken_or_unfit_and_never_half(
    tmp_path: Path, place: Path | str, reading: Reading
) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], place)
    before = overview(reader(place))
    try:
        taken = fleet.point.take(*_pack_of(fleet, reading)[:2], 1)
        fleet.point.commit()
        assert not taken.fault and overview(reader(place))["messages"] == 1
    except UnfitValue:
        fleet.point.undo()
        assert overview(reader(place)) == before
        refused = fleet.point.refuse(_pack_of(fleet, reading), "it fits nowhere")
        assert refused.fault and overview(reader(place)) == {**before, "faults": 1}
    fleet.close()


def test_a_state_that_is_no_text_is_unfit(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], place)
    with pytest.raises(UnfitValue):
        fleet.point.take("meters/SIM-1/state", b'{"state":"online","version":"\\ud800"}', 1)
    fleet.point.undo()
    fleet.close()


def test_a_server_that_dies_loses_nothing_that_was_committed(tmp_path: Path, own_cluster: PostgresCluster) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], own_cluster.url)
    fleet.start()
    fleet.run(130)
    messages = fleet.hubs["SIM-1"].due(fleet.t + 61)
    before = overview(reader(own_cluster.url))
    own_cluster.kill()
    with pytest.raises(FAILURES):
        fleet.hear(messages)
    fleet.point.undo()
    with pytest.raises(FAILURES):
        fleet.hear(messages)
    fleet.point.undo()
    own_cluster.start()
    assert overview(reader(own_cluster.url)) == before
    fleet.hear(messages)
    assert overview(reader(own_cluster.url))["messages"] > before["messages"]
    assert fleet.point.book.gaps() == []
    with pytest.raises(OSError, match="another control point"):
        ControlPoint(own_cluster.url, "op", fleet.signer)
    fleet.close()


def test_one_that_hangs_in_a_transaction_holds_the_others_up_no_longer_than_a_minute(server_place: str) -> None:
    with closing(Book(server_place)) as book:
        assert book.db.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0] == "1min"
        book.db.execute("SET idle_in_transaction_session_timeout = '200ms'")
        book.begin()
        book.lock(["MTR-1"])
        with closing(Book(server_place)) as other:
            enter(other, 1)  # waits for it, and goes on
        with pytest.raises(FAILURES):
            enter(book, 2)
        book.undo()
        enter(book, 2)
        assert ranges(book) == [(1, 2, 0)]


def test_a_server_that_does_not_sync_is_refused(own_cluster: PostgresCluster) -> None:
    with psycopg.connect(own_cluster.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    own_cluster.stop()
    own_cluster.start()
    with pytest.raises(OSError, match="fsync = off"):
        Book(own_cluster.url)


def test_tables_are_the_same_on_both(tmp_path: Path, server_place: str) -> None:
    signer: Any = None
    ControlPoint(tmp_path / "headend", "op", signer).close()
    ControlPoint(server_place, "op", signer).close()
    with closing(reader(tmp_path / "headend")) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
        of_sqlite = {
            table: [row["name"] for row in db.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()]
            for table in tables
        }
    with closing(reader(server_place)) as db:
        of_server: dict[str, list[str]] = {}
        for row in db.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " ORDER BY table_name, ordinal_position"
        ):
            of_server.setdefault(row["table_name"], []).append(row["column_name"])
    assert of_server == of_sqlite and len(of_sqlite) > 15
