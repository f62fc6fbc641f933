"""P3, P9: a full disk is answered with congestion, loses nothing acknowledged, and is over when space returns."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.disk import fill, tmpfs
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.root
CONGESTION = 0x01


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", 3) as folder:
        yield folder


def test_a_full_disk_is_congestion_and_passes(
    small_disk: Path, make_hub: Callable[..., Hub], control_point: ControlPoint
) -> None:
    hub = make_hub(hub__data_dir=str(small_disk / "data"), uplink__pack_interval_s=1).start()
    hub.wait_uplink()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"0") == 0
    fill(small_disk / "ballast")
    acknowledged, refused = [0.0], 0
    for value in range(1, 4000):
        code = adapter.publish(0x0001, str(value).encode())
        assert code in (0, CONGESTION), code
        if code == 0:
            acknowledged.append(float(value))
        else:
            refused += 1
            if refused > 20:
                break
    assert refused > 20, "the disk never became full: the test tests nothing"
    wait_for("the condition", lambda: "store-full" in hub.conditions())
    # While it is full the hub is killed too: what it acknowledged is on the disk.
    hub.kill()
    (small_disk / "ballast").unlink()
    hub.start()
    assert wait_for("space to be used again", lambda: adapter.publish(0x0001, b"5000") == 0)
    wait_for("every acknowledged reading", lambda: {*acknowledged, 5000.0} <= set(control_point.values()))
    assert len(control_point.values()) == len(set(control_point.values()))
    assert not control_point.books.missing()


def test_it_recovers_without_a_restart(
    small_disk: Path, make_hub: Callable[..., Hub], control_point: ControlPoint
) -> None:
    hub = make_hub(hub__data_dir=str(small_disk / "data")).start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    adapter.connect()
    fill(small_disk / "ballast")
    value = 0
    while adapter.publish(0x0001, str(value).encode()) == 0:
        value += 1
        assert value < 10_000
    assert hub.cli("status").returncode in (0, 1), "it answers while the disk is full"
    (small_disk / "ballast").unlink()
    wait_for("custody again", lambda: adapter.publish(0x0001, b"77777") == 0)
    wait_for("the reading", lambda: 77777.0 in control_point.values())
    wait_for("the condition to clear", lambda: "store-full" not in hub.conditions())
    assert set(map(float, range(value))) <= set(control_point.values())


def test_a_hub_that_could_not_open_its_database_at_first_takes_up_its_past_later(
    small_disk: Path, make_hub: Callable[..., Hub], control_point: ControlPoint
) -> None:
    """A repeat of before is known for one after, though the hub has started on a full disk in between (P2)."""
    hub = make_hub(hub__data_dir=str(small_disk / "data"), uplink__pack_interval_s=1).start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"1", msg_id=7) == 0
    hub.stop()
    (small_disk / "data/ballast").unlink()
    fill(small_disk / "hog")
    hub.start()
    wait_for("the condition", lambda: "store-full" in hub.conditions())
    (small_disk / "hog").unlink()

    def has_ended() -> bool:
        """Somebody knocks, so it looks at the disk; it ends by itself, and systemd starts it anew."""
        with suppress(OSError):
            assert adapter.connect() == CONGESTION
        return hub.has_ended()

    wait_for("its end", has_ended)
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"1", msg_id=7, dup=True) == 0
    assert adapter.publish(0x0001, b"2", msg_id=8) == 0
    wait_for("the last reading", lambda: 2.0 in control_point.values())
    assert control_point.values() == [1.0, 2.0]


def test_a_hub_is_stopped_while_its_disk_is_full(small_disk: Path, make_hub: Callable[..., Hub]) -> None:
    """What the gateway still owes the store must not keep it from ending."""
    hub = make_hub(hub__data_dir=str(small_disk / "data")).start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect(clean=False) == 0
    fill(small_disk / "ballast")
    while adapter.publish(0x0001, b"1") == 0:
        pass
    fill(small_disk / "more")  # of its own ballast, which it has given up
    guests = (UdpAdapter(hub.udp_port, f"guest-{number}") for number in range(4000))
    assert any(guest.connect() == CONGESTION for guest in guests), "sessions always find room"
    assert hub.stop() == 0
