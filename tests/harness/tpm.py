"""A TPM 2.0: swtpm behind a TCP port, with the three slots of a bare chip, no resource manager."""

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.harness.waiting import free_port, wait_for

MISSING = "" if shutil.which("swtpm") else "swtpm is not here"


class NetworkTpm:
    """One chip, at work since it was made; `tcti(host)` is its name for tpm2-tss."""

    def __init__(self, folder: Path) -> None:
        assert not MISSING, MISSING
        folder.mkdir(parents=True)
        self._folder = folder
        self.port = _two_free_ports()
        self._chip = self._start()

    def tcti(self, host: str) -> str:
        return f"swtpm:host={host},port={self.port}"

    def _start(self) -> "subprocess.Popen[bytes]":
        words = ["--tpmstate", f"dir={self._folder}", "--server", f"type=tcp,port={self.port}"]
        words += ["--ctrl", f"type=tcp,port={self.port + 1}", "--flags", "not-need-init,startup-clear"]
        chip = subprocess.Popen(["swtpm", "socket", "--tpm2", *words])
        wait_for("swtpm", lambda: _listens(self.port + 1))
        return chip

    def power_cut(self) -> None:
        """What a chip loses with its board's power: sessions, keys that were loaded; not what is in its flash. Nobody
        has told it that it would end (TPM2_Shutdown)."""
        self._chip.kill()
        self._chip.wait(10)
        self._chip = self._start()

    def close(self) -> None:
        self._chip.terminate()
        self._chip.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _two_free_ports() -> int:
    """The first of two ports in a row: where a chip is, its control is beside it."""
    while True:
        port = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port
