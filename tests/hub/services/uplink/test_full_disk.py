"""P9: a hub whose disk is full can seal nothing, and is there all the same: commands come over the session it keeps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from store import StoreFull
from tests.harness import scripted_broker as wire
from tests.harness.disk import fill, tmpfs
from tests.harness.house import House
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.scripted_broker import Script, ScriptedBroker
from tests.harness.waiting import wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", 3) as folder:
        yield folder


@pytest.mark.root
def test_a_full_disk_does_not_cost_the_session(
    small_disk: Path, authority: DevelopmentAuthority, scripted: Callable[..., ScriptedBroker]
) -> None:
    broker = scripted()
    hog = small_disk / "data" / "hog"
    hog.parent.mkdir()
    fill(hog)  # before there is a database: nothing can be sealed, marked or asked for
    house = House(small_disk, authority, [broker.port], heartbeat_s=0.1)
    try:
        assert isinstance(house.store.seal_pack().exception(60), StoreFull)
        house.wait_state("up")
        wait_for("it to go on for a while", lambda: len(broker.publishes("/heartbeat")) > 3)
        assert broker.connections == 1 and broker.count(wire.DISCONNECT) == 0
        assert "internal-error" not in [condition.code for condition in house.health.conditions()]
        hog.unlink()
        wait_for("the database", lambda: house.read(50) or house.store.epoch > 0)
        house.read(200)
        house.wait_drained()
        assert broker.publishes("/readings")
        assert broker.connections == 3, "the broker is asked what it knows of a hub without a past"
    finally:
        house.stop()


@pytest.mark.root
def test_a_command_is_acknowledged_only_once_it_is_durable_what_became_of_it(
    small_disk: Path, tmp_path: Path, authority: DevelopmentAuthority, scripted: Callable[..., ScriptedBroker]
) -> None:
    """Point 13, through a whole hub that starts on a disk without room for a database."""
    operator = Operator("grid")
    topic = b"meters/MTR-1/commands"
    command = operator.command("price", {"currency": "GBP", "steps": [[1_800_000_000, 3600, 0.28]]})
    body = len(topic).to_bytes(2, "big") + topic + b"\x00\x07\x00" + command
    broker = scripted(Script(at_once=wire.packet(wire.PUBLISH, body, 0x02)))
    data_dir = small_disk / "data"
    data_dir.mkdir()
    fill(data_dir / "hog")
    operators = write_operators(tmp_path / "operators.toml", operator)
    settings: dict[str, Any] = {"control__operators_file": str(operators), "control__heartbeat_s": 5}
    hub = Hub(tmp_path / "hub", authority, broker.port, hub__data_dir=str(data_dir), **settings)
    try:
        hub.start()
        wait_for("the command to be judged", lambda: hub.status()["limit"]["counters"]["commands"] == 1)
        wait_for("the hub to go on", lambda: len(broker.publishes("/heartbeat")) > 1)
        assert broker.count(wire.PUBACK) == 0, "a kill now would lose it"
        assert "store-full" in hub.conditions()
        (data_dir / "hog").unlink()
        wait_for("its PUBACK", lambda: broker.count(wire.PUBACK) == 1)
        wait_for("what became of it", lambda: len(broker.publishes("/receipts")) >= 1)
    finally:
        hub.kill()
