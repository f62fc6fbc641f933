"""A provisioning station's lot, by its command line alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATION = [sys.executable, str(ROOT / "deploy/provision/station.py")]


class Lot:
    """A lot in a folder, by the station's command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passphrase = folder.with_name("passphrase")
        self.passphrase.write_text("correct horse\n")

    def command(self, verb: str, *words: str) -> list[str]:
        secret = [] if verb == "audit" else ["--passphrase-file", str(self.passphrase)]
        return [*STATION, verb, str(self.folder), *secret, *words]

    def call(self, verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.command(verb, *words), capture_output=True, text=True, timeout=900)

    def do(self, verb: str, *words: str) -> str:
        done = self.call(verb, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def device(self, serial: str) -> Path:
        return self.folder / "devices" / serial

    def snapshot(self) -> dict[str, bytes]:
        """Every file of every device."""
        root = self.folder / "devices"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
