"""What goes with an image: the manifest (what it is, what to expect of each file) and the SBOM (CycloneDX 1.5)."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

from deploy.image.board import BASE, Board
from deploy.image.debs import Package, left_out, sha256_of
from deploy.image.licences import Origin
from deploy.image.shell import run

_NAMESPACE = uuid.UUID("3a1c1a52-26a2-4f0f-8c60-5a6b2f7f8a55")


def sbom(
    board: Board,
    version: str,
    epoch_s: int,
    packages: list[Package],
    wheels: list[Path],
    uboot: str,
    origins: Mapping[Package, Origin] | None = None,
) -> dict[str, Any]:
    """Every component of the image, with its version, hash, licences and source, as a CycloneDX document."""
    gone = left_out(board) - {"python3-cffi-backend"}
    components = [_deb(package, (origins or {}).get(package)) for package in packages if package.name not in gone]
    components += [_wheel(wheel) for wheel in wheels]
    purl = f"pkg:deb/debian/u-boot@{uboot.replace('+', '%2B')}?arch=source"
    components.append({"type": "firmware", "bom-ref": purl, "name": "u-boot", "version": uboot, "purl": purl})
    name = board.compatible
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{name} {version} {epoch_s}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "firmware", "bom-ref": name, "name": name, "version": version,
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
            },
        },
        "components": sorted(components, key=lambda row: str(row["bom-ref"])),
    }  # fmt: skip


def _deb(package: Package, origin: Origin | None) -> dict[str, Any]:
    version = package.version.replace("+", "%2B").replace("~", "%7E").replace(":", "%3A")
    purl = f"pkg:deb/debian/{package.name}@{version}?arch={package.architecture}&distro={BASE}"
    hashes = [{"alg": "SHA-256", "content": package.sha256}]
    kind = "operating-system" if package.section == "kernel" else "library"
    more: dict[str, Any] = {}
    if origin is not None:
        more["properties"] = [
            {"name": "debian:source", "value": origin.source},
            {"name": "debian:source-version", "value": origin.source_version},
        ]
        if origin.licences:  # Debian's names, which are not all SPDX's
            more["licenses"] = [{"license": {"name": name}} for name in origin.licences]
    return more | {
        "type": kind,
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "hashes": hashes,
    }


def _wheel(wheel: Path) -> dict[str, Any]:
    name, version = wheel.name.split("-")[:2]
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    hashes = [{"alg": "SHA-256", "content": sha256_of(wheel)}]
    more = {"licenses": [{"license": {"name": licence}}]} if (licence := _licence_of(wheel)) else {}
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes} | more


def _licence_of(wheel: Path) -> str:
    """As its metadata say: License-Expression (PEP 639), or the older License or classifier; "" where they do not."""
    if not is_zipfile(wheel):
        return ""
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        head = message_from_bytes(archive.read(names[0])) if names else Message()
    classifiers = [line for line in head.get_all("Classifier", []) if line.startswith("License ::")]
    for said in (head["License-Expression"], head["License"], *(line.rpartition(":: ")[2] for line in classifiers)):
        if said and "\n" not in said.strip() and len(said) < 100:
            return str(said).strip()
    return ""


def manifest(
    board: Board,
    version: str,
    epoch_s: int,
    files: dict[str, Path],
    *,
    out: Path,
    root_hash: str,
    test_keys: bool,
    console: bool,
) -> dict[str, Any]:
    """What the factory and the update server need to know of each file. Names are from `out` on, sizes bytes."""
    return {
        "compatible": board.compatible,
        "version": version,
        "architecture": board.architecture.name,
        "built_from": _commit(),
        "epoch_s": epoch_s,
        "root_hash": root_hash,
        "test_keys": test_keys,
        "console_root": console,
        "files": {
            kind: {"name": str(path.relative_to(out)), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for kind, path in files.items()
        },
    }


def _commit() -> str:
    return run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(__file__).parent).strip()


def write_json(document: dict[str, Any], into: Path) -> Path:
    """Write it with sorted keys: the same bytes for the same content."""
    into.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return into
