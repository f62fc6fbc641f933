"""The base of a board's first update: listed by the build, put together by the first boot's own script."""

import hashlib
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.image.base import make_base
from deploy.image.drop import DROP_OFFSET, pack, put_drop
from deploy.image.shell import BuildError
from deploy.update_index import write_index

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/image/initramfs/data.sh"


class Parts:
    """Two slots and a bundle of them, as RAUC makes it: something before, between and after."""

    def __init__(self, folder: Path) -> None:
        chance = random.Random(7)
        self.folder = folder
        self.fit, self.rootfs, self.bundle = folder / "fit", folder / "rootfs", folder / "b.raucb"
        self.fit.write_bytes(chance.randbytes(400_000))
        self.rootfs.write_bytes(chance.randbytes(2_000_000))
        between = [chance.randbytes(size) for size in (9_000, 50, 60_000)]
        self.bundle.write_bytes(
            between[0] + self.fit.read_bytes() + between[1] + self.rootfs.read_bytes() + between[2]
        )  # fmt: skip
        self.base = make_base(self.bundle, write_index(self.bundle), self.fit, self.rootfs, folder / "base.tar")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def first_boot(parts: Parts) -> Path:
    """make_base of the initramfs' script, its devices and its folder in `parts`; the folder of updates."""
    function = re.search(r"^make_base\(\) \{.*?^\}$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert function
    root = parts.folder / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", str(parts.base), "-C", str(root)], check=True)  # as the factory's script does
    text = function[0].replace("/root/data/meterhub/update", str(root / "meterhub/update"))
    text = text.replace("/dev/${DISK}p1", str(parts.fit)).replace("/dev/${DISK}p3", str(parts.rootfs))
    script = f'say() {{ echo "$*"; }}\nchown() {{ :; }}\n{text}\nmake_base\n'
    subprocess.run(["/bin/sh", "-c", script], check=True)
    return root / "meterhub/update"


def test_what_the_slots_have_is_not_brought_twice(parts: Parts) -> None:
    brought = parts.base.stat().st_size
    assert 69_000 < brought < 600_000, "what is in the bundle alone, and the chunks on the edges"
    again = make_base(
        parts.bundle, Path(f"{parts.bundle}.idx"), parts.fit, parts.rootfs, parts.folder / "again.tar"
    )  # fmt: skip
    assert again.read_bytes() == parts.base.read_bytes()


def test_the_first_boot_puts_the_very_bundle_together(parts: Parts) -> None:
    folder = first_boot(parts)
    assert (folder / "base.raucb").read_bytes() == parts.bundle.read_bytes()
    assert (folder / "base.raucb.idx").read_bytes() == Path(f"{parts.bundle}.idx").read_bytes()
    assert sorted(os.listdir(folder)) == ["base.raucb", "base.raucb.idx"]


def test_slots_of_another_release_give_no_base(parts: Parts) -> None:
    raw = bytearray(parts.rootfs.read_bytes())
    raw[1_000_000] ^= 1
    parts.rootfs.write_bytes(raw)
    assert os.listdir(first_boot(parts)) == [], "the first update is fetched whole"


@pytest.mark.skipif(shutil.which("sfdisk", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="fdisk is not here")
def test_a_base_goes_with_the_drop_where_the_medium_has_room(parts: Parts) -> None:
    device = parts.folder / "device"
    (device / "etc-meterhub").mkdir(parents=True)
    (device / "etc-meterhub/hub.toml").write_text("[uplink]\n")
    drop = pack(device, parts.base)
    assert drop == pack(device, parts.base) and hashlib.sha256(drop).digest() != hashlib.sha256(pack(device)).digest()
    table = 'label: gpt\nfirst-lba: 2048\nunit: sectors\nsize={size}, name="data"\n'
    for size_mb, fits in ((200, False), (500, True)):
        medium = parts.folder / f"{size_mb}.img"
        with medium.open("wb") as file:
            file.truncate((size_mb + 2) << 20)
        subprocess.run(
            ["sfdisk", "--quiet", str(medium)], input=table.format(size=size_mb << 11).encode(), check=True,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
        )  # fmt: skip
        if fits:
            put_drop(medium, device, parts.base)
            assert medium.read_bytes()[(1 << 20) + DROP_OFFSET :].startswith(b"METERHUB-DROP-1 ")
        else:
            with pytest.raises(BuildError, match="200 MiB for data; a base wants 448: leave --base out"):
                put_drop(medium, device, parts.base)
