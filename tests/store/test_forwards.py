"""Raw forwards: a row a commit, the newest in memory, dropped when the whole row was delivered; none is lost."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.core import records as r
from store import Store
from store.forwards import RawForward
from tests.harness.operator import dumps
from tests.store.helpers import WAIT_S, batch, commit, power_cut, until

Opener = Callable[..., Store]


def put(store: Store, number: int, *payloads: bytes) -> None:
    changes = [r.ForwardQueued("alarm/a", payload) for payload in payloads]
    assert commit(store, batch(number, changes=changes)) is None


def waiting(store: Store, after: int = 0, limit: int = 999) -> list[bytes]:
    return [forward.payload for forward in store.forwards(after, limit).result(WAIT_S)]


def test_a_commit_of_many_is_one_row_and_keeps_its_order(store: Store, data_dir: Path, open_store: Opener) -> None:
    payloads = [b"%d" % n for n in range(600)]
    put(store, 1, *payloads)
    put(store, 2, b"alone")
    assert waiting(store) == [*payloads, b"alone"]
    assert waiting(store, after=255, limit=3) == [b"255", b"256", b"257"], "from the middle of a row"
    assert waiting(store, after=600) == [b"alone"] and store.newest_forward == 601
    store.close()
    store = open_store()
    assert waiting(store) == [*payloads, b"alone"] and store.newest_forward == 601
    put(store, 3, b"next", b"and next")
    assert [forward.id for forward in store.forwards(601, 9).result(WAIT_S)] == [602, 603]


def test_what_is_fresh_needs_no_table_and_what_is_older_does(store: Store) -> None:
    assert store.fresh_forwards(0, 9) == []
    put(store, 1, b"a", b"b", b"c")
    assert store.fresh_forwards(0, 2) == [RawForward(1, "alarm/a", b"a"), RawForward(2, "alarm/a", b"b")]
    assert store.fresh_forwards(2, 9) == [RawForward(3, "alarm/a", b"c")]
    assert store.fresh_forwards(3, 9) == []
    put(store, 2, b"d")
    put(store, 3, b"x" * 4000)  # not kept in memory
    put(store, 4, b"e")
    assert [forward.id for forward in store.fresh_forwards(3, 9)] == [4]
    assert store.fresh_forwards(4, 9) == [], "there is one in between"
    assert [forward.id for forward in store.forwards(4, 1).result(WAIT_S)] == [5]
    assert [forward.id for forward in store.fresh_forwards(5, 9)] == [6]


def test_memory_holds_so_many_and_the_table_all(store: Store) -> None:
    for number in range(10):
        put(store, number, *(b"%d" % n for n in range(100)))
    fresh = store.fresh_forwards(0, 10_000)
    assert 256 <= len(fresh) < 1000
    found = store.forwards(fresh[-1].id, 10_000).result(WAIT_S)
    assert [forward.id for forward in (*fresh, *found)] == list(range(1, 1001))


def test_what_was_delivered_is_not_found_again_and_a_part_of_a_row_does_not_come_back(
    store: Store, data_dir: Path, tmp_path: Path, open_store: Opener
) -> None:
    put(store, 1, b"a", b"b", b"c")
    put(store, 2, b"d", b"e")
    store.forwards_done([2, 4, 5]).result(WAIT_S)
    assert waiting(store) == [b"a", b"c"]
    store.close()
    store = open_store()
    assert waiting(store) == [b"a", b"c"], "a clean end forgets nothing"
    store.forwards_done([1, 3]).result(WAIT_S)

    def is_empty() -> bool:
        return waiting(open_store(power_cut(data_dir, tmp_path / "cut"))) == []

    until(is_empty)  # within a few seconds nothing of it is sent again whatever happens


def test_many_that_are_delivered_go_with_a_commit(
    store: Store, data_dir: Path, tmp_path: Path, open_store: Opener
) -> None:
    for number in range(8):
        put(store, number, *(b"%d" % n for n in range(100)))
    store.forwards_done(range(1, 751)).result(WAIT_S)
    put(store, 9, b"last")
    after = open_store(power_cut(data_dir, tmp_path / "cut"))
    assert [forward.id for forward in after.forwards(0, 999).result(WAIT_S)] == list(range(701, 802)), "whole rows went"


@pytest.mark.parametrize("bad", [b"\xff", dumps(["alarm/a"]), dumps([1, 2]), dumps(["a", "b"]), dumps({}), b""])
def test_a_row_that_does_not_read_is_left_out(store: Store, data_dir: Path, open_store: Opener, bad: bytes) -> None:
    put(store, 1, b"a", b"b")
    put(store, 2, b"c", b"d")
    put(store, 3, b"e")
    store.close()
    with sqlite3.connect(data_dir / "hub.db") as damaged:
        damaged.execute("UPDATE forward SET payload = ? WHERE id = 1", (bad,))
    damaged.close()
    store = open_store()
    assert waiting(store) == [b"c", b"d", b"e"]
    put(store, 4, b"f")
    assert waiting(store)[-1] == b"f"


def test_the_newest_row_that_does_not_read_gives_no_id_twice(store: Store, data_dir: Path, open_store: Opener) -> None:
    put(store, 1, b"a")
    put(store, 2, b"b", b"c", b"d")
    store.close()
    with sqlite3.connect(data_dir / "hub.db") as damaged:
        damaged.execute("UPDATE forward SET payload = x'ff' WHERE id = 2")
    damaged.close()
    store = open_store()
    put(store, 3, b"e")
    assert waiting(store) == [b"a", b"e"] and store.newest_forward > 4
