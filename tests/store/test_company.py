"""Many adapters on a slow disk: whom one commit answered shares the next one."""

import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

from hub.core.records import Batch
from tests.harness.failing_disk import FailingDisk
from tests.harness.hub import ROOT
from tests.store.helpers import batch, opened, sample, started

ADAPTERS, MESSAGES, SYNC_MS = 12, 600, 40


def _of(number: int, adapter: int) -> Batch:
    return batch(number, sample(f"plug-{adapter}", number), seen=1)


def serve(data_dir: Path, adapters: int, messages: int) -> dict[str, int]:
    """So many adapters, each with one message under way (QoS 1, window 1): whoever is answered says the next."""
    store = opened(data_dir)
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()
    adapter_of: dict[int, int] = {}
    try:
        store.commit(_of(0, 0), lambda number, _error: answered.put(number))  # what opening left to do goes with it
        answered.get(timeout=30)
        before = store.status()["commits"]
        for number in range(1, messages + 1):
            adapter = number if number <= adapters else adapter_of.pop(answered.get(timeout=30))
            adapter_of[number] = adapter
            store.commit(_of(number, adapter), lambda number, _error: answered.put(number))
            time.sleep(0.0001)  # one after the other, as a loop takes them from its socket
        for _ in range(adapters):
            answered.get(timeout=30)
        return {"commits": store.status()["commits"] - before}
    finally:
        store.close()


def test_whom_one_commit_answered_shares_the_next(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    started(data_dir).close()
    disk = FailingDisk(tmp_path, data_dir)
    disk.slow(SYNC_MS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.test_company", str(data_dir)],
        cwd=ROOT, env={**os.environ, **disk.env}, check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    commits = json.loads(done.stdout)["commits"]
    each = MESSAGES / commits
    assert each > ADAPTERS * 2 / 3, f"{commits} commits for {MESSAGES} messages of {ADAPTERS} adapters: {each:.1f} each"


if __name__ == "__main__":
    print(json.dumps(serve(Path(sys.argv[1]), ADAPTERS, MESSAGES)))
