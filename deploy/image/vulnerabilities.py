"""Holes that are known in what an image is made of: `python -m deploy.image.vulnerabilities SBOM TRACKER`.

SBOM: sbom.cdx.json of a build. TRACKER: the Debian security tracker's list as a file (its page data/json; some 60 MB):
it is read, not fetched, so that a build machine needs no way out and the answer can be had again. Debian's packages and
U-Boot are looked up by source and version; the Python packages are not in that list (SECURITY.md).

A line each, the mendable first: what has a fix in this Debian that the image has not, then what is open there. Those
that were looked at and judged are left out (--judged FILE: a CVE and why, a line each).
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deploy.image.board import BASE
from deploy.image.shell import BuildError
from deploy.image.sources import debian_sources

_CVE = re.compile(r"(CVE-\d{4}-\d{4,}|TEMP-[\w-]+)\s+(\S.*)")
_DIGITS = re.compile(r"\d*")
_NOT_IN_THIS_DEBIAN = "0"  # fixed_version of what this release never had


class Hole(NamedTuple):
    """One that the image has. `fixed`: the version that mends it in this Debian, "" while there is none."""

    source: str
    version: str
    name: str
    urgency: str
    fixed: str


def is_older(version: str, other: str) -> bool:
    """Whether a Debian version is before another (deb-version(7)): epoch, upstream version, revision."""
    ours, theirs = _parts(version), _parts(other)
    orders = (_compare(left, right) for left, right in zip(ours, theirs, strict=True))
    return next((order for order in orders if order), 0) < 0


def _parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return epoch, upstream, revision


def _compare(left: str, right: str) -> int:
    """Less than, equal to or greater than 0: words and numbers by turns, as dpkg reads them."""
    at = [0, 0]
    sides = (left, right)
    while at[0] < len(left) or at[1] < len(right):
        while any(here < len(side) and not side[here].isdigit() for here, side in zip(at, sides, strict=True)):
            ranks = [_rank(side[here : here + 1]) for here, side in zip(at, sides, strict=True)]
            if ranks[0] != ranks[1]:
                return ranks[0] - ranks[1]
            at = [at[0] + 1, at[1] + 1]
        digits = [_DIGITS.match(side, here) for here, side in zip(at, sides, strict=True)]
        numbers = [int(found[0] or 0) if found else 0 for found in digits]
        if numbers[0] != numbers[1]:
            return numbers[0] - numbers[1]
        at = [found.end() if found else here for found, here in zip(digits, at, strict=True)]
    return 0


def _rank(letter: str) -> int:
    """Of a character within a word: "~" is before the word's end, letters are before all else."""
    if letter == "~":
        return -1
    if not letter or letter.isdigit():
        return 0
    return ord(letter) + (0 if letter.isalpha() else 256)


def holes(sources: list[tuple[str, str]], tracker: Mapping[str, Any], base: str = BASE) -> list[Hole]:
    """What of these sources and versions is in the tracker's list for this Debian, the mendable first."""
    found = []
    for source, version in sources:
        for name, entry in tracker.get(source, {}).items():
            release = entry.get("releases", {}).get(base)
            if release is None or release.get("urgency") == "unimportant":
                continue
            fixed = str(release.get("fixed_version", ""))
            status = release.get("status")
            if status == "resolved" and fixed not in ("", _NOT_IN_THIS_DEBIAN) and is_older(version, fixed):
                found.append(Hole(source, version, name, str(release.get("urgency", "")), fixed))
            elif status == "open":
                found.append(Hole(source, version, name, str(release.get("urgency", "")), ""))
    return sorted(found, key=lambda hole: (not hole.fixed, hole))


def judged(text: str) -> dict[str, str]:
    """Names that were looked at, and why they are no matter here. Raises BuildError for a line without a reason."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        match = _CVE.fullmatch(words)
        if match is not None:
            found[match[1]] = match[2]
        elif words:
            raise BuildError(f"line {number}: expected CVE-YEAR-NUMBER and why: {words[:60]!r}")
    return found


def sources_of(bill: dict[str, Any]) -> list[tuple[str, str]]:
    """`(source, version)` of Debian's packages in an SBOM, and of U-Boot, which is built from Debian's source."""
    uboot = [(part["name"], part["version"]) for part in bill["components"] if part["name"] == "u-boot"]
    return sorted({*debian_sources(bill), *uboot})


def main() -> int:
    """Exit status 0: nothing that could be mended; 1: something, or what is wrong with the files."""
    summary = "Holes that are known in what an image is made of."
    parser = argparse.ArgumentParser(prog="python -m deploy.image.vulnerabilities", description=summary)
    parser.add_argument("sbom", type=Path)
    parser.add_argument("tracker", type=Path, help="the Debian security tracker's data/json, as a file")
    parser.add_argument("--judged", type=Path, metavar="FILE", help="a CVE and why it is no matter, a line each")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        sources = sources_of(json.loads(arguments.sbom.read_text()))
        tracker = json.loads(arguments.tracker.read_text())
        known = judged(arguments.judged.read_text()) if arguments.judged else {}
        found = [hole for hole in holes(sources, tracker) if hole.name not in known]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BuildError) as error:
        print(f"vulnerabilities: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    unknown = [source for source, _ in sources if source not in tracker]
    if arguments.json:
        print(json.dumps([hole._asdict() for hole in found], indent=1))
    else:
        for hole in found:
            mended = f"mended in {hole.fixed}" if hole.fixed else "open in this Debian"
            print(f"{hole.source} {hole.version}: {hole.name} ({hole.urgency or 'not judged'}): {mended}")
        mendable = sum(bool(hole.fixed) for hole in found)
        print(
            f"{len(sources)} sources, {len(found)} holes, {mendable} of them mended in {BASE}: make relock; "
            f"{len(known)} judged, {len(unknown)} sources without an entry"
        )
    return int(any(hole.fixed for hole in found))


if __name__ == "__main__":
    sys.exit(main())
