"""P3, P9: a disk that fails is told by its name; nothing acknowledged is lost, and the hub goes on by itself."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.failing_disk import FailingDisk
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

CONGESTION, SLOW_MS = 1, 2000


@pytest.fixture
def world(tmp_path: Path, make_hub: Callable[..., Hub]) -> tuple[Hub, FailingDisk]:
    hub = make_hub()
    disk = FailingDisk(tmp_path, hub.data_dir)
    hub.env |= disk.env
    return hub, disk


@pytest.mark.parametrize(
    ("error", "condition"),
    [(errno.EIO, "store-failing"), (errno.EROFS, "store-read-only"), (errno.ENOSPC, "store-full")],
)
def test_a_disk_that_fails_is_told_by_its_name_and_costs_nothing(
    world: tuple[Hub, FailingDisk], error: int, condition: str
) -> None:
    hub, disk = world
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"1") == 0
    disk.fail(error)
    assert adapter.publish(0x0001, b"2") == CONGESTION, "not taken, so not acknowledged"
    wait_for("the condition", lambda: condition in hub.conditions())
    told = {code for code in hub.conditions() if code.startswith("store-")}
    assert told == {condition}, "one fault, one name"
    disk.heal()
    wait_for("custody", lambda: adapter.publish(0x0001, b"3") == 0)
    wait_for("the condition to clear", lambda: condition not in hub.conditions())
    values = [row["value"] for row in hub.ask("readings", limit=100)]
    assert values.count("1") == 1 and values.count("3") >= 1 and "2" not in values
    assert hub.status()["store"]["salvaged"] == 0, "an error on a write is no damage"
    adapter.close()


@pytest.mark.parametrize("write_bytes", [1, 500])
def test_a_disk_that_takes_a_part_of_each_write_costs_nothing(world: tuple[Hub, FailingDisk], write_bytes: int) -> None:
    """What write(2) leaves over is written after it; the hub starts again on what is there."""
    hub, disk = world
    disk.shorten(write_bytes)
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for value in range(20):
        assert adapter.publish(0x0001, b"%d" % value) == 0
    assert not {code for code in hub.conditions() if code.startswith("store-")}
    hub.kill()
    hub.start()
    assert hub.status()["store"]["salvaged"] == 0
    values = {row["value"] for row in hub.ask("readings", limit=100)}
    assert {str(value) for value in range(20)} <= values
    adapter.close()


@pytest.mark.slow
def test_a_slow_disk_is_told_and_stops_nobody(world: tuple[Hub, FailingDisk]) -> None:
    hub, disk = world
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for value in range(10):
        assert adapter.publish(0x0001, b"%d" % value) == 0
    assert "store-slow" not in hub.conditions()
    disk.slow(SLOW_MS)
    value = 10

    def told() -> bool:
        nonlocal value
        adapter.publish(0x0001, b"%d" % value)
        value += 1
        return "store-slow" in hub.conditions()

    wait_for("the condition", told, timeout_s=180)
    disk.heal()
    wait_for("the condition to clear", lambda: not told(), timeout_s=180)
    adapter.close()
