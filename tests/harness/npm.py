"""Packages from npm, for the peers that only run in node."""

import shutil
import subprocess
from pathlib import Path

from deploy.one_at_a_time import one_at_a_time

_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]


def install(wanted: Path, place: Path) -> None:
    """Install into `place` what the package.json `wanted` pins; anew only when that file changes."""
    have, stamp = place / "package.json", place / "complete"
    with one_at_a_time(place):
        if stamp.exists() and have.read_bytes() == wanted.read_bytes():
            return
        place.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        shutil.copyfile(wanted, have)
        done = subprocess.run(_INSTALL, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        stamp.touch()
