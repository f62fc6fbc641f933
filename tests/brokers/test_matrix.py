"""The product on other people's brokers: a real hub, an adapter, the control point's service.

The short form (two brokers) belongs to the suite; the whole is `make brokers`.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from deploy.headend.config import HeadendConfig
from deploy.headend.control_point import reader
from deploy.headend.service import Service
from deploy.pki import DevelopmentAuthority
from deploy.waiting import wait_for
from hub.headend.inbox import Received
from hub.wire.keys.operators import operator_entry
from hub.wire.uplink.envelope import FileSigner
from tests.brokers.kinds import HUB, KINDS, ForeignBroker
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter

SHORT = ("mosquitto", "aedes")
POWER = 0x0001


class Trial:
    """One broker with a hub and a control point at it."""

    def __init__(self, folder: Path, broker: ForeignBroker, authority: DevelopmentAuthority) -> None:
        self.broker = broker
        key = ec.generate_private_key(ec.SECP256R1())
        operators = folder / "operators.toml"
        operators.write_text(operator_entry("op", key.public_key(), ["limit", "read", "admin"], "Test"))
        pki = authority.directory
        known = folder / "known"
        known.mkdir()
        (known / "hub.pem").write_bytes((pki / "hub.pem").read_bytes())
        self.data_dir = folder / "headend"
        self._config = HeadendConfig(
            self.data_dir, "", 0, ZoneInfo("UTC"), (("localhost", broker.port),), pki / "ca.pem", pki / "headend.pem",
            pki / "headend.key", "headend", "op", pki / "headend.key", certificates=known, gap_after_s=3.0,
            booked_every_s=2.0,
        )  # fmt: skip
        self._signer = FileSigner(key, b"")
        self.faults: list[str] = []
        self.service = Service(self._config, self._signer, self._heard)
        several = {} if len(broker.ports) == 1 else {"uplink__hosts": [f"localhost:{port}" for port in broker.ports]}
        self.hub = Hub(
            folder / "hub", authority, broker.port, uplink__booked_within_s=5, uplink__retry_cap_s=2,
            control__operators_file=str(operators), control__heartbeat_s=5, **several,
        )  # fmt: skip
        self.sent = 0

    def _heard(self, received: Received) -> None:
        if received.fault:
            self.faults.append(f"{received.kind}: {received.fault}")

    def publish(self, count: int) -> None:
        """The adapter says so many readings, each acknowledged by the hub."""
        adapter = UdpAdapter(self.hub.udp_port, "plug-1")
        assert adapter.connect() == 0
        for _ in range(count):
            self.sent += 1
            assert adapter.publish(POWER, str(self.sent).encode()) == 0
        adapter.sock.close()

    def booked(self) -> list[int]:
        """The values of the readings in the book, in order of time."""
        db = reader(self.data_dir)
        rows = db.execute(
            "SELECT mantissa FROM reading JOIN series ON series = id WHERE client = 'plug-1' ORDER BY mantissa"
        ).fetchall()
        db.close()
        return [row[0] for row in rows]

    def wait_booked(self, what: str) -> None:
        wait_for(what, lambda: self.booked() == list(range(1, self.sent + 1)), timeout_s=120)

    def order(self, op: str, args: dict[str, Any]) -> str:
        t = int(time.time())
        return self.service.ask(lambda point: point.orders.give(op, args, {"hub": HUB}, 300, "test", t))

    def status_of(self, order_id: str) -> str:
        db = reader(self.data_dir)
        status = db.execute("SELECT status FROM order_hub WHERE order_id = ?", (order_id,)).fetchone()[0]
        db.close()
        return str(status)

    def state(self) -> str:
        db = reader(self.data_dir)
        state = db.execute("SELECT state FROM hub WHERE hub = ?", (HUB,)).fetchone()[0]
        db.close()
        return str(state)

    def retained_state(self) -> bytes:
        """What a newcomer hears of the hub's state within a moment."""
        heard: list[bytes] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "newcomer")
        pki = self.broker.pki
        client.tls_set(str(pki / "ca.pem"), str(pki / "newcomer.pem"), str(pki / "newcomer.key"))
        client.on_connect = lambda client, *_: client.subscribe(f"meters/{HUB}/state", 1)
        client.on_message = lambda _c, _u, message: heard.append(bytes(message.payload))
        client.connect("localhost", self.broker.port)
        client.loop_start()
        wait_for("the retained state", lambda: heard, timeout_s=20)
        client.disconnect()
        client.loop_stop()
        return heard[0]


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    kind = KINDS[request.param]
    missing = kind.missing()  # type: ignore[attr-defined]
    if missing:
        pytest.skip(f"not installed: {missing}")
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost"])
    authority.issue(HUB, file_name="hub")
    for name in ("headend", "newcomer"):
        authority.issue(name)
    broker = kind(tmp_path / "broker", authority)
    broker.start()
    trial = Trial(tmp_path, broker, authority)
    trial.service.start()
    try:
        yield trial
    finally:
        trial.hub.kill()
        trial.service.stop()
        broker.stop()


def played(trial: Trial) -> None:
    """What an integrator would try, in one life of a hub."""
    broker, hub = trial.broker, trial.hub
    hub.start()
    hub.wait_uplink()
    trial.publish(40)
    trial.wait_booked("40 readings to be verified and booked")
    assert b'"online"' in trial.retained_state()
    order = trial.order("limit", {"watts": 1000, "duration": 2})
    wait_for("the limit to have been kept", lambda: trial.status_of(order) == "completed")

    broker.stop()
    trial.publish(10)
    broker.start()
    hub.wait_uplink()
    trial.wait_booked("what was said while the broker was away")

    trial.publish(10)
    broker.kill()
    trial.publish(5)
    if broker.nodes > 1:
        hub.wait_uplink()
        trial.wait_booked("what was said while a node was away")
    broker.start()
    hub.wait_uplink()
    trial.wait_booked("what the broker may have forgotten")

    hub.stop()
    waiting = trial.order("limit.cancel", {})
    hub.start()
    wait_for("a command that waited to be answered", lambda: trial.status_of(waiting) == "completed", timeout_s=120)

    wait_for("the hub to be seen online", lambda: trial.state() == "online")
    hub.kill()
    wait_for("the will", lambda: trial.state() == "offline", timeout_s=120)
    hub.start()
    wait_for("the hub to be back", lambda: trial.state() == "online", timeout_s=120)

    def whole() -> bool:
        numbers = reader(trial.data_dir).execute("SELECT epoch, lane, min(first), count(*) FROM range GROUP BY 1, 2")
        return all(first == 1 and pieces == 1 for _, _, first, pieces in numbers)

    wait_for("every number", whole, timeout_s=60)
    assert trial.booked() == list(range(1, trial.sent + 1)), "each once"
    assert not trial.faults and not reader(trial.data_dir).execute("SELECT 1 FROM range WHERE is_given_up").fetchone()


@pytest.mark.parametrize("trial", SHORT, indirect=True)
def test_a_hubs_life_on_this_broker(trial: Trial) -> None:
    played(trial)


@pytest.mark.slow
@pytest.mark.parametrize("trial", [name for name in KINDS if name not in SHORT], indirect=True)
def test_a_hubs_life_on_that_broker(trial: Trial) -> None:
    played(trial)
