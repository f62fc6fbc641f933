"""A board without U-Boot and without the hub: the real kernel, the real initramfs, a root of a few programs that says
what it finds. One start takes ten seconds, and its disk can have bad blocks.

The disk is behind NVMe, because QEMU's SD cards keep read errors to themselves; which blocks are bad QEMU's `blkdebug`
is told. Everything else is the board's: device mapper, ext4, e2fsck, the chip's secret in the second flash bank.
"""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.image.board import Board, load_board
from deploy.image.debs import fetch
from deploy.image.disk import MIB, find_partition, partition_table
from deploy.image.drop import put_drop
from deploy.image.elf import needed_libraries
from deploy.image.initramfs import make_initramfs
from deploy.image.squash import make_rootfs
from tests.harness.waiting import wait_for
from tests.image.console import Console

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build/cache"
EPOCH_S = 1_790_000_000
SECTOR = 512
_PACKAGES = (
    "e2fsprogs", "libext2fs", "libcom-err", "libss2", "libblkid", "libuuid", "libc6", "dmsetup", "libdevmapper",
    "libselinux", "libudev", "libpcre2", "libgcc", "libcap2",
)  # fmt: skip
_PROGRAMS = ("mke2fs", "e2fsck", "badblocks", "e2label", "tune2fs", "dmsetup")
# What stands in systemd's place: it is reached, and a shell can be asked.
_SYSTEM = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
PATH=/bin:/sbin
export PATH
echo "the system is reached, slot $(sed 's/.*rauc.slot=//; s/ .*//' /proc/cmdline)"
cd /
exec setsid sh -c 'exec sh -i </dev/console >/dev/console 2>&1'
"""
_NAMELESS = """#!/bin/busybox sh
/bin/busybox mkdir -p "$1"
echo "nameless, radio $2" | /bin/busybox tee "$1/hub.toml"
"""


@dataclass(frozen=True)
class BareParts:
    """What a bare board starts from; made once."""

    board: Board
    kernel: Path
    initramfs: Path
    rootfs: Path


def make_parts(work: Path, index: int = 1) -> BareParts:
    """Put the parts together out of the locked packages. index: the rollback index that the initramfs is told."""
    plain = load_board("qemu-virt-armhf")
    modules = [*plain.kernel["modules"], "nvme"]
    board = replace(
        plain, kernel=plain.kernel | {"modules": modules}, disk=plain.disk | {"device": "nvme0n1", "card": "nvme1n1"}
    )
    files = fetch(plain, CACHE)
    kernel, boot, whole, root = work / "kernel", work / "boot", work / "whole", work / "root"
    for package, path in files.items():
        into = {"kernel": kernel, "boot": boot}.get(package.section)
        if into is None and package.name.startswith(_PACKAGES):
            into = whole
        if into is not None:
            subprocess.run(["dpkg-deb", "-x", path, into], check=True)
    for name in ("lib", "sbin", "bin"):  # as the build's merged root has it
        if (whole / name).is_dir() and not (whole / name).is_symlink():
            shutil.copytree(whole / name, whole / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(whole / name)
            (whole / name).symlink_to(f"usr/{name}")
    busybox = boot / "usr/bin/busybox"
    for folder in ("bin", "usr/sbin", "lib/systemd", "usr/lib/meterhub", "data", "var", "tmp", "run", "dev", "proc",
                   "sys", "etc/meterhub"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    (root / "sbin").symlink_to("usr/sbin")
    (root / "etc/machine-id").touch()
    shutil.copy(busybox, root / "bin/busybox")
    applets = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in {*applets} - {"busybox"}:
        (root / "bin" / applet).symlink_to("busybox")
    for name in _PROGRAMS:
        program = (whole / "usr/sbin" / name).resolve()
        shutil.copy(program, root / "usr/sbin" / name)
        for place, library in needed_libraries(program, whole).items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / place)
    for place, text in (("lib/systemd/systemd", _SYSTEM), ("usr/lib/meterhub/nameless", _NAMELESS)):
        (root / place).write_text(text)
        (root / place).chmod(0o755)
    rootfs, verity = make_rootfs(root, board.architecture.compression, "1.0.0", EPOCH_S, work / "rootfs.img")
    initramfs = make_initramfs(board, whole, busybox, kernel, verity, "1.0.0", EPOCH_S, work / "initramfs")
    return BareParts(board, next((kernel / "boot").glob("vmlinuz-*")), initramfs, rootfs)


class BareBoard:
    """One board; what it keeps is in `folder`. `bad`: sectors of the disk that cannot be read (`bad_once`: only the
    first time), `unwritable`: ... written; `is_read_only`: none can be written."""

    def __init__(self, folder: Path, parts: BareParts) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.parts = folder, parts
        self.disk = folder / "disk.img"
        size_mb = parts.board.disk["size_mb"]
        with self.disk.open("wb") as file:
            file.truncate(size_mb * MIB)
            file.write(partition_table(parts.board, folder))
            for name in ("rootfs-A", "rootfs-B"):
                file.seek(find_partition(size_mb, name).start)
                file.write(parts.rootfs.read_bytes())
        self.data_at = find_partition(size_mb, "data").start
        with (folder / "fuses.img").open("wb") as file:
            file.write(secrets.token_bytes(32))
            file.truncate(64 << 20)
        self.bad: list[int] = []
        self.bad_once: list[int] = []
        self.unwritable: list[int] = []
        self.is_read_only = False
        self.console = Console(folder / "console.sock", folder / "console.log")
        self._qemu: subprocess.Popen[bytes] | None = None

    def provision(self) -> None:
        """The factory's drop: one file of each kind."""
        device = self.folder / "device"
        (device / "etc-meterhub").mkdir(parents=True, exist_ok=True)
        (device / "etc-meterhub/hub.toml").write_text('[uplink]\nhost = "broker.example"\n')
        (device / "meterhub").mkdir(exist_ok=True)
        (device / "meterhub/network").write_text("the home's network")
        put_drop(self.disk, device)

    def power_on(self, slot: str = "A", index: int = 0) -> int:
        """Start; returns a mark of the console."""
        mark = self.console.mark()
        words = ["qemu-system-arm", "-machine", "virt,highmem=off,gic-version=2", "-cpu", "cortex-a7", "-smp", "2",
                 "-m", "256", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
                 "-chardev", f"socket,path={self.console.path},id=console", "-serial", "chardev:console",
                 "-kernel", str(self.parts.kernel), "-initrd", str(self.parts.initramfs), "-append",
                 f"console=ttyAMA0 panic=1 quiet cryptomgr.notests=1 gpt rauc.slot={slot} hub.index={index}",
                 "-drive", f"if=pflash,unit=1,format=raw,readonly=on,file={self.folder / 'fuses.img'}",
                 "-blockdev", json.dumps(self._disk()), "-device", "nvme,serial=1,drive=disk"]  # fmt: skip
        log = (self.folder / "qemu.log").open("ab")
        self._qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        return mark

    def _disk(self) -> dict[str, object]:
        file = {"driver": "file", "filename": str(self.disk)}
        errors = [
            {"event": "none", "iotype": iotype, "errno": 5, "sector": sector, "once": once, "immediately": False}
            for sectors, iotype, once in (
                (self.bad, "read", False), (self.bad_once, "read", True), (self.unwritable, "write", False),
            ) for sector in sectors
        ]  # fmt: skip
        if self.is_read_only:  # as a flash at its end: it takes a command to write, and fails it
            errors.append({"event": "none", "iotype": "write", "errno": 5})
        plain: dict[str, object] = {"driver": "blkdebug", "node-name": "disk", "image": file}
        return plain | {"inject-error": errors} if errors else plain

    def start(self, slot: str = "A", index: int = 0) -> str:
        """Start and wait for the system; what the console said until then."""
        mark = self.power_on(slot, index)
        wait_for("the system", lambda: "the system is reached" in self.console.since(mark) or self.is_off, 240, 0.2)
        said = self.console.since(mark)
        assert "the system is reached" in said, said
        self.console.wait_text("# ", mark + said.index("the system is reached"))
        return self.console.since(mark)

    def wait_off(self, mark: int) -> str:
        """Wait until the board has asked for a restart; what the console said until then."""
        wait_for("the board to start anew", lambda: self.is_off, 240, 0.2)
        return self.console.since(mark)

    @property
    def is_off(self) -> bool:
        return self._qemu is None or self._qemu.poll() is not None

    def facts(self) -> dict[str, str]:
        """What the initramfs has told the hub."""
        lines = self.console.ask("cat /run/meterhub-slots/board").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def power_off(self) -> None:
        """Pull the plug."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def stop(self) -> None:
        """Let the file system be whole, then pull the plug."""
        self.console.ask("sync; umount /etc/meterhub /etc/machine-id /var/lib/meterhub; umount /data; sync")
        self.power_off()

    def sectors(self, offset: int, count: int) -> Iterable[int]:
        """The numbers of sectors from a place of the data partition on."""
        first = (self.data_at + offset) // SECTOR
        return range(first, first + count)

    def write(self, offset: int, data: bytes) -> None:
        """Onto the data partition, while the board is off."""
        with self.disk.open("r+b") as file:
            file.seek(self.data_at + offset)
            file.write(data)

    def read(self, offset: int, size: int) -> bytes:
        """From the data partition."""
        with self.disk.open("rb") as file:
            file.seek(self.data_at + offset)
            return file.read(size)

    def close(self) -> None:
        """End it."""
        self.power_off()
        self.console.close()
