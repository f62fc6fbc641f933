"""P1 and P2 under `kill -9`: what an adapter saw acknowledged is at the control point exactly once.

Adapters publish at QoS 1, window 1, over UDP, and retransmit with DUP until they are answered, as MQTT-SN 1.2 section
6.13 has them do. Meanwhile hub and broker are killed at random moments. The long form is `make soak`.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

ADAPTERS = 6
SEED = int(os.environ.get("KILL_SEED", "20261122"))


class PersistentAdapter(threading.Thread):
    """Publishes 0, 1, 2, ... and gives no value up until it is acknowledged."""

    pause_s = 0.004  # between one value and the next

    def __init__(self, port: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client_id = f"adapter-{number}"
        self.base = number * 1_000_000
        self.acknowledged: list[float] = []
        self.faults: list[str] = []
        self._port = port
        self._stop_event = stop

    def run(self) -> None:
        adapter = UdpAdapter(self._port, self.client_id, timeout_s=0.25)
        self._insist(lambda: adapter.connect(clean=False))
        value = self.base
        while not self._stop_event.is_set():
            self._publish(adapter, value)
            value += 1
            time.sleep(self.pause_s)

    def _insist(self, request: Callable[[], object]) -> None:
        while True:
            try:
                request()
                return
            except (TimeoutError, ConnectionError, AssertionError):
                time.sleep(0.05)

    def _publish(self, adapter: UdpAdapter, value: int) -> None:
        msg_id, dup = adapter.next_msg_id(), False
        while True:
            try:
                code = adapter.publish(0x0001, str(value).encode(), msg_id=msg_id, dup=dup)
            except (TimeoutError, ConnectionError):  # nobody there, or an ICMP answer that says so
                dup = True
                time.sleep(0.02)
                continue
            except AssertionError:  # an answer to an earlier transmission, or a hub that does not know us
                dup = True
                self._reconnect_if_told(adapter)
                continue
            if code == 0:
                self.acknowledged.append(float(value))
                return
            dup = True
            if code != 1:
                self.faults.append(f"{value}: return code {code}")
                return
            time.sleep(0.05)  # congestion: the same again, later

    def _reconnect_if_told(self, adapter: UdpAdapter) -> None:
        try:
            while True:
                adapter.receive()
        except (TimeoutError, ConnectionError):
            pass
        self._insist(lambda: adapter.connect(clean=False))


def _run_with_kills(hub: Hub, broker: Broker, control_point: ControlPoint, hub_kills: int, broker_kills: int) -> None:
    chance = random.Random(SEED)
    stop = threading.Event()
    adapters = [PersistentAdapter(hub.udp_port, number, stop) for number in range(1, ADAPTERS + 1)]
    for adapter in adapters:
        adapter.start()
    # Broker kills are spread among the hub's: each of the hub's lives begins with a fresh reconnect policy.
    plan = ["hub"] * hub_kills + ["broker"] * broker_kills
    chance.shuffle(plan)
    for victim in plan:
        time.sleep(chance.uniform(0.0, 1.2))
        if victim == "hub":
            hub.kill()
            hub.start(wait=False)
        else:
            broker.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            broker.start()
    wait_for("the hub to live", hub.is_up)
    time.sleep(1)
    stop.set()
    for adapter in adapters:
        adapter.join(120)
    hub.stop()  # the last life begins with a fresh reconnect policy
    hub.start()
    _judge(adapters, hub, control_point)


def _judge(adapters: list[PersistentAdapter], hub: Hub, control_point: ControlPoint) -> None:
    acknowledged = sorted(value for adapter in adapters for value in adapter.acknowledged)
    expected = set(acknowledged)
    assert not [fault for adapter in adapters for fault in adapter.faults]
    assert len(acknowledged) > 50 * ADAPTERS, "hardly anything was published: the test tests nothing"
    wait_for("an empty queue", lambda: _is_drained(hub), 120)
    wait_for("every acknowledged reading", lambda: expected <= set(control_point.values()), 120)
    counts = Counter(control_point.values())
    assert not {value: count for value, count in counts.items() if count > 1}, "stored more than once"
    assert not control_point.faults
    assert not control_point.books.altered, "a resend was not byte-identical"
    assert not control_point.books.missing()
    status = hub.status()
    print(
        f"{len(acknowledged)} acknowledged, {len(counts)} at the control point, "
        f"{control_point.books.repeats} identical repeats, boot {status['boot']}, epoch {status['epoch']}"
    )
    assert len({epoch for _, epoch, _, _ in control_point.books.messages}) == 1, "no kill may cost the database"


def _is_drained(hub: Hub) -> bool:
    lanes = hub.ask("queue")
    return lanes["readings"]["unsealed"] == 0 and all(row["pending"] == 0 for row in lanes.values())


def test_nothing_acknowledged_is_lost_or_doubled(
    make_hub: Callable[..., Hub], broker: Broker, control_point: ControlPoint
) -> None:
    _run_with_kills(make_hub().start(), broker, control_point, hub_kills=12, broker_kills=3)


@pytest.mark.slow
def test_two_hundred_kills_of_the_hub_and_fifty_of_the_broker(
    make_hub: Callable[..., Hub], broker: Broker, control_point: ControlPoint
) -> None:
    _run_with_kills(make_hub().start(), broker, control_point, hub_kills=200, broker_kills=50)
