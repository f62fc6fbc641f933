"""Whole peers for the uplink: scripted brokers, and houses (tests/harness/house.py) that talk to them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.house import House
from tests.harness.memory import folder_in_memory
from tests.harness.scripted_broker import Script, ScriptedBroker


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    authority = DevelopmentAuthority(tmp_path_factory.mktemp("pki"))
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    return authority


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory (tests/harness/memory.py)."""
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def make_house(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(*ports: int, **settings: Any) -> House:
        houses.append(House(tmp_path / f"house{len(houses)}", authority, list(ports), **settings))
        return houses[-1]

    yield make
    for house in houses:
        house.stop()


@pytest.fixture
def scripted(authority: DevelopmentAuthority) -> Iterator[Callable[..., ScriptedBroker]]:
    brokers: list[ScriptedBroker] = []

    def make(*scripts: Script, **options: Any) -> ScriptedBroker:
        brokers.append(ScriptedBroker(authority, *scripts, **options))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", authority).start()
    yield broker
    broker.stop()
