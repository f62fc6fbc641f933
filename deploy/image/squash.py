"""The root file system as one file: squashfs, then its dm-verity hash tree."""

import hashlib
import os
import re
from pathlib import Path

from deploy.image.board import PYTHON
from deploy.image.initramfs import Verity
from deploy.image.shell import BuildError, run

MOST_BYTES = 50_000_000
_BLOCK = 4096
_STARTUP = Path(__file__).parent / "startup.list"
_PYTHON_FOLDERS = (
    f"usr/lib/python{PYTHON}", f"usr/lib/python{PYTHON}/lib-dynload", "usr/lib/python3/dist-packages",
)  # fmt: skip


def startup_files(root: Path) -> list[str]:
    """The files of the modules in startup.list that are in the root, in that order, relative to it."""
    found = []
    for name in _STARTUP.read_text().split("\n"):
        if not name or name.startswith("#"):
            continue
        folder, _, last = name.replace(".", "/").rpartition("/")
        for place in (root / top / folder for top in _PYTHON_FOLDERS):
            for pattern in (f"{last}.pyc", f"{last}/__init__.pyc", f"__pycache__/{last}.*.pyc",
                            f"{last}/__pycache__/__init__.*.pyc", f"{last}.*.so"):  # fmt: skip
                found += [str(path.relative_to(root)) for path in sorted(place.glob(pattern))]
    return list(dict.fromkeys(found))


def make_rootfs(
    root: Path, compression: tuple[str, ...], version: str, epoch_s: int, into: Path
) -> tuple[Path, Verity]:
    """Write squashfs and hash tree into one file. Everything belongs to root; every time is epoch_s, for what unpacked
    and made the files stamped them with the day of the build."""
    into.unlink(missing_ok=True)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)
    # Small files share blocks, and few blocks are kept unpacked: what is read one after the other lies side by side.
    order = into.with_suffix(".order")
    order.write_text("".join(f"{file} {32000 - at}\n" for at, file in enumerate(startup_files(root))))
    run(
        [
            "mksquashfs",
            root,
            into,
            "-quiet",
            "-no-progress",
            "-noappend",
            "-comp",
            *compression,
            "-b",
            "128K",
            "-sort",
            order,
            "-all-root",
            "-no-xattrs",
            "-no-exports",
        ],
        env={"SOURCE_DATE_EPOCH": str(epoch_s)},
    )
    order.unlink()
    size = into.stat().st_size
    if size > MOST_BYTES:
        raise BuildError(f"{into}: {size / 1e6:.1f} MB; the root may have {MOST_BYTES / 1e6:.0f} MB at most")
    with into.open("r+b") as file:
        file.truncate(size + -size % _BLOCK)
    blocks = into.stat().st_size // _BLOCK
    # The salt need not be secret, and a random one would make every build another.
    salt = hashlib.sha256(f"meterhub {version} {epoch_s}".encode()).hexdigest()
    said = run(
        [
            "veritysetup",
            "format",
            "--no-superblock",
            f"--data-blocks={blocks}",
            f"--hash-offset={blocks * _BLOCK}",
            f"--data-block-size={_BLOCK}",
            f"--hash-block-size={_BLOCK}",
            f"--salt={salt}",
            into,
            into,
        ]
    )
    found = re.search(r"Root hash:\s+([0-9a-f]{64})", said)
    if found is None:
        raise BuildError(f"veritysetup said no root hash: {said}")
    return into, Verity(blocks, found.group(1), salt)
