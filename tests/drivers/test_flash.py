"""What a flash says of its life, read from a tree like the kernel's."""

import os
from pathlib import Path

import pytest

from drivers.flash import LOOK_EVERY_S, FlashLife, life_used_percent


def tree(place: Path, said: str, *, encrypted: bool = False) -> Path:
    """/sys of a machine whose `place` is on a partition of an eMMC, under an encryption or not."""
    number = os.stat(place).st_dev
    blocks, disk = place / "sys/dev/block", place / "sys/devices/mmc0"
    blocks.mkdir(parents=True)
    (disk / "mmcblk0p3").mkdir(parents=True)
    (disk / "device").mkdir()
    (disk / "device/life_time").write_text(said)
    below = disk / "mmcblk0p3"
    if encrypted:
        below = place / "sys/devices/dm-0"
        (below / "slaves").mkdir(parents=True)
        (below / "slaves/mmcblk0p3").symlink_to(disk / "mmcblk0p3")
    (blocks / f"{os.major(number)}:{os.minor(number)}").symlink_to(below)
    return blocks


@pytest.mark.parametrize(
    ("said", "used"), [("0x01 0x02\n", 20), ("0x0b 0x01\n", 110), ("0x00 0x00\n", None), ("\xff", None), ("", None)]
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_the_worse_of_both_kinds_of_cells_counts(tmp_path: Path, said: str, used: int | None, encrypted: bool) -> None:
    assert life_used_percent(tmp_path, tree(tmp_path, said, encrypted=encrypted)) == used


def test_a_machine_that_says_nothing_is_not_worn(tmp_path: Path) -> None:
    assert life_used_percent(tmp_path, tmp_path / "none") is None
    assert life_used_percent(tmp_path / "gone") is None


def test_its_register_is_read_once_a_day(tmp_path: Path) -> None:
    blocks = tree(tmp_path, "0x01 0x01\n")
    life = FlashLife(tmp_path, blocks)
    register = tmp_path / "sys/devices/mmc0/device/life_time"
    assert life.used_percent(0.0) == 10
    register.write_text("0x09 0x01\n")
    assert life.used_percent(LOOK_EVERY_S - 1) == 10, "it was read again within the day"
    assert life.used_percent(LOOK_EVERY_S) == 90
    register.unlink()
    assert life.used_percent(LOOK_EVERY_S + 1) == 90 and life.used_percent(2 * LOOK_EVERY_S) is None
