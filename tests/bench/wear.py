"""What a reading costs the flash: `python -m tests.bench.wear` prints the table that the default window follows from.

Each row is a home of so many readings a second whose commits wait so long for company. A pack a minute is sealed and
delivered; `uplink down` is the same home while nothing can be sent, so that old rows are merged, and afterwards
drained and pruned. Bytes are what the kernel counts as written by this process (/proc/self/io), checkpoints, merging
and pruning included, beside the floor of one 4 KiB page for each durable commit.

The clock is virtual: a window becomes a group of as many readings as come within it, so that hours of wear are measured
in seconds.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from store import Store
from tests.store.helpers import WAIT_S, seal
from tests.store.home import Home

PAGE = 4096
WINDOWS_S = (0.01, 0.1, 1.0, 5.0)
RATES = (1, 10, 100)
DAY_S = 86_400


class Wear(NamedTuple):
    """One row of the table."""

    window_s: float
    readings_per_s: float
    per_commit: float  # readings
    bytes_per_commit: float
    bytes_per_reading: float
    down_bytes_per_commit: float

    @property
    def daily_mb(self) -> float:
        return self.bytes_per_reading * self.readings_per_s * DAY_S / 1e6


def written_bytes() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def group_of(window_s: float, readings_per_s: float) -> int:
    """Readings in one commit: the one that opens the window and those that come within it."""
    return 1 + int(window_s * readings_per_s)


def measure(window_s: float, readings_per_s: float, commits: int = 3000) -> Wear:
    """Run one home twice, with its uplink and without; each after it has settled."""
    group = group_of(window_s, readings_per_s)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        home = Home([1000.0], period_s=20 / readings_per_s)
        store = Store(Path(folder), seal=seal, monotonic=home.monotonic)
        store.start()
        try:
            _run(store, home, commits // 2, group, is_up=True)
            up = _run(store, home, commits, group, is_up=True)
            down = _run(store, home, commits, group, is_up=False)
        finally:
            store.close()
    each = up / commits
    return Wear(window_s, readings_per_s, group, each, each / group, down / commits)


def _run(store: Store, home: Home, commits: int, group: int, *, is_up: bool) -> int:
    """So many commits; the bytes they cost, and what becomes of them."""
    before, minute = written_bytes(), home.clock[0]
    for _ in range(commits):
        home.report(store, group, group)
        if is_up and home.clock[0] - minute >= 60:
            minute = home.clock[0]
            _send(store)
    _send(store)
    return written_bytes() - before


def _send(store: Store) -> None:
    while (pack := store.seal_pack().result(WAIT_S)) is not None:
        store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)


def table(commits: int = 3000) -> Iterator[str]:
    """The rows as Markdown."""
    yield "| readings/s | window | readings a commit | B a commit (of the floor) | B a reading | MB a day |"
    yield "|---|---|---|---|---|---|"
    for rate in RATES:
        for window_s in WINDOWS_S:
            row = measure(window_s, rate, max(200, min(commits, 300_000 // group_of(window_s, rate))))
            yield (
                f"| {rate} | {window_s * 1000:,.0f} ms | {row.per_commit:.0f} | {row.bytes_per_commit:,.0f} "
                f"({row.bytes_per_commit / PAGE:.2f}); {row.down_bytes_per_commit:,.0f} with the uplink down "
                f"| {row.bytes_per_reading:,.0f} | {row.daily_mb:,.0f} |"
            )


if __name__ == "__main__":
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 3000):
        print(line, flush=True)
