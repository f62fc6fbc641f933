"""What a flash says of its life, read from a tree like the kernel's."""

import os
from pathlib import Path

import pytest

from drivers.flash import LOOK_EVERY_S, FlashLife, FlashWear, bearable_mb, flash_wear


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
    assert flash_wear(tmp_path, tree(tmp_path, said, encrypted=encrypted)) == FlashWear(used, None)


def test_a_machine_that_says_nothing_is_not_worn(tmp_path: Path) -> None:
    assert flash_wear(tmp_path, tmp_path / "none") == flash_wear(tmp_path / "gone") == FlashWear(None, None)


@pytest.mark.parametrize(
    ("said", "told"), [("0x01\n", "normal"), ("0x02\n", "warning"), ("0x03\n", "urgent"), ("0x00\n", None), ("?", None)]
)
def test_the_blocks_in_reserve_are_told_of(tmp_path: Path, said: str, told: str | None) -> None:
    blocks = tree(tmp_path, "0x01 0x01\n", encrypted=True)
    (tmp_path / "sys/devices/mmc0/device/pre_eol_info").write_text(said)
    assert flash_wear(tmp_path, blocks) == FlashWear(10, told)


def test_its_register_is_read_once_a_day(tmp_path: Path) -> None:
    blocks = tree(tmp_path, "0x01 0x01\n")
    life = FlashLife(tmp_path, blocks)
    register = tmp_path / "sys/devices/mmc0/device/life_time"
    assert life.wear(0.0).life_used_percent == 10
    register.write_text("0x09 0x01\n")
    assert life.wear(LOOK_EVERY_S - 1).life_used_percent == 10, "it was read again within the day"
    assert life.wear(LOOK_EVERY_S).life_used_percent == 90
    register.unlink()
    assert life.wear(LOOK_EVERY_S + 1).life_used_percent == 90
    assert life.wear(2 * LOOK_EVERY_S) == FlashWear(None, None)


def test_a_store_leaves_room_for_the_update_that_mends_it(tmp_path: Path) -> None:
    around = os.statvfs(tmp_path)
    total_mb = around.f_blocks * around.f_frsize >> 20
    assert bearable_mb(tmp_path, 0) == total_mb - total_mb // 20
    assert bearable_mb(tmp_path / "not/there/yet", 128) == total_mb - total_mb // 20 - 128
    assert bearable_mb(tmp_path, total_mb) == total_mb // 2, "never less than half"
