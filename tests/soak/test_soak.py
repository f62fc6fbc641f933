"""Everything at once, at random, for a while: each reading that was acknowledged is at the control point exactly once.

The short form runs with every test; `make soak` runs half an hour (SOAK_SECONDS, SOAK_SEED).
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.acceptance.test_kills import PersistentAdapter
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.disk import tmpfs
from tests.harness.failing_disk import FailingDisk
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.proxy import Proxy
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for
from tests.soak.faults import Clock, Faults

ADAPTERS = 4
HOME = [
    {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "period_s": 1,
     "appliance": {"kind": "boiler", "nominal_w": 2000}},
]  # fmt: skip
DRAINED_S = 300.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 12 MB for the hub's data; None where this process may not mount one."""
    if os.geteuid() != 0:
        yield None
        return
    with tmpfs(tmp_path / "disk", 12) as folder:
        yield folder


class Adapter(PersistentAdapter):
    """Twenty values a second: half an hour of them is what a control point's memory holds with ease."""

    pause_s = 0.05


class Soak:
    """A hub with a radio home and UDP adapters, behind a proxy, with everything that can fail around it."""

    def __init__(self, place: Path, disk: Path | None, seed: int, queue: int) -> None:
        """`queue`: how many messages the broker keeps for whom is away, 0: any number."""
        authority = DevelopmentAuthority(place / "pki")
        authority.issue("broker", hosts=["localhost", "127.0.0.1"])
        authority.issue("MTR-1", file_name="hub")
        authority.issue("headend")
        # A queue that overflows where the control point is away for a moment, or a backlog comes all at once.
        self.broker = Broker(place / "broker", authority, extra=f"max_queued_messages {queue}\n").start()
        self.proxy = Proxy(self.broker.port)
        self.control_point = ControlPoint(authority.directory, self.broker.port)
        self.radio = Radio(HOME).start()
        clock = Clock(place)
        self._clock = clock
        self._operator = Operator()
        data = {"hub__data_dir": str(disk / "data"), "store__max_mb": 6} if disk else {}
        self.hub = Hub(
            place / "hub", authority, self.proxy.port, radio__path=str(self.radio.path), uplink__booked_within_s=5,
            control__operators_file=str(write_operators(place / "operators.toml", self._operator)), **data,
        )  # fmt: skip
        shim = FailingDisk(place, (disk / "data") if disk else self.hub.data_dir)
        both = f"{clock.env['LD_PRELOAD']}:{shim.env['LD_PRELOAD']}"
        self.hub.env = {**clock.env, **shim.env, "LD_PRELOAD": both}
        self.faults = Faults(self.hub, self.broker, self.proxy, self.radio, clock, shim, self.control_point, disk, seed)
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep_book, daemon=True)
        self.done: Counter[str] = Counter()
        self._seed = seed

    def _keep_book(self) -> None:
        """The control point says what it has: what its queue lost, or a broker forgot, comes again by itself."""
        while not self._ended.wait(1.0):
            places = self.control_point.booked()
            if places:
                self.control_point.send(self._operator.command("booked", places))

    def run(self, seconds: float, seed: int) -> None:
        """Start, let things go wrong until the time is up and each kind has been at least once, judge."""
        chance = random.Random(seed)
        self.hub.start()
        self._keeper.start()
        wait_for("the radio", lambda: self.hub.status()["radio"]["state"] == "up")
        self.hub.ask("radio.permit", duration_s=60)
        wait_for("the boiler", lambda: self.control_point.values("boiler"))
        stop = threading.Event()
        adapters = [Adapter(self.hub.udp_port, number, stop) for number in range(1, ADAPTERS + 1)]
        for adapter in adapters:
            adapter.start()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at or set(self.done) < set(self.faults.names):
            self.done[self.faults.one()] += 1
            time.sleep(chance.uniform(0.1, 1.5))
        self._calm_down()
        stop.set()
        for adapter in adapters:
            adapter.join(120)
        self._judge(adapters)

    def _calm_down(self) -> None:
        self._clock.step(0)  # or no word of the book would be believed
        wait_for("the hub to live", self.hub.is_up)
        before = len(self.radio.published("boiler"))
        assert self.hub.stop() == 0
        self.hub.start()  # a new life begins with a fresh reconnect policy
        wait_for("the radio again", lambda: self.hub.status()["radio"]["state"] == "up", 120)
        # The list keeps the newest rows only, so its length alone may not grow.
        newest = self.radio.published("boiler")[-1:] if before else []
        wait_for("the boiler to be heard", lambda: self.radio.published("boiler")[-1:] != newest, 120)

    def _judge(self, adapters: list[PersistentAdapter]) -> None:
        assert not [fault for adapter in adapters for fault in adapter.faults]
        expected = {value for adapter in adapters for value in adapter.acknowledged}
        assert len(expected) > 20 * ADAPTERS, "hardly anything was published: the test tests nothing"
        wait_for("an empty queue", self._is_drained, DRAINED_S)
        try:
            wait_for("every acknowledged reading", lambda: self._is_complete(expected), DRAINED_S)
        except AssertionError:
            self._say_what_is_missing(expected - set(self._values()))
            raise
        doubled = {value: count for value, count in Counter(self._values()).items() if count > 1}
        assert not doubled, "stored more than once"
        books = self.control_point.books
        # What a queue lost of the other lanes comes again, too, a round at a time.
        wait_for("every number", lambda: not books.missing(), DRAINED_S)
        assert not self.control_point.faults and not books.altered
        status = self.hub.status()
        assert len({epoch for _, epoch, _, _ in self.control_point.books.messages}) == 1, (
            "no fault may cost the database"
        )
        print(
            f"{len(expected)} acknowledged, each at the control point exactly once, but for {len(self._gone())} packs "
            f"that are told as given up; {books.repeats} identical repeats; "
            f"boot {status['boot']}; {sum(self.done.values())} faults: {dict(self.done)}"
        )

    def _is_complete(self, expected: set[float]) -> bool:
        """All of it is here, but for what was in packs that the hub said it gave up: while its clock is wrong it
        believes no word of the book, and a disk that is full meanwhile leaves no room for what may be there already."""
        books, missing = self.control_point.books, expected - set(self._values())
        return not books.missing() and len(missing) <= books.most_in_a_pack * len(self._gone())

    def _gone(self) -> list[tuple[str, int, str, int]]:
        books = self.control_point.books
        return [key for key in books.given_up if key not in books.messages]

    def _say_what_is_missing(self, missing: set[float]) -> None:
        """What an engineer needs to know of a failure that takes half an hour to come again."""
        kept = {float(row["value"]) for row in self.hub.ask("readings", limit=100_000)}
        print(f"seed {self._seed}: {len(missing)} missing, {len(missing & kept)} of them kept: {sorted(missing)[:50]}")
        print(f"epoch {self.hub.status()['epoch']}, numbers missing: {self.control_point.books.missing()}")
        print(self.hub.log())

    def _values(self) -> list[float]:
        return [
            value for adapter in range(1, ADAPTERS + 1) for value in self.control_point.values(f"adapter-{adapter}")
        ]

    def _is_drained(self) -> bool:
        lanes = self.hub.ask("queue")
        return bool(lanes["readings"]["unsealed"] == 0 and all(row["pending"] == 0 for row in lanes.values()))

    def close(self) -> None:
        self._ended.set()
        self.hub.kill()
        self.control_point.stop()
        self.radio.close()
        self.proxy.close()
        self.broker.stop()


@pytest.fixture
def make_soak(tmp_path: Path, disk: Path | None) -> Iterator[Callable[..., Soak]]:
    soaks: list[Soak] = []

    def make(seed: int, queue: int = 0) -> Soak:
        soaks.append(Soak(tmp_path, disk, seed, queue))
        return soaks[-1]

    yield make
    for soak in soaks:
        soak.close()


SEED = int(os.environ.get("SOAK_SEED", "20261122"))


def test_the_clock_that_is_stepped_is_the_one_python_reads(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.step(7200 * 10**9)
    code = "import time; print(time.time_ns() // 10**9, int(time.monotonic()))"
    shifted, monotonic = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **clock.env}).split()
    assert abs(int(shifted) - time.time() - 7200) < 60
    assert abs(int(monotonic) - time.monotonic()) < 60, "a clock step does not move the monotonic clock"


def test_everything_at_once(make_soak: Callable[..., Soak]) -> None:
    make_soak(SEED).run(25, SEED)


@pytest.mark.slow
def test_half_an_hour_of_everything(make_soak: Callable[..., Soak]) -> None:
    make_soak(SEED, queue=5).run(float(os.environ.get("SOAK_SECONDS", "1800")), SEED)
