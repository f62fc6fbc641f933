"""P6: whether the disk is encrypted. The real thing is in tests/powercut/test_mounted.py (fscrypt)."""

import os
from pathlib import Path

import pytest

from drivers.data_at_rest import encryption_of


def sysfs(root: Path, folder: Path, layers: dict[str, str | None]) -> Path:
    """The part of /sys that tells of `folder`'s device: each layer lies on the next; its dm/uuid, None = no dm."""
    device = os.stat(folder).st_dev
    block = root / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    for name, uuid in layers.items():
        block.mkdir(parents=True)
        if uuid is not None:
            (block / "dm").mkdir()
            (block / "dm" / "uuid").write_text(uuid + "\n")
        (block / "slaves").mkdir()
        block = block / "slaves" / name
    return root


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, None),
        ({"mmcblk0p5": None}, None),
        ({"dm-0": "CRYPT-LUKS2-1f0e-data"}, "dm-crypt"),
        ({"dm-0": "CRYPT-PLAIN-data"}, "dm-crypt"),
        ({"dm-1": "LVM-abcdef", "dm-0": "CRYPT-LUKS2-1f0e-data"}, "dm-crypt"),
        ({"dm-1": "LVM-abcdef", "mmcblk0p5": None}, None),
    ],
)
def test_a_mapped_device_says_who_made_it(tmp_path: Path, layers: dict[str, str | None], expected: str | None) -> None:
    # On a file system that encrypts by itself this folder has no policy: it is not inherited from nowhere.
    assert encryption_of(tmp_path, sysfs(tmp_path / "sys", tmp_path, layers)) == expected


def test_half_of_a_volume_in_the_clear_is_in_the_clear(tmp_path: Path) -> None:
    root = sysfs(tmp_path / "sys", tmp_path, {"dm-1": "LVM-abcdef", "dm-0": "CRYPT-LUKS2-1f0e-data"})
    next(root.glob("dev/block/*/slaves")).joinpath("mmcblk0p6").mkdir()
    assert encryption_of(tmp_path, root) is None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        encryption_of(tmp_path / "gone")
