"""What the store's tests share: a seal without keys, batches, and a hub that loses its power."""

import shutil
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import cbor2

from hub.core.records import Batch, Sample, Seen
from hub.wire.uplink.pack import decode_pack
from store import Sealed, Store
from tests.harness.newborn import newborn
from tests.harness.operator import dumps

WAIT_S = 30.0


def seal(
    lane: str, epoch: int, number: int, content_type: int | str, payload: bytes, extra: dict[str, Any] | None
) -> bytes:
    """An envelope of the right form with a signature of zeros."""
    header = dumps({3: content_type, -65537: ["MTR-1", epoch, lane, number], **(extra or {})})
    return dumps(cbor2.CBORTag(18, [header, {}, payload, bytes(64)]))


def payload_of(sealed: Sealed) -> bytes:
    payload: bytes = cbor2.loads(sealed.body).value[2]
    return payload


def started(data_dir: Path, **options: Any) -> Store:
    """A store; where nothing is there yet, one whose first database was made before."""
    newborn(data_dir)
    return opened(data_dir, **options)


def opened(data_dir: Path, **options: Any) -> Store:
    """A store over just what is there."""
    store = Store(data_dir, seal=seal, **{"trusted_utc_s": lambda: 1.0, **options})
    store.start()
    return store


def sample(client: str = "plug-1", value: int = 2301, at_s: float | None = None, quantity: str = "power") -> Sample:
    return Sample(client, quantity, time.monotonic() if at_s is None else at_s, value, -1)


def batch(number: int, *samples: Sample, seen: int = 0, changes: Any = (), urgent: bool = True) -> Batch:
    made = Batch(number)
    made.samples = list(samples)
    made.seen = [
        Seen(s.client_id, (number + i) % 65536, number * 7919 % 2**32, 1) for i, s in enumerate(samples[:seen])
    ]
    made.changes = list(changes)
    made.urgent = urgent
    return made


class Answers:
    """Collects what `commit` answers, and waits for it."""

    def __init__(self) -> None:
        self.all: list[tuple[int, Exception | None]] = []
        self._changed = threading.Condition()

    def __call__(self, number: int, error: Exception | None) -> None:
        with self._changed:
            self.all.append((number, error))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[int, Exception | None]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, WAIT_S), f"{len(self.all)} of {count} answers"
            return list(self.all)


def commit(store: Store, made: Batch) -> Exception | None:
    """Commit one batch and wait for its answer."""
    answers = Answers()
    store.commit(made, answers)
    return answers.wait(1)[0][1]


def take(store: Store, *values: int, client: str = "plug-1") -> None:
    """Take one sample a commit."""
    for value in values:
        assert commit(store, batch(value, sample(client, value), seen=1)) is None


def power_cut(data_dir: Path, copy: Path) -> Path:
    """The files as a power cut would leave them now. (Only what was synced counts on a real disk; the power-cut tests
    proper enumerate that. This shows what the store believes durable.)"""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data_dir, copy)
    return copy


def seal_all(store: Store, max_readings: int = 4000) -> list[Sealed]:
    """As the uplink does, whom no broker told anything of the hub."""
    store.settle_epoch(None).result(WAIT_S)
    packs = []
    while (pack := store.seal_pack(max_readings).result(WAIT_S)) is not None:
        packs.append(pack)
    return packs


def every(store: Store, lane: str) -> list[Sealed]:
    """All messages of a lane in the present epoch."""
    return store.sealed_range(lane, store.epoch, 1, 1 << 30).result(WAIT_S)


def values_of(packs: list[Sealed]) -> list[Decimal]:
    """The values in packs, in order, exactly."""
    return [Decimal(r.mantissa).scaleb(r.exponent) for pack in packs for r in decode_pack(payload_of(pack))]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
