"""Power cuts of a whole file system: an ext4 disk copied while a store works on it, its journal played back, judged.

Also with the disk encrypted (P6): a thief's copy shows no reading, and custody is what it was.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.data_at_rest import encryption_of
from store import Store
from tests.harness.disk import LoopDisk, why_no_loop_device
from tests.powercut.judge import Said, judge
from tests.store.helpers import WAIT_S, batch, commit, sample, seal_all, started

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_loop_device()), reason=why_no_loop_device())]
KEY = bytes(range(64))
STEPS = "400"  # of one life: the one that has no uplink comes to a point where it takes nothing more


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[bytes | None], LoopDisk]]:
    disks: list[LoopDisk] = []

    def make(key: bytes | None) -> LoopDisk:
        disks.append(LoopDisk(tmp_path / f"disk-{len(disks)}", key).make())
        return disks[-1]

    yield make
    for disk in disks:
        disk.unmount()


def heard(said: Path) -> Said:
    """What the workload has said so far; a line that it is about to finish does not count."""
    found = Said()
    for line in said.read_bytes().split(b"\n")[:-1]:
        found.hear(json.loads(line))
    return found


def cut_while_it_works(disk: LoopDisk, place: Path, cuts: int, seed: int) -> int:
    """Copy the disk at so many moments of a hub's lives; how many readings were acknowledged at the last."""
    chance, said, lives = random.Random(seed), place / "said", iter(range(1, 1 << 20))
    said.touch()
    worker = start(disk, said, next(lives))
    try:
        for number in range(cuts):
            goal = said.stat().st_size + chance.randrange(1, 20_000)
            ends_at = time.monotonic() + 60
            while said.stat().st_size < goal:
                assert time.monotonic() < ends_at, "the store does not go on"
                if worker.poll() is not None:  # its life was over: the next one goes on with the same files
                    worker = start(disk, said, next(lives))
                time.sleep(0.002)
            worker.send_signal(signal.SIGSTOP)
            stands_still(worker)
            after, so_far = disk.after_a_cut(place / f"cut-{number}"), heard(said)
            try:
                judge(after.folder, so_far)
            finally:
                after.unmount()
                after.image.unlink()
            if chance.random() < 0.3:
                worker.kill()
                worker.wait()
                worker = start(disk, said, next(lives))
            else:
                worker.send_signal(signal.SIGCONT)
    finally:
        worker.kill()
        worker.wait()
    return len(so_far.acknowledged)


def stands_still(worker: subprocess.Popen[bytes]) -> None:
    """Wait until a stopped process does nothing more, or has ended."""
    while worker.poll() is None and Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        time.sleep(0.001)


def start(disk: LoopDisk, said: Path, life: int) -> subprocess.Popen[bytes]:
    workload = ["tests.powercut.workload", str(disk.folder), str(said), str(life), STEPS]
    return subprocess.Popen([sys.executable, "-m", *workload])


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_disk_that_lost_its_power_has_all_that_was_acknowledged(
    make_disk: Callable[[bytes | None], LoopDisk], tmp_path: Path, key: bytes | None
) -> None:
    assert cut_while_it_works(make_disk(key), tmp_path, cuts=6, seed=1) > 100


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_disk_that_lost_its_power_a_hundred_times(
    make_disk: Callable[[bytes | None], LoopDisk], tmp_path: Path, key: bytes | None
) -> None:
    cut_while_it_works(make_disk(key), tmp_path, cuts=100, seed=2)


def live(folder: Path) -> Store:
    store = started(folder)
    for number in range(40):
        assert commit(store, batch(number, sample("appliance-of-the-house", number), seen=1)) is None
    seal_all(store, 10)
    return store


@pytest.mark.parametrize(("key", "shows"), [(None, True), (KEY, False)], ids=["plain", "encrypted"])
def test_a_stolen_disk_shows_readings_only_when_it_is_not_encrypted(
    make_disk: Callable[[bytes | None], LoopDisk], key: bytes | None, shows: bool
) -> None:
    disk = make_disk(key)
    assert encryption_of(disk.folder) == ("fscrypt" if key else None)
    store = live(disk.folder)
    os.sync()
    while_running = disk.image.read_bytes()
    store.close(WAIT_S)
    os.sync()
    for stolen in (while_running, disk.image.read_bytes()):
        assert (b"appliance-of-the-house" in stolen) == shows
        assert (b"SQLite format 3" in stolen) == shows
        assert (b"hub.db" in stolen) == shows, "names, too"


def test_without_its_key_a_disk_does_not_open(make_disk: Callable[[bytes | None], LoopDisk], tmp_path: Path) -> None:
    disk = make_disk(KEY)
    live(disk.folder).close(WAIT_S)
    os.sync()
    disk._key = None  # the thief has the disk, not the device
    stolen = disk.after_a_cut(tmp_path / "thief")
    try:
        assert not (stolen.folder / "hub.db").exists()
        names = list(stolen.folder.iterdir())
        assert names, "there is something, under names that say nothing"
        for path in names:
            with pytest.raises(OSError, match="Required key"):
                path.read_bytes()
    finally:
        stolen.unmount()
