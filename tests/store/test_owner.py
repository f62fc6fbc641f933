"""A data_dir is one hub's: another certificate on it starts anew, and no epoch is ever given twice."""

from pathlib import Path

from store import Store
from store.epoch_file import MAX_EPOCH, first_epoch, next_epoch
from store.owner import claim, folder_of
from tests.store.helpers import seal


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
    assert len(seen) == 3 and all(MAX_EPOCH // 2 < epoch <= MAX_EPOCH for epoch in seen)
    store = Store(tmp_path / "with a clock", seal=seal, trusted_utc_s=lambda: 1_800_000_000.5)
    store.start()
    assert store.epoch == 1_800_000_000
    store.close()


def test_the_next_epoch_is_greater_whatever_the_clock_says() -> None:
    assert next_epoch(None, 1_800_000_000, first_epoch(1_700_000_000)) == 1_800_000_001
    assert next_epoch(None, 5, first_epoch(1_800_000_000)) == 1_800_000_000
    assert next_epoch(None, 5, first_epoch(None)) == 6, "a random one only where nothing is known"
