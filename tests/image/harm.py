"""What is done to boards: kernels without interrupts, ruined partitions."""

import secrets
from pathlib import Path

from deploy.image.disk import find_partition
from tests.image.site import Site

# Where each board's interrupt controller begins (GICv2's distributor).
_DISTRIBUTOR = {"qemu-virt-armhf": 0x08000000, "qemu-virt-arm64": 0x08000000, "imx6ul-evk": 0x00A01000}


def stop_interrupts(site: Site) -> int:
    """From here on the kernel hears of nothing, its own timer included; returns the console's mark."""
    mark = site.console.mark()
    code = (
        "import mmap,os; f=os.open('/dev/mem',os.O_RDWR|os.O_SYNC); "
        f"memoryview(mmap.mmap(f,4096,offset={_DISTRIBUTOR[site.machine.board.name]})).cast('I')[0]=0"
    )
    site.console.send(f'sync; python3 -c "{code}"')
    return mark


def ruin(site: Site, name: str, *, start: int = 0, size: int | None = None) -> None:
    """Random bytes over a partition of the disk, or over a part of it."""
    partition = find_partition(site.machine.board.disk["size_mb"], name)
    write_random(site.machine.disk, partition.start + start, size or partition.size)


def write_random(medium: Path, start: int, size: int) -> None:
    """Random bytes somewhere on a medium."""
    with medium.open("r+b") as file:
        file.seek(start)
        file.write(secrets.token_bytes(size))
