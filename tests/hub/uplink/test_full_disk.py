"""P9: a hub whose disk is full can seal nothing, and is there all the same: commands come over the session it keeps."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.pki import Authority
from store import StoreFull
from tests.harness import scripted_broker as wire
from tests.harness.disk import fill
from tests.harness.house import House
from tests.harness.scripted_broker import ScriptedBroker
from tests.harness.waiting import wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a tmpfs of 3 MB")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_does_not_cost_the_session(
    small_disk: Path, authority: Authority, scripted: Callable[..., ScriptedBroker]
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
        wait_for("the database", lambda: house.read(50) or house.store.epoch == 1)
        house.read(200)
        house.wait_drained()
        assert broker.publishes("/readings") and broker.connections == 1
    finally:
        house.stop()
