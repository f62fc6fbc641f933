"""A hub is there for fifteen years: the end of 32-bit time, and the years around it, are days like any other."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.clock import Clock
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

YEARS_20 = timedelta(days=7300)


@pytest.fixture
def lasting(tmp_path: Path) -> DevelopmentAuthority:
    """Certificates for as long as the station gives them to hubs."""
    authority = DevelopmentAuthority(tmp_path / "lasting", ends_in=YEARS_20 + timedelta(days=30))
    for name, file in (("MTR-1", "hub"), ("localhost", "broker"), ("headend", "headend")):
        authority.issue(name, file_name=file, hosts=["localhost"], ends_in=YEARS_20)
    return authority


@pytest.fixture
def home(tmp_path: Path, lasting: DevelopmentAuthority) -> Iterator[tuple[Hub, Clock, ControlPoint]]:
    broker = Broker(tmp_path / "broker", lasting).start()
    control_point = ControlPoint(lasting.directory, broker.port)
    clock = Clock(tmp_path)
    hub = Hub(tmp_path / "hub", lasting, broker.port)
    hub.env |= clock.env
    yield hub, clock, control_point
    hub.kill()
    control_point.stop()
    broker.stop()


@pytest.mark.parametrize("then", ["2037-02-01T12:00:00", "2038-01-19T03:13:57", "2041-06-01T12:00:00"])
def test_it_serves_and_stamps_what_it_serves(home: tuple[Hub, Clock, ControlPoint], then: str) -> None:
    hub, clock, control_point = home
    moment = datetime.fromisoformat(then).replace(tzinfo=UTC)
    clock.step(int((moment - datetime.now(UTC)).total_seconds() * 1e9))
    hub.start()
    hub.wait_uplink()
    assert hub.status()["process"]["clock_trusted"]
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"42") == 0
    clock.pass_time(10)  # over the end of 32-bit time
    assert adapter.publish(0x0001, b"43") == 0
    wait_for("both at the control point", lambda: control_point.values("boiler") == [42.0, 43.0])
    hub.stop()
    hub.start()
    hub.wait_uplink()
    rows = json.loads(hub.cli("readings", "--json").stdout)
    assert sorted(row["value"] for row in rows) == ["42", "43"]
    stamps = [datetime.fromtimestamp(row["t_ms"] / 1000, UTC) for row in rows]
    assert all(abs(stamp - moment) < timedelta(minutes=10) for stamp in stamps), stamps
    with control_point.lock:
        state = json.loads(control_point.states[-1])
    assert abs(state["t"] / 1000 - moment.timestamp()) < 600
    assert not control_point.faults and not control_point.books.missing()
    found = hub.cli("doctor").stdout
    assert moment.strftime("%Y") in hub.cli("events").stdout and "clock-untrusted" not in found, found
