"""A board whose slots are both ruined is brought back with a card, and is the hub of before (deploy/field/README.md).

One story, told in order (see test_story.py).
"""

import dataclasses
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.image.disk import MIB, SLOTS_OFFSET, find_partition
from deploy.image.drop import DATA_OFFSET, put_drop
from tests.image.harm import ruin, write_random
from tests.image.site import HUB_ID, Site
from tests.image.steps import assert_goes_on, bring_up, wait_for_good_slot

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]

_NOTHING_LEFT = "no slot left to try"
_DONE = "recovery is done"


@pytest.fixture(scope="module")
def card(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card as the engineer writes it: the board's image."""
    card = tmp_path_factory.mktemp("card") / "card.img"
    subprocess.run(["cp", "--sparse=always", release / "disk.img", card], check=True)
    return card


def put_card(site: Site, card: Path | None) -> None:
    """Into the slot, or out of it: while the board is without power."""
    site.machine = dataclasses.replace(site.machine, card=card)


def digest_of_slots(medium: Path, size_mb: int) -> str:
    """Of everything between the environment and the data partition."""
    with medium.open("rb") as file:
        file.seek(SLOTS_OFFSET)
        return hashlib.sha256(file.read(find_partition(size_mb, "data").start - SLOTS_OFFSET)).hexdigest()


def test_a_home_is_there(short_site: Site) -> None:
    bring_up(short_site)
    (short_site.folder / "network").write_text(str(short_site.status()["radio"]["pan_id"]))
    short_site.console.ask("sync")
    short_site.power_off()


def test_without_a_card_a_ruined_board_only_tries(short_site: Site) -> None:
    for name in ("kernel-A", "kernel-B", "rootfs-A", "rootfs-B"):
        ruin(short_site, name)
    mark = short_site.power_on()
    short_site.console.wait_text(_NOTHING_LEFT, mark, timeout_s=300)
    short_site.power_off()


def test_a_card_with_a_changed_kernel_or_a_changed_root_writes_nothing(short_site: Site, card: Path) -> None:
    size_mb = short_site.machine.board.disk["size_mb"]
    before = digest_of_slots(short_site.machine.disk, size_mb)
    kernel, root = find_partition(size_mb, "kernel-A"), find_partition(size_mb, "rootfs-A")
    changes = ((kernel.start + 2 * MIB, 1, "Bad Data Hash"), (root.start + 8 * MIB, MIB, "is corrupted"))
    for start, size, sign in changes:
        changed = card.with_name("changed.img")
        subprocess.run(["cp", "--sparse=always", card, changed], check=True)
        with changed.open("r+b") as file:
            file.seek(start)
            old = file.read(size)
            file.seek(start)
            file.write(bytes(byte ^ 1 for byte in old))
        put_card(short_site, changed)
        mark = short_site.power_on()
        short_site.console.wait_text(_NOTHING_LEFT, mark, timeout_s=300)
        short_site.console.wait_text("the card in mmc", mark, timeout_s=300)
        short_site.console.wait_text(sign, mark, timeout_s=300)
        again = short_site.console.mark()
        short_site.console.wait_text("U-Boot", again, timeout_s=300)
        short_site.power_off()
        assert _DONE not in short_site.console.since(mark)
        assert digest_of_slots(short_site.machine.disk, size_mb) == before, "the disk was written to"


def test_the_card_brings_the_same_hub_back(short_site: Site, card: Path) -> None:
    """The partition table and the file system's first block are gone as well: what can be read still counts."""
    site = short_site
    write_random(site.machine.disk, 0, 64 << 10)
    ruin(site, "data", start=DATA_OFFSET, size=4096)
    whole = hashlib.sha256(card.read_bytes()).hexdigest()
    put_card(site, card)
    known = len(site.states())
    mark = site.power_on()
    state = site.wait_online(known, timeout_s=900)
    assert state["boot"] == 2 and state["epoch"] == site.states()[0]["epoch"], "the hub is not the one of before"
    site.console.log_in(mark)
    said = site.console.since(mark)
    assert _DONE in said and re.findall(r"^slot (\w)$", said, re.MULTILINE)[-2:] == ["A", "A"]
    assert "hub.index=1" in site.console.ask("cat /proc/cmdline"), "the card took back what this board had accepted"
    assert hashlib.sha256(card.read_bytes()).hexdigest() == whole, "a card serves many boards: it is only read"
    assert_goes_on(site)
    wait_for_good_slot(site)
    assert str(site.status()["radio"]["pan_id"]) == (site.folder / "network").read_text()


def test_the_card_is_not_needed_any_more(short_site: Site, card: Path) -> None:
    site = short_site
    site.console.ask("sync")
    site.power_off()
    size_mb = site.machine.board.disk["size_mb"]
    assert digest_of_slots(site.machine.disk, size_mb) == digest_of_slots(card, size_mb)
    put_card(site, None)
    known = len(site.states())
    mark = site.power_on()
    assert site.wait_online(known, timeout_s=400)["boot"] == 3
    site.console.log_in(mark)
    assert re.findall(r"^slot (\w)$", site.console.since(mark), re.MULTILINE) == ["A"]
    assert_goes_on(site)


@pytest.fixture(scope="module")
def own_card(short_site: Site, card: Path) -> Path:
    """A card for this hub alone: the station has provisioned it anew, under its old name.

    The last epoch that the utility knows is in the drop.
    """
    device = short_site.folder / "anew"
    shutil.copytree(short_site.lot.device(HUB_ID), device)
    (device / "meterhub/epoch").write_text(f"epoch {short_site.states()[-1]['epoch']} closed\n")
    own = card.with_name("own.img")
    subprocess.run(["cp", "--sparse=always", card, own], check=True)
    put_drop(own, device)
    return own


def test_an_identity_that_is_lost_comes_from_the_card_and_the_readings_stay(short_site: Site, own_card: Path) -> None:
    site, before = short_site, short_site.states()[-1]
    site.console.ask("rm -r /data/etc-meterhub/*; sync")
    site.power_off()
    ruin(site, "kernel-A")
    ruin(site, "kernel-B")
    put_card(site, own_card)
    known = len(site.states())
    mark = site.power_on()
    state = site.wait_online(known, timeout_s=900)
    assert (state["epoch"], state["boot"]) == (before["epoch"], int(str(before["boot"])) + 1), "the store is another"
    assert "is kept" in site.console.since(mark)
    site.console.log_in(mark)
    assert_goes_on(site)


def test_a_card_with_an_identity_brings_back_a_board_that_has_lost_everything(short_site: Site, own_card: Path) -> None:
    site = short_site
    site.power_off()
    old = int(str(site.states()[-1]["epoch"]))
    for name in ("kernel-A", "kernel-B", "rootfs-A", "rootfs-B"):
        ruin(site, name, size=16 * MIB)
    ruin(site, "data", size=DATA_OFFSET)
    put_card(site, own_card)
    known = len(site.states())
    mark = site.power_on()
    state = site.wait_online(known, timeout_s=900)
    assert state["epoch"] == old + 1, "numbers of the old epoch may not be given twice"
    assert "the data partition is lost" in site.console.since(mark)
    site.console.log_in(mark)
    site.assert_nothing_missing()
