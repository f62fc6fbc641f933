"""What must be true of a store that opens after a power cut, whatever the disk kept of what was not synced."""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from hub.core import records as r
from hub.wire.uplink.event import decode_event
from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.receipt import decode_receipt
from store import Sealed, Store
from tests.powercut.workload import value_of
from tests.store.helpers import WAIT_S, batch, commit, every, opened, payload_of, sample, seal_all

_ROOM_MB = 64  # so that opening and sealing everything gives nothing up that the cut had left


@dataclass
class Said:
    """What the workload had said up to the cut."""

    asked: dict[int, int] = field(default_factory=dict)  # first value of a batch: how many
    taken: set[int] = field(default_factory=set)  # firsts of the batches that were acknowledged
    values: set[int] = field(default_factory=set)  # of all batches
    acknowledged: set[int] = field(default_factory=set)
    newest: dict[int, bool] = field(default_factory=dict)  # whether a batch sets the retained message
    forwards: set[int] = field(default_factory=set)  # batches with a raw forward
    forwarded: set[int] = field(default_factory=set)
    sealed: dict[tuple[str, int], tuple[str, list[int]]] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)
    epochs: set[int] = field(default_factory=lambda: {1})
    control_asked: int = 0
    control_done: int = 0

    def hear(self, line: dict[str, Any]) -> None:
        """One line of tests/powercut/workload.py."""
        match line:
            case {"asked": [first, count], "newest": newest, "forward": forward}:
                self.asked[first], self.newest[first] = count, newest
                self.forwards.update([first] if forward else [])
                self.values.update(range(first, first + count))
            case {"taken": first}:
                self.taken.add(first)
                self.acknowledged.update(range(first, first + self.asked[first]))
            case {"settling": begun}:
                self.epochs = {1, 2} if begun else {2}
                self.sealed.clear()  # nobody was sent any of it
            case {"sealed": [lane, epoch, number, digest], "values": values}:
                assert epoch in self.epochs
                self.epochs = {epoch}
                self.sealed[lane, number] = (digest, values)
            case {"delivered": number}:
                self.delivered.add(number)
            case {"control": value}:
                self.control_asked = value
            case {"controlled": value}:
                self.control_done = value
            case {"forwarded": first}:
                self.forwarded.add(first)
            case _:
                raise AssertionError(f"the judge does not know {line}")


def judge(folder: Path, said: Said) -> None:
    """Open the image and check it. Raises AssertionError, naming what is wrong."""
    store = opened(folder, max_mb=_ROOM_MB, monotonic=lambda: 1.0)
    try:
        # What the broker showed to be lost is told once more, where the cut came before the event.
        assert store.status()["salvaged"] <= (2 in said.epochs), "a power cut is no damage"
        # Cut while it was being made, the database starts over in the next epoch: none of the first was used.
        assert store.epoch in said.epochs or not said.asked, "numbering goes on"
        _judge_home(store, said)
        _judge_control(store, said)
        _judge_forwards(store, said)
        seal_all(store)
        lanes = {lane: every(store, lane) for lane in ("readings", "events", "receipts", "answers")}
        for lane, messages in lanes.items():
            _judge_lane(lane, messages, said)
        _judge_readings(lanes, said)
        assert commit(store, batch(1, sample(at_s=1.0))) is None, "it goes on"
        packs = seal_all(store)
        last = lanes["readings"][-1].number if lanes["readings"] else 0
        assert [pack.number for pack in packs] == [last + 1]
    finally:
        store.close(WAIT_S)


def _judge_lane(lane: str, messages: list[Sealed], said: Said) -> None:
    numbers = [message.number for message in messages]
    first = numbers[0] if numbers else 1
    assert numbers == list(range(first, first + len(numbers))), f"{lane}: a gap in {numbers}"
    assert lane == "readings" or first == 1, f"{lane}: nothing of it was delivered, so nothing may be gone"
    here = {message.number: sha256(message.body).hexdigest() for message in messages}
    for (of, number), (digest, _) in said.sealed.items():
        if of == lane and number >= first:
            assert here.get(number) == digest, f"{lane} {number}: was handed out with other bytes, or is gone"
    gone = set(range(1, first))
    assert gone <= said.delivered, f"{lane}: {gone - said.delivered} are gone and were not delivered"
    if lane == "receipts":
        assert [decode_receipt(payload_of(m)).i for m in messages] == numbers, "the chain of receipts"


def _judge_readings(lanes: dict[str, list[Sealed]], said: Said) -> None:
    packs = lanes["readings"]
    counts = Counter(value_of(reading.mantissa) for pack in packs for reading in decode_pack(payload_of(pack)))
    first = packs[0].number if packs else 1
    pruned = [values for (lane, number), (_, values) in said.sealed.items() if lane == "readings" and number < first]
    counts.update(value for values in pruned for value in values)
    assert not [value for value, count in counts.items() if count > 1], "stored more than once"
    assert counts.keys() <= said.values, f"{sorted(counts.keys() - said.values)[:5]}: nobody said so"
    events = [decode_event(payload_of(event)) for event in lanes["events"]]
    told = sum(event["dropped"] for event in events if event["event"] == "store.gap" and event["what"] == "readings")
    missing = said.acknowledged - counts.keys()
    assert len(missing) <= told, f"{len(missing)} acknowledged readings are lost, {told} told of: {sorted(missing)[:5]}"
    assert len(said.acknowledged) <= len(counts) + told <= len(said.values), "as many as there are and are told of"
    if not told:
        for at, count in said.asked.items():
            found = sum(value in counts for value in range(at, at + count))
            assert found in (0, count), f"batch {at}: {found} of {count} were stored"


def _judge_home(store: Store, said: Said) -> None:
    """The newest state of the home that was acknowledged, or one that was asked for later."""
    newest = max((at for at in said.taken if said.newest[at]), default=0)
    retained = [int(record.payload) for record in store.restored if isinstance(record, r.RetainedSet)]
    sessions = [record.duration_s for record in store.restored if isinstance(record, r.SessionChanged)]
    assert retained == sessions, "one transaction"
    assert max(retained, default=0) >= newest, f"the home's state is older than what was acknowledged: {newest}"
    assert set(retained) <= set(said.asked)


def _judge_control(store: Store, said: Said) -> None:
    found = int(store.control_state().result(WAIT_S).get("counter", b"0"))
    assert said.control_done <= found <= said.control_asked, "control's counter went back"


def _judge_forwards(store: Store, said: Said) -> None:
    rows = store.forwards(0, 1 << 20).result(WAIT_S)
    found = [int(payload) for _, _, payload in rows]
    assert len(set(found)) == len(found) and found == sorted(found), "once, in order"
    assert set(found) <= said.forwards
    missing = (said.forwards & said.taken) - said.forwarded - set(found)
    assert len(missing) <= store.status()["forwards_dropped"], f"forwards are lost: {sorted(missing)[:5]}"
