"""What each Debian package is made of, and under which licences: read from the packages themselves.

A release owes the texts (`licences.tar` beside the image) and, where a licence asks for it, the sources: which, says
the SBOM (`debian:source`), and `python -m deploy.image.sources` fetches them.
"""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from deploy.image.debs import Package
from deploy.image.shell import BuildError, run

_LICENCE = re.compile(r"^License:[ \t]*(\S.*?)\s*$", re.MULTILINE)
_COPYRIGHT = re.compile(r"^\./usr/share/doc/[^/]+/copyright$")
_OF_WHEELS = re.compile(r"\.dist-info/(?:licenses/.+|(?:LICEN[CS]E|COPYING|NOTICE)[^/]*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """One package's source, its version, and its licences' short names (DEP-5), in alphabetical order; none where the
    package names them in prose alone. text: its copyright file."""

    source: str
    source_version: str
    licences: tuple[str, ...]
    text: bytes


def origin_of(package: Package, file: Path) -> Origin:
    """Read a .deb. Raises BuildError."""
    fields = dict(re.findall(r"^(\w+): (.*)$", run(["dpkg-deb", "-f", file, "Source", "Version"]), re.MULTILINE))
    named = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", package.name))
    if named is None:
        raise BuildError(f"{file}: Source: {fields['Source']!r}")
    text = _copyright(file)
    licences = {part for line in _LICENCE.findall(text.decode("utf-8", "replace")) for part in _names(line)}
    return Origin(named[1], named[2] or fields["Version"], tuple(sorted(licences)), text)


def _names(line: str) -> Iterable[str]:
    """A License field is names joined by "or", "and", "with ... exception" (DEP-5, 7.2)."""
    plain = re.sub(r"\s+with\s+.*?exceptions?\b", "", line, flags=re.IGNORECASE)
    return [
        word for part in re.split(r",|\s+(?:and/or|or|and)\s+", plain) if (word := part.strip()) and " " not in word
    ]


def _copyright(file: Path) -> bytes:
    """The copyright file of a .deb; b"" where another package's folder stands in for its own."""
    raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", file], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in archive:
            if member.isfile() and _COPYRIGHT.match(member.name):
                content = archive.extractfile(member)
                return b"" if content is None else content.read()
    return b""


def write_texts(origins: Mapping[Package, Origin], wheels: Iterable[Path], epoch_s: int, into: Path) -> Path:
    """All texts as one archive: debian/NAME, python/WHEEL/FILE. The same packages give the same bytes."""
    texts = {f"debian/{package.name}": origin.text for package, origin in origins.items() if origin.text}
    for wheel in wheels:
        with ZipFile(wheel) as archive:
            for name in archive.namelist():
                if _OF_WHEELS.search(name) and not name.endswith("/"):
                    texts[f"python/{wheel.name.split('-')[0]}/{name.partition('.dist-info/')[2]}"] = archive.read(name)
    with tarfile.open(into, "w", format=tarfile.USTAR_FORMAT) as out:
        for name in sorted(texts):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(texts[name]), epoch_s
            out.addfile(entry, io.BytesIO(texts[name]))
    return into
