"""P1: what `done` says is durable is durable; a batch is stored whole or not at all."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hub.core import records as r
from store import Store, StoreError
from store.logbody import seen_of
from store.offline import OfflineStore
from tests.store.helpers import WAIT_S, Answers, batch, commit, power_cut, sample, take, until

Opener = Callable[..., Store]


def test_a_batch_is_durable_before_done(store: Store, data_dir: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    finished = threading.Event()

    def done(number: int, error: Exception | None) -> None:
        assert error is None
        with OfflineStore(power_cut(data_dir, tmp_path / "copy")) as copy:
            seen.append(len(copy.readings()))
        if number == 3:
            finished.set()

    for number in (1, 2, 3):
        store.commit(batch(number, sample(value=number), seen=1), done)
    assert finished.wait(WAIT_S)
    assert seen == sorted(seen) and seen[0] >= 1 and seen[-1] == 3


def hold(store: Store) -> threading.Event:
    """Keep the writer in the callback of batch 0 until the event is set."""
    held, release = threading.Event(), threading.Event()

    def done(*_: object) -> None:
        held.set()
        release.wait(WAIT_S)

    store.commit(batch(0, sample()), done)
    assert held.wait(WAIT_S)
    return release


def test_what_waits_is_committed_together(store: Store) -> None:
    before, answers = store.status()["commits"], Answers()
    release = hold(store)
    for number in range(1, 101):
        store.commit(batch(number, sample(value=number)), answers)
    release.set()
    answers.wait(100)
    until(lambda: store.status()["readings"] == 101)
    assert store.status()["commits"] - before == 2


def test_a_window_groups_what_comes_within_it(open_store: Opener) -> None:
    store = open_store(group_window_s=0.3)
    before, answers = store.status()["commits"], Answers()
    store.commit(batch(1, sample()), answers)
    store.commit(batch(2, sample()), answers)
    answers.wait(2)
    until(lambda: store.status()["readings"] == 2)
    assert store.status()["commits"] - before == 1


def test_a_batch_that_is_not_urgent_rides_along(store: Store) -> None:
    answers = Answers()
    store.commit(batch(1, sample(), urgent=False), answers)
    assert store.queue_status().result(WAIT_S)["readings"]["unsealed"] == 0
    assert not answers.all
    store.commit(batch(2, sample()), answers)
    assert answers.wait(2) == [(1, None), (2, None)]


def test_a_batch_that_is_not_urgent_waits_no_longer_than_lazy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.writer.LAZY_S", 0.05)
    assert commit(store, batch(1, sample(), urgent=False)) is None


def test_close_commits_what_waits(open_store: Opener) -> None:
    store, answers = open_store(), Answers()
    store.commit(batch(1, sample(), urgent=False), answers)
    store.close()
    assert answers.all == [(1, None)]
    assert isinstance(commit(store, batch(2, sample())), StoreError)
    with pytest.raises(StoreError, match="closed"):
        store.seal_pack().result(WAIT_S)
    assert open_store().status()["readings"] == 1


def test_a_batch_at_fault_does_not_take_others_with_it(store: Store) -> None:
    answers, release = Answers(), hold(store)
    bad = [r.EventRecorded("adapter.lost", {"client": "bad"}), r.EventRecorded("no.such.event", {})]
    store.commit(batch(1, sample()), answers)
    store.commit(batch(2, sample(), changes=bad), answers)
    store.commit(batch(3, sample()), answers)
    store.record_event("adapter.lost", {"client": "plug-1"})
    release.set()
    errors = dict(answers.wait(3))
    assert errors[1] is None and errors[3] is None
    assert isinstance(errors[2], StoreError)
    until(lambda: len(store.events(9).result(WAIT_S)) == 1)
    found = store.events(9).result(WAIT_S)[0]
    assert (found["client"], found["number"]) == ("plug-1", 1), "the number that was rolled back is given again"
    status = store.status()
    assert (status["readings"], status["refused"]) == (3, 1)
    assert "no.such.event" in status["last_error"]


def test_own_events_that_no_document_lists_are_counted_not_raised(store: Store) -> None:
    store.record_event("no.such.event", {})
    store.record_event("radio.down", {"reason": object()})
    until(lambda: store.status()["errors"] == 2)
    assert commit(store, batch(1, sample())) is None
    assert store.events(9).result(WAIT_S) == []


def test_a_failing_callback_harms_nobody(store: Store) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of the caller")

    store.commit(batch(1, sample()), broken)
    store.on_change = broken
    take(store, 2, 3)
    assert store.status()["readings"] == 3


SESSION = r.SessionChanged("a", ("udp", "192.0.2.1", 1883, b"\x07"), "asleep", True, 300, "will", b"\x00gone", 1, True)


def test_the_gateways_state_comes_back_in_an_order_that_replays(open_store: Opener) -> None:
    store = open_store()
    changes = [
        SESSION,
        r.SessionChanged("b", ("zigbee", "00124b0001020304"), "active", False, 60, "", b"", 0, False),
        r.TopicRegistered("a", 1, "plant/a"),
        r.TopicRegistered("b", 1, "plant/b"),
        r.SubscriptionAdded("a", "alarm/#", 0),
        r.SubscriptionAdded("a", "alarm/#", 2),
        r.SubscriptionAdded("a", "gone", 1),
        r.SubscriptionRemoved("a", "gone"),
        r.RetainedSet("price", b"{}", 1),
        r.RetainedSet("old", b"x", 1),
        r.RetainedSet("old", b"", 1),
        r.MessageQueued("a", 9, "t", b"\xff", 1, True),
        r.MessageQueued("a", 10, "t", b"2", 2, False),
        r.MessageDone("a", 9),
        r.MessageQueued("b", 1, "t", b"3", 1, False),
        r.SessionRemoved("b"),
    ]
    assert commit(store, batch(1, sample("a"), seen=1, changes=changes)) is None
    store.close()
    assert open_store().restored == [
        SESSION,
        r.TopicRegistered("a", 1, "plant/a"),
        r.SubscriptionAdded("a", "alarm/#", 2),
        r.RetainedSet("price", b"{}", 1),
        r.MessageQueued("a", 10, "t", b"2", 2, False),
        r.Seen("a", 1, 7919, 1),
    ]


def test_seen_entries_last_for_the_window_and_no_longer(open_store: Opener) -> None:
    clock = [1000.0]
    store = open_store(monotonic=lambda: clock[0])
    for number in range(700):
        assert commit(store, batch(number, sample(at_s=clock[0]), seen=1)) is None
        clock[0] += 1
    assert store.seal_pack().result(WAIT_S)
    assert commit(store, batch(700, sample(at_s=clock[0]), seen=1)) is None
    store.close()
    clock[0] = 3.0  # a restart of the machine: its clock starts over
    store = open_store(monotonic=lambda: clock[0])
    ids = [record.msg_id for record in store.restored if isinstance(record, r.Seen)]
    assert ids == list(range(100, 701))


def _rows_with_seen(data_dir: Path, before_seq: int) -> int:
    """How many of the first rows of the log still hold what was seen."""
    with closing(sqlite3.connect(f"file:{data_dir / 'hub.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT body FROM log WHERE seq < ?", (before_seq,)).fetchall()
    return sum(bool(list(seen_of(body))) for (body,) in rows)


@pytest.mark.parametrize("fate", ["stays", "pruned", "merged"])
def test_the_last_publish_of_a_client_is_known_however_old(open_store: Opener, data_dir: Path, fate: str) -> None:
    """Its rows are still there, were sealed and pruned, or were merged because nobody takes them: it survives each."""
    clock, rows = [1000.0], {"stays": 1, "pruned": 3000, "merged": 1500}[fate]
    store = open_store(monotonic=lambda: clock[0])
    session = r.SessionChanged("quiet", ("udp", "10.0.0.9", 1), "asleep", False, 7200, "", b"", 0, False)
    for number in (1, 2):
        assert commit(store, batch(number, sample("quiet", at_s=clock[0]), seen=1, changes=[session])) is None
    for number in range(3, 3 + rows):
        assert commit(store, batch(number, sample("busy", at_s=clock[0]), seen=1)) is None
        clock[0] += 1
        if fate == "pruned" and number % 500 == 0:
            store.seal_pack().result(WAIT_S)
    clock[0] += 700
    for number in range(9000, 9600 if fate == "merged" else 9001):
        assert commit(store, batch(number, sample("busy", at_s=clock[0]), seen=1)) is None
        clock[0] += 1
    if fate == "pruned":
        until(lambda: store.seal_pack().result(WAIT_S) is None)
    store.close()
    assert (_rows_with_seen(data_dir, 3) > 0) == (fate == "stays"), "the rows themselves went, or did not"
    clock[0] = 3.0
    store = open_store(monotonic=lambda: clock[0])
    kept = [record for record in store.restored if isinstance(record, r.Seen) and record.client_id == "quiet"]
    assert [record.msg_id for record in kept][-1:] == [2]
    assert kept[-1] == batch(2, sample("quiet"), seen=1).seen[0]


def test_forwards_keep_their_order_and_their_ids(open_store: Opener) -> None:
    store = open_store()
    changes = [r.ForwardQueued("alarm/a", b"1"), r.ForwardQueued("alarm/b", b"\x00")]
    assert commit(store, batch(1, changes=changes)) is None
    assert store.forwards(0, 9).result(WAIT_S) == [(1, "alarm/a", b"1"), (2, "alarm/b", b"\x00")]
    store.forwards_done([2]).result(WAIT_S)
    assert commit(store, batch(2, changes=[r.ForwardQueued("alarm/c", b"")])) is None
    assert store.forwards(1, 9).result(WAIT_S) == [(3, "alarm/c", b"")]


def test_change_is_told_after_the_commit(store: Store) -> None:
    told: list[set[str]] = []
    store.on_change = told.append
    changes = [r.ForwardQueued("x", b""), r.EventRecorded("adapter.lost", {"client": "a"})]
    assert commit(store, batch(1, sample(), changes=changes)) is None
    store.append("receipts", 61, b"").result(WAIT_S)
    until(lambda: {"samples", "events", "forwards", "receipts"} <= set().union(*told))


def test_a_second_hub_is_refused_with_one_line(store: Store, data_dir: Path) -> None:
    # Within one process POSIX locks do not show; SQLite's own do.
    with pytest.raises(StoreError) as refused:
        Store(data_dir, seal=lambda *_: b"").start()
    assert "\n" not in str(refused.value)
    assert commit(store, batch(1, sample())) is None


def test_a_data_dir_that_is_a_file_is_the_operators_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data_dir"):
        Store(tmp_path / "file", seal=lambda *_: b"").start()
