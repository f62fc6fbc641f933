"""P9: a machine that slept, or was paused, is no fault of the hub's: nothing is stuck, and nobody is told so."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter

SLEPT_S = 70.0  # longer than any loop's word, and than systemd's patience


@pytest.mark.slow
def test_a_hub_that_was_stopped_for_a_minute_goes_on(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    hub.env |= {"WATCHDOG_USEC": "4000000"}  # it looks at its loops every two seconds
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect(duration_s=600) == 0 and adapter.publish(0x0001, b"1") == 0
    hub.wait_uplink()
    before, known = set(hub.conditions()), len(hub.ask("events", limit=100))
    os.kill(hub.pid, signal.SIGSTOP)
    time.sleep(SLEPT_S)
    os.kill(hub.pid, signal.SIGCONT)
    told: set[str] = set()
    for _ in range(60):  # each half second: what holds for a moment is seen too
        told |= set(hub.conditions()) - before
        time.sleep(0.25)
    assert not {code for code in told if not code.startswith("uplink")}, told
    assert adapter.publish(0x0001, b"2") == 0
    fresh = [event["event"] for event in hub.ask("events", limit=100)[known:]]
    assert not [event for event in fresh if not event.startswith("uplink")], fresh
    assert "the watchdog is not fed" not in hub.log()
    adapter.close()
