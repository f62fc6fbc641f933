"""The factory's drop: a device's own files, put into an image (or onto the medium) before its first boot.

    python -m deploy.image.drop MEDIUM FOLDER [--base BASE.TAR]

FOLDER is a device's of the provisioning station (devices/SERIAL): its `etc-meterhub` becomes /etc/meterhub of the
board, its `meterhub`, if there is one, /var/lib/meterhub. The first boot unpacks them into the encrypted data partition
that it makes, and then erases the drop. BASE.TAR is what the build has left (base.py): with it the first update, too,
is fetched as a difference.
"""

import argparse
import hashlib
import io
import sys
import tarfile
from pathlib import Path

from deploy.image.base import FOLDER
from deploy.image.shell import BuildError

MAGIC = b"METERHUB-DROP-1"
_DATA = "data"
# Within the data partition: the header's place at 0, the drop's, the header's copy, and where the file system begins
# (initramfs/data.sh).
DROP_OFFSET, COPY_OFFSET, DATA_OFFSET = 64 << 10, 1020 << 10, 1 << 20
_SECTOR, _HEADER_BYTES = 512, 4096
_MOST_BYTES = COPY_OFFSET - DROP_OFFSET - _SECTOR
_LEAST_FOR_BASE = 448 << 20  # the store's 256 MiB (store.max_mb), a base, and the update that is put together of it
_HUB_ID, _FIELD_ID = 960, 962  # deploy/systemd/sysusers.d/meterhub.conf
SECRETS = {"hub.key": _HUB_ID, "pin": _HUB_ID, "console": _FIELD_ID}  # and who reads them


def pack(folder: Path, base: Path | None = None) -> bytes:
    """A device's folder as the drop's bytes; the same folder gives the same bytes. Raises BuildError when it is not
    one, or too big."""
    if not (folder / "etc-meterhub" / "hub.toml").is_file():
        raise BuildError(f"{folder}: expected a device's folder, with etc-meterhub/hub.toml")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for part in ("etc-meterhub", "meterhub"):
            for path in sorted([folder / part, *(folder / part).rglob("*")]):
                if path.is_dir() or path.is_file():
                    _add(archive, path, path.relative_to(folder))
        if base is not None:
            _add_base(archive, base)
    content = out.getvalue()
    if len(content) > _MOST_BYTES:
        raise BuildError(f"{folder}: {len(content)} bytes; a drop may have {_MOST_BYTES}")
    header = b"%s %d %s\n" % (MAGIC, len(content), hashlib.sha256(content).hexdigest().encode())
    return header.ljust(_SECTOR, b"\0") + content


def _add(archive: tarfile.TarFile, path: Path, name: Path) -> None:
    """As the station means it, whoever called it: the configuration is root's and engineers may look at it, but for the
    secrets, each of which one group may read; what the hub writes is the hub's alone."""
    entry = tarfile.TarInfo(str(name))
    is_etc = name.parts[0] == "etc-meterhub"
    is_secret = not is_etc or name.name in SECRETS or name.suffix == ".key"
    entry.uid, entry.gid = 0 if is_etc else _HUB_ID, SECRETS.get(name.name, _HUB_ID) if is_etc else _HUB_ID
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755 if is_etc else 0o750
        archive.addfile(entry)
    else:
        content = path.read_bytes()
        entry.size, entry.mode = len(content), 0o640 if is_secret else 0o644
        archive.addfile(entry, io.BytesIO(content))


def _add_base(archive: tarfile.TarFile, base: Path) -> None:
    """The members of base.tar, and their folder, as the hub's own."""
    entry = tarfile.TarInfo(FOLDER)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o750, _HUB_ID, _HUB_ID
    archive.addfile(entry)
    with tarfile.open(base) as brought:
        for member in brought:
            member.mode, member.uid, member.gid = 0o640, _HUB_ID, _HUB_ID
            archive.addfile(member, brought.extractfile(member))


def find_data(medium: Path) -> tuple[int, int]:
    """Where the data partition begins and how long it is, in bytes, as the medium's GPT says."""
    with medium.open("rb") as file:
        file.seek(_SECTOR)
        header = file.read(_SECTOR)
        if header[:8] != b"EFI PART":
            raise BuildError(f"{medium}: no GPT; expected an image made by deploy/build.py")
        first = int.from_bytes(header[72:80], "little")
        count, size = int.from_bytes(header[80:84], "little"), int.from_bytes(header[84:88], "little")
        file.seek(first * _SECTOR)
        for _ in range(count):
            entry = file.read(size)
            if entry[56:128].decode("utf-16-le").rstrip("\0") == _DATA:
                first, last = int.from_bytes(entry[32:40], "little"), int.from_bytes(entry[40:48], "little")
                return first * _SECTOR, (last - first + 1) * _SECTOR
    raise BuildError(f"{medium}: no partition is called {_DATA}")


def put_drop(medium: Path, folder: Path, base: Path | None = None) -> None:
    """Write a device's files onto a medium. Raises BuildError when a hub has already made its data partition there, or
    where there is no room for a base beside all that the store may grow to."""
    raw = pack(folder, base)
    start, size = find_data(medium)
    if base is not None and size < _LEAST_FOR_BASE:
        raise BuildError(f"{medium}: {size >> 20} MiB for data; a base wants {_LEAST_FOR_BASE >> 20}: leave --base out")
    with medium.open("r+b") as file:
        for offset in (0, COPY_OFFSET):
            file.seek(start + offset)
            if any(file.read(_HEADER_BYTES)):  # a hub's header, or what is left of one: a first boot wants neither
                raise BuildError(f"{medium}: has been started already; its identity is on its encrypted data partition")
        file.seek(start + DROP_OFFSET)
        file.write(raw)


def main() -> int:
    """Exit status 0, or 1 with what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.drop", description="Give a medium its identity.")
    parser.add_argument("medium", type=Path, help="disk.img, or the device it was written to")
    parser.add_argument("folder", type=Path, help="with etc-meterhub/ and perhaps meterhub/")
    parser.add_argument("--base", type=Path, metavar="BASE.TAR", help="of the build: for the first update")
    arguments = parser.parse_args()
    try:
        put_drop(arguments.medium, arguments.folder, arguments.base)
    except (BuildError, OSError) as error:
        print(f"drop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
