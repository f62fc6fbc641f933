"""A hub's store at work, for the recorder: `python -m tests.powercut.workload DATA_DIR SAID LIFE STEPS`.

It says what it asked for, and what became durable, as lines of JSON in the file SAID: a write there stands in the
recording between the store's own, so that for each moment it is known what had been acknowledged. A life ends without
a word to the store (`os._exit`), as `kill -9` would end it; the next one goes on with the same files.
"""

import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from hub.core import records as r
from hub.core.control.records import Journal
from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.receipt import Receipt
from store import Sealed, Store
from store.errors import StoreError
from tests.store.helpers import WAIT_S, Answers, opened, payload_of

MAX_MB = 0.45  # small, so that checkpoints, pruning and thinning happen every few commits
SERIES = [(f"plug-{number}", ("power", "energy", "voltage")[number % 3]) for number in range(6)]
UNSETTLED = 6  # the first of so many parts of the first life
STARVE = 3  # this life has no uplink and fills its disk: compaction and thinning


_NOISE = 10**11


def mantissa_of(value: int) -> int:
    """What an adapter reports, so that it takes the space of real readings; `value_of` knows which it was."""
    return value * _NOISE + value * 2_654_435_761_123 % _NOISE


def value_of(mantissa: int) -> int:
    return mantissa // _NOISE


class Life:
    """One life of the hub."""

    def __init__(self, data_dir: Path, said: Path, life: int) -> None:
        self._said = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._chance = random.Random(life)
        self._data_dir, self._life = data_dir, life
        self._next = life * 1_000_000
        self._clock = [life * 50.0]
        self._store = self._open()

    def say(self, **fields: Any) -> None:
        os.write(self._said, json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def _open(self) -> Store:
        store = opened(self._data_dir, max_mb=MAX_MB, monotonic=lambda: self._clock[0])
        store.set_clock(1_700_000_000_000 + self._life * 100_000_000, True)
        return store

    def run(self, steps: int) -> None:
        starving = self._life % 4 == STARVE
        acts = [(self.take, 60), (self.take_many, 6), (self.control, 4), (self.event, 2), (self.step_clock, 2)]
        if starving:
            acts.append((self.take_bulk, 60))
        else:
            acts += [(self.seal, 8), (self.deliver, 6), (self.receipt, 3), (self.forward_done, 2), (self.reopen, 0.3)]
        names, weights = zip(*acts)
        for number, act in enumerate(self._chance.choices(names, weights, k=steps)):
            self._clock[0] += self._chance.choice((0.5, 2.0, 5.0))
            if number == steps // UNSETTLED and self._store.is_epoch_new:
                self.settle()
            act()

    # --- what it does

    def _batch(self, samples: int) -> r.Batch:
        batch = r.Batch(self._next)
        batch.urgent = True
        first = self._next
        for value in range(first, first + samples):
            series = SERIES[value % len(SERIES)]
            batch.samples.append(r.Sample(*series, self._clock[0], mantissa_of(value), 0))
            batch.seen.append(r.Seen(series[0], value % 65536, value * 7919 % 2**32, 1))
        self._next += samples
        if self._chance.random() < 0.2:
            batch.changes = [r.RetainedSet("newest", b"%d" % first, 1), self._session(first)]
        if self._chance.random() < 0.1:
            batch.changes.append(r.ForwardQueued("alarm/a", b"%d" % first))
        kinds = {type(change) for change in batch.changes}
        self.say(asked=[first, samples], newest=r.RetainedSet in kinds, forward=r.ForwardQueued in kinds)
        return batch

    def _session(self, value: int) -> r.SessionChanged:
        return r.SessionChanged("plug-1", ("udp", "h", 1), "active", True, value, "", b"", 0, False)

    def _commit(self, batches: list[r.Batch]) -> None:
        answers = Answers()
        for batch in batches:
            self._store.commit(batch, answers)
        for number, error in answers.wait(len(batches)):
            if error is None:
                self.say(taken=number)
            elif not isinstance(error, StoreError):
                raise error

    def settle(self) -> None:
        """The broker knows of an epoch as high: what was sealed until now, and never sent, is numbered anew."""
        self.say(settling=True)
        self._store.settle_epoch((1, 1 << 20)).result(WAIT_S)  # whichever boot this is
        self.say(settling=False)

    def take(self) -> None:
        self._commit([self._batch(self._chance.choice((1, 1, 1, 2, 5)))])

    def take_many(self) -> None:
        self._commit([self._batch(1) for _ in range(4)])

    def take_bulk(self) -> None:
        self._clock[0] += 120
        self._commit([self._batch(240)])

    def seal(self) -> None:
        pack = self._store.seal_pack(self._chance.choice((3, 40, 400))).result(WAIT_S)
        if pack is not None:
            self._say_pack(pack)

    def deliver(self) -> None:
        for pack in self._store.unsent("readings", 0, 0, self._chance.choice((1, 3, 99))).result(WAIT_S):
            self._say_pack(pack)  # once more: a life may have ended between sealing it and saying so
            self.say(delivered=pack.number)
            self._store.delivered("readings", pack.epoch, pack.number).result(WAIT_S)

    def receipt(self) -> None:
        self._say_sealed(self._store.append("answers", 61, b"answer %d" % self._next).result(WAIT_S), [])

    def control(self) -> None:
        value = self._next
        self._next += 1
        self.say(control=value)
        receipt = Receipt("MTR-1", value, b"%016d" % value, bytes(32), "accepted")
        journal = Journal({"counter": b"%d" % value}, [receipt], [("control.lost", {})])
        for sealed in self._store.commit_control(journal).result(WAIT_S):
            self._say_sealed(sealed, [])
        self.say(controlled=value)

    def event(self) -> None:
        self._store.record_event("adapter.lost", {"client": "plug-1"})

    def forward_done(self) -> None:
        found = self._store.forwards(0, 1).result(WAIT_S)
        if found:
            self.say(forwarded=int(found[0][2]))
            self._store.forwards_done([found[0][0]]).result(WAIT_S)

    def step_clock(self) -> None:
        self._clock[0] += 700  # the duplicate window is over: what is sealed may be pruned, what is not, merged
        if self._life % 4 != STARVE:
            self._store.set_clock(1_700_000_000_000 + self._chance.randrange(-(10**7), 10**7), True)

    def reopen(self) -> None:
        self._store.close(WAIT_S)
        self._store = self._open()

    def _say_pack(self, pack: Sealed) -> None:
        self._say_sealed(pack, [value_of(reading.mantissa) for reading in decode_pack(payload_of(pack))])

    def _say_sealed(self, sealed: Sealed, values: list[int]) -> None:
        digest = hashlib.sha256(sealed.body).hexdigest()
        self.say(sealed=[sealed.lane, sealed.epoch, sealed.number, digest], values=values)


if __name__ == "__main__":
    Life(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run(int(sys.argv[4]))
    os._exit(0)
