"""P1 and P2 when the power goes: 500 images here, 10,000 in the long form (`python -m tests.powercut`).

Nothing acknowledged is lost, nothing is doubled, numbers are gap-free, what was handed to the uplink is what is kept,
and each image opens without a human.
"""

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.offline import OfflineStore
from tests.harness.memory import scratch
from tests.powercut.disk import HOW, Disk, write_image
from tests.powercut.images import Failed, judge_all
from tests.powercut.recording import Op, record

SEED = 20261122


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="meterhub-powercut-", dir=scratch()))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def ops(folder: Path) -> list[Op]:
    return record(folder, lives=4, steps=220)


def test_every_image_is_sound(ops: list[Op], folder: Path) -> None:
    judged = judge_all(ops, 500, SEED, folder)
    print(f"{judged.total()} images out of {len(ops)} operations: {dict(judged)}")
    assert judged.total() >= 480
    assert set(judged) == set(HOW)


@pytest.mark.slow
def test_ten_thousand_images_are_sound(folder: Path) -> None:
    (folder / "long").mkdir()
    ops = record(folder / "long", lives=8, steps=400)
    assert judge_all(ops, 10_500, SEED, folder).total() >= 10_000


def test_the_recording_has_everything_in_it_that_a_store_does(ops: list[Op], folder: Path) -> None:
    """Else the images would be of a store at rest."""
    disk = Disk()
    for op in ops:
        disk.do(op)
    write_image(disk.image("all", random.Random(0)), folder / "last")
    with OfflineStore(folder / "last") as store:
        marks = store._view.marks
        kept = store.sealed_range("readings", 2, 1, 1 << 30)
        events = [event["event"] for event in store.events(10_000)]
        assert store.sealed_range("receipts", 2, 1, 1) and store.sealed_range("answers", 2, 1, 1)
    assert marks["thinned_samples"] > 1000, "thinned"
    assert marks["compact_seq"] > 0, "merged"
    assert marks["forwards_dropped"] > 0, "forwards given up"
    assert kept[0].number > 1, "history pruned"
    assert {"store.gap", "adapter.lost", "control.lost"} <= set(events)
    checkpoints = [op for op in ops if op.kind == "sync" and op.name == "hub.db"]
    assert len(checkpoints) > 20


@pytest.mark.parametrize("name", ["hub.db-wal", "hub.db"])
def test_a_store_that_did_not_sync_would_be_caught(ops: list[Op], folder: Path, name: str) -> None:
    """The harness can fail: without these syncs acknowledged readings are lost, or the database is damaged."""
    careless = [op for op in ops if not (op.kind == "sync" and op.name == name)]
    with pytest.raises(Failed):
        judge_all(careless, 200, SEED, folder)


def test_a_disk_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    disk = Disk()
    for op in (
        Op("create", "a"),
        Op("write", "a", 0, b"old" * 400),
        Op("sync", "a"),
        Op("syncdir", ""),
        Op("write", "a", 600, b"N" * 1200),
        Op("create", "b"),
        Op("append", "b", 0, b"whole"),
        Op("name", "b", target="c"),
    ):
        disk.do(op)
    assert disk.image("none", random.Random(1)) == {"a": b"old" * 400}
    assert disk.image("all", random.Random(1)) == {"a": (b"old" * 400)[:600] + b"N" * 1200, "c": b"whole"}
    torn = [disk.image("torn", random.Random(seed)) for seed in range(200)]
    assert {len(image["a"]) for image in torn} == {1200, 1536, 1800}, "sectors, and the end of the file with them"
    assert {tuple(image) for image in torn} == {("a",), ("a", "b"), ("a", "c")}
    assert all(image["a"][:600] == (b"old" * 400)[:600] for image in torn)
