# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython: the bytes of heap that the adapter takes, in steps: the MQTT-SN half, the rest, one in service."""

import gc

try:
    import micropython

    micropython.opt_level(3)
except ImportError:
    pass

gc.collect()
# ---
before = gc.mem_alloc()
import hub.core.adapter.client  # noqa: E402, F401

gc.collect()
# ---
client = gc.mem_alloc()
from deploy.adapter.adapter import Adapter  # noqa: E402
from deploy.adapter.appliance import AdapterAppliance  # noqa: E402
from hub.wire.mqttsn.messages import ConnAck, Publish  # noqa: E402

gc.collect()
# ---
adapter = gc.mem_alloc()


class Heater(AdapterAppliance):
    def power_w(self):
        return 2000

    def energy_wh(self):
        return 123456


machine = Adapter("water-heater", Heater(), lambda bits: 0, about=(("class", "water-heater"),))
machine.start(0)
machine.handle_timer(0)
machine.receive_datagram(ConnAck(0).encode(), 0)
machine.receive_datagram(Publish(1, 0x30, 1, b"limit 500 3600", 1).encode(), 1)
# A night without a hub: the buffer is full.
now = 1
while now < 50000:
    now = max(now + 1, machine.get_timer())
    machine.handle_timer(now)
    machine.datagrams_to_send()
assert machine.ring.dropped and machine.orders.limit_w is None
gc.collect()
# ---
print(client - before, adapter - client, gc.mem_alloc() - adapter)
