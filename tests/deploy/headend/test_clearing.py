"""What is older than it has to be kept: each kind goes by its own period, a piece at a time; the numbers never."""

import dataclasses
import json
from contextlib import closing
from pathlib import Path

import pytest

from deploy.fleet.simulated_hub import HubMessage
from deploy.headend import clearing
from deploy.headend.clearing import Clearer, Clearing, cleared, last_walk_ms
from deploy.headend.config import BadConfig, KeepPeriods, load
from deploy.headend.control_point import book_in, broken_chains, overview, reader
from deploy.headend.intervals import STEP_S
from deploy.headend.metrics import metrics
from deploy.headend.usage import intervals_of, readings_of
from deploy.waiting import wait_for
from hub.headend.book import Book
from hub.headend.ledger import Altered, Lane
from hub.wire.uplink.envelope import Envelope
from hub.wire.uplink.reading import Reading
from tests.deploy.headend.home import START, Fleet

DAY_S = 86_400
KEEP = KeepPeriods(
    packs_days=60, readings_days=40, half_hours_days=100, events_days=60, receipts_days=80, audit_days=50
)


def walk(fleet: Fleet, days: float, keep: KeepPeriods = KEEP) -> None:
    """Everything is gone through, so many days after the start."""
    with closing(Book(book_in(fleet.place))) as book:
        machine = Clearing(book, keep)
        while machine.step(int((START + days * DAY_S) * 1000)):
            pass


def count(fleet: Fleet, sql: str) -> int:
    with closing(reader(fleet.place)) as db:
        return int(db.execute(f"SELECT count(*) FROM {sql}").fetchone()[0])


@pytest.fixture
def said(fleet: Fleet) -> list[HubMessage]:
    """What the hubs of `fleet` say: packs, events, an order's receipts; all of it is in the book and marked."""
    messages: list[HubMessage] = []
    fleet.drops = lambda message: isinstance(message, HubMessage) and bool(messages.append(message))
    fleet.give("limit", {"watts": 900, "duration": 30}, {"all": True})
    fleet.point.note_deed(int(fleet.t * 1000), "desk", "looked", "")
    fleet.run(190)
    fleet.drops = lambda _message: False
    walk(fleet, 1)
    return messages


def packs_in(messages: list[HubMessage]) -> list[HubMessage]:
    return [message for message in messages if message.topic.endswith("/readings")]


def test_each_kind_goes_after_its_own_period(fleet: Fleet, said: list[HubMessage]) -> None:
    packs, events, receipts = (f"message WHERE lane = '{lane}'" for lane in ("readings", "events", "receipts"))
    kinds = {"reading": 45, "audit": 55, packs: 70, events: 70, "event": 70, receipts: 90, "receipt": 90,
             "grid_order": 90, "order_hub": 90, "order_message": 90}  # fmt: skip
    before = {kind: count(fleet, kind) for kind in kinds}
    assert all(before.values())
    for day in (39, 45, 55, 70, 90):
        walk(fleet, day)
        assert {kind: count(fleet, kind) for kind in kinds} == {
            kind: 0 if gone_by <= day else before[kind] for kind, gone_by in kinds.items()
        }
    with closing(reader(fleet.place)) as db:
        gone = cleared(db)
        assert all(gone[kind].rows > 0 for kind in clearing.KINDS if kind != clearing.HALF_HOURS)
        assert last_walk_ms(db) == (START + 90 * DAY_S) * 1000
        assert broken_chains(db) == [] and overview(db)["readings"] == 0
        page = metrics(overview(db), {"missing": 0}, 0, db)
    assert f'meterhub_cleared_rows_total{{what="packs"}} {before[packs]}\n' in page


def test_a_repeat_is_refused_when_its_pack_has_gone(fleet: Fleet, said: list[HubMessage]) -> None:
    messages = overview(reader(fleet.place))["messages"]
    walk(fleet, 70)
    assert count(fleet, "message WHERE lane = 'readings'") == 0
    fleet.received.clear()
    fleet.hear(packs_in(said))
    assert len(fleet.received) == len(packs_in(said)) > 2
    assert all(not again.is_new and not again.fault for again in fleet.received)
    assert count(fleet, "message WHERE lane = 'readings'") == count(fleet, "reading") == 0
    assert fleet.point.book.gaps() == [] and overview(reader(fleet.place))["messages"] == messages
    # What comes next is new, and what it says is told from a forgery.
    fleet.run(61)
    fresh = [received for received in fleet.received if received.kind == "readings" and received.is_new]
    assert fresh and count(fleet, "message WHERE lane = 'readings'") == len(fresh)
    assert fleet.point.book.gaps() == []


def test_a_number_that_was_given_up_is_new_when_it_comes_though_all_around_it_has_gone(place: Path | str) -> None:
    if isinstance(place, Path):
        place.mkdir()
    lane = Lane("MTR-1", 1, "readings")
    with closing(Book(book_in(place))) as book:

        def enter(*numbers: int) -> list[bool | Altered]:
            found = book.enter_all(
                [(Envelope(*lane, number, b"kid", "type", b"", {}), b"%d" % number) for number in numbers]
            )
            book.commit()
            return found

        enter(1, 2, 5)
        [gap] = book.gaps()
        book.give_up(gap)
        book.mark(["MTR-1"], 1000, 0)
        while book.clear("MTR-1", ["readings"], 2000, 1):
            book.commit()
        assert book.count() == 0
        assert enter(4, 2, 4, 6) == [True, False, False, True]
        assert book.count() == 2 and [gap[1:] for gap in book.lost()] == [(3, 3)]
        # A mark that says nothing new is not made, and old ones do not pile up.
        for t_ms in (3000, 3001, 4000):
            book.mark(["MTR-1"], t_ms, 500)
        book.clear("MTR-1", ["readings"], 9000, 10)
        book.clear("MTR-1", ["readings"], 9000, 10)
        assert book.db.execute("SELECT t_ms, n FROM number_mark").fetchall() == [(3000, 6)]


def test_bills_outlive_their_readings_and_what_comes_late_does_not_unmake_them(fleet: Fleet) -> None:
    def enter(wh_by_minute: dict[int, int]) -> None:
        usage, t0 = fleet.point.usage, START // STEP_S * STEP_S
        fleet.point.book.begin()
        usage.enter(
            "SIM-1", [Reading("meter", "energy", (t0 + m * 60) * 1000, wh, 0) for m, wh in wh_by_minute.items()]
        )
        fleet.point.commit()

    def known() -> list[tuple[int, int, int | None, str, int]]:
        return intervals_of(fleet.point.book.db, "SIM-1", "energy", START - DAY_S, START + 120 * DAY_S)

    enter({minute: 20 * minute for minute in [*range(11), *range(80, 121)]})
    fleet.point.due(1, START)
    enter({minute: 20 * minute for minute in range(11, 80)})
    walk(fleet, 45)
    assert count(fleet, "reading") > 0, "half-hours have to be made of them yet"
    fleet.point.due(1, START + 1)
    fleet.point.commit()
    bill = known()
    versions = count(fleet, "interval")
    assert len(bill) == 4 and versions > 4
    walk(fleet, 46)
    assert count(fleet, "reading") == 0 and known() == bill
    enter({25: 3})  # of a hub that was away for seven weeks
    fleet.point.due(2, START + 46 * DAY_S)
    fleet.point.commit()
    assert known() == bill and count(fleet, "interval") == versions
    walk(fleet, 105)
    assert known() == [] and count(fleet, "interval") == 0


def test_pieces_are_small_and_another_hub_is_taken_between_two(
    tmp_path: Path, place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clearing, "_MOST_ROWS", 10)
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"], place)
    fleet.start()
    fleet.run(190)
    walk(fleet, 1)
    before = count(fleet, "reading")
    assert before > 40
    with closing(Book(book_in(place))) as book:
        machine = Clearing(book, KEEP)
        pieces, left = 0, before
        while machine.step((START + 70 * DAY_S) * 1000):
            now = count(fleet, "reading")
            assert left - now <= 20, "a series' piece may come on top of what is almost one"
            left, pieces = now, pieces + 1
            fleet.hear([HubMessage("meters/SIM-2/heartbeat", b"no heartbeat")])  # nobody holds it up
    assert left == 0 and pieces > before // 20
    fleet.close()


def test_a_walk_goes_on_where_it_was_after_a_start_anew(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, [f"SIM-{number:02}" for number in range(25)], place)
    fleet.start()
    fleet.run(61)
    walk(fleet, 1)
    t_ms = (START + 45 * DAY_S) * 1000
    with closing(Book(book_in(place))) as book:
        machine = Clearing(book, KEEP)
        machine.step(t_ms)
        while machine._waiting:
            machine.step(t_ms)
    of_each = "series JOIN reading ON series = id WHERE hub = '{}'"
    assert count(fleet, of_each.format("SIM-19")) == 0 < count(fleet, of_each.format("SIM-20"))
    with closing(Book(book_in(place))) as book:
        Clearing(book, KEEP).step(t_ms)  # hubs from 20 on
        row = book.db.execute("SELECT hub FROM clearing_walk").fetchone()
        assert row[0] == "SIM-24"
    fleet.close()


def test_packs_that_the_columnar_store_waits_for_stay(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], place, has_columns=True)
    fleet.start()
    fleet.run(61)
    walk(fleet, 1)
    walk(fleet, 70)
    assert count(fleet, "message WHERE lane = 'readings'") == count(fleet, "uncolumned") > 0
    fleet.point.book.begin()
    fleet.point.book.db.execute("DELETE FROM uncolumned")
    fleet.point.commit()
    walk(fleet, 71.1)
    assert count(fleet, "message WHERE lane = 'readings'") == 0
    fleet.close()


def test_orders_of_a_rollout_go_after_it_and_none_that_is_open(fleet: Fleet) -> None:
    fleet.point.book.begin()
    rollouts = fleet.point.rollouts
    going, done = (
        rollouts.begin(
            "config",
            {"set": {"control.heartbeat_s": 60}},
            {"all": True},
            "desk",
            START,
            wave_hubs=1,
            success_share=1.0,
            error_share=0.5,
            valid_s=60,
        )
        for _ in range(2)
    )
    rollouts.stop(done, "desk")
    fleet.point.commit()
    fleet.carry(fleet.point.due(fleet.t, START))
    walk(fleet, 90)
    with closing(reader(fleet.place)) as db:
        assert [row[0] for row in db.execute("SELECT id FROM rollout").fetchall()] == [going]
    assert count(fleet, "grid_order") == 1
    assert count(fleet, f"rollout_hub WHERE rollout_id = '{done}'") == 0


def test_for_ever_is_for_ever(fleet: Fleet, said: list[HubMessage]) -> None:
    tables = ("message", "reading", "event", "receipt", "grid_order", "audit")
    before = [count(fleet, table) for table in tables]
    walk(fleet, 30_000, KeepPeriods(*(0 for _ in dataclasses.fields(KeepPeriods))))
    assert [count(fleet, table) for table in tables] == before
    readings = list(readings_of(fleet.point.book.db, "SIM-1", "", "", 0, 1 << 60, 9999))
    assert readings and packs_in(said)


def test_the_service_s_thread_does_it_and_ends(fleet: Fleet, said: list[HubMessage]) -> None:
    """The hubs' clock is years behind this machine's: by that one all of it is old."""
    clearer = Clearer(fleet.place, KEEP, idle_s=0.05)
    with closing(Book(book_in(fleet.place))) as book:
        book.begin()
        book.db.execute("UPDATE number_mark SET t_ms = 1000")
        book.commit()
    clearer.start()
    wait_for("a walk", lambda: count(fleet, "message WHERE lane = 'readings'") == 0)
    clearer.stop()
    assert clearer.counts == {"clearing_failures": 0}


@pytest.mark.parametrize(
    ("said_of_it", "expected"),
    [
        ("readings_days = 30", "0 (for ever), or days from 31 on"),
        ("readings_days = 500\nhalf_hours_days = 400", "half_hours_days: expected no less than readings_days (500)"),
        ("readings_days = 0", "half_hours_days: expected no less"),
        ("bills_days = 4", "not one of packs_days, readings_days, half_hours_days"),
    ],
)
def test_periods_that_cannot_be_are_refused(tmp_path: Path, said_of_it: str, expected: str) -> None:
    file = tmp_path / "headend.toml"
    needed = (
        '[service]\ndata_dir = "d"\n[broker]\nhost = "h"\nca_file = "c"\ncert_file = "c"\nkey_file = "k"\n'
        '[operator]\nkid = "op"\nkey_file = "k"\n'
    )
    file.write_text(needed)
    assert load(file).keep == KeepPeriods()
    file.write_text(needed + "[keep]\nreadings_days = 0\nhalf_hours_days = 0\n")
    assert load(file).keep.half_hours_days == 0
    file.write_text(needed + f"[keep]\n{said_of_it}\n")
    with pytest.raises(BadConfig) as caught:
        load(file)
    assert expected in str(caught.value) and json.dumps(str(caught.value))
