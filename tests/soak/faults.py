"""What can go wrong around a hub, as a table: each row makes it go wrong, waits a little, and puts it right."""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.harness.broker import Broker
from tests.harness.clock import Clock
from tests.harness.control_point import ControlPoint
from tests.harness.disk import fill
from tests.harness.failing_disk import FailingDisk
from tests.harness.hub import Hub
from tests.harness.proxy import Proxy
from tests.harness.radio import Radio

_HOUR_NS = 3_600_000_000_000


class Faults:
    """Everything around one hub. `disk`: the small file system that holds its data, None where none could be made."""

    def __init__(
        self,
        hub: Hub,
        broker: Broker,
        proxy: Proxy,
        radio: Radio,
        clock: Clock,
        shim: FailingDisk,
        control_point: ControlPoint,
        disk: Path | None,
        seed: int,
    ) -> None:
        self._hub, self._broker, self._proxy, self._radio = hub, broker, proxy, radio
        self._clock, self._shim, self._control_point, self._disk = clock, shim, control_point, disk
        self._chance = random.Random(seed)
        table: list[tuple[int, Callable[[], None]]] = [
            (4, self.hub_killed), (2, self.broker_killed), (2, self.line_cut), (2, self.line_reset),
            (2, self.line_stalled), (2, self.line_drops), (2, self.line_slow), (2, self.clock_stepped),
            (2, self.radio_reset), (1, self.radio_unplugged), (2, self.hub_paused), (2, self.disk_slow),
            (2, self.disk_failing), (2, self.consumer_away),
        ]  # fmt: skip
        if disk is not None:
            table.append((2, self.disk_full))
        self.names = [fault.__name__ for _, fault in table]
        # Each kind comes in every round, in an order that chance makes: a short soak has seen all of them, too.
        self._round = [fault for weight, fault in table for _ in range(weight)]
        self._left: list[Callable[[], None]] = []

    def one(self) -> str:
        """Let the next thing go wrong and put it right; its name."""
        if not self._left:
            self._left = list(self._round)
            self._chance.shuffle(self._left)
        fault = self._left.pop()
        fault()
        return fault.__name__

    def _pause(self, low_s: float, high_s: float) -> None:
        time.sleep(self._chance.uniform(low_s, high_s))

    def hub_killed(self) -> None:
        self._hub.kill()
        self._hub.start(wait=False)

    def broker_killed(self) -> None:
        self._broker.kill()
        self._pause(0, 1)
        self._broker.start()

    def line_cut(self) -> None:
        self._proxy.cut()
        self._pause(0.1, 3)
        self._proxy.mend()

    def line_reset(self) -> None:
        self._proxy.reset()

    def line_stalled(self) -> None:
        self._proxy.stall()
        self._pause(0.2, 2)
        self._proxy.mend()

    def line_drops(self) -> None:
        self._proxy.drop()
        self._pause(0.1, 1)
        self._proxy.mend()

    def line_slow(self) -> None:
        self._proxy.delay_s = self._chance.uniform(0.05, 0.5)
        self._pause(0.5, 2)
        self._proxy.delay_s = 0

    def clock_stepped(self) -> None:
        """By up to six hours, either way; or back to the truth."""
        self._clock.step(self._chance.choice([0, 1, 1, 1]) * int(self._chance.uniform(-6, 6) * _HOUR_NS))

    def radio_reset(self) -> None:
        self._radio.do(self._chance.choice(["reset", "power-cycle"]))

    def radio_unplugged(self) -> None:
        self._radio.do("unplug")
        self._pause(0.1, 1)
        self._radio.do("plug")

    def hub_paused(self) -> None:
        """As a machine that sleeps, or is starved."""
        pid = self._hub.pid
        os.kill(pid, signal.SIGSTOP)
        self._pause(0.2, 4)
        os.kill(pid, signal.SIGCONT)

    def disk_slow(self) -> None:
        self._shim.slow(int(self._chance.uniform(5, 300)))
        self._pause(0.5, 3)
        self._shim.heal()

    def disk_failing(self) -> None:
        self._shim.fail(self._chance.choice([errno.EIO, errno.EROFS]))
        self._pause(0.1, 2)
        self._shim.heal()

    def consumer_away(self) -> None:
        """Long enough for its queue at the broker to overflow, now and then."""
        self._control_point.go_away()
        self._pause(0.5, 8)
        self._control_point.come_back()

    def disk_full(self) -> None:
        assert self._disk is not None
        ballast = self._disk / "ballast-of-the-test"
        fill(ballast)
        self._pause(0.2, 1.5)
        ballast.unlink()
