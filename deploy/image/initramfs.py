"""The initramfs: busybox, dmsetup, the kernel's modules this board needs, and init. It travels in the signed FIT."""

import gzip
import io
import lzma
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.image.board import Board
from deploy.image.disk import MIB, SLOTS_OFFSET, find_partition, partition_table
from deploy.image.elf import needed_libraries
from deploy.image.shell import BuildError, run

HERE = Path(__file__).parent
# Every board's: the root (verity, squashfs), the data (crypt, ext4), RAUC's loop device; the packet filter
# (files/etc/nftables.conf), since the root can load none.
FILTER_MODULES = ("nf_tables", "nft_ct", "nft_limit", "nf_conntrack")
_MODULES = ("dm-mod", "dm-verity", "dm-crypt", "loop", "squashfs", "ext4", "crc32c_generic", *FILTER_MODULES)


@dataclass(frozen=True)
class Verity:
    """What dm-verity needs to know of a root file system. Blocks are of 4096 bytes."""

    blocks: int
    root_hash: str
    salt: str

    def table(self) -> str:
        """A device-mapper table with DEV for the device; a bad block restarts the board."""
        return (
            f"0 {self.blocks * 8} verity 1 DEV DEV 4096 4096 {self.blocks} {self.blocks} sha256 "
            f"{self.root_hash} {self.salt} 1 restart_on_corruption"
        )


def load_order(kernel: Path, names: Iterable[str]) -> list[Path]:
    """The files of these modules and of all they need, each after what it needs. kernel: lib/modules/VERSION."""
    needs: dict[str, list[str]] = {}
    for line in (kernel / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
    by_name = {_module_name(file): file for file in needs}
    builtin = {_module_name(line) for line in (kernel / "modules.builtin").read_text().splitlines()}
    order: list[str] = []

    def add(file: str) -> None:
        for other in reversed(needs[file]):
            if other not in order:
                add(other)
        if file not in order:
            order.append(file)

    for name in names:
        plain = name.replace("-", "_")
        if plain in by_name:
            add(by_name[plain])
        elif plain not in builtin:
            raise BuildError(f"the kernel of {kernel} has no module {name}")
    return [kernel / file for file in order]


def _module_name(file: str) -> str:
    return Path(file).name.partition(".ko")[0].replace("-", "_")


def _plain_name(file: Path) -> str:
    """Without the compression that Debian's modules have: busybox's insmod takes none, and the whole is compressed."""
    return file.name.removesuffix(".xz")


class Cpio:
    """A newc archive whose bytes depend on its content alone."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 0
        self._folders: set[str] = set()

    def add(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """A file, and the folders above it."""
        for parent in reversed(Path(name).parents):
            if str(parent) not in (".", *self._folders):
                self._folders.add(str(parent))
                self._entry(str(parent), b"", stat.S_IFDIR | 0o755)
        self._entry(name, content, stat.S_IFREG | mode)

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._entry(name, target.encode(), stat.S_IFLNK | 0o777)

    def _entry(self, name: str, content: bytes, mode: int) -> None:
        self._inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        self._pad()
        self._out.write(content)
        self._pad()

    def _pad(self) -> None:
        self._out.write(b"\0" * (-self._out.tell() % 4))

    def close(self) -> bytes:
        """The whole archive."""
        self._entry("TRAILER!!!", b"", 0)
        return self._out.getvalue()


def make_initramfs(
    board: Board,
    root: Path,
    busybox: Path,
    kernel: Path,
    verity: Verity,
    version: str,
    clock_s: int,
    into: Path,
    is_closed: bool = True,
) -> Path:
    """Write the compressed initramfs.

    root: the root file system (for dmsetup and its libraries); kernel: where the kernel's package is unpacked;
    version: the image's; clock_s: UTC seconds before which no clock of the board can be right; is_closed: nobody is to
    reach into its kernel.
    """
    if not (kernel / "lib").exists():
        (kernel / "lib").symlink_to("usr/lib")  # where Debian 13's kernels are, and depmod looks
    modules = next((kernel / "lib/modules").iterdir())
    run(["depmod", "-b", kernel, modules.name])
    archive = Cpio()
    archive.add("init", (HERE / "initramfs/init").read_bytes(), 0o755)
    for name in ("data.sh", "recover.sh"):
        archive.add(name, (HERE / "initramfs" / name).read_bytes())
    archive.add("hub.conf", _settings(board, verity, version, clock_s, rollback_index(), is_closed).encode())
    archive.add("table", partition_table(board, into.parent))
    archive.add("bin/busybox", busybox.read_bytes(), 0o755)
    order = load_order(modules, (*board.kernel["modules"], *_MODULES))
    for file in order:
        content = file.read_bytes()
        archive.add(f"modules/{_plain_name(file)}", lzma.decompress(content) if file.suffix == ".xz" else content)
    archive.add("modules/order", "".join(f"{_plain_name(file)}\n" for file in order).encode())
    archive.add("bin/dmsetup", (root / "usr/sbin/dmsetup").read_bytes(), 0o755)
    for name, library in needed_libraries(root / "usr/sbin/dmsetup", root).items():
        archive.add(name, library.read_bytes(), 0o755)
    into.write_bytes(gzip.compress(archive.close(), 9, mtime=0))
    return into


def rollback_index() -> int:
    """Of this release: raised by hand, in rollback-index, with a release that closes what older ones leave open."""
    return int((HERE / "rollback-index").read_text("ascii"))


def _settings(board: Board, verity: Verity, version: str, clock_s: int, index: int, is_closed: bool) -> str:
    values = {
        "DISK": board.disk["device"],
        "CARD": board.disk["card"],
        "SLOTS_MB": SLOTS_OFFSET // MIB,
        "SYSTEM_MB": find_partition(board.disk["size_mb"], "data").start // MIB,
        "CLOCK": clock_s,
        "IMAGE": version,
        "INDEX": index,
        "VERITY": verity.table(),
        "CIPHER": board.data["cipher"],
        "KEY_BYTES": board.data["key_bytes"],
        "SECRET": board.data["secret"],
        "RADIO": board.radio,
        "CLOSED": int(is_closed),
    }
    return "".join(f"{key}='{value}'\n" for key, value in values.items())
