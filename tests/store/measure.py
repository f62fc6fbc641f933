"""Figures of the store on this machine: `python -m tests.store.measure`. Not a test: times belong to the machine."""

import sys
import tempfile
import time
from pathlib import Path

from hub.core.records import Batch, Sample, Seen
from store import Store
from tests.store.helpers import WAIT_S, Answers, seal


def _batches(count: int, samples: int) -> list[Batch]:
    now_s = time.monotonic()
    made = []
    for number in range(count):
        batch = Batch(number)
        batch.samples = [Sample(f"plug-{i % 20}", "power", now_s, 2000 + number % 97 + i, -1) for i in range(samples)]
        batch.seen = [
            Seen(f"plug-{i % 20}", (number + i) % 65536, (number * 7919 + i) % 2**32, 1) for i in range(samples)
        ]
        batch.urgent = True
        made.append(batch)
    return made


def rate(samples: int, count: int, in_flight: int) -> str:
    """Throughput with so many unanswered batches at a time."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), seal=seal)
        store.start()
        before = store.status()
        batches, answers = _batches(count, samples), Answers()
        started_s, cpu_s = time.monotonic(), time.process_time()
        for number, batch in enumerate(batches):
            if number >= in_flight:
                answers.wait(number - in_flight + 1)
            store.commit(batch, answers)
        answers.wait(count)
        wall_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        assert all(error is None for _, error in answers.all)
        store.seal_pack(1).result(WAIT_S)
        after = store.status()
        commits = after["commits"] - before["commits"]
        written = after["written_bytes"] - before["written_bytes"]
        sealed_s, packs = time.monotonic(), 0
        while store.seal_pack().result(WAIT_S) is not None:
            packs += 1
        sealed_s = time.monotonic() - sealed_s
        log_bytes = store.status()["bytes"]
        store.close()
    total = samples * count
    return (
        f"{samples:3} samples a batch, {in_flight:4} in flight: {total / wall_s:9,.0f} samples/s,"
        f" {cpu_s / total * 1e6:5.2f} us CPU each, {count / commits:6.1f} batches and {written / commits:9,.0f} bytes"
        f" a commit, {written / total:7.1f} bytes a sample; sealing {total / max(sealed_s, 1e-9):9,.0f}/s in"
        f" {packs} packs, {log_bytes / 1e6:.1f} MB on disk"
    )


def rss_kib() -> int:
    """Resident memory of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


if __name__ == "__main__":
    before_kib = rss_kib()
    for arguments in ((1, 5000, 1), (1, 20000, 64), (64, 200, 1), (64, 3000, 8), (64, 3000, 64)):
        print(rate(*arguments), flush=True)
    print(f"RSS {before_kib} -> {rss_kib()} KiB", file=sys.stderr)
