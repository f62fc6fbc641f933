"""The hub's Python packages for the board: exactly what requirements.lock pins, as wheels of its architecture.

What has no wheel for an architecture is named in locks/wheels-ARCH.txt: another version (pinned by hash as well), or
nothing, because Debian's package brings it.
"""

import re
import sys
import zipfile
from pathlib import Path

from deploy.image.board import PYTHON, Architecture
from deploy.image.shell import BuildError, run

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(==.*(?:\n    .*)*)\n?", re.MULTILINE)
# pip installs nothing on a hub; cffi's compiler side needs pycparser, its run time does not; the rest is unused.
_LEFT_OUT = {"pip", "pycparser", "pywin32", "tzdata"}


def requirements_for(architecture: Architecture, lock: str) -> str:
    """The lock's text with the architecture's exceptions. Raises BuildError for an exception that excepts nothing."""
    entries = {name: name + rest for name, rest in _ENTRY.findall(lock)}
    for name in _LEFT_OUT:
        entries.pop(name, None)
    exceptions = HERE / "locks" / f"wheels-{architecture.name}.txt"
    if exceptions.is_file():
        text = "".join(line + "\n" for line in exceptions.read_text().splitlines() if not line.startswith("#"))
        for line in re.findall(r"^without (\S+)$", text, re.MULTILINE):
            if entries.pop(line, None) is None:
                raise BuildError(f"{exceptions}: without {line}: requirements.lock does not have it")
        for name, rest in _ENTRY.findall(text):
            if name not in entries:
                raise BuildError(f"{exceptions}: {name}: requirements.lock does not have it")
            entries[name] = name + rest
    return "\n".join(entries[name] for name in sorted(entries)) + "\n"


def fetch_wheels(architecture: Architecture, cache: Path) -> list[Path]:
    """Every wheel as a file, hashes checked by pip. Fetches what is not there yet."""
    requirements = requirements_for(architecture, (REPOSITORY / "requirements.lock").read_text())
    folder = cache / f"wheels-{architecture.name}-{PYTHON}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "requirements.txt"
    if not wanted.is_file() or wanted.read_text() != requirements:
        for wheel in folder.glob("*.whl"):
            wheel.unlink()
        fresh = folder / "fresh.txt"
        fresh.write_text(requirements)
        platforms = [word for tag in architecture.wheels for word in ("--platform", tag)]
        run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
                "--implementation",
                "cp",
                "--python-version",
                PYTHON,
                "--abi",
                f"cp{PYTHON.replace('.', '')}",
                "--abi",
                "abi3",
                "--abi",
                "none",
                *platforms,
                "--require-hashes",
                "-d",
                str(folder),
                "-r",
                str(fresh),
            ]
        )
        fresh.replace(wanted)
    return sorted(folder.glob("*.whl"))


def unpack_wheels(wheels: list[Path], site: Path) -> None:
    """What is imported goes into `site`; scripts and headers stay behind."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if ".data/" not in member.filename:
                    archive.extract(member, site)
