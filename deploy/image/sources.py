"""The sources that belong to an image: `python -m deploy.image.sources SBOM OUT`.

SBOM: sbom.cdx.json of a build. OUT gets every Debian source package in the image's very version, its signature checked
by apt, and the wheels' source archives as PyPI has them. Some gigabytes; what is there already is not fetched again.
"""

import argparse
import json
import sys
from pathlib import Path

from deploy.image.board import ARCHITECTURES
from deploy.image.debs import Apt
from deploy.image.shell import BuildError, run


def debian_sources(bill: dict[str, object]) -> list[tuple[str, str]]:
    """`(source, version)` of every Debian component, each once, in order of name."""
    components = bill["components"]
    assert isinstance(components, list)
    found = set()
    for component in components:
        properties = {row["name"]: row["value"] for row in component.get("properties", ())}
        if "debian:source" in properties:
            found.add((properties["debian:source"], properties["debian:source-version"]))
    return sorted(found)


def fetch_sources(sources: list[tuple[str, str]], apt: Apt, out: Path) -> list[str]:
    """Fetch what is not there yet; which could not be had, a line each."""
    lost = []
    for name, version in sources:
        done = out / f"{name}_{version.replace(':', '%3a')}.done"
        if done.exists():
            continue
        try:
            apt.source(name, version, out)
        except BuildError as error:
            lost.append(f"{name} {version}: {str(error).splitlines()[-1]}")
        else:
            done.touch()
    return lost


def main() -> int:
    """Exit status 0, or 1 with what could not be had."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.sources", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sbom", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", metavar="SOURCE", help="these alone")
    parser.add_argument("--without", action="append", default=[], metavar="SUITE", help="as for build.py --lock")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bill = json.loads(arguments.sbom.read_text())
    architecture = ARCHITECTURES["arm64"]  # sources are the same for all
    suites = tuple(suite for suite in architecture.suites if suite not in arguments.without)
    wanted = [row for row in debian_sources(bill) if not arguments.only or row[0] in arguments.only]
    lost = fetch_sources(wanted, Apt(architecture, arguments.out / ".apt", suites), arguments.out)
    wheels = [part for part in bill["components"] if part["purl"].startswith("pkg:pypi/")]
    pins = [f"{part['name'].replace('_', '-')}=={part['version']}" for part in wheels]
    if not arguments.only and pins:
        words = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary=:all:",
            "--no-build-isolation",
        ]
        for pin in pins:
            try:
                run([*words, "-d", arguments.out / "python", pin])
            except BuildError as error:
                lost.append(f"{pin}: {str(error).splitlines()[-1]}")
    for line in lost:
        print(f"not to be had: {line}", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
