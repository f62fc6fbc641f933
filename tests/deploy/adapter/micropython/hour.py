# SPDX-License-Identifier: GPL-3.0-or-later
"""An example's adapter in a clock that runs faster: `hour.main(example, port, client_id, speed, seconds)`.

Everything is the example's own but the clock and the waiting, which are divided by `speed`. Prints a line at the end:
how often it found no memory, how much is free.
"""

import gc
import random
import sys

from deploy.adapter.adapter import Adapter
from deploy.adapter.udp_main import Loop, TickClock, UdpSocket


class FastClock(TickClock):
    def __init__(self, speed: int) -> None:
        self._speed = speed
        super().__init__()

    def ms(self) -> int:
        return super().ms() * self._speed


class FastSocket(UdpSocket):
    def __init__(self, port: int, speed: int) -> None:
        super().__init__("127.0.0.1", port)
        self._speed = speed

    def wait(self, wait_ms: int) -> None:
        super().wait(wait_ms // self._speed)


def main(example: str, port: int, client_id: str, speed: int, seconds: int) -> None:
    if example == "always_on":
        from deploy.adapter.examples.always_on import WaterHeater as Appliance

        sleep_s = 0
    else:
        from deploy.adapter.examples.sleeping import Room as Appliance

        sleep_s = 600
    adapter = Adapter(client_id, Appliance(), random.getrandbits, period_s=60, sleep_s=sleep_s, max_bytes=255)
    clock = FastClock(speed)
    loop = Loop(adapter, FastSocket(port, speed), clock=clock)
    while clock.ms() < seconds * 1000:
        loop.turn()
    gc.collect()
    free = gc.mem_free() if hasattr(gc, "mem_free") else 0
    print("short", loop.shortages, "free", free, "dropped", adapter.ring.dropped, "kept", len(adapter.ring))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
