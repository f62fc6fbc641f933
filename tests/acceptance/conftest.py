"""A home on real parts: PKI, mosquitto over mutual TLS, a hub process, a control point; in temporary directories."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub


@pytest.fixture
def authority(tmp_path: Path) -> DevelopmentAuthority:
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    return authority


@pytest.fixture
def broker(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", authority).start()
    yield broker
    broker.stop()


@pytest.fixture
def control_point(authority: DevelopmentAuthority, broker: Broker) -> Iterator[ControlPoint]:
    control_point = ControlPoint(authority.directory, broker.port)
    yield control_point
    control_point.stop()


@pytest.fixture
def make_hub(tmp_path: Path, authority: DevelopmentAuthority, broker: Broker) -> Iterator[Callable[..., Hub]]:
    """`make_hub(**settings)`: a hub that is not started yet; it is killed at the end whatever happens."""
    hubs: list[Hub] = []

    def make(**settings: Any) -> Hub:
        hub = Hub(tmp_path / f"hub{len(hubs)}", authority, broker.port, **settings)
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        hub.kill()


@pytest.fixture
def hub(make_hub: Callable[..., Hub], control_point: ControlPoint) -> Hub:
    # The control point subscribed first, so that it must see every number from 1 on.
    return make_hub().start()
