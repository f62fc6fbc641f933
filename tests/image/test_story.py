"""A board's life in QEMU, from the factory to a bad update, on the real parts: U-Boot, verified boot, RAUC, the hub.

One story, told in order: each test goes on where the one before stopped. `make image-test` builds what it needs.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.image.board import Board, load_board
from deploy.image.bundle import make_bundle
from deploy.image.disk import find_partition
from deploy.image.signing import make_test_keys
from tests.harness.waiting import wait_for
from tests.image.site import HUB_ID, Site

pytestmark = [pytest.mark.slow, pytest.mark.image]


def test_the_first_boot_takes_the_identity_and_the_utility_sees_the_hub(site: Site) -> None:
    site.provision()
    mark = site.power_on()
    state = site.wait_online(after=0)
    assert state["boot"] == 1
    log = (site.folder / "broker/mosquitto.log").read_text(errors="replace")
    assert f"as hub " in log or HUB_ID in log, "mosquitto saw another certificate"
    site.console.log_in(mark)
    boot = site.console.since(mark)
    assert "sha256,rsa4096:boot+ OK" in boot, "U-Boot did not verify the kernel"
    assert "IMAGE_VERSION=1.0.0" in site.console.ask("cat /etc/os-release")


def test_the_data_partition_is_encrypted_with_what_only_this_board_has(site: Site) -> None:
    console = site.console
    assert "CRYPT-" in console.ask("cat /sys/class/block/dm-1/dm/uuid")
    assert console.ask("grep -c ' /data ext4' /proc/mounts") == "1"
    console.ask("sync")
    octets = site.machine.disk.read_bytes()
    data = octets[find_partition(site.machine.board.disk["size_mb"], "data").start :]
    assert data.startswith(b"METERHUB-DATA-1 crypt ")
    for telltale in (b"SQLite format 3", b"BEGIN PRIVATE KEY", b"BEGIN EC PRIVATE KEY", b"METERHUB-DROP"):
        assert telltale not in data, f"{telltale!r} can be read from the medium"


def test_the_radio_joins_and_readings_are_verified_at_the_head_end(site: Site) -> None:
    wait_for("the radio", lambda: "radio    up" in site.console.ask("meterhub status"), 180, 2)
    site.console.ask("meterhub radio permit --seconds 60")
    wait_for("readings of the boiler", lambda: site.control_point.values("boiler"), 180, 0.5)
    wait_for(
        "readings of the plug", lambda: site.control_point.values("zb-00124b0000000001") or site.clients(), 180, 0.5
    )
    site.no_faults()
