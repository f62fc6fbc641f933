"""NXP's i.MX6UL EVK, the reference hardware, as QEMU has it: its image from the kernel on (see evk.py).

One story, told in order (see test_story.py).
"""

import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.evk import Evk, find_qemu
from tests.image.harm import ruin, stop_interrupts, write_random
from tests.image.site import HUB_ID, Site
from tests.image.steps import assert_goes_on, bring_up

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]


@pytest.fixture(scope="session")
def qemu() -> str:
    program = find_qemu()
    if program is None:
        pytest.skip("no QEMU here is of 10 or newer (tests/image/evk.py): deploy/setup.sh image")
    return program


@pytest.fixture(scope="module")
def evk(qemu: str, evk_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("evk"), evk_release)
    site.machine = Evk(site.machine.board, site.machine.build, site.machine.run, qemu=qemu)
    site.machine.make()
    yield site
    site.close()


def test_the_hub_is_online_over_the_boards_own_ethernet(evk: Site, capsys: pytest.CaptureFixture[str]) -> None:
    bring_up(evk)
    online_s, cpu_s = evk.online_after_s, evk.online_cpu_s
    log = (evk.folder / "broker/mosquitto.log").read_text(errors="replace")
    assert re.search(rf"u'{HUB_ID}'", log), "the CN of the hub's certificate is its name at mosquitto"
    console = evk.console
    assert console.ask("systemctl --failed --no-legend --plain") == ""
    drivers = console.ask("readlink /sys/class/net/eth*/device/driver /sys/class/block/mmcblk1/device/../../../driver")
    assert {Path(line).name for line in drivers.splitlines()} == {"fec", "sdhci-esdhc-imx"}
    assert console.ask("cat /sys/class/watchdog/watchdog0/identity") == "imx2+ watchdog"
    codes = {condition["code"] for condition in evk.status()["conditions"]}
    assert "data-unencrypted" in codes, "QEMU's model has no fuses, so there is no secret"
    with capsys.disabled():
        rss_mib = evk.status()["process"]["rss_bytes"] / 1048576
        figures = f"{online_s:.0f} s to online without U-Boot, {cpu_s:.0f} s of CPU; hub {rss_mib:.1f} MiB"
        print(f"\nimx6ul-evk: {figures}; load {os.getloadavg()[0]:.1f}")
    evk.assert_nothing_missing()


def test_the_socs_watchdog_resets_a_kernel_without_interrupts(evk: Site) -> None:
    known = len(evk.states())
    mark = stop_interrupts(evk)
    evk.wait_online(known, timeout_s=600)
    evk.console.log_in(mark)
    said = evk.console.since(mark)
    assert "panic" not in said and "reboot:" not in said, "something else than the watchdog ended it"
    assert_goes_on(evk)


def test_a_card_writes_the_slots_anew_and_the_hub_is_the_same(
    evk: Site, evk_release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What U-Boot does before (tests/image/test_recovery.py) is said on the kernel's command line."""
    evk.console.ask("sync")
    evk.power_off()
    ruin(evk, "rootfs-A")
    ruin(evk, "rootfs-B")
    write_random(evk.machine.disk, 0, 64 << 10)
    card = evk.folder / "card.img"
    subprocess.run(["cp", "--sparse=always", evk_release / "disk.img", card], check=True)
    board, before = evk.machine, evk.states()[-1]
    assert isinstance(board, Evk)
    evk.machine = dataclasses.replace(board, card=card, chosen="rauc.slot=A hub.recover")
    mark = evk.power_on()
    evk.console.wait_text("recovery is done", mark, timeout_s=1200)
    taken_s = time.monotonic() - evk.powered_at
    evk.power_off()
    evk.machine = board
    known = len(evk.states())
    mark = evk.power_on()
    state = evk.wait_online(known, timeout_s=600)
    assert state["epoch"] == before["epoch"]
    evk.console.log_in(mark)
    with capsys.disabled():
        figures = f"a later boot {evk.online_after_s:.0f} s, {evk.online_cpu_s:.0f} s of CPU"
        print(f"\nimx6ul-evk: the card's turn {taken_s:.0f} s; {figures}; load {os.getloadavg()[0]:.1f}")
    assert_goes_on(evk)
