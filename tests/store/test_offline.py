"""The offline view: the same answers from a stopped hub's files, which stay as they are."""

import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from store import Store, StoreError
from store.offline import OfflineStore
from tests.store.helpers import WAIT_S, batch, commit, every, power_cut, sample, seal_all, until
from tests.store.test_salvage import zeros

Opener = Callable[..., Store]


def fingerprint(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def filled(store: Store) -> Store:
    for value in (1, 2, 3, 4):
        at_s = time.monotonic() - 10 + value  # so that no two are of one moment
        assert commit(store, batch(value, sample(value=value, at_s=at_s), seen=1)) is None
        if value == 3:
            seal_all(store, 2)
    store.record_event("adapter.lost", {"client": "a"})
    until(lambda: len(every(store, "events")) == 1)
    return store


def test_a_stopped_hub_answers_as_a_running_one(open_store: Opener, data_dir: Path) -> None:
    store = filled(open_store())
    readings, events = store.readings().result(WAIT_S), store.events(9).result(WAIT_S)
    status = store.queue_status().result(WAIT_S)
    unsent = store.unsent("readings", 0, 0, 9).result(WAIT_S)
    store.close()
    before = fingerprint(data_dir)
    with OfflineStore(data_dir) as offline:
        assert offline.readings() == readings and len(readings) == 4
        assert offline.readings(newest_first=True, limit=1) == readings[-1:]
        assert offline.events(9) == events
        assert offline.unsent("readings", 0, 0, 9) == unsent == offline.sealed_range("readings", 1, 1, 9)
        found = offline.queue_status()
        assert (offline.epoch, offline.boot) == (1, 1)
    assert {lane: (s["pending"], s["next"]) for lane, s in found.items()} == {
        lane: (s["pending"], s["next"]) for lane, s in status.items()
    }
    assert found["readings"]["unsealed"] == 1
    assert fingerprint(data_dir) == before


def test_a_hub_that_lost_its_power_is_read_with_its_wal(store: Store, data_dir: Path, tmp_path: Path) -> None:
    filled(store)
    cut = power_cut(data_dir, tmp_path / "cut")
    before = fingerprint(cut)
    with OfflineStore(cut) as offline:
        assert len(offline.readings()) == 4
    assert fingerprint(cut) == before


RUNNING = """
import sys
import time
from pathlib import Path
from tests.store.helpers import started
store = started(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
store.close()
"""


def test_a_running_hub_is_left_alone(data_dir: Path) -> None:
    command = [sys.executable, "-c", RUNNING, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        with pytest.raises(StoreError, match="the hub is running"):
            OfflineStore(data_dir)
        with pytest.raises(StoreError, match="another hub"):
            Store(data_dir, seal=lambda *_: b"").start()
    with OfflineStore(data_dir) as offline:
        assert offline.epoch == 1


def test_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        OfflineStore(tmp_path)


def test_a_ruin_is_named_as_one(open_store: Opener, data_dir: Path) -> None:
    filled(open_store()).close()
    zeros(data_dir / "hub.db")
    with pytest.raises(StoreError, match="does not read"):
        OfflineStore(data_dir)
