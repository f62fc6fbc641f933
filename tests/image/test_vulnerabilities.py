"""What is known against an image's components, by a list given as a file; and what it is built from, kept."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from deploy.image import archive as archives
from deploy.image.board import BASE, load_board
from deploy.image.debs import Package, fetch, read_lock
from deploy.image.licences import Origin
from deploy.image.papers import sbom
from deploy.image.shell import BuildError
from deploy.image.vulnerabilities import holes, is_older, judged, sources_of

ROOT = Path(__file__).resolve().parents[2]
BOARD = load_board("qemu-virt-armhf")
VERSIONS = (
    "0", "1.0", "1.00-1", "1.0-1", "1.0-1.1", "1.0-10", "1.0-1b", "1.0-1+deb13u1", "1.0-1~deb13u1", "1.0-2",
    "1.0+dfsg-1", "1.0~rc1-1", "1.0.1-1", "1.0a-1", "1:0.9-1", "2024.01+dfsg-5", "6.12.5-1", "6.12.48-1", "9.9p1-3",
    "10.0p1-7",
)  # fmt: skip


def packages(*rows: tuple[str, str]) -> list[Package]:
    return [Package("root", name, version, "armhf", 1, "0" * 64) for name, version in rows]


def bill(*rows: tuple[str, str, str, str]) -> dict[str, Any]:
    """An SBOM of packages: name, version, source, its version."""
    found = packages(*[(name, version) for name, version, *_ in rows])
    origins = {
        package: Origin(source=row[2], source_version=row[3], licences=(), text=b"")
        for package, row in zip(found, rows, strict=True)
    }
    return sbom(BOARD, "1.0.0", 0, found, [], "2023.01+dfsg-2", origins)


def entry(status: str, fixed: str = "", urgency: str = "medium", base: str = BASE) -> dict[str, Any]:
    release = {"status": status, "urgency": urgency, "repositories": {base: "x"}}
    if fixed:
        release["fixed_version"] = fixed
    return {"description": "words", "scope": "remote", "releases": {base: release}}


TRACKER: dict[str, Any] = {
    "openssl": {
        "CVE-2026-0001": entry("resolved", "3.5.4-1~deb13u2"),
        "CVE-2026-0002": entry("resolved", "3.5.1-1"),
        "CVE-2026-0003": entry("open"),
        "CVE-2026-0004": entry("open", urgency="unimportant"),
        "CVE-2026-0005": entry("resolved", "0"),
        "CVE-2026-0006": entry("open", base="bookworm"),
        "CVE-2026-0007": entry("undetermined"),
    },
    "u-boot": {"CVE-2026-0008": entry("resolved", "2025.01-3")},
    "not-of-this-image": {"CVE-2026-0009": entry("open")},
}
BILL = bill(("libssl3t64", "3.5.4-1~deb13u1", "openssl", "3.5.4-1~deb13u1"), ("dash", "0.5.12-12", "dash", "0.5.12-12"))


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not here")
def test_versions_are_in_the_order_that_dpkg_has_for_them() -> None:
    for left, right in product(VERSIONS, VERSIONS):
        said = subprocess.run(["dpkg", "--compare-versions", left, "lt", right], capture_output=True).returncode == 0
        assert is_older(left, right) is said, (left, right)


def test_what_is_known_of_an_image_and_what_of_it_can_be_mended() -> None:
    found = holes(sources_of(BILL), TRACKER)
    assert [(hole.name, hole.fixed) for hole in found] == [
        ("CVE-2026-0001", "3.5.4-1~deb13u2"),
        ("CVE-2026-0008", "2025.01-3"),
        ("CVE-2026-0003", ""),
    ]
    assert holes(sources_of(BILL), {}) == []
    assert [hole.name for hole in holes(sources_of(BILL), TRACKER, "bookworm")] == ["CVE-2026-0006"]


def test_a_judgement_has_a_reason() -> None:
    assert judged("# looked at in November\n\nCVE-2026-0003 the server's half, which is not there\n") == {
        "CVE-2026-0003": "the server's half, which is not there"
    }
    for wrong in ("CVE-2026-0003\n", "openssl is fine\n"):
        with pytest.raises(BuildError, match="line 1"):
            judged(wrong)


def test_the_command_reads_files_and_its_exit_status_says_whether_to_relock(tmp_path: Path) -> None:
    sbom_file, tracker, why = tmp_path / "sbom.cdx.json", tmp_path / "tracker.json", tmp_path / "judged"
    sbom_file.write_text(json.dumps(BILL))
    tracker.write_text(json.dumps(TRACKER))

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "deploy.image.vulnerabilities", str(sbom_file), str(tracker), *more]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)

    done = run()
    assert done.returncode == 1
    assert "openssl 3.5.4-1~deb13u1: CVE-2026-0001 (medium): mended in 3.5.4-1~deb13u2" in done.stdout
    assert "3 sources, 3 holes, 2 of them mended in trixie: make relock; 0 judged, 1 sources without" in done.stdout
    why.write_text("CVE-2026-0001 not reachable\nCVE-2026-0008 no network in this U-Boot\n")
    done = run("--judged", str(why), "--json")
    assert done.returncode == 0 and [row["name"] for row in json.loads(done.stdout)] == ["CVE-2026-0003"]
    for wrong in ("no JSON", "[]", '{"openssl": [1]}'):
        tracker.write_text(wrong)
        done = run()
        assert done.returncode == 1 and re.fullmatch("vulnerabilities: .*\n", done.stderr)


def test_an_archive_is_a_builds_cache_and_needs_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled by hand here with packages of a lock of one; `fetch` finds all, and asks nobody."""
    content = b"a package"
    lock = tmp_path / "lock"
    digest = hashlib.sha256(content).hexdigest()
    lock.write_text(f"# resolved 2026-11-01 from trixie; without: nothing\nroot dash 0.5.12-12 armhf 9 {digest}\n")
    monkeypatch.setenv("PATH", "")  # no apt
    out = tmp_path / "archive"
    (out / "debs").mkdir(parents=True)
    (out / "apt-armhf").mkdir()
    (out / "apt-armhf/status").touch()
    (out / "debs/dash_0.5.12-12_armhf.deb").write_bytes(content)
    assert [path.name for path in fetch(BOARD, out, read_lock(lock)).values()] == ["dash_0.5.12-12_armhf.deb"]
    assert archives.write_sums(out) == 1
    assert (out / "SHA256SUMS").read_text() == f"{digest}  debs/dash_0.5.12-12_armhf.deb\n"
    (out / "debs/dash_0.5.12-12_armhf.deb").write_bytes(b"rotten")
    with pytest.raises(BuildError, match="not the lock's"):
        fetch(BOARD, out, read_lock(lock))
