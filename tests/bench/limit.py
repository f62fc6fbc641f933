"""Load limits over the radio: from a control point's command to the order at the adapter, the serial line paced as one
of 115,200 baud, beside readings of a whole home on the same radio. `meterhub bench limit` measures the same over UDP.
"""

import json
import statistics
import sys
import time
from typing import Any

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.folders import folder_until_exit
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

START_W, STEP_W = 6900, 50


def measure(commands: int = 100, others: int = 10, baudrate: int = 115_200) -> dict[str, Any]:
    """Each command lowers the limit of the one car a little; `others` report their power every second."""
    directory = folder_until_exit("meterhub-bench-")
    authority = DevelopmentAuthority(directory / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    broker = Broker(directory / "broker", authority, extra="set_tcp_nodelay true\n").start()
    control_point, operator = ControlPoint(authority.directory, broker.port), Operator("grid")
    radio = Radio(_home(others), baudrate=baudrate).start()
    operators = write_operators(directory / "operators.toml", operator)
    settings = {"radio__path": str(radio.path), "control__operators_file": str(operators)}
    hub = Hub(directory / "hub", authority, broker.port, **settings)
    try:
        hub.start()
        hub.wait_uplink()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up", 60)
        hub.ask("radio.permit", duration_s=200)
        wait_for("the home", lambda: hub.status()["han"]["clients"] == others + 1, 120)
        wait_for("the car to listen", lambda: _listens(hub), 60)
        time.sleep(5)
        times = [_one(control_point, operator, radio, START_W - number * STEP_W) for number in range(commands)]
    finally:
        hub.kill()
        radio.close()
        control_point.stop()
        broker.stop()
    return {
        "commands": commands, "adapters": others + 1, "baudrate": baudrate, "p50_ms": statistics.median(times),
        "p99_ms": statistics.quantiles(times, n=100)[98], "max_ms": max(times),
    }  # fmt: skip


def _home(others: int) -> list[dict[str, Any]]:
    car = {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:02:00", "client_id": "car", "period_s": 10, "appliance": "ev"}
    rows = [
        {"kind": "adapter", "ieee": f"00:0d:6f:00:00:00:02:{n:02x}", "client_id": f"plug-{n}", "period_s": 2,
         "appliance": {"kind": "plain", "nominal_w": 5}}
        for n in range(1, others + 1)
    ]  # fmt: skip
    return [car, *rows]


def _listens(hub: Hub) -> bool:
    return any(row["client"] == "car" and row["listens"] for row in hub.ask("limits")["appliances"])


def _one(control_point: ControlPoint, operator: Operator, radio: Radio, watts: int) -> float:
    command = operator.command("limit", {"watts": watts, "duration": 3600})
    begun = time.monotonic()
    control_point.send(command)
    ordered_at = wait_for("the order", lambda: _ordered_since(radio, begun), 20, 0.05)
    time.sleep(0.1)
    return (ordered_at - begun) * 1000


def _ordered_since(radio: Radio, begun: float) -> float:
    rows = radio.do("devices")["devices"]
    at = next(row["ordered_at"] for row in rows if row.get("client_id") == "car")
    return float(at) if at is not None and at > begun else 0.0


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100), indent=1))
