"""Build a board twice in folders of their own and compare: `python -m deploy.image.twice --board BOARD`.

The update is compared by what is in it: RAUC draws the salt of its hash tree and signs with the time of day.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.image.board import board_names
from deploy.image.debs import sha256_of

REPOSITORY = Path(__file__).resolve().parents[2]
SALTED = ("update", "update_index", "base")  # the update, and what follows from its bytes


def build(board: str, out: Path, keys: Path | None, cache: Path) -> dict[str, str]:
    """Build; return name -> SHA-256 of every product, and of the files inside the update."""
    words = [sys.executable, "deploy/build.py", "--board", board, "--out", str(out), "--cache", str(cache)]
    subprocess.run([*words, *(["--keys", str(keys)] if keys else [])], cwd=REPOSITORY, check=True)
    manifest = json.loads((out / "manifest.json").read_text())
    found = {row["name"]: row["sha256"] for kind, row in manifest["files"].items() if kind not in SALTED}
    bundle = out / manifest["files"]["update"]["name"]
    # A verity bundle begins with a squashfs.
    inside = out / "inside"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(inside), str(bundle)], check=True, stdout=subprocess.DEVNULL)
    for path in sorted(inside.iterdir()):
        if path.name != "manifest.raucm":
            found[f"{bundle.name}/{path.name}"] = sha256_of(path)
    return found


def main() -> int:
    """Exit status 0 when both builds are the same, 1 with what differs."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.twice", description="Is a build reproducible?")
    parser.add_argument("--board", required=True, choices=board_names(), metavar="BOARD", help=", ".join(board_names()))
    arguments = parser.parse_args()
    # One time for both, whatever is committed meanwhile.
    os.environ.setdefault(
        "SOURCE_DATE_EPOCH",
        subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY, check=True, capture_output=True, text=True
        ).stdout.strip(),
    )
    base = REPOSITORY / "build" / "twice"
    shutil.rmtree(base, ignore_errors=True)
    # The second time with a cache of its own (downloads excepted), in a folder of another name.
    cache = REPOSITORY / "build" / "cache"
    first = build(arguments.board, base / "first", None, cache)
    with tempfile.TemporaryDirectory(dir=base) as fresh:
        for part in ("debs", "uboot"):
            (Path(fresh) / part).mkdir()
        for file in [*(cache / "debs").iterdir(), *(cache / "uboot").glob("u-boot_*")]:
            shutil.copy(file, Path(fresh) / file.parent.name / file.name)
        second = build(arguments.board, base / "second-time", base / "first" / "keys", Path(fresh))
    different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    for name in sorted(first):
        print(f"{'DIFFERENT' if name in different else 'the same '}  {first[name][:16]}  {name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
