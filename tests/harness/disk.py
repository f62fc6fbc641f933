"""A disk of its own: a small one in memory, that is soon full; an ext4 image on a loop device, that can lose its power,
with or without encryption (fscrypt).
"""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE_MB = 24
# mkfs, losetup: not on an ordinary user's path
_ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
# include/uapi/linux/fscrypt.h
_SET_POLICY, _ADD_KEY = 0x800C6613, 0xC0506617
_AES_256_XTS, _AES_256_CTS, _PAD_32, _BY_IDENTIFIER = 1, 4, 3, 2


@contextmanager
def tmpfs(folder: Path, size_mb: int) -> Iterator[Path]:
    """A tmpfs of `size_mb` on the new `folder`. Skips the test where this process may not mount one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"not even root may mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def why_no_loop_device() -> str:
    """Why LoopDisk cannot be had on this machine; empty where it can."""
    if os.geteuid() != 0:
        return "mounting a loop device needs root"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    return f"this machine lends no loop device: {found.stderr.strip()}" if found.returncode else ""


def fill(file: Path) -> None:
    """Let a file take all the space that is left on its disk."""
    with file.open("ab", buffering=0) as ballast:
        for size in (65536, 4096):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                continue


class LoopDisk:
    """`folder`: where the store may live on it. Needs root. Raises CalledProcessError when it cannot be mounted."""

    def __init__(self, place: Path, key: bytes | None = None) -> None:
        self.image, self.mount = place / "disk.img", place / "mnt"
        self._key = key
        place.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self.mount / "data"

    def make(self) -> "LoopDisk":
        """A new file system, mounted; with a key, `folder` is encrypted."""
        with self.image.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-b", "4096", "-O", "encrypt" if self._key else "^encrypt", str(self.image))
        self._mount()
        self.folder.mkdir()
        if self._key is not None:
            identifier = self._add_key(self._key)
            policy = struct.pack("<BBBB4x16s", 2, _AES_256_XTS, _AES_256_CTS, _PAD_32, identifier)
            _ioctl(self.folder, _SET_POLICY, policy)
        return self

    def after_a_cut(self, place: Path) -> "LoopDisk":
        """The disk as it is now, on another machine: copied, and its journal played back by mounting it. Whoever
        writes to this one must stand still (SIGSTOP): a copy of a moving disk is no state that it ever had."""
        other = LoopDisk(place, self._key)
        shutil.copyfile(self.image, other.image)
        other._mount()
        if self._key is not None:
            other._add_key(self._key)
        return other

    def unmount(self) -> None:
        _run("umount", str(self.mount))

    def _mount(self) -> None:
        self.mount.mkdir(exist_ok=True)
        _run("mount", "-o", "loop", str(self.image), str(self.mount))

    def _add_key(self, key: bytes) -> bytes:
        spec = struct.pack("<II32x", _BY_IDENTIFIER, 0)
        answer = _ioctl(self.mount, _ADD_KEY, spec + struct.pack("<II32x", len(key), 0) + key)
        return answer[8:24]


def _ioctl(folder: Path, request: int, argument: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(argument, len(argument))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, request, buffer)
    finally:
        os.close(descriptor)
    return buffer.raw


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env=_ENVIRONMENT)
