"""P2: numbers are gap-free, resends byte-identical, a sample is in exactly one pack."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from hub.core import records as r
from hub.core.control.records import Journal
from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.reading import CLOCK_UNSYNCHRONISED
from store import Store, StoreError
from tests.store.helpers import (
    WAIT_S,
    batch,
    commit,
    every,
    payload_of,
    power_cut,
    sample,
    seal_all,
    started,
    take,
    until,
    values_of,
)

Opener = Callable[..., Store]


def tenths(*values: int) -> list[Decimal]:
    return [Decimal(value).scaleb(-1) for value in values]


def test_rows_are_split_between_packs(store: Store) -> None:
    assert commit(store, batch(1, *(sample(value=v) for v in range(10)))) is None
    assert commit(store, batch(2, *(sample(value=v) for v in range(10, 13)))) is None
    packs = seal_all(store, 4)
    assert [len(decode_pack(payload_of(pack))) for pack in packs] == [4, 4, 4, 1]
    assert values_of(packs) == tenths(*range(13))
    assert [pack.number for pack in packs] == [1, 2, 3, 4]


def test_a_sample_is_in_one_pack_wherever_the_power_goes(open_store: Opener, data_dir: Path, tmp_path: Path) -> None:
    store = open_store()
    assert commit(store, batch(1, *(sample(value=v) for v in range(10)))) is None
    cuts = []
    for step in range(4):
        cuts.append(power_cut(data_dir, tmp_path / f"cut-{step}"))
        store.seal_pack(3).result(WAIT_S)
    for step, cut in enumerate(cuts):
        after = started(cut)
        assert after.queue_status().result(WAIT_S)["readings"]["unsealed"] == 10 - 3 * step
        seal_all(after, 4)
        packs = every(after, "readings")
        after.close()
        assert values_of(packs) == tenths(*range(10))
        assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))


def test_sealing_waits_for_nothing_and_finds_nothing(store: Store) -> None:
    assert store.seal_pack().result(WAIT_S) is None
    only_seen = batch(1)
    only_seen.seen = [r.Seen("a", 1, 2, 1)]
    assert commit(store, only_seen) is None
    assert store.seal_pack().result(WAIT_S) is None
    take(store, 5)
    assert values_of(seal_all(store)) == tenths(5)


def test_lanes_count_for_themselves_and_across_restarts(open_store: Opener) -> None:
    store = open_store()
    receipt = store.append("receipts", 61, b"one").result(WAIT_S)
    answer = store.append("answers", 61, b"two", {-65539: b"cti"}).result(WAIT_S)
    store.record_event("adapter.lost", {"client": "a"})
    assert (receipt.epoch, receipt.number, answer.number) == (1, 1, 1)
    until(lambda: len(every(store, "events")) == 1)
    store.close()
    store = open_store()
    assert store.append("receipts", 61, b"three").result(WAIT_S).number == 2
    assert [payload_of(s) for s in every(store, "receipts")] == [b"one", b"three"]
    assert every(store, "receipts")[0] == receipt


def test_there_are_four_lanes_and_readings_come_from_samples(store: Store) -> None:
    with pytest.raises(StoreError, match="lane"):
        store.append("gossip", 60, b"")
    with pytest.raises(StoreError, match="seal_pack"):
        store.append("readings", 60, b"")
    with pytest.raises(StoreError, match="lane"):
        store.unsent("gossip", 1, 0, 1).result(WAIT_S)


def numbers(store: Store, after: int = 0, limit: int = 100) -> list[int]:
    return [s.number for s in store.unsent("receipts", 1, after, limit).result(WAIT_S)]


def test_unsent_messages_come_in_order_after_a_cursor(store: Store) -> None:
    for number in range(1, 8):
        store.append("receipts", 61, bytes([number])).result(WAIT_S)
    assert numbers(store) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(store, 3, 2) == [4, 5]
    for number in (2, 1, 4, 99):
        store.delivered("receipts", 1, number).result(WAIT_S)
    assert numbers(store) == [3, 5, 6, 7]
    assert store.queue_status().result(WAIT_S)["receipts"]["pending"] == 4
    store.delivered("receipts", 1, 3).result(WAIT_S)
    assert store.queue_status().result(WAIT_S)["receipts"]["pending"] == 3


def test_delivery_marks_ride_along_or_come_soon(
    open_store: Opener, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    for number in range(1, 6):
        store.append("receipts", 61, bytes([number])).result(WAIT_S)
    before = store.status()["commits"]
    for number in (1, 2, 3):
        store.delivered("receipts", 1, number).result(WAIT_S)
    take(store, 1)
    until(lambda: store.status()["commits"] == before + 1)
    after = started(power_cut(data_dir, tmp_path / "cut"))
    assert numbers(after) == [4, 5]
    after.close()
    monkeypatch.setattr("store.writer.MARKS_S", 0.02)
    store.delivered("receipts", 1, 4).result(WAIT_S)
    until(lambda: store.status()["commits"] == before + 2)
    after = started(power_cut(data_dir, tmp_path / "cut"))
    assert numbers(after) == [5]
    after.close()


def test_marks_outlive_the_log_they_rode_in(open_store: Opener) -> None:
    clock = [10.0]
    store = open_store(monotonic=lambda: clock[0])
    store.append("receipts", 61, b"").result(WAIT_S)
    store.delivered("receipts", 1, 1).result(WAIT_S)
    for number in range(600):
        assert commit(store, batch(number, sample(at_s=clock[0]), seen=1)) is None
        clock[0] += 2
    seal_all(store)
    for _ in range(3):
        clock[0] += 700
        assert commit(store, batch(1, sample(at_s=clock[0]))) is None
        seal_all(store)
    store.close()
    store = open_store(monotonic=lambda: clock[0])
    assert numbers(store) == []
    assert len([s for s in store.restored if isinstance(s, r.Seen)]) < 600
    assert store.status()["readings"] == 603
    take(store, 7)
    assert values_of(seal_all(store)) == tenths(7)


def test_a_resend_is_byte_identical(open_store: Opener) -> None:
    store = open_store()
    take(store, 1, 2, 3)
    packs = seal_all(store, 1)
    for pack in packs:
        store.delivered("readings", 1, pack.number).result(WAIT_S)
    store.close()
    store = open_store()
    assert store.unsent("readings", 1, 0, 9).result(WAIT_S) == []
    assert store.sealed_range("readings", 1, 2, 3).result(WAIT_S) == packs[1:]
    assert store.sealed_range("readings", 2, 1, 9).result(WAIT_S) == []


def test_the_boots_own_clock_dates_a_sample(open_store: Opener) -> None:
    clock = [100.0]
    options = {"monotonic": lambda: clock[0], "utc_ms": lambda: 5_000_000}
    store = open_store(**options)
    assert commit(store, batch(1, sample(at_s=99.5, value=1))) is None
    store.close()  # never trusted
    clock[0] = 50.0
    store = open_store(**options)
    assert commit(store, batch(2, sample(at_s=50.0, value=2))) is None
    store.set_clock(1_700_000_000_000, True)
    store.set_clock(7, False)  # less trustworthy, later
    store.close()
    clock[0] = 10.0
    store = open_store(**options)
    store.set_clock(1_800_000_000_000, True)
    assert commit(store, batch(3, sample(at_s=10.0, value=3))) is None
    found = decode_pack(payload_of(seal_all(store)[0]))
    assert {(f.mantissa, f.t_ms, f.flags) for f in found} == {
        (1, 4_999_500, CLOCK_UNSYNCHRONISED),
        (2, 1_700_000_050_000, 0),
        (3, 1_800_000_010_000, 0),
    }


def test_clock_steps_change_no_order(store: Store) -> None:
    for number, offset_ms in enumerate((0, 10_000_000_000, -10_000_000_000, 5)):
        store.set_clock(offset_ms, True)
        take(store, number)
    assert values_of(seal_all(store, 1)) == tenths(0, 1, 2, 3)


def test_readings_are_found_sealed_or_not(store: Store) -> None:
    store.set_clock(1_000_000, True)
    for number in range(20):
        client = "plug-1" if number % 2 else "meter"
        assert commit(store, batch(number, sample(client, number, at_s=float(number)))) is None
        if number % 3 == 0:
            store.seal_pack(2).result(WAIT_S)

    def found(**query: object) -> list[int]:
        return [reading.mantissa for reading in store.readings(**query).result(WAIT_S)]  # type: ignore[arg-type]

    assert found() == list(range(20))
    assert found(newest_first=True, limit=3) == [19, 18, 17]
    assert found(limit=3) == [0, 1, 2]
    assert found(client="meter", limit=4) == [0, 2, 4, 6]
    assert found(from_ms=1_005_000, to_ms=1_008_000) == [5, 6, 7, 8]
    assert found(quantity="voltage") == []
    assert found(limit=0) == []


def test_newest_events_come_oldest_first(store: Store) -> None:
    for client in "abc":
        store.record_event("adapter.lost", {"client": client})
    until(lambda: len(every(store, "events")) == 3)
    assert [(e["client"], e["number"]) for e in store.events(2).result(WAIT_S)] == [("b", 2), ("c", 3)]


def test_what_nobody_booked_in_time_is_named_and_what_is_booked_is_not(open_store: Opener) -> None:
    clock = [1000.0]
    store = open_store(monotonic=lambda: clock[0], utc_ms=lambda: int(clock[0] * 1000))
    take(store, 1, 2, 3, 4)
    seal_all(store, 1)

    def overdue(after: tuple[int, int] = (0, 0)) -> list[int]:
        return [sealed.number for sealed in store.unbooked("readings", after, 100.0, 9).result(WAIT_S)]

    for number, at_s in ((1, 1001.0), (2, 1050.0), (3, 1060.0)):
        clock[0] = at_s
        store.delivered("readings", store.epoch, number).result(WAIT_S)
    clock[0] = 1100.0
    assert overdue() == []
    clock[0] = 1155.0
    assert overdue() == [1, 2], "the third was acknowledged less than 100 s ago, the fourth not at all"
    store.commit_control(Journal(booked={"readings": (store.epoch, 1)})).result(WAIT_S)
    assert overdue() == [2] and overdue((store.epoch, 2)) == []
    assert store.queue_status().result(WAIT_S)["readings"]["booked"] == 1
    take(store, 5)  # the marks ride along
    store.close()
    clock[0] = 2000.0
    store = open_store(monotonic=lambda: clock[0], utc_ms=lambda: int(clock[0] * 1000))
    assert overdue() == [2, 3], "durable, both: what is booked, and what is not"
    store.close()
    clock[0] = 900.0  # a clock that was ahead is set back: that says nothing of how long ago it was
    store = open_store(monotonic=lambda: clock[0], utc_ms=lambda: int(clock[0] * 1000))
    assert overdue() == [2, 3]


@pytest.mark.parametrize("place", [(0, 99), (1, 0), (7, 1), (10**9, 5)])
def test_a_book_that_cannot_be_moves_nothing(open_store: Opener, place: tuple[int, int]) -> None:
    store = open_store()
    take(store, 1, 2)
    seal_all(store, 1)
    places = {"readings": (store.epoch + place[0] - 1, place[1])}
    store.commit_control(Journal(booked=places)).result(WAIT_S)
    assert store.queue_status().result(WAIT_S)["readings"]["booked"] == 0


def test_what_is_booked_is_delivered_whatever_the_broker_said(open_store: Opener) -> None:
    store = open_store()
    take(store, 1, 2, 3)
    seal_all(store, 1)
    store.commit_control(Journal(booked={"readings": (store.epoch, 99)})).result(WAIT_S)
    assert store.unsent("readings", 0, 0, 9).result(WAIT_S) == []
    assert store.queue_status().result(WAIT_S)["readings"]["booked"] == 3, "no further than there are numbers"


def test_every_commit_is_counted_whoever_wanted_it(store: Store) -> None:
    """Packs that are sealed are commits, too: `status` hides no flash."""
    before = store.status()["commits"]
    assert commit(store, batch(1, *(sample(value=v) for v in range(5)))) is None
    assert store.status()["commits"] == before + 1
    assert store.seal_pack(100).result(WAIT_S) is not None
    assert store.status()["commits"] == before + 2
    assert store.seal_pack(100).result(WAIT_S) is None
    assert store.status()["commits"] == before + 2, "nothing to seal, nothing written"
