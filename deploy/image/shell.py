"""Running the tools that an image is made with; a missing one is one clear line."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

# sbin holds mke2fs, sfdisk and veritysetup, and is not on everybody's path.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

# command -> the Debian package that has it
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "veritysetup": "cryptsetup-bin",
    "mkimage": "u-boot-tools",
    "zstd": "zstd",
    "mkenvimage": "u-boot-tools",
    "rauc": "rauc",
    "sfdisk": "fdisk",
    "dtc": "device-tree-compiler",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "dpkg-source": "dpkg-dev",
    "systemd-sysusers": "systemd",
    "systemctl": "systemd",
    "openssl": "openssl",
    "bison": "bison",
    "flex": "flex",
    "bc": "bc",
    "make": "make",
    "gcc": "gcc",
    "xxd": "xxd",
    "qemu-system-arm": "qemu-system-arm",
}


# `make image BOARD=... VERSION=...` hands these on to every make below it, and U-Boot's has a BOARD and a VERSION, too.
_OF_OUR_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "BOARD", "VERSION"}


class BuildError(Exception):
    """The image cannot be built. The text says what, where, and what to do."""


def require_tools(*more: tuple[str, str]) -> None:
    """Raise BuildError that names every Debian package to install, when a tool is missing."""
    wanted = {**TOOLS, **dict(more)}
    missing = sorted({package for tool, package in wanted.items() if not shutil.which(tool, path=_PATH)})
    if missing:
        raise BuildError(f"tools are missing; please type: sudo apt-get install {' '.join(missing)}")


def run(
    arguments: Iterable[object],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run a program to its end and return what it printed. Raises BuildError with the last of its words."""
    words = [str(word) for word in arguments]
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_OUR_MAKE}
    environment = {**inherited, "PATH": _PATH, "LC_ALL": "C", **(env or {})}
    try:
        done = subprocess.run(words, cwd=cwd, env=environment, input=stdin, capture_output=True, check=False)
    except OSError as error:
        raise BuildError(f"{words[0]}: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise BuildError(f"{' '.join(words[:3])}: exit status {done.returncode}: " + "\n".join(said[-12:]))
    return done.stdout.decode(errors="replace")
