# SPDX-License-Identifier: GPL-3.0-or-later
"""A water heater behind a dimmer, on mains power and Wi-Fi.

from deploy.adapter.examples.always_on import main
main("192.0.2.1")       # the hub's address; as a program it takes address, port, ClientId and period
"""

import random
import sys

from deploy.adapter.adapter import Adapter
from deploy.adapter.appliance import AdapterAppliance
from deploy.adapter.udp_main import run

NOMINAL_W = 2000


class WaterHeater(AdapterAppliance):
    """Replace the bodies: a dimmer's duty cycle, a metering chip's registers."""

    def __init__(self) -> None:
        self._limit_w: float | None = None
        self._on = True
        self._energy_wh = 0

    def power_w(self) -> float:
        if not self._on:
            return 0
        return NOMINAL_W if self._limit_w is None else min(NOMINAL_W, self._limit_w)

    def energy_wh(self) -> float:
        return self._energy_wh

    def set_limit(self, limit_w: "float | None") -> None:
        self._limit_w = limit_w

    def set_on(self, on: bool) -> None:
        self._on = on


def main(host: str, port: int = 10000, client_id: str = "water-heater", period_s: int = 60) -> None:
    adapter = Adapter(
        client_id,
        WaterHeater(),
        random.getrandbits,  # MicroPython seeds it from the hardware where there is a source; see random.seed
        about=(("class", "water-heater"), ("nominal_w", NOMINAL_W), ("priority", 3), ("min_off_s", 300)),
        period_s=period_s,
        max_bytes=255,  # UDP carries more than a radio's 60
    )
    run(adapter, host, port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
