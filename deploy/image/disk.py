"""The layout of the medium, and the image that the factory writes.

0        4 MiB       8 MiB             12 MiB                                     4 MiB before the end
GPT  |  U-Boot's environment, twice  |  kernel-A kernel-B rootfs-A rootfs-B data  |  the GPT's copy

No two of these share an erase unit of the flash (docs/decisions/environment.md).
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

from deploy.image.board import Board
from deploy.image.shell import BuildError, run

MIB = 1 << 20
SECTOR = 512
_TABLE_BYTES = 34 * SECTOR  # UEFI 2.10, 5.3: MBR, header, 128 entries of 128 bytes
# What a flash may lose at once when power goes while it writes to a part of it: each thing here has such units alone.
GROUP = 4 * MIB
ENV_OFFSETS, ENV_BYTES = (GROUP, 2 * GROUP), 0x4000
SLOTS_OFFSET = 3 * GROUP
KERNEL_MB, ROOTFS_MB = 16, 96
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
_NAMESPACE = uuid.UUID("6f8f7f3c-5f0e-4d0b-9c55-6d2f1f6b9b1e")
INITIAL_ENVIRONMENT = "BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=3\nBOOT_ROUND=0\nHUB_INDEX=0\n"


@dataclass(frozen=True)
class Partition:
    """One partition; bytes from the start of the medium."""

    name: str
    start: int
    size: int


def layout(size_mb: int) -> list[Partition]:
    """The partitions of a medium, the last takes what is left. Raises BuildError when that is too little for data."""
    sizes = [("kernel-A", KERNEL_MB), ("kernel-B", KERNEL_MB), ("rootfs-A", ROOTFS_MB), ("rootfs-B", ROOTFS_MB)]
    left = size_mb - (SLOTS_OFFSET + GROUP) // MIB - sum(mb for _, mb in sizes)
    if left < 128:
        raise BuildError(f"a medium of {size_mb} MB leaves {left} MB for data; at least 128 are needed")
    start, found = SLOTS_OFFSET, []
    for name, mb in [*sizes, ("data", left)]:
        found.append(Partition(name, start, mb * MIB))
        start += mb * MIB
    return found


def find_partition(size_mb: int, name: str) -> Partition:
    """A partition by its name."""
    return next(partition for partition in layout(size_mb) if partition.name == name)


def fw_env_config(device: str) -> str:
    """Where Linux's tools find U-Boot's environment, as libubootenv reads it: device, offset, size, a line a copy."""
    return "".join(f"{device} {offset:#x} {ENV_BYTES:#x}\n" for offset in ENV_OFFSETS)


def uboot_settings() -> str:
    """The same for U-Boot, in Kconfig's words."""
    first, second = ENV_OFFSETS
    return f"CONFIG_ENV_OFFSET={first:#x}\nCONFIG_ENV_OFFSET_REDUND={second:#x}\nCONFIG_ENV_SIZE={ENV_BYTES:#x}\n"


def make_disk(board: Board, fit: Path, rootfs: Path, work: Path, into: Path) -> Path:
    """Write the medium's image: both slots the same, so that there is something to fall back to from the first day."""
    size_mb = board.disk["size_mb"]
    partitions = layout(size_mb)
    into.unlink(missing_ok=True)
    with into.open("wb") as image:
        image.truncate(size_mb * MIB)
    run(["sfdisk", "--quiet", into], stdin=_table(board, partitions).encode())
    contents = {"kernel-A": fit, "kernel-B": fit, "rootfs-A": rootfs, "rootfs-B": rootfs}
    environment = _environment(work)
    with into.open("r+b") as image:
        for offset in ENV_OFFSETS:
            image.seek(offset)
            image.write(environment)
        for partition in partitions:
            if partition.name in contents:
                content = contents[partition.name].read_bytes()
                if len(content) > partition.size:
                    raise BuildError(f"{contents[partition.name]}: {len(content)} bytes do not fit {partition.name}")
                image.seek(partition.start)
                image.write(content)
    return into


def partition_table(board: Board, work: Path) -> bytes:
    """The first sectors of the medium: protective MBR, GPT and its entries, as `make_disk` writes them."""
    medium = work / "table.img"
    with medium.open("wb") as image:
        image.truncate(board.disk["size_mb"] * MIB)
    run(["sfdisk", "--quiet", medium], stdin=_table(board, layout(board.disk["size_mb"])).encode())
    with medium.open("rb") as image:
        table = image.read(_TABLE_BYTES)
    medium.unlink()
    return table


def _table(board: Board, partitions: list[Partition]) -> str:
    """sfdisk's script; every identifier follows from names, so that the image is reproducible."""
    lines = ["label: gpt", f"label-id: {uuid.uuid5(_NAMESPACE, board.name)}", "first-lba: 2048", "unit: sectors", ""]
    for part in partitions:
        identity = uuid.uuid5(_NAMESPACE, f"{board.name}/{part.name}")
        start, size = part.start // SECTOR, part.size // SECTOR
        lines.append(f'start={start}, size={size}, type={_LINUX}, uuid={identity}, name="{part.name}"')
    return "\n".join(lines) + "\n"


def _environment(work: Path) -> bytes:
    source, made = work / "env.txt", work / "env.bin"
    source.write_text(INITIAL_ENVIRONMENT)
    run(["mkenvimage", "-r", "-s", str(ENV_BYTES), "-o", made, source])
    return made.read_bytes()
