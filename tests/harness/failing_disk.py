"""A disk that fails or is slow, for one process (diskfault.c, preloaded). The machine's own is left alone."""

import struct
import subprocess
from pathlib import Path


class FailingDisk:
    """For what is written under `folder` by a process that has `env`."""

    def __init__(self, place: Path, folder: Path) -> None:
        library, self._file = place / "diskfault.so", place / "diskfault"
        source = Path(__file__).with_name("diskfault.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        self.heal()
        self.env = {"LD_PRELOAD": str(library), "DISKFAULT": str(self._file), "DISKFAULT_UNDER": str(folder)}

    def _say(self, error: int, sync_ms: int, write_bytes: int = 0) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=iii", error, sync_ms, write_bytes))

    def fail(self, error: int) -> None:
        """Each write and sync fails with this errno from now on."""
        self._say(error, 0)

    def slow(self, sync_ms: int) -> None:
        """Each sync takes so long."""
        self._say(0, sync_ms)

    def shorten(self, write_bytes: int) -> None:
        """Each write takes so many bytes at most, and says so."""
        self._say(0, 0, write_bytes)

    def heal(self) -> None:
        self._say(0, 0)
