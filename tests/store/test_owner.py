"""A data_dir is one hub's: another certificate on it starts anew, and no epoch is ever given twice."""

import hashlib
from pathlib import Path

import cbor2
import pytest

from hub.core.control.records import FORGOT, Answer, Journal, answered_name
from hub.wire.uplink.receipt import Receipt
from store import Store
from store.epoch_file import FIRST_RANDOM, MAX_EPOCH, MAX_TOLD, first_epoch, next_epoch, settled_epoch
from store.owner import claim, folder_of
from tests.store.helpers import WAIT_S, every, payload_of, seal, seal_all, take, until


def test_a_folder_is_claimed_once_and_another_hubs_is_set_aside(tmp_path: Path) -> None:
    assert claim(tmp_path, "MTR-1") is None and claim(tmp_path, "MTR-1") is None
    (tmp_path / "hub.db").write_text("readings of MTR-1")
    (tmp_path / "identity").mkdir()
    assert claim(tmp_path, "MTR-2") == "MTR-1"
    assert (tmp_path / folder_of("MTR-1") / "hub.db").read_text() == "readings of MTR-1"
    assert not (tmp_path / "hub.db").exists() and (tmp_path / "identity").exists()
    assert claim(tmp_path, "MTR-2") is None


def test_a_claim_that_was_cut_is_taken_up_again(tmp_path: Path) -> None:
    claim(tmp_path, "MTR-1")
    for name in ("hub.db", "hub.db-wal"):
        (tmp_path / name).write_text(name)
    (tmp_path / folder_of("MTR-1")).mkdir()
    (tmp_path / "hub.db").replace(tmp_path / folder_of("MTR-1") / "hub.db")  # cut after the first of two
    assert claim(tmp_path, "MTR-2") == "MTR-1"
    assert {entry.name for entry in (tmp_path / folder_of("MTR-1")).iterdir()} == {"hub.db", "hub.db-wal"}


def test_a_name_that_is_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    assert "/" not in folder_of("../../etc") and len(folder_of("x" * 500)) < 100


def test_a_folder_that_is_lost_begins_with_another_epoch(tmp_path: Path) -> None:
    seen = set()
    for n in range(3):
        store = Store(tmp_path / str(n), seal=seal)
        store.start()
        seen.add(store.epoch)
        store.close()
    assert len(seen) == 3 and all(FIRST_RANDOM <= epoch <= MAX_TOLD for epoch in seen)
    store = Store(tmp_path / "with a clock", seal=seal, trusted_utc_s=lambda: 1_800_000_000.5)
    store.start()
    assert store.epoch == 1_800_000_000
    store.close()


def test_the_next_epoch_is_greater_whatever_the_clock_says() -> None:
    assert next_epoch(None, 1_800_000_000, first_epoch(1_700_000_000)) == 1_800_000_001
    assert next_epoch(None, 5, first_epoch(1_800_000_000)) == 1_800_000_000
    assert next_epoch(None, 5, first_epoch(None)) == 6, "a random one only where nothing is known"


def test_an_epoch_of_the_time_lasts_longer_than_31_bits() -> None:
    assert first_epoch(2_200_000_000) == 2_200_000_000, "2039"
    assert first_epoch(1e12) < first_epoch(None) <= MAX_TOLD < MAX_EPOCH


TIME, LATER, RANDOM = 1_800_000_000, 1_800_000_100, FIRST_RANDOM + 7


@pytest.mark.parametrize(
    ("epoch", "boot", "told", "utc_s", "then"),
    [
        (TIME, 1, None, TIME, (TIME, False)),
        (LATER, 1, (TIME, 9), LATER, (LATER, True)),
        (TIME, 1, (TIME, 1), TIME, (TIME + 1, True)),
        (TIME, 1, (LATER, 3), TIME, (LATER + 1, True)),
        (TIME, 1, (RANDOM, 3), TIME, (RANDOM + 1, True)),
        (RANDOM, 1, None, None, (RANDOM, False)),
        (RANDOM, 1, None, LATER, (LATER, False)),
        (RANDOM, 1, (TIME, 2), None, (TIME + 1, True)),
        (RANDOM, 1, (TIME, 2), LATER, (LATER, True)),
        (RANDOM, 1, (LATER, 2), TIME, (LATER + 1, True)),
        (RANDOM, 1, (RANDOM + 5, 2), None, (RANDOM + 6, True)),
        (RANDOM, 2, (RANDOM, 1), None, (RANDOM, False)),
        (TIME, 1, (MAX_TOLD, 1), TIME, (MAX_TOLD + 1, True)),
        (TIME, 1, (MAX_TOLD + 1, 1), TIME, (TIME, False)),
        (TIME, 1, (-1, 1), TIME, (TIME, False)),
    ],
)
def test_where_a_hub_without_a_memory_numbers_on(
    epoch: int, boot: int, told: tuple[int, int] | None, utc_s: float | None, then: tuple[int, bool]
) -> None:
    assert settled_epoch(epoch, boot, told, is_first=True, utc_s=utc_s) == then


def test_a_hub_that_knows_of_a_database_before_moves_up_alone() -> None:
    def settled(epoch: int, told: tuple[int, int] | None) -> tuple[int, bool]:
        return settled_epoch(epoch, 1, told, is_first=False, utc_s=TIME)

    assert settled(RANDOM, None) == settled(RANDOM, (TIME, 3)) == (RANDOM, False)
    assert settled(TIME, (LATER, 3)) == (LATER + 1, True)


def test_what_was_numbered_before_the_broker_was_asked_is_numbered_anew(tmp_path: Path) -> None:
    store = Store(tmp_path, seal=seal)
    store.start()
    random_one = store.epoch
    assert store.is_epoch_new and random_one >= FIRST_RANDOM
    receipts = [Receipt("MTR-1", 5, bytes([n]) * 16, b"d" * 32, "completed", "", {}) for n in range(3)]
    journal = Journal(answers=[Answer("x/y", b"answer", {-65539: b"cti"})])
    for receipt in receipts:
        journal.tell(receipt, "grid")
    store.commit_control(journal).result(WAIT_S)
    for boot in range(1, 4):
        store.record_event("hub.started", {"boot": boot, "version": "1", "reason": "start"})
    take(store, 1, 2, 3)
    until(lambda: len(every(store, "events")) == 3)
    assert store.settle_epoch((TIME, 4)).result(WAIT_S) is True
    assert store.epoch == TIME + 1 and not store.is_epoch_new
    until(lambda: len(every(store, "events")) == 4)
    told = store.events(9).result(WAIT_S)
    assert [event["event"] for event in told] == ["hub.started"] * 3 + ["store.salvaged"]
    assert [event["number"] for event in told] == [1, 2, 3, 4] and {event["epoch"] for event in told} == {TIME + 1}
    assert seal_all(store)[0][:3] == ("readings", TIME + 1, 1)
    for lane in ("events", "receipts", "answers", "readings"):
        assert store.unsent(lane, 0, 0, 99).result(WAIT_S) == every(store, lane), f"{lane}: nothing else is sent"
    assert cbor2.loads(cbor2.loads(every(store, "answers")[0].body).value[0])[-65539] == b"cti"
    assert chain_of(store) == [1, 2, 3]
    kept = store.control_state().result(WAIT_S)
    assert kept[FORGOT] == cbor2.dumps(None)
    for number, receipt in enumerate(receipts, 1):
        assert cbor2.loads(kept[answered_name(receipt.re or b"")]) == [TIME + 1, number, "grid"]
    assert store.settle_epoch((LATER, 4)).result(WAIT_S) is False, "once"
    store.close()
    again = Store(tmp_path, seal=seal)
    again.start()
    assert (again.epoch, again.is_epoch_new) == (TIME + 1, False)
    assert again.append("receipts", 61, payload_of(every(again, "receipts")[0])).result(WAIT_S).number == 4
    again.close()


def chain_of(store: Store) -> list[int]:
    """The indices of the receipts, each of which has the digest of the one before."""
    found, prev = [], bytes(32)
    for message in every(store, "receipts"):
        claims = cbor2.loads(payload_of(message))
        assert claims["prev"] == prev
        found.append(claims["i"])
        prev = hashlib.sha256(message.body).digest()
    return found


def test_an_epoch_in_which_something_was_delivered_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, seal=seal)
    store.start()
    store.record_event("hub.started", {"boot": 1, "version": "1", "reason": "start"})
    until(lambda: len(every(store, "events")) == 1)
    store.delivered("events", store.epoch, 1).result(WAIT_S)
    before = store.epoch
    assert store.settle_epoch((TIME, 4)).result(WAIT_S) is False and store.epoch == before
    store.close()
