# SPDX-License-Identifier: GPL-3.0-or-later
"""A room sensor with a heating valve, on a battery: measures every minute, talks every ten.

What it measures waits in its buffer and goes up with SECONDS_AGO; orders wait at the hub until it wakes.

    from deploy.adapter.examples.sleeping import main
    main("192.0.2.1")       # the hub's address; as a program it takes address, port, ClientId, period and sleep
"""

import random
import sys

from deploy.adapter.adapter import Adapter
from deploy.adapter.appliance import BATTERY, TEMPERATURE, AdapterAppliance
from deploy.adapter.udp_main import run

OWN_CHOICE_CEL = 20.5


class Room(AdapterAppliance):
    """Replace the bodies: a sensor on I2C, a motor valve, an ADC at the battery."""

    SETTABLE = ("temperature",)

    def __init__(self) -> None:
        self.target_cel: float = OWN_CHOICE_CEL

    def set_value(self, quantity: str, value: "float | None") -> None:
        self.target_cel = OWN_CHOICE_CEL if value is None else value

    def measure(self) -> "tuple[tuple[int, float, int], ...]":
        return (TEMPERATURE, 20.4, 1), (BATTERY, 97, 0)


def main(host: str, port: int = 10000, client_id: str = "room", period_s: int = 60, sleep_s: int = 600) -> None:
    adapter = Adapter(
        client_id,
        Room(),
        random.getrandbits,
        about=(("class", "room-sensor"), ("priority", 9)),
        period_s=period_s,
        sleep_s=sleep_s,
        max_bytes=255,
    )
    try:
        import machine  # type: ignore[import-not-found]
    except ImportError:
        machine = None
    # It keeps the buffer; deepsleep would not. Where there is none (no board, or a port without it), it waits instead.
    doze = getattr(machine, "lightsleep", None)
    run(adapter, host, port, doze)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
