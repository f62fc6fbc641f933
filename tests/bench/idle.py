"""An idle hub: CPU and memory with the radio loaded; and what one reading costs on the wire and on flash."""

import json
import time
from typing import Any

from deploy.pki import DevelopmentAuthority
from drivers.process import cpu_s
from tests.harness.broker import Broker
from tests.harness.folders import folder_until_exit
from tests.harness.hub import Hub
from tests.harness.proxy import Proxy
from tests.harness.radio import Radio
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def measure(idle_s: float = 30.0) -> dict[str, Any]:
    """Start a whole hub, leave it alone, then send it readings of ten appliances for two packs' time."""
    directory = folder_until_exit("meterhub-bench-")
    authority = DevelopmentAuthority(directory / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    broker = Broker(directory / "broker", authority).start()
    proxy = Proxy(broker.port)
    radio = Radio([]).start()
    hub = Hub(directory / "hub", authority, proxy.port, radio__path=str(radio.path), uplink__pack_interval_s=15)
    try:
        hub.start()
        hub.wait_uplink()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        time.sleep(5)
        before, begun = cpu_s(hub.pid), time.monotonic()
        time.sleep(idle_s)
        idle = {
            "idle_cpu_percent": 100 * (cpu_s(hub.pid) - before) / (time.monotonic() - begun),
            "rss_mib_with_radio": hub.status()["process"]["rss_bytes"] / 2**20,
        }
        return {**idle, **_readings(hub, proxy)}
    finally:
        hub.kill()
        radio.close()
        proxy.close()
        broker.stop()


def _readings(hub: Hub, proxy: Proxy) -> dict[str, Any]:
    adapters = [UdpAdapter(hub.udp_port, f"appliance-{number}") for number in range(10)]
    for adapter in adapters:
        adapter.connect()
    # A pack has just gone, so what follows shares the next one, in every run.
    adapters[0].publish(0x0001, b"2000")
    wait_for("a pack to pass", lambda: _is_delivered(hub), 60)
    status, bytes_up = hub.status(), proxy.bytes_up
    count = 0
    for second in range(60):
        for number, adapter in enumerate(adapters):
            adapter.publish(0x0001, str(2000 + number + second % 7).encode())
            count += 1
        time.sleep(0.2)
    wait_for("the last pack", lambda: _is_delivered(hub), 60)
    after = hub.status()
    return {
        "readings": count,
        "payload_bytes_per_reading": (after["uplink"]["payload_bytes"] - status["uplink"]["payload_bytes"]) / count,
        "tls_bytes_up_per_reading": (proxy.bytes_up - bytes_up) / count,
        "flash_bytes_per_commit": (after["store"]["written_bytes"] - status["store"]["written_bytes"])
        / max(1, after["store"]["commits"] - status["store"]["commits"]),
    }


def _is_delivered(hub: Hub) -> bool:
    lane = hub.ask("queue")["readings"]
    return lane["unsealed"] == 0 and lane["pending"] == 0


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
