"""Raw forwards are taken hardly faster than the broker takes them, and as fast as ever where it takes none."""

import queue
from pathlib import Path

from hub.core.records import ForwardQueued
from store import Store
from tests.store.helpers import WAIT_S, batch, opened

ADAPTERS, MESSAGES = 40, 4000


def most_ahead(data_dir: Path, *, takes_each_hundred: int) -> int:
    """So many adapters, each with one message under way; an uplink that delivers so many of each hundred that are
    acknowledged, and as many again whenever nobody is answered for a while. How far it was behind at most."""
    store = opened(data_dir)
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()
    acknowledged = delivered = ahead = 0

    def deliver() -> int:
        newest = min(delivered + takes_each_hundred, acknowledged)
        store.forwards_done(range(delivered + 1, newest + 1)).result(WAIT_S)
        return newest

    try:
        for number in range(1, MESSAGES + 1):
            while number > ADAPTERS + acknowledged:
                try:
                    answered.get(timeout=0.1 if not takes_each_hundred else 0.005)
                except queue.Empty:
                    delivered = deliver()
                    continue
                acknowledged += 1
                if not acknowledged % 100:
                    delivered = deliver()
            ahead = max(ahead, acknowledged - delivered)
            _say(store, number, answered)
        return ahead
    finally:
        store.close()


def _say(store: Store, number: int, answered: "queue.SimpleQueue[int]") -> None:
    what = batch(number, changes=[ForwardQueued("alarm/a", b"x" * 64)])
    store.commit(what, lambda number, _error: answered.put(number))


def test_what_is_ahead_is_bounded_where_the_broker_takes_half(tmp_path: Path) -> None:
    assert most_ahead(tmp_path / "data", takes_each_hundred=50) < MESSAGES / 3


def test_nobody_waits_where_it_takes_none(tmp_path: Path) -> None:
    assert most_ahead(tmp_path / "data", takes_each_hundred=0) == MESSAGES - ADAPTERS
